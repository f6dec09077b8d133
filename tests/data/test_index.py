from collections.abc import Callable
from pathlib import Path

import pytest

from vidact.core import DataError
from vidact.data.index import choose_classes, index_clips


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("jump/A_B_jump_f_cm_np1_fr_goo_0.avi", "jump/holiday.avi", "run/C_run_f_nm_np2_ba_bad_1.AVI"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "run" / "notes.txt").write_text("not a clip")
    (tmp_path / ".cache").mkdir()
    return tmp_path


def test_each_clip_has_class_source_and_tags(root: Path) -> None:
    first, second, third = index_clips(root)
    assert (first.clip_id, first.label, first.source) == ("jump/A_B_jump_f_cm_np1_fr_goo_0", 0, "A_B")
    assert (second.source, second.tags) == ("holiday", None)
    assert (third.class_name, third.label, third.source) == ("run", 1, "C")
    assert third.tags is not None
    assert third.tags.people == 2


def test_the_classes_may_lie_in_a_folder_videos(root: Path) -> None:
    (root / "videos").mkdir()
    (root / "jump").rename(root / "videos" / "jump")
    assert choose_classes(root, None) == ("jump",)


def test_given_classes_keep_their_order(root: Path) -> None:
    assert [clip.label for clip in index_clips(root, classes=["run", "jump"])] == [0, 1, 1]


def test_the_real_folder_has_every_clip(hmdb51: Path) -> None:
    clips = index_clips(hmdb51)
    assert len(clips) == 992
    assert len({clip.class_name for clip in clips}) == 7
    assert all(clip.tags for clip in clips)


def _missing(root: Path) -> Path:
    return root / "nowhere"


def _file(root: Path) -> Path:
    (root / "file").write_text("")
    return root / "file"


def _empty(root: Path) -> Path:
    (root / "empty").mkdir()
    return root / "empty"


def _archives(root: Path) -> Path:
    (root / "rars").mkdir()
    (root / "rars" / "jump.rar").write_text("")
    return root / "rars"


def _no_classes(root: Path) -> Path:
    return root / "jump"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_missing, "nowhere: no such folder"),
        (_file, "file: is a file"),
        (_empty, "the folder is empty"),
        (_archives, r"\.rar archives that are not unpacked"),
        (_no_classes, "no class folders, but 2 other entries"),
    ],
)
def test_a_folder_that_is_not_a_data_set_is_named(root: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(DataError, match=message):
        index_clips(make(root))


def test_a_class_without_clips_is_named(root: Path) -> None:
    (root / "walk").mkdir()
    with pytest.raises(DataError, match="class 'walk' has no clip"):
        index_clips(root)


def test_an_unknown_class_gets_the_nearest_names(root: Path) -> None:
    with pytest.raises(DataError, match="class 'jumb' is not in .*; nearest: jump"):
        choose_classes(root, ["jumb"])


def test_a_class_given_twice_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="given twice"):
        choose_classes(root, ["run", "run"])
