import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidact.core.errors import DataError, EnvironmentProblem
from vidact.data.datasets.index import Clip, index_clips
from vidact.data.splits.files import (
    find_official_folder,
    fingerprint,
    read_official_flags,
    read_split_file,
    split_record,
    write_split_file,
)
from vidact.data.splits.schemes import make_split

CLASSES = ("jump", "kick_ball", "run")


def _clips(num_sources: int = 40) -> list[Clip]:
    """Make clips of three classes; names, sizes and shared sources are fixed by arithmetic."""
    return [
        Clip(Path(f"/{name}/{source}_{name}_f_cm_np1_fr_med_{number}.avi"), name, label, source, None)
        for label, name in enumerate(CLASSES)
        for index in range(num_sources)
        for source in [f"Film_{'abcdefgh'[index % 8]}{name if index % 3 else ''}_{index}"]
        for number in range(1 + index * 5 % 4)
    ]


def _write(path: Path, **changes: Any) -> Path:
    """Write a split file of the made clips with some of its keys changed."""
    record = split_record(make_split(_clips(), scheme="source", fold=1, seed=0))
    path.write_text(json.dumps(record | changes))
    return path


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(["source", "film", "clip", "kfold"]), st.integers(1, 3), st.integers(0, 9))
def test_a_split_comes_back_from_its_file(
    tmp_path_factory: pytest.TempPathFactory, scheme: Any, fold: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("split") / "split.json"
    clips = _clips()
    split = make_split(clips, scheme=scheme, fold=fold, seed=seed, num_folds=3)
    write_split_file(path, split, leakage={"tags": 0.6})
    assert read_split_file(path, clips) == split
    assert json.loads(path.read_text())["leakage"] == {"tags": 0.6}


# Written down once: another machine, another version of Python or of a library must find the same splits.
GOLDEN = {
    "source": "a340215d4a8c44eea32ca59b0623906bd57235a2079f1850476e0a3297c87b4e",
    "film": "1cf49c289d06bc5fce3c776195bf97be5f858fbe4bc3322e2e0a84aae6ae7ff8",
    "clip": "4ab42f5eebd73a3c75ed163cf8d40c47226af01d502d2eaa05943664ae20d731",
    "kfold": "41538c44ec40dd3bf662efc936e4059362a96edaaaf9ac28ca48c20ea7d25d19",
}


@pytest.mark.parametrize("scheme", GOLDEN)
def test_the_same_seed_gives_the_same_split_on_every_machine(scheme: Any) -> None:
    record = split_record(make_split(list(reversed(_clips())), scheme=scheme, fold=2, seed=0, num_folds=6))
    sides = {side: record[side] for side in ("training", "validation", "test", "unused")}
    assert hashlib.sha256(json.dumps(sides).encode()).hexdigest() == GOLDEN[scheme]


def test_the_same_split_is_the_same_bytes(tmp_path: Path) -> None:
    for name, clips in (("a", _clips()), ("b", list(reversed(_clips())))):
        write_split_file(tmp_path / name / "split.json", make_split(clips, scheme="film", fold=1, seed=3))
    first, second = ((tmp_path / name / "split.json").read_bytes() for name in "ab")
    assert first == second
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["split.json"]
    assert str(tmp_path).encode() not in first


def test_fingerprints_tell_splits_apart() -> None:
    splits = [make_split(_clips(), scheme="film", fold=fold, seed=seed) for fold in (1, 2) for seed in (0, 1)]
    assert len({fingerprint(split) for split in splits}) == 4


def test_clips_that_the_file_does_not_know_are_unused_and_counted(tmp_path: Path) -> None:
    path = _write(tmp_path / "split.json")
    more = [Clip(Path(f"/run/new{number}.avi"), "run", 2, "new", None) for number in range(4)]
    split = read_split_file(path, [*_clips(), *more])
    assert split.unused == tuple(more)
    assert split.notes == ("4 clips are not in the split file and are not used: run/new0, run/new1, run/new2, …",)


def test_unused_clips_need_not_be_there(tmp_path: Path) -> None:
    path = _write(tmp_path / "split.json", unused=["run/gone"])
    assert not read_split_file(path, _clips()).unused


def test_clips_of_a_side_that_are_not_there_are_counted_and_three_are_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "split.json", test=[f"run/gone{number}" for number in range(5)])
    message = r"split\.json: names 5 clips that are not in the data set: run/gone0, run/gone1, run/gone2, …; complete"
    with pytest.raises(DataError, match=message):
        read_split_file(path, _clips())


