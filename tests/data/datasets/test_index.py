from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidact.core.errors import DataError
from vidact.data.datasets.index import ENDINGS, Clip, choose_classes, index_clips


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


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_every_ending_that_is_promised_is_found_and_can_be_read(
    tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    from vidact.data.video.reading import read_frames

    codecs = {".webm": "libvpx-vp9", ".gif": "gif"}
    odd = {".gif": {"pix_fmt": "rgb8"}}
    for number, ending in enumerate(ENDINGS):
        name = f"{number}{ending.upper() if number % 2 else ending}"
        write_clip(tmp_path / "jump" / name, num_frames=3, codec=codecs.get(ending, "mpeg4"), **odd.get(ending, {}))
    clips = index_clips(tmp_path)
    assert [clip.path.suffix.lower() for clip in clips] == list(ENDINGS)
    for clip in clips:
        assert read_frames(clip.path, [2], size=(8, 8), gray=True, decoder="pyav").shape == (1, 1, 8, 8)


def test_other_files_are_not_clips(root: Path) -> None:
    _touch(root / "run" / "Thumbs.db", root / "run" / "._hidden.avi", root / "jump" / "README", root / "a.txt")
    assert len(index_clips(root)) == 3


def test_a_class_of_archives_is_distinguished_from_an_empty_one(root: Path) -> None:
    _touch(root / "walk" / "walk.rar")
    with pytest.raises(DataError, match=r"class 'walk' has no clip: its \.rar archives are not unpacked"):
        index_clips(root)


def test_two_files_that_would_have_one_id_are_both_named(root: Path) -> None:
    _touch(root / "jump" / "holiday.mp4")
    with pytest.raises(DataError, match=r"holiday\.avi and .*holiday\.mp4 would both be clip 'jump/holiday'; rename"):
        index_clips(root)


def test_ucf101s_names_have_their_group_as_source(root: Path) -> None:
    _touch(root / "Biking" / "v_Biking_g01_c03.avi")
    (clip,) = index_clips(root, classes=["Biking"])
    assert (clip.source, clip.film, clip.tags) == ("v_Biking_g01", "v_Biking_g01", None)


def test_films_are_known_by_hmdb51s_names_only(root: Path) -> None:
    named, other, _ = index_clips(root)
    assert (named.film, other.film) == ("ab", "holiday")
    assert Clip(Path("/jump/video_0001.avi"), "jump", 0, "video_0001", None).film == "video_0001"


# Links.


def test_a_class_that_is_a_link_out_of_the_root_is_followed_only_if_asked_for(root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "jump").symlink_to(root / "jump")
    with pytest.raises(DataError, match=r"data/jump: leads out of .*data, to .*/jump; .* --data\.follow_links true"):
        index_clips(data)
    assert len(index_clips(data, follow_links=True)) == 2


def test_clips_that_are_links_out_of_the_root_are_counted(root: Path, tmp_path: Path) -> None:
    for number in range(3):
        (root / "run" / f"link{number}.avi").symlink_to("/etc/hostname")
    with pytest.raises(DataError, match=r"link0\.avi: leads out of .*, to /etc/hostname \(3 such links in all\)"):
        index_clips(root)
    assert len(index_clips(root, follow_links=True)) == 6


def test_a_folder_videos_that_is_a_link_out_of_the_root_is_refused(root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "videos").symlink_to(root)
    with pytest.raises(DataError, match="leads out of"):
        index_clips(data, classes=["jump"])


def test_links_within_the_root_and_a_root_that_is_a_link_are_followed(root: Path, tmp_path: Path) -> None:
    (root / "jump" / "again.avi").symlink_to("holiday.avi")
    (root / "leap").symlink_to("jump")
    (tmp_path / "short").symlink_to(root)
    clips = index_clips(tmp_path / "short", classes=["jump", "leap"])
    assert [clip.class_name for clip in clips] == ["jump"] * 3 + ["leap"] * 3


def test_loops_of_links_neither_hang_nor_raise_a_riddle(root: Path) -> None:
    (root / "round").symlink_to(root / "round")
    (root / "jump" / "up").symlink_to("..")
    (root / "jump" / "loop.avi").symlink_to("loop.avi")
    (root / "jump" / "dangling.avi").symlink_to("nowhere.avi")
    assert choose_classes(root, None) == ("jump", "run")
    assert {clip.path.stem for clip in index_clips(root, classes=["jump"])} >= {"loop", "dangling", "holiday"}
    (root / "all").symlink_to(".")
    with pytest.raises(DataError, match="class 'all' has no clip"):
        index_clips(root)


# Tables.


def _table(folder: Path, text: str | bytes) -> Path:
    path = folder / "clips.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_table_names_clips_classes_and_groups(tmp_path: Path) -> None:
    path = _table(
        tmp_path,
        "\ufeffpath, class,group,remark\r\n"
        '"b/x, y.mp4",run,person 2,\r\n'
        "\r\n"
        "../elsewhere/A_B_jump_f_cm_np1_fr_goo_0.avi,jump,person 1,good\r\n",
    )
    first, second = index_clips(path)
    assert (first.clip_id, first.label, first.source, first.film) == (
        "jump/A_B_jump_f_cm_np1_fr_goo_0",
        0,
        "person 1",
        "person 1",
    )
    assert first.path == tmp_path.parent / "elsewhere" / "A_B_jump_f_cm_np1_fr_goo_0.avi"
    assert first.tags is not None
    assert (second.path, second.class_name, second.source) == (tmp_path / "b" / "x, y.mp4", "run", "person 2")
    assert [clip.label for clip in index_clips(path, classes=["run"])] == [0]
    assert choose_classes(path, None) == ("jump", "run")
    with pytest.raises(DataError, match="class 'runn' is not in .*clips.csv; nearest: run"):
        choose_classes(path, ["runn"])


def test_without_groups_a_table_has_the_sources_of_its_names(tmp_path: Path) -> None:
    path = _table(tmp_path, "class,path\njump,A_B_jump_f_cm_np1_fr_goo_0.avi\nrun,x.webm\n")
    assert [(clip.source, clip.film) for clip in index_clips(path)] == [("A_B", "ab"), ("x", "x")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column 'path'; expected a first line path,class or path,class,group,split,start,end, got ''"),
        ("a.avi,jump\n", "line 1: no column 'path'"),
        ("path;class\na.avi;jump\n", "line 1: no column 'path'.* got 'path;class'"),
        ("path\na.avi\n", "line 1: no column 'class'"),
        ("path,class\n", "no row after its first line"),
        ("path,class\na.avi,jump\nb.avi\n", "line 3: class is empty"),
        ("path,class\n\n ,jump\n", "line 3: path is empty"),
        ("path,class,group\na.avi,jump,\n", "line 2: group is empty"),
        ("path,class\na.avi,jump,run\n", "line 2: more columns than the first line names"),
        ("path,class\na.avi,a/b\n", "line 2: a class must be a name without /"),
        ("path,class\na.txt,jump\n", r"line 2: 'a\.txt' is not a clip; expected \.avi, .* or \.webm"),
        ("path,class\na.avi,jump\nb.avi,jump\n./x/../a.avi,run\n", r"line 4: .*/a\.avi is in line 2 already"),
        ("path,class\na/x.avi,jump\na/x.mp4,jump\n", "a/x.avi and .*a/x.mp4 would both be clip 'jump/x'; rename"),
        ('path,class\n"a.avi,jump\n', "not a table in UTF-8 with commas"),
        (b"path,class\n\xff.avi,jump\n", "not a table in UTF-8 with commas"),
        ("path,class\n\0.avi,jump\n", "line 2: .* is not a clip"),
    ],
)
def test_a_mistake_in_a_table_is_reported_with_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        index_clips(_table(tmp_path, text))


@given(st.permutations([(f"f{number}/{name}.avi", name[0]) for number, name in enumerate(["ax", "ay", "bx", "by"])]))
def test_the_order_of_a_tables_rows_changes_nothing(rows: list[tuple[str, str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = _table(Path(folder), "path,class\n" + "".join(f"{file},{name}\n" for file, name in rows))
        assert [clip.clip_id for clip in index_clips(path)] == ["a/ax", "a/ay", "b/bx", "b/by"]
