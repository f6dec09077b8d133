import string
from pathlib import Path

import pytest

from vidact.core.errors import ConfigError
from vidact.data.datasets.datapoints import class_letters, datapoint_prefixes
from vidact.data.datasets.index import Clip, index_clips


def _clips(class_names: list[str], per_class: int) -> list[Clip]:
    return [
        Clip(Path(f"/{name}/{number}.avi"), name, label, str(number), None)
        for label, name in enumerate(class_names)
        for number in range(per_class)
    ]


def test_the_names_look_like_the_reports() -> None:
    names = list(datapoint_prefixes(_clips(["fall_floor", "hug", "jump", "punch"], per_class=400)).values())
    assert (names[0], names[1268]) == ("vcF0001", "vcP1269")
    assert len(set(names)) == 1600


def test_more_than_9999_clips_get_more_digits() -> None:
    assert list(datapoint_prefixes(_clips(["jump", "run"], per_class=6000)).values())[-1] == "vcR12000"


def test_letters_are_initials_where_these_differ_else_the_alphabet() -> None:
    assert class_letters(["jump", "Run"]) == {"jump": "J", "Run": "R"}
    assert class_letters(["hit", "hug"]) == {"hit": "A", "hug": "B"}
    assert class_letters(["1", "jump"]) == {"1": "A", "jump": "B"}
    many = [f"x{number}" for number in range(52)]
    assert "".join(class_letters(many).values()) == string.ascii_uppercase + string.ascii_lowercase
    with pytest.raises(ConfigError, match="52 classes at most; there are 53"):
        class_letters([*many, "more"])


def test_letters_follow_the_numbers_of_the_classes() -> None:
    clips = _clips(["hug", "hit"], per_class=1)
    assert datapoint_prefixes(clips) == {"hug/0": "vcA0001", "hit/0": "vcB0002"}


def test_real_clips_have_their_initials(hmdb51: Path) -> None:
    clips = index_clips(hmdb51)
    prefixes = datapoint_prefixes(clips)
    assert {prefix[:3] for prefix in prefixes.values()} == {"vcC", "vcF", "vcH", "vcJ", "vcK", "vcP", "vcR"}
    assert prefixes[clips[-1].clip_id] == "vcR0992"
