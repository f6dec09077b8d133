"""The sides that a data set names itself are kept, and missing ones are reported."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidact.core.errors import ConfigError, DataError
from vidact.data.datamodule import VideoDataModule
from vidact.data.datasets.index import Clip, index_clips
from vidact.data.preparation import SplitSettings, divide, keep_out
from vidact.data.splits.files import read_split_file, write_split_file
from vidact.data.splits.split import Split

WORDS = {"training": "train", "validation": "val", "test": "test", "": ""}


def _table(folder: Path, sides: list[str], *, column: bool = True) -> Path:
    """Write a table with two classes; `sides` is the column `split`."""
    path = folder / "clips.csv"
    lines = [f"v{number}.mp4,{'ab'[number % 2]}" + f",{side}" * column for number, side in enumerate(sides)]
    path.write_text("\n".join([f"path,class{',split' * column}", *lines, ""]))
    return path


def _divide(path: Path, **settings: object) -> Split:
    return divide(index_clips(path), path, settings=SplitSettings(**{"split": "auto", **settings}))  # type: ignore[arg-type]


def _sides(split: Split) -> dict[str, str]:
    return {clip.path.stem: side for side, clips in split.sides.items() for clip in clips}


@given(st.lists(st.sampled_from(sorted(WORDS)), min_size=1, max_size=30))
def test_no_clip_leaves_the_side_that_its_table_names(sides: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = _table(Path(folder), ["train", "train", "train", "train", "val", *(WORDS[side] for side in sides)])
        split = _divide(path, split="table")
    named = {f"v{number + 5}": side for number, side in enumerate(sides) if side}
    named |= {**{f"v{number}": "training" for number in range(4)}, "v4": "validation"}
    assert _sides(split) == named
    assert len(split.unused) == sides.count("")
    notes = " ".join(split.notes)
    assert (f"{sides.count('')} clips are on no side, and are not used" in notes) == ("" in sides)
    assert ("no clip is for test" in notes) == ("test" not in sides)


def test_without_validation_it_is_taken_out_of_training_alone(tmp_path: Path) -> None:
    split = _divide(_table(tmp_path, ["Training"] * 20 + ["TEST"] * 4), validation_share=0.3)
    assert (split.scheme, split.fold, split.num_folds) == ("table", 1, 1)
    assert {clip.path.stem for clip in split.test} == {"v20", "v21", "v22", "v23"}
    assert (len(split.training), len(split.validation)) == (14, 6)
    assert split.notes == ("the column `split`: no clip is for validation; 0.3 of the training clips are taken for it",)


def test_a_share_that_is_not_used_and_a_class_that_is_missing_are_reported(tmp_path: Path) -> None:
    split = _divide(_table(tmp_path, ["train", "train", "val", "test", "test", "test"]), validation_share=0.3)
    assert split.notes == (
        "validation_share is not used, because the data set names the validation clips",
        "class 'b' is not in validation",
    )


def test_another_scheme_is_used_if_it_is_asked_for(tmp_path: Path) -> None:
    bare = _divide(_table(tmp_path, [""] * 20, column=False))
    split = _divide(_table(tmp_path, ["train"] * 10 + ["test"] * 10), split="source")
    assert bare.scheme == "source"
    assert _sides(split) == _sides(bare)


def test_a_split_file_keeps_it(tmp_path: Path) -> None:
    path = _table(tmp_path, ["train"] * 6 + ["val"] * 2 + ["test"] * 2)
    split = _divide(path)
    write_split_file(tmp_path / "split.json", split)
    assert read_split_file(tmp_path / "split.json", index_clips(path)) == split


@pytest.mark.parametrize(
    ("sides", "settings", "message"),
    [
        (["train"] * 9, {"split": "table", "fold": 2}, "'table' has one fold"),
        (["train", "val"], {"fold": 2}, "--data.split table has one fold"),
        (
            ["1", "2"] * 9,
            {},
            "18 clips are on an unknown side, the first on '1' .*; or try --data.split source$",
        ),
        (["test"] * 18, {}, r"no clip is for training \(18 clips for test\); add some; or try --data.split source$"),
        (["test"] * 2, {}, r"no clip is for training .*; or no other scheme can split these clips: class 'a' has 1"),
        ([""] * 18, {"split": "table"}, "has no column `split`.*; try --data.split source$"),
        (["train"] * 18, {"split": "folders"}, "has no folders `train`, `val` and `test`.*; try --data.split table$"),
        (["train", "train", "test"], {}, "class .* has 1 .* for training and validation, which need"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(
    tmp_path: Path, sides: list[str], settings: dict[str, object], message: str
) -> None:
    path = _table(tmp_path, sides)
    with pytest.raises((ConfigError, DataError), match=message) as refused:
        _divide(path, **settings)
    if advised := re.search(r"try --data.split (\w+)$", str(refused.value)):
        assert _divide(path, split=advised[1]).training


@pytest.mark.parametrize(("column", "fold"), [(True, 3), (False, 1)])
def test_official_without_its_files_advises_what_works(tmp_path: Path, column: bool, fold: int) -> None:
    path = _table(tmp_path, ["train"] * 16 + ["test"] * 4, column=column)
    with pytest.raises(DataError, match="official split files not found") as refused:
        _divide(path, split="official", fold=fold)
    assert str(path / "splits") not in str(refused.value)
    advised = dict(re.findall(r"--data\.(split|fold) (\w+)", str(refused.value).partition("; try ")[2]))
    assert advised["split"] == ("table" if column else "source")
    assert _divide(path, split=advised["split"], fold=int(advised.get("fold", fold))).training


def test_what_is_kept_out_is_tested_on_whatever_the_table_says(tmp_path: Path) -> None:
    path = _table(tmp_path, ["train"] * 8 + ["val"] * 4 + ["test"] * 2)
    other = tmp_path / "other"
    other.mkdir()
    measured = other / "clips.csv"
    measured.write_text("path,class,split\nv0.mp4,a,test\nv9.mp4,b,test\nv1.mp4,b,train\n")
    clips = index_clips(path)
    kept_out = keep_out(clips, measured)
    assert kept_out.part == "its own test side"
    split = divide(clips, path, settings=SplitSettings("table"), kept_out=kept_out)
    assert {clip.path.stem for clip in split.test} == {"v0", "v9", "v12", "v13"}
    assert len(split.training) == 7


def test_clips_of_no_own_side_are_divided_by_source() -> None:
    clips = [Clip(Path(f"/a/{number}.avi"), "ab"[number % 2], number % 2, str(number), None) for number in range(20)]
    split = divide(clips, Path("/a"), settings=SplitSettings("auto"))
    assert split == divide(clips, Path("/a"), settings=SplitSettings("source"))
    own = [replace(clip, side="training") for clip in clips]
    assert divide(own, Path("/a"), settings=SplitSettings("auto")).scheme == "folders"


def test_two_parts_of_one_file_are_two_clips_and_no_copies(small_set: Path, tmp_path: Path) -> None:
    files = [path for name in ("left", "right") for path in sorted((small_set / "videos" / name).iterdir())[:4]]
    rows = [f"{path},{path.parent.name},{start},{start + 0.3}" for path in files for start in (0, 0.3)]
    table = tmp_path / "times.csv"
    table.write_text("\n".join(["path,class,start,end", *rows, ""]))
    module = VideoDataModule(str(table), num_frames=4, size=16, num_workers=0)
    module.prepare_data()
    module.setup("fit")
    record = module.split_record
    assert sum(len(record[side]) for side in ("training", "validation", "test")) == 16
    sides = {clip_id.partition("@")[0]: side for side in ("training", "validation", "test") for clip_id in record[side]}
    for side in ("training", "validation", "test"):
        assert {sides[clip_id.partition("@")[0]] for clip_id in record[side]} == {side}
