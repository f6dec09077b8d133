"""Short names of windows, `vcP1269_3`, as the 2020 report used them, to and from clips.

It does not know which windows exist, nor how long a clip is.

A name is `vc`, the letter of the class, the clip's number and `_` with the window's first frame. The number is the
clip's place in the table that `index_clips` gives, counted from 1, in four digits (or more, beyond 9,999 clips): it
holds as long as the same classes of the same data set are used. The letter is the class's capital initial where
all initials differ; else A to Z, then a to z, in the order of the classes. Frames are counted from 0.
"""

import re
import string
from collections.abc import Sequence

from vidact.core.errors import DataError
from vidact.data.datasets.index import Clip

_NAME = re.compile(r"vc(?P<letter>[A-Za-z])(?P<number>\d{4,})_(?P<frame>\d+)", re.ASCII)
_LETTERS = string.ascii_uppercase + string.ascii_lowercase


def class_letters(class_names: Sequence[str]) -> dict[str, str]:
    """Give each class one letter, by which a name tells it.

    Raises:
        DataError: more than 52 classes.
    """
    initials = [name[:1].upper() for name in class_names]
    if len(set(initials)) == len(initials) and set(initials) <= set(string.ascii_uppercase):
        return dict(zip(class_names, initials, strict=True))
    if len(class_names) > len(_LETTERS):
        raise DataError(
            f"datapoint names have one letter for each class, so {len(_LETTERS)} classes at most; "
            f"there are {len(class_names)}; use clip ids"
        )
    return dict(zip(class_names, _LETTERS, strict=False))


def datapoint_prefixes(clips: Sequence[Clip]) -> dict[str, str]:
    """Name every clip: from clip id to `vcP1269`.

    Args:
        clips: The whole table, as `index_clips` gives it.
    """
    letters = _letters(clips)
    return {clip.clip_id: f"vc{letters[clip.class_name]}{number:04d}" for number, clip in enumerate(clips, start=1)}


def datapoint_name(clip: Clip, first_frame: int, *, clips: Sequence[Clip]) -> str:
    """Name one window. For many, build the names from `datapoint_prefixes` once.

    Args:
        clip: One of `clips`.
        first_frame: Of the window, from 0.
        clips: The whole table.
    """
    return f"{datapoint_prefixes(clips)[clip.clip_id]}_{first_frame}"


def parse_datapoint(name: str, clips: Sequence[Clip]) -> tuple[Clip, int]:
    """Find the clip and the first frame that a name means.

    Raises:
        DataError: not such a name, no clip of this number, or a clip of another class.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(f"{name!r} is no datapoint name; expected vc, a letter, four digits, _ and a frame: vcP1269_3")
    number = int(match["number"])
    if not 1 <= number <= len(clips):
        raise DataError(f"{name}: there is no clip number {number}; these classes have clips 1 to {len(clips)}")
    clip = clips[number - 1]
    letter = _letters(clips)[clip.class_name]
    if letter != match["letter"]:
        raise DataError(
            f"{name}: clip number {number} is {clip.clip_id}, letter {letter}, not {match['letter']}; "
            "the name was given with other classes or another data set"
        )
    return clip, int(match["frame"])


def _letters(clips: Sequence[Clip]) -> dict[str, str]:
    return class_letters(list(dict.fromkeys(clip.class_name for clip in sorted(clips, key=lambda clip: clip.label))))
