from pathlib import Path

import pytest

from vidact.core.errors import DataError
from vidact.data.datasets.hmdb51 import TEST, TRAINING
from vidact.data.datasets.index import index_clips
from vidact.data.datasets.ucf101 import parse_name, read_ucf101_split


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    (tmp_path / "trainlist01.txt").write_text(
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n"
        "Biking/v_Biking_g08_c01.avi 2\n\n"
        "HandstandPushups/v_HandStandPushups_g09_c02.avi 3\n"
    )
    (tmp_path / "testlist01.txt").write_text(
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\r\nBiking/v_Biking_g01_c01.avi\r\n"
    )
    return tmp_path


def test_a_name_gives_its_group() -> None:
    assert parse_name("v_ApplyEyeMakeup_g01_c01") == "v_ApplyEyeMakeup_g01"
    assert parse_name("v_HandStandPushups_g25_c07") == "v_HandStandPushups_g25"


@pytest.mark.parametrize("stem", ["ApplyEyeMakeup_g01_c01", "v_ApplyEyeMakeup_g01", "v__g_c", "holiday", ""])
def test_other_names_are_not_understood(stem: str) -> None:
    assert parse_name(stem) is None


def test_the_lists_say_who_trains_and_who_tests(lists: Path) -> None:
    names = ["Biking", "ApplyEyeMakeup", "HandstandPushups"]
    assert read_ucf101_split(lists, fold=1, class_names=names) == {
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01": TRAINING,
        "Biking/v_Biking_g08_c01": TRAINING,
        "HandstandPushups/v_HandStandPushups_g09_c02": TRAINING,
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01": TEST,
        "Biking/v_Biking_g01_c01": TEST,
    }
    assert len(read_ucf101_split(lists, fold=1, class_names=["Biking"])) == 2


def test_the_ids_are_those_of_the_clips_on_disk(lists: Path, tmp_path: Path) -> None:
    for line in (lists / "trainlist01.txt").read_text().split():
        if "/" in line:
            path = tmp_path / "data" / line
            path.parent.mkdir(parents=True)
            path.write_bytes(b"x")
    clips = index_clips(tmp_path / "data")
    flags = read_ucf101_split(lists, fold=1, class_names=[clip.class_name for clip in clips])
    assert [flags[clip.clip_id] for clip in clips] == [TRAINING] * 3
    assert clips[2].source == clips[2].film == "v_HandStandPushups_g09"


def test_a_class_that_is_in_no_list_gets_the_nearest_names(lists: Path) -> None:
    with pytest.raises(DataError, match="class 'Bikin' is in no list of split 1 in .* nearest: Biking"):
        read_ucf101_split(lists, fold=1, class_names=["Bikin"])


def test_a_missing_list_is_named(lists: Path) -> None:
    with pytest.raises(DataError, match="trainlist02.txt: cannot be read as text in UTF-8 .No such file or directory"):
        read_ucf101_split(lists, fold=2, class_names=["Biking"])


@pytest.mark.parametrize("line", ["v_Biking_g02_c01.avi 2", "a/b/c.avi", "/x.avi"])
def test_a_line_that_is_not_understood_is_named(lists: Path, line: str) -> None:
    with (lists / "testlist01.txt").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(DataError, match="testlist01.txt, line 3: expected class/file"):
        read_ucf101_split(lists, fold=1, class_names=["Biking"])


def test_a_clip_on_both_lists_is_named(lists: Path) -> None:
    with (lists / "testlist01.txt").open("a") as file:
        file.write("Biking/v_Biking_g08_c01.avi\n")
    with pytest.raises(DataError, match="testlist01.txt, line 3: Biking/v_Biking_g08_c01 is on two sides"):
        read_ucf101_split(lists, fold=1, class_names=["Biking"])
