"""Kinetics' own annotation files are read as they are."""

from pathlib import Path

import pytest

from vidact.core.errors import DataError
from vidact.data.datasets.index import choose_classes, index_clips, list_notes

HEAD = "label,youtube_id,time_start,time_end,split\n"
ROWS = (
    "playing guitar,-abc_DEF123,10,20,train\n"
    "playing guitar,gone0000000,0,10,train\n"
    "abseiling,xyz,83,93,validate\n"
    "abseiling,whole,5,15,test\n"
    "abseiling,whole,30,40,test\n"
)


def _annotation(folder: Path, rows: str, *files: str, head: str = HEAD) -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    folder.mkdir(exist_ok=True)
    (folder / "kinetics.csv").write_text(head + rows)
    return folder / "kinetics.csv"


@pytest.mark.parametrize(
    ("cut", "second"),
    [
        ("-abc_DEF123_000010_000020.mp4", "xyz_000083_000093.mkv"),  # flat
        ("playing_guitar/-abc_DEF123_000010_000020.mp4", "abseiling/xyz_000083_000093.mp4"),  # by label
        ("train/-abc_DEF123_000010_000020.mp4", "val/xyz_83_93.mp4"),  # by side
        ("train/playing guitar/-abc_DEF123_000010_000020.mp4", "val/abseiling/xyz_000083_000093.mp4"),
    ],
)
def test_cut_clips_are_taken_as_they_are_and_whole_videos_cut(tmp_path: Path, cut: str, second: str) -> None:
    path = _annotation(tmp_path, ROWS, cut, second, "whole.webm")
    found = {
        (clip.class_name, clip.path.relative_to(tmp_path).as_posix(), clip.source, clip.side): (
            clip.start_seconds,
            clip.end_seconds,
        )
        for clip in index_clips(path)
    }
    assert found == {
        ("abseiling", second, "xyz", "validation"): (None, None),
        ("abseiling", "whole.webm", "whole", "test"): (30.0, 40.0),  # of two
        ("playing guitar", cut, "-abc_DEF123", "training"): (None, None),
        ("playing guitar", "gone0000000_000000_000010.mp4", "gone0000000", "training"): (None, None),
    }
    assert [clip.clip_id for clip in index_clips(path)][:2] == ["abseiling/whole@5-15", "abseiling/whole@30-40"]
    assert list_notes(path, scheme="table") == [f"{path}: 1 of 5 clips are not on disk and are skipped"]


def test_the_folder_annotations_lies_beside_the_clips(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "-abc_DEF123_000010_000020.mp4").write_bytes(b"x")
    path = _annotation(tmp_path / "annotations", ROWS)
    assert index_clips(path)[0].path == tmp_path / "train" / "-abc_DEF123_000010_000020.mp4"


def test_classes_without_a_clip_are_skipped_and_reported(tmp_path: Path) -> None:
    rows = ROWS + "a,b,1,2,train\na,b,1,2,train\na,c,1,2,train\n"
    path = _annotation(tmp_path, rows, "xyz_000083_000093.mp4", head=HEAD.replace("split", "split,is_cc"))
    assert choose_classes(path, None) == ("abseiling",)
    assert [note.partition(": ")[2] for note in list_notes(path, scheme="source")] == [
        "not used: columns 'is_cc', 'split' (--data.split table uses it)",
        "2 of 3 clips are not on disk and are skipped",
        "2 classes have no clip on disk and are skipped (a, playing guitar)",
        "1 rows are repeated",
    ]
    with pytest.raises(DataError, match="class 'a' is not in"):
        choose_classes(path, ["a", "abseiling"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "no row after its first line"),
        ("a,b,1,2,train\n", r"none of its 1 clips is on disk: .* for b_000001_000002\.mp4 and the like"),
        ("a,,1,2,train\n", "line 2: youtube_id is empty"),
        ("..,b,1,2,train\n", "line 2: a class must be a (valid folder )?name"),
        ("a,b/../../c,1,2,train\n", "line 2: 'b/../../c' is not a youtube_id"),
        ("a,b,2,1,train\n", "line 2: expected time_start < time_end in seconds, got '2' and '1'"),
        ("a,b,x,1,train\n", "line 2: expected time_start < time_end in seconds, got 'x' and '1'"),
        ("a,x,1,2,train\nb,x,1,2,train\n", r"line 3: .*x_000001_000002\.mp4 is in line 2 already"),
    ],
)
def test_a_mistake_is_reported_with_its_line(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        index_clips(_annotation(tmp_path, rows, "x_000001_000002.mp4"))