def test_a_clip_on_two_sides_is_named(tmp_path: Path) -> None:
    training = make_split(_clips(), scheme="source", fold=1, seed=0).training
    path = _write(tmp_path / "split.json", validation=[training[0].clip_id])
    with pytest.raises(DataError, match=f"{training[0].clip_id} is on two sides, training and validation"):
        read_split_file(path, _clips())


def test_other_classes_are_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "split.json", classes=["jump", "run", "walk"])
    with pytest.raises(DataError, match="only in the file: walk; only in the data set: kick_ball"):
        read_split_file(path, _clips())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "not a split file: its format is not 'vidact split'"),
        ({"version": 2}, "of version 2, this vidact reads version 1; update vidact"),
        ({"training": [1]}, "'training' is not a list of names"),
        ({"fold": "1"}, "'fold' is not a whole number"),
        ({"scheme": "random"}, "'scheme' is none of official, source, film, clip, kfold, table, folders; got 'random'"),
    ],
)
def test_a_damaged_record_is_refused_with_the_reason(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_split_file(_write(tmp_path / "split.json", **changes), _clips())


@pytest.mark.parametrize("content", [b"jump a.avi 1\n", b"[]", b"\xff\xfe\x00"])
def test_another_file_is_no_split_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "split.json").write_bytes(content)
    with pytest.raises(DataError, match=r"split\.json: not a split file.*`vidact data split` writes one"):
        read_split_file(tmp_path / "split.json", _clips())


def test_a_missing_file_is_reported() -> None:
    with pytest.raises(DataError, match=r"/nowhere\.json: not a split file \(No such file or directory\)"):
        read_split_file(Path("/nowhere.json"), _clips())


def test_a_place_that_cannot_be_written_is_a_problem_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match=r"split\.json: cannot be written \(File exists\); choose another"):
        write_split_file(tmp_path / "file" / "split.json", make_split(_clips(), scheme="film", fold=1, seed=0))


def _hmdb51_files(folder: Path) -> None:
    (folder / "run_test_split2.txt").write_text("a.avi 1 \nb.avi 2 \nc.avi 0 \n")


def _ucf101_files(folder: Path) -> None:
    (folder / "trainlist02.txt").write_text("run/a.avi 1\n")
    (folder / "testlist02.txt").write_text("run/b.avi\n")


@pytest.mark.parametrize(
    ("name", "write", "flags", "root"),
    [
        ("splits", _hmdb51_files, {"run/a": 1, "run/b": 2, "run/c": 0}, "data"),
        ("testTrainMulti_7030_splits", _hmdb51_files, {"run/a": 1, "run/b": 2, "run/c": 0}, "data/videos"),
        ("ucfTrainTestlist", _ucf101_files, {"run/a": 1, "run/b": 2}, "data"),
        ("splits", _ucf101_files, {"run/a": 1, "run/b": 2}, "data/clips.csv"),
    ],
)
def test_official_files_are_found_and_understood(
    tmp_path: Path, name: str, write: Any, flags: dict[str, int], root: str
) -> None:
    (tmp_path / "data" / name).mkdir(parents=True)
    write(tmp_path / "data" / name)
    folder = find_official_folder(tmp_path / root)
    assert folder == tmp_path / "data" / name
    assert read_official_flags(folder, fold=2, class_names=["run"]) == flags


def test_official_files_that_are_nowhere_are_reported_with_the_places_searched(tmp_path: Path) -> None:
    (tmp_path / "splits").mkdir()
    with pytest.raises(DataError, match=r"looked for <class>_test_split1.txt and trainlist01.txt in .*splits_folder"):
        find_official_folder(tmp_path)


def test_the_official_split_has_three_folds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has folds 1 to 3, got --data.fold 4"):
        read_official_flags(tmp_path, fold=4, class_names=["run"])


def test_the_real_official_split_comes_back_from_its_file(hmdb51: Path, tmp_path: Path) -> None:
    clips = index_clips(hmdb51)
    names = sorted({clip.class_name for clip in clips})
    flags = read_official_flags(find_official_folder(hmdb51), fold=1, class_names=names)
    split = make_split(clips, scheme="official", fold=1, seed=0, flags=flags, use_unused=True)
    write_split_file(tmp_path / "split.json", split)
    assert read_split_file(tmp_path / "split.json", clips) == split
