import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidact.core.errors import DataError
from vidact.data.datasets.hmdb51 import TEST, TRAINING, film_of, parse_name, read_official_split
from vidact.data.splits.files import find_official_folder


def test_a_name_gives_source_and_tags() -> None:
    found = parse_name("April_09_brush_hair_u_nm_np1_ba_goo_0", "brush_hair")
    assert found is not None
    source, tags = found
    assert source == "April_09"
    assert (tags.visible, tags.camera, tags.people, tags.view, tags.quality) == ("u", "nm", 1, "ba", "goo")


def test_a_source_may_hold_the_class_word() -> None:
    assert parse_name("run_Forrest_run_run_f_cm_np1_ba_med_12", "run")[0] == "run_Forrest_run"  # type: ignore[index]


@pytest.mark.parametrize("stem", ["holiday", "x_walk_f_cm_np1_ba_med_0", "x_run_f_cm_np1_ba_ugly_0", ""])
def test_other_names_are_not_understood(stem: str) -> None:
    assert parse_name(stem, "run") is None


@given(st.text(st.characters(blacklist_characters="/\x00", blacklist_categories=["Cs"]), min_size=1, max_size=60))
def test_any_source_comes_back(source: str) -> None:
    assert parse_name(f"{source}_jump_l_nm_np12_ri_bad_3", "jump")[0] == source  # type: ignore[index]


@pytest.mark.parametrize(
    ("source", "film"),
    [
        ("Return_of_the_King_4", "returnoftheking"),
        ("RETURN_OF_THE_KING", "returnoftheking"),
        ("Catch-Me(If)You_Can__12_3", "catchmeifyoucan"),
        ("24_Baseball_hits_in_31_seconds", "24baseballhitsin31seconds"),
        ("96-_Torwarttraining_1", "96torwarttraining"),
        ("2009_04", "2009_04"),
        ("(3)", "(3)"),
        ("___", "___"),
    ],
)
def test_a_film_is_a_source_without_case_punctuation_and_trailing_numbers(source: str, film: str) -> None:
    assert film_of(source) == film


@given(st.text(min_size=1, max_size=30))
def test_a_films_own_name_is_the_same_film(source: str) -> None:
    assert film_of(source)
    assert film_of(film_of(source)) == film_of(source)


def test_all_names_of_the_official_split_files_are_understood(hmdb51: Path) -> None:
    files = sorted((hmdb51 / "splits").glob("*_test_split1.txt"))
    assert len(files) == 51
    total = 0
    for path in files:
        class_name = path.name.removesuffix("_test_split1.txt")
        for line in path.read_text(encoding="utf-8").splitlines():
            name = line.split()[0]
            # The pattern as the data set's readers know it, written out once more for comparison.
            whole = re.fullmatch(
                rf"(.*)_{class_name}_([fhlu])_(cm|nm)_np(\d+)_(fr|ba|le|ri)_(bad|med|goo)_\d+\.avi", name
            )
            found = parse_name(name.removesuffix(".avi"), class_name)
            assert (whole is None) == (found is None), name
            assert whole is not None
            assert found is not None
            assert found[0] == whole[1]
            total += 1
    assert total == 6766


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_the_official_split_has_70_and_30_clips_per_class(hmdb51: Path, fold: int) -> None:
    flags = read_official_split(find_official_folder(hmdb51 / "videos"), fold=fold, class_names=["run", "catch"])
    for name in ("run", "catch"):
        values = [flag for clip_id, flag in flags.items() if clip_id.startswith(f"{name}/")]
        assert (values.count(TRAINING), values.count(TEST)) == (70, 30)


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    (tmp_path / "jump_test_split1.txt").write_text("a b.avi 1 \n\nc.avi 2 \nd.avi 0 \n")
    return tmp_path


def test_split_lines_may_hold_blanks_and_trail_them(splits: Path) -> None:
    flags = read_official_split(splits, fold=1, class_names=["jump"])
    assert flags == {"jump/a b": 1, "jump/c": 2, "jump/d": 0}


@pytest.mark.parametrize("line", ["x.avi 3", "x.avi", "x.avi one", "1"])
def test_a_line_that_is_not_understood_is_named(splits: Path, line: str) -> None:
    with (splits / "jump_test_split1.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match="jump_test_split1.txt, line 5: expected a file name and 0, 1 or 2"):
        read_official_split(splits, fold=1, class_names=["jump"])


def test_a_clip_on_two_sides_is_named(splits: Path) -> None:
    with (splits / "jump_test_split1.txt").open("a") as file:
        file.write("c.avi 1 \n")
    with pytest.raises(DataError, match="line 5: c.avi is on two sides"):
        read_official_split(splits, fold=1, class_names=["jump"])


def test_an_unknown_class_gets_the_nearest_names(splits: Path) -> None:
    with pytest.raises(DataError, match="'jumpp' has no file for split 1 .* nearest: jump"):
        read_official_split(splits, fold=1, class_names=["jumpp"])


def test_missing_split_files_are_reported_with_the_places_searched(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looked for <class>_test_split1.txt and .*--data.splits_folder"):
        find_official_folder(tmp_path)
