import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidact.core.errors import DataError
from vidact.data.datasets.datapoints import class_letters, datapoint_name, datapoint_prefixes, parse_datapoint
from vidact.data.datasets.index import Clip, index_clips


def _clips(class_names: list[str], per_class: int) -> list[Clip]:
    return [
        Clip(Path(f"/{name}/{number}.avi"), name, label, str(number), None)
        for label, name in enumerate(class_names)
        for number in range(per_class)
    ]


@st.composite
def tables(draw: st.DrawFn) -> list[Clip]:
    names = draw(st.lists(st.text("abAB xyé", min_size=1, max_size=4), min_size=1, max_size=52, unique=True))
    return _clips(names, draw(st.integers(1, 3)))


@given(tables(), st.data(), st.integers(0, 2000))
def test_a_name_leads_back_to_its_clip_and_frame(clips: list[Clip], data: st.DataObject, first_frame: int) -> None:
    clip = data.draw(st.sampled_from(clips))
    name = datapoint_name(clip, first_frame, clips=clips)
    assert parse_datapoint(name, clips) == (clip, first_frame)
    assert len(set(datapoint_prefixes(clips).values())) == len(clips)


def test_the_names_look_like_the_reports() -> None:
    clips = _clips(["fall_floor", "hug", "jump", "punch"], per_class=400)
    assert datapoint_name(clips[1268], 3, clips=clips) == "vcP1269_3"
    assert datapoint_name(clips[0], 0, clips=clips) == "vcF0001_0"


def test_more_than_9999_clips_get_more_digits() -> None:
    clips = _clips(["jump", "run"], per_class=6000)
    assert datapoint_name(clips[11_999], 12, clips=clips) == "vcR12000_12"
    assert parse_datapoint("vcR12000_12", clips) == (clips[11_999], 12)


def test_letters_are_initials_where_these_differ_else_the_alphabet() -> None:
    assert class_letters(["jump", "Run"]) == {"jump": "J", "Run": "R"}
    assert class_letters(["hit", "hug"]) == {"hit": "A", "hug": "B"}
    assert class_letters(["1", "jump"]) == {"1": "A", "jump": "B"}
    many = [f"x{number}" for number in range(52)]
    assert "".join(class_letters(many).values()) == string.ascii_uppercase + string.ascii_lowercase
    with pytest.raises(DataError, match="52 classes at most; there are 53"):
        class_letters([*many, "more"])


def test_letters_follow_the_numbers_of_the_classes() -> None:
    clips = _clips(["hug", "hit"], per_class=1)
    assert datapoint_prefixes(clips) == {"hug/0": "vcA0001", "hit/0": "vcB0002"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("P1269_3", "is no datapoint name; expected vc, a letter, four digits"),
        ("vcP126_3", "is no datapoint name"),
        ("vcP1269_", "is no datapoint name"),
        ("vcJ0000_3", "no clip number 0; these classes have clips 1 to 4"),
        ("vcR0005_3", "no clip number 5; these classes have clips 1 to 4"),
        ("vcR0001_3", "clip number 1 is jump/0, letter J, not R; the name was given with other classes"),
    ],
)
def test_a_name_that_leads_nowhere_is_said_why(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_datapoint(name, _clips(["jump", "run"], per_class=2))


def test_real_clips_have_their_initials(hmdb51: Path) -> None:
    clips = index_clips(hmdb51)
    prefixes = datapoint_prefixes(clips)
    assert {prefix[:3] for prefix in prefixes.values()} == {"vcC", "vcF", "vcH", "vcJ", "vcK", "vcP", "vcR"}
    assert prefixes[clips[-1].clip_id] == "vcR0992"
