"""Folders `train`, `val` and `test` are a split; folders of classes never are."""

from pathlib import Path

import pytest

from vidact.core.errors import DataError
from vidact.data.datasets.index import choose_classes, index_clips, list_notes


def _files(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


@pytest.mark.parametrize("base", ["", "videos/"])
def test_the_folders_of_sides_hold_the_classes(tmp_path: Path, base: str) -> None:
    names = ("Train/a/1.mp4", "Train/b/2.mp4", "validation/a/1.mp4", "test/a/3.mp4", "test/c/4.mp4")
    root = _files(tmp_path, *(base + name for name in names), base + "test/c/notes.txt")
    clips = index_clips(root)
    assert [(clip.clip_id, clip.side, clip.label, clip.source) for clip in clips] == [
        ("a/1@Train", "training", 0, "1@Train"),
        ("a/1@validation", "validation", 0, "1@validation"),
        ("a/3", "test", 0, "3"),
        ("b/2", "training", 1, "2"),
        ("c/4", "test", 2, "4"),
    ]
    assert choose_classes(root, ["c", "a"]) == ("c", "a")
    assert len(index_clips(root, classes=["c", "a"])) == 4
    assert list_notes(root, scheme="folders") == list_notes(root) == []
    (note,) = list_notes(root, scheme="source")
    assert "the folders Train, test, validation are not used as a split; --data.split folders" in note


def test_what_holds_no_clips_may_lie_beside_them(tmp_path: Path) -> None:
    root = _files(
        tmp_path, "train/a/1.mp4", "val/a/2.mp4", "annotations/a.csv", "splits/a_test_split1.txt", "readme.md"
    )
    (root / "labels" / "a").mkdir(parents=True)
    assert [clip.side for clip in index_clips(root)] == ["training", "validation"]


@pytest.mark.parametrize(
    "names", [("train/1.mp4", "bus/2.mp4", "car/3.mp4"), ("train/1.mp4", "test/2.mp4", "valid/3.mp4", "walk/4.mp4")]
)
def test_a_class_may_be_called_train(tmp_path: Path, names: tuple[str, ...]) -> None:
    clips = index_clips(_files(tmp_path, *names))
    assert {(clip.class_name, clip.side) for clip in clips} == {(name.split("/")[0], "") for name in names}


def test_a_class_beside_folders_of_sides_is_refused(tmp_path: Path) -> None:
    root = _files(tmp_path, "train/a/1.mp4", "val/a/2.mp4", "walk/3.mp4")
    with pytest.raises(DataError, match="class 'train' has no clip"):
        index_clips(root)


def test_clips_that_lie_in_the_folders_of_sides_without_a_class_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="its folders train, val are no classes; expected class folders in each of them"
    ):
        index_clips(_files(tmp_path, "train/1.mp4", "val/2.mp4"))


def test_a_class_is_missing_only_if_no_side_has_it(tmp_path: Path) -> None:
    root = _files(tmp_path, "train/a/1.mp4", "test/a/2.mp4", "test/b/3.mp4")
    (root / "train" / "b").mkdir()
    assert len(index_clips(root)) == 3
    (root / "test" / "c").mkdir()
    with pytest.raises(DataError, match=r"class 'c' has no clip: .* in .*test/c"):
        index_clips(root)


def test_links_out_of_the_root_are_refused_here_too(tmp_path: Path) -> None:
    data = _files(tmp_path / "data", "train/a/1.mp4")
    elsewhere = _files(tmp_path / "elsewhere", "a/2.mp4")
    (data / "test").symlink_to(elsewhere)
    with pytest.raises(DataError, match="leads out of"):
        index_clips(data)
    assert len(index_clips(data, follow_links=True)) == 2
