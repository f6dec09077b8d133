import csv
import inspect
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest

from vidact.cli.main import VERBS, main
from vidact.cli.verbs.data import split
from vidact.data.datamodule import VideoDataModule
from vidact.data.datasets.index import index_clips
from vidact.data.splits.files import read_split_file
from vidact.data.splits.split import SplitScheme


def _said(capsys: pytest.CaptureFixture[str], *args: object, status: int = 0) -> str:
    assert main(["data", *map(str, args)]) == status
    return capsys.readouterr().out


def _error(capsys: pytest.CaptureFixture[str], *args: object, status: int = 2) -> str:
    assert main(["data", *map(str, args)]) == status
    found = capsys.readouterr()
    (line,) = found.err.strip().splitlines()
    assert line.startswith("vidact: error: ")
    return line


def _without_hashes(module: VideoDataModule) -> dict[str, Any]:
    """Give the record of a run's split without what it keeps of the files besides."""
    record = dict(module.split_record)
    assert set(record.pop("sha1")) == {*record["training"], *record["validation"]}
    return record


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
            assert _without_hashes(module) == record

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


class TestKeepOut:
    @pytest.fixture
    def measured(self, small_set: Path, tmp_path: Path) -> Path:
        """Another data set: clips of the first three sources, of which the official fold 1 tests on the third."""
        root = tmp_path / "measured"
        for name in ("up", "left"):
            (root / "videos" / name).mkdir(parents=True)
            (root / "splits").mkdir(exist_ok=True)
            paths = sorted((small_set / "videos" / name).glob("*.avi"))[:3]
            for path in paths:
                (root / "videos" / name / path.name).symlink_to(path)
            lines = [f"{path.name} {flag} " for path, flag in zip(paths, (0, 1, 2), strict=True)]
            (root / "splits" / f"{name}_test_split1.txt").write_text("\n".join(lines))
        return root

    def test_the_films_that_another_set_tests_on_are_tested_and_fit_takes_the_file(
        self, small_set: Path, measured: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        args = ("split", small_set, "--keep_out", measured, "--follow_links", "--out", tmp_path / "a.json")
        note = "kept out of training and validation: 8 clips (clockwise 1, contract 1, "
        said = _said(capsys, *args)
        assert note in said
        assert "of 1 films that measured tests on (the test side of its official fold 1, 2 clips, 2 of them" in said
        record = json.loads((tmp_path / "a.json").read_text())
        assert len(record["kept_out"]["clips"]) == 8
        assert set(record["kept_out"]["clips"]) < set(record["test"])
        module = VideoDataModule(str(small_set), split=str(tmp_path / "a.json"), num_frames=4, size=16, num_workers=0)
        module.prepare_data()
        module.setup("fit")
        assert _without_hashes(module) == record

    @pytest.mark.parametrize("keep", ["all", "no split files"])
    def test_all_clips_are_measured_on_where_that_is_asked_for_or_nothing_says_which(
        self, small_set: Path, measured: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, keep: str
    ) -> None:
        args = ["split", small_set, "--keep_out", measured, "--follow_links", "--out", tmp_path / "a.json"]
        if keep == "all":
            args += ["--keep-out-fold", "all"]
        else:
            shutil.rmtree(measured / "splits")
        said = _said(capsys, *args)
        assert "24 clips" in said
        assert "of 3 films that measured tests on (all its clips, 6 clips, 6 of them here by name)" in said

    def test_every_fold_of_kfold_tests_on_them(
        self, small_set: Path, measured: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        args = ("split", small_set, "--keep_out", measured, "--follow_links", "--scheme", "kfold", "--num_folds", 3)
        _said(capsys, *args, "--out", tmp_path / "k.json")
        records = [json.loads((tmp_path / f"k_{fold}.json").read_text()) for fold in (1, 2, 3)]
        common = set.intersection(*(set(record["test"]) for record in records))
        assert common == set(records[0]["kept_out"]["clips"])

    def test_mistakes_are_told_in_one_line(
        self, small_set: Path, measured: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        (tmp_path / "others" / "up").mkdir(parents=True)
        shutil.copy(min((small_set / "videos" / "up").glob("*.avi")), tmp_path / "others" / "up" / "mine.avi")
        (tmp_path / "empty").mkdir()
        out = ("--out", tmp_path / "a.json")
        for folder, message in {
            tmp_path / "nowhere": "--keep_out: .*nowhere: no such folder",
            tmp_path / "empty": "--keep_out: .*empty: the folder is empty",
            tmp_path / "others": "--keep_out: there is nothing to keep out: no clip to split is of a film of others",
            measured: "links out of the data set are followed only with --follow_links true",
            small_set: "no clip is left to train class 'clockwise', ",
        }.items():
            options = ("--keep_out", folder, *(("--keep_out_fold", "all") if folder == small_set else ()))
            assert re.search(message, _error(capsys, "split", small_set, *options, *out))
        for fold, message in {"2": "no file for split 2", "7": "has folds 1 to 3, got fold 7", "x": "got x"}.items():
            options = ("--keep_out", measured, "--keep_out_fold", fold, "--follow_links")
            line = _error(capsys, "split", small_set, *options, *out)
            assert "--keep_out" in line
            assert message in line
        for path in (measured / "splits").iterdir():
            path.write_text("gone.avi 2\n")
        options = ("--keep_out", measured, "--follow_links")
        assert "fold 1 tests on none of the clips" in _error(capsys, "split", small_set, *options, *out)
        assert not (tmp_path / "a.json").exists()

    def test_the_split_of_hmdb51_for_jhmdb(
        self, hmdb51: Path, jhmdb: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        args = ("split", hmdb51, "--scheme", "film", "--keep_out", jhmdb, "--out", tmp_path / "a.json")
        said = _said(capsys, *args)
        assert "split film, fold 1 of 5, seed 0: 532 training, 133 validation, 327 test" in said
        assert "154 clips (catch 1, fall_floor 30, hit 12, jump 46, kick_ball 27, push 1, run 37) of 22 films" in said


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


@pytest.mark.parametrize("verb", [verb.removeprefix("data ") for verb in VERBS if verb.startswith("data ")])
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
        assert any("its fingerprint does not match" in note for note in notes)

    def test_ctrl_c_is_told_in_one_line(
        self, small_set: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("vidact.data.preparation.inspect_clips", interrupt)
        assert main(["data", "check", str(small_set)]) == 130
        assert "stopped; run the same command again" in capsys.readouterr().err


def test_split_offers_every_scheme() -> None:
    offered = get_args(inspect.signature(split).parameters["scheme"].annotation)
    assert set(offered) == {"auto", *get_args(SplitScheme)}
