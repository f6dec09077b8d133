"""Each column of a table is used or reported."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidact.core.errors import DataError
from vidact.data.datasets.index import Clip, index_clips, list_notes
from vidact.data.datasets.tables import SPELLINGS, read_table


def _table(folder: Path, text: str) -> Path:
    path = folder / "clips.csv"
    path.write_text(text, encoding="utf-8")
    return path


def _clips(folder: Path, text: str) -> tuple[Clip, ...]:
    return index_clips(_table(folder, text))


def test_each_spelling_of_a_side_in_any_case(tmp_path: Path) -> None:
    for side, words in (SPELLINGS | {"": ("",)}).items():
        for word in words:
            text = f"path,class,split\na.mp4,run,{word}\nb.mp4,run, {word.upper()} \nc.mp4,run,{word.title()}\n"
            assert {clip.side for clip in _clips(tmp_path, text)} == {side}, word


def test_parts_of_a_file_have_their_times_and_ids_and_one_source(tmp_path: Path) -> None:
    name = "Film_run_f_cm_np1_fr_med_0"  # tells its source to the class run alone
    clips = _clips(
        tmp_path,
        f"path,class,start,end\n{name}.avi,run,0,2.5\n{name}.avi,run,2.5,\n{name}.avi,jump,,4\n{name}.avi,jump,,\n"
        "x.avi,jump,,\n",
    )
    found = [(clip.clip_id, clip.start_seconds, clip.end_seconds, clip.source) for clip in clips]
    assert found == [
        (f"jump/{name}@0-4", None, 4.0, "Film"),
        (f"jump/{name}", None, None, "Film"),
        ("jump/x", None, None, "x"),
        (f"run/{name}@0-2.5", 0.0, 2.5, "Film"),
        (f"run/{name}@2.5-", 2.5, None, "Film"),
    ]


def test_equal_names_in_other_folders_are_distinguished_by_what_differs(tmp_path: Path) -> None:
    clips = _clips(
        tmp_path,
        "path,class,group\ntrain/a/1.mp4,a,x\nval/a/1.mp4,a,x\ntrain/a/2.mp4,a,y\ntrain/b/1.mp4,b,z\n",
    )
    assert [(clip.clip_id, clip.source) for clip in clips] == [
        ("a/1@train", "x"),  # the group stays
        ("a/1@val", "x"),
        ("a/2", "y"),
        ("b/1", "z"),
    ]
    clips = _clips(tmp_path, "path,class\nh/p/q/1.mp4,a\nh/p/r/1.mp4,a\nh/s/q/1.mp4,a\n")
    assert [(clip.clip_id, clip.source) for clip in clips] == [
        ("a/1@p+q", "1@p+q"),
        ("a/1@p+r", "1@p+r"),
        ("a/1@s+q", "1@s+q"),
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["x/1.mp4", "x/y/1.mp4", "1.mp4", "y/x/1.mp4", "2.mp4"]),
            st.sampled_from(["run", "jump"]),
            st.sampled_from(["", "0.5", "1"]),
            st.sampled_from(["", "1.5", "20"]),
        ),
        unique_by=lambda row: (row[0], row[2] or "0", row[3]),
        min_size=1,
    )
)
def test_whatever_a_table_names_has_an_id_of_its_own_and_files_one_source(rows: list[tuple[str, ...]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("path", "class", "start", "end"), *rows])
        clips = index_clips(path)
    assert len({clip.clip_id for clip in clips}) == len(rows)
    assert all(clip.clip_id.count("/") == 1 for clip in clips)
    for file_path in {clip.path for clip in clips}:
        assert len({clip.source for clip in clips if clip.path == file_path}) == 1


def test_columns_that_are_not_used_are_named_once(tmp_path: Path) -> None:
    text = "path,Class,SPLIT,begin,ende,remark,labels\na.mp4,run,train,1,2,good,3\n"
    path = _table(tmp_path, text)
    assert list_notes(path, scheme="table") == [
        f"{path}: not used: columns 'begin' (is 'start' meant?), 'ende' (is 'end' meant?), 'remark', 'labels'"
    ]
    (line,) = list_notes(path, scheme="source")
    assert line.endswith("'remark', 'labels', 'split' (--data.split table uses it)")
    assert not list_notes(_table(tmp_path, "path,class,split\na.mp4,run,test\n"), scheme="table")


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\x00b", "\x1b[31m", "ü" * 128])
def test_a_class_is_a_name_that_a_folder_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="line 2: (a class must be a (valid folder )?name|class is empty)"):
        _clips(tmp_path, f"path,class\na.mp4,{name}\n")


@pytest.mark.parametrize("cell", ["", "..", ".avi", "a/...avi", "x.avi/.."])
def test_a_path_is_never_one_whose_name_is_dots(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match=r"line 2: .*(is not a clip; expected .avi|path is empty)"):
        _clips(tmp_path, f"path,class\n{cell},run\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.mp4,run\n", "no column 'class'; .* is 'label' the one"),
        ("path,class,Class\na.mp4,run,run\n", "line 1: 2 columns are called 'class'; keep one"),
        ("path,class,start\na.mp4,run,0:03\n", "line 2: start must be a number of seconds .* got '0:03'"),
        ("path,class,start\na.mp4,run,-1\n", "line 2: start must be a number of seconds .* got '-1'"),
        ("path,class,end\na.mp4,run,nan\n", "line 2: end must be a number of seconds .* got 'nan'"),
        ("path,class,end\na.mp4,run,inf\n", "line 2: end must be a number of seconds .* got 'inf'"),
        ('path,class,end\na.mp4,run,"0,3"\n', "line 2: end must be a number of seconds .* got '0,3'"),
        ("path,class,end\na.mp4,run,0\n", "line 2: the clip ends at 0 s, but starts at 0 s"),
        (
            "path,class,start,end\na.mp4,run,3,2\n",
            "line 2: the clip ends at 2 s, but starts at 3 s; expected start < end",
        ),
        ("path,class,start\na.mp4,run,1\na.mp4,jump,1.0\n", "line 3: .* is in line 2 already with the same start"),
        ("path,class,start\na.mp4,run,0\na.mp4,run,\n", "line 3: .* is in line 2 already"),
        (
            "path,class,group,end\na.mp4,run,p,1\na.mp4,run,q,2\n",
            "line 3: .*a.mp4 is of group 'q', and in line 2 of group 'p'; clips of one file are of one group",
        ),
    ],
)
def test_a_mistake_in_a_table_is_reported_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(_table(tmp_path, text))
