import csv
import json
import shutil
from pathlib import Path

import pytest

from vidact.cli import main
from vidact.data.datamodule import VideoDataModule
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
