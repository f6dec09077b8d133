"""Parse UCF101's file names and its official lists of training and test clips.

Soomro, Zamir, Shah: UCF101: A dataset of 101 human actions classes from videos in the wild, CRCV-TR-12-01, 2012.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from vidact.core.errors import DataError, nearest
from vidact.data.datasets.hmdb51 import TEST, TRAINING, numbered_lines

FOLDS = (1, 2, 3)

_NAME = re.compile(r"(?P<source>v_.+_g\d+)_c\d+$")
# Lines of a training list end with the class's number, those of a test list do not.
_LINE = re.compile(r"(?P<class_name>[^/]+)/(?P<file>[^/]+?)(?:\s+\d+)?$")


def parse_name(stem: str) -> str | None:
    """Find the source video (UCF101: the group) in a file name without its ending.

    Groups are numbered within a class, so the class is part of the source: `v_Biking_g01` of `v_Biking_g01_c03`.

    Returns:
        The source, or None where the name does not follow UCF101's pattern.
    """
    match = _NAME.match(stem)
    return match["source"] if match else None


def read_ucf101_split(folder: Path, *, fold: int, class_names: Sequence[str]) -> dict[str, int]:
    """Read the official split of some classes.

    Args:
        folder: Holds `trainlist<fold>.txt` (`class/file number`) and `testlist<fold>.txt` (`class/file`),
            the fold in two digits.
        fold: 1, 2 or 3.
        class_names: The classes to read.

    Returns:
        From `class/file name without its ending` to TRAINING or TEST.

    Raises:
        DataError: a list or a class is missing, a line cannot be parsed (with file and line number), or a clip is on
            both lists.
    """
    flags: dict[str, int] = {}
    for name, side in (("trainlist", TRAINING), ("testlist", TEST)):
        path = folder / f"{name}{fold:02d}.txt"
        for number, clip_id in _read_list(path):
            if flags.setdefault(clip_id, side) != side:
                raise DataError(f"{path}, line {number}: {clip_id} is on two sides of the split")
    known = sorted({clip_id.partition("/")[0] for clip_id in flags})
    for class_name in class_names:
        if class_name not in known:
            near = nearest(class_name, known) or known[:3]
            raise DataError(
                f"class {class_name!r} is in no list of split {fold} in {folder}; nearest: {', '.join(near)}"
            )
    return {clip_id: side for clip_id, side in flags.items() if clip_id.partition("/")[0] in class_names}


def _read_list(path: Path) -> list[tuple[int, str]]:
    """Read the line number and the clip id of every line that is not empty."""
    rows = []
    for number, line in numbered_lines(path):
        match = _LINE.match(line)
        if match is None:
            raise DataError(f"{path}, line {number}: expected class/file, got {line[:80]!r}")
        rows.append((number, f"{match['class_name']}/{Path(match['file']).stem}"))
    return rows
