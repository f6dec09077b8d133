import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from vidact.cli import main
from vidact.data.datamodule import VideoDataModule
from vidact.data.index import index_clips
from vidact.data.split_files import read_split_file
from vidact.data_verbs import VERBS


def _said(capsys: pytest.CaptureFixture[str], *args: object, status: int = 0) -> str:
    assert main(["data", *map(str, args)]) == status
    return capsys.readouterr().out


def _error(capsys: pytest.CaptureFixture[str], *args: object, status: int = 2) -> str:
    assert main(["data", *map(str, args)]) == status
    found = capsys.readouterr()
    (line,) = found.err.strip().splitlines()
    assert line.startswith("vidact: error: ")
    return line


class TestCheck:
    def test_a_good_set_is_good(self, small_set: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        args = ("check", small_set, "--num_frames", 8, "--table", tmp_path / "manifest.csv")
        said = _said(capsys, *args)
        assert said.splitlines()[:2] == ["80 clips; 80 can be used, with 1,600 frames", "  ok: 80"]
        with (tmp_path / "manifest.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 80
        assert {row["frames"] for row in rows} == {"20"}
        assert {row["class"] for row in rows} == {path.name for path in (small_set / "videos").iterdir()}

    def test_a_broken_clip_gives_status_1_and_is_still_there(
        self, small_set: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        root = shutil.copytree(small_set, tmp_path / "set")
        broken = min((root / "videos" / "up").glob("*.avi"))
        broken.write_bytes(b"")
        before = sorted(path.relative_to(root) for path in root.rglob("*"))
        record = json.loads(_said(capsys, "check", root, "--num-frames=8", "--json", status=1))
        (row,) = [row for row in record["clips"] if row["verdict"] != "ok"]
        assert (row["verdict"], row["reason"]) == ("empty", "the file is empty (0 bytes)")
        assert Path(row["path"]) == broken
        assert sorted(path.relative_to(root) for path in root.rglob("*")) == before

    def test_notes_are_faults_when_one_is_strict(self, small_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
        args = ("check", small_set, "--num_frames", 16, "--stride", "2")  # 31 frames, the clips have 20
        assert "too_short: 80" in _said(capsys, *args)
        _said(capsys, *args, "--strict", status=1)


class TestSplit:
    @pytest.mark.parametrize("scheme", ["official", "source", "film", "clip"])
    def test_the_file_is_one_that_fit_takes(
        self, small_set: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, scheme: str
    ) -> None:
        args = ("split", small_set, "--scheme", scheme, "--fold", 2, "--seed", 3, "--out")
        said = _said(capsys, *args, tmp_path / "a.json")
        assert f"split {scheme}, fold 2" in said
        assert "class guessed without a pixel" in said
        _said(capsys, *args, tmp_path / "b.json")
        assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
        record = json.loads((tmp_path / "a.json").read_text())
        settings = {"num_frames": 4, "size": 16, "num_workers": 0}
        modules = [
            VideoDataModule(str(small_set), split=split, fold=2, seed=3, **settings)  # type: ignore[arg-type]
            for split in (str(tmp_path / "a.json"), scheme)
        ]
        for module in modules:
            module.prepare_data()
            module.setup("test")
            test = {window.clip.clip_id for window in module.test_dataloader().dataset.windows}  # type: ignore[attr-defined]
            assert test == set(record["test"])
            assert module.split_record == record

    def test_kfold_writes_a_file_for_each_fold_and_tests_each_clip_once(
        self, small_set: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        _said(capsys, "split", small_set, "--scheme", "kfold", "--num_folds", 4, "--out", tmp_path / "k.json")
        tests = [json.loads((tmp_path / f"k_{fold}.json").read_text())["test"] for fold in range(1, 5)]
        assert sum(map(len, tests)) == len(set().union(*tests)) == 80

    def test_a_file_that_is_no_split(self, small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "x.json").write_text("{}")
        assert "x.json: not a split file" in _error(capsys, "check", small_set, "--split", tmp_path / "x.json")
        assert "a split is one of" in _error(capsys, "check", small_set, "--split", "sauce")


def test_frames_compares_with_a_sequential_decode(small_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = _said(capsys, "frames", small_set, "--classes", "[left, up]")
    assert said.splitlines()[-2].split()[:2] == ["all", "20"]
    assert said.splitlines()[-2].split()[3] == "0"  # wrong frames


def test_transcode_copies_and_goes_on(small_set: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = ("transcode", small_set, tmp_path / "small", "--short-side", 20, "--codec", "mpeg4")
    assert "80 clips written, 0 were there" in _said(capsys, *args)
    assert "0 clips written, 80 were there" in _said(capsys, *args)


def test_a_download_without_a_server_says_so_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = ("download", "hmdb51", tmp_path / "out", "--mirrors", "[http://127.0.0.1:9]", "--only_mirrors")
    assert "http://127.0.0.1:9" in _error(capsys, *args, status=3)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("chek", "x"), "nearest: data check"),
        (("check",), "root"),
        (("check", "nowhere"), "nowhere: no such folder"),
        (("check", "x", "--num_frames", "many"), "num_frames"),
        (("split", "x", "--scheme", "sauce"), "scheme"),
        (("download", "hmdb52", "x"), "hmdb51"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
    args: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in _error(capsys, *args)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["data", verb, "--help"])
    assert f"python -m vidact data {verb}" in capsys.readouterr().out


class TestMistakes:
    @pytest.mark.parametrize("spelling", [["--json", "true"], ["--json"], ["--json=true"]])
    def test_a_switch_may_be_spelt_as_one_likes(
        self, small_set: Path, capsys: pytest.CaptureFixture[str], spelling: list[str]
    ) -> None:
        assert json.loads(_said(capsys, "check", small_set, "--num_frames", 8, *spelling))["exit_status"] == 0

    @pytest.mark.parametrize(
        "options", [["--num_frames", "0"], ["--stride", "0"], ["--num_processes", "0"], ["--time_limit_seconds", "-1"]]
    )
    def test_numbers_that_make_no_sense(
        self, small_set: Path, capsys: pytest.CaptureFixture[str], options: list[str]
    ) -> None:
        assert f"{options[0]} must be" in _error(capsys, "check", small_set, *options)

    def test_options_bear_the_verbs_names(
        self, small_set: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "up").symlink_to(small_set / "videos" / "up")
        assert "only with --follow_links true" in _error(capsys, "check", tmp_path / "set")
        said = _said(capsys, "check", tmp_path / "set", "--follow_links", "true", "--num_frames", 8)
        assert said.startswith("10 clips; 10 can be used")

    def test_a_name_that_is_no_text_stops_nothing(
        self, small_set: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        root = shutil.copytree(small_set / "videos" / "up", tmp_path / "set" / "up").parent
        clip = min((root / "up").glob("*.avi"))
        clip.rename(root / "up" / os.fsdecode(b"bad\xff.avi"))
        (root / "up" / "dangling.avi").symlink_to("/nowhere.avi")
        args = ("check", root, "--num_frames", 8, "--table", tmp_path / "table.csv", "--json")
        record = json.loads(_said(capsys, *args, status=1))
        assert record["verdicts"] == {"ok": 9, "unsupported": 1, "missing": 1}
        assert "bad\\udcff.avi" in (tmp_path / "table.csv").read_text(encoding="utf-8")

    def test_a_split_file_that_was_changed_is_told(
        self, small_set: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        path = tmp_path / "split.json"
        _said(capsys, "split", small_set, "--out", path)
        record = json.loads(path.read_text())
        record["test"] = []
        path.write_text(json.dumps(record))
        notes = read_split_file(path, index_clips(small_set)).notes
        assert "the split file names no clip for test" in notes
        assert any("its fingerprint does not fit" in note for note in notes)

    def test_ctrl_c_is_told_in_one_line(
        self, small_set: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("vidact.data.preparation.inspect_clips", interrupt)
        assert main(["data", "check", str(small_set)]) == 130
        assert "stopped; the same command goes on" in capsys.readouterr().err
