"""Name windows as the 2020 report did (`vcP1269_3`), for data modules with `datapoint_names`.

A name is `vc`, the letter of the class, the clip's number and `_` with the window's first frame. The number is the
clip's place in the table that `index_clips` returns, counted from 1, in four digits (more beyond 9,999 clips): it
is valid as long as the same classes of the same data set are used. The letter is the class's capital initial if all
initials differ; else A to Z, then a to z, in the order of the classes. Frames are counted from 0.
"""

import string
from collections.abc import Sequence

from vidact.core.errors import ConfigError
from vidact.data.datasets.index import Clip

_LETTERS = string.ascii_uppercase + string.ascii_lowercase


def class_letters(class_names: Sequence[str]) -> dict[str, str]:
    """Assign a letter to each class.

    Raises:
        ConfigError: more than 52 classes.
    """
    initials = [name[:1].upper() for name in class_names]
    if len(set(initials)) == len(initials) and set(initials) <= set(string.ascii_uppercase):
        return dict(zip(class_names, initials, strict=True))
    if len(class_names) > len(_LETTERS):
        raise ConfigError(
            f"datapoint names have a letter for each class, so {len(_LETTERS)} classes at most; there are "
            f"{len(class_names)}: set --data.datapoint_names false"
        )
    return dict(zip(class_names, _LETTERS, strict=False))


def datapoint_prefixes(clips: Sequence[Clip]) -> dict[str, str]:
    """Name every clip, without the frame of a window: from clip id to `vcP1269`.

    Args:
        clips: All clips of the data set's classes, as `index_clips` returns them.
    """
    letters = class_letters(list(dict.fromkeys(clip.class_name for clip in sorted(clips, key=lambda clip: clip.label))))
    return {clip.clip_id: f"vc{letters[clip.class_name]}{number:04d}" for number, clip in enumerate(clips, start=1)}
