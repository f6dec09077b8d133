"""Parse HMDB51's file names and its official split files.

Kuehne, Jhuang, Garrote, Poggio, Serre: HMDB: a large video database for human motion recognition, ICCV 2011.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidact.core.errors import DataError, nearest

FOLDS = (1, 2, 3)
UNUSED, TRAINING, TEST = 0, 1, 2

_TAGS = re.compile(
    r"_(?P<visible>[fhlu])_(?P<camera>cm|nm)_np(?P<people>\d+)"
    r"_(?P<view>fr|ba|le|ri)_(?P<quality>bad|med|goo)_(?P<index>\d+)$"
)
_SPLIT_FILE = re.compile(r"(?P<class_name>.+)_test_split(?P<fold>\d)\.txt$")


@dataclass(frozen=True)
class ClipTags:
    """The five tags of a clip's name.

    Attributes:
        visible: Body part in view: f full, h head, u upper, l lower.
        camera: cm moving, nm static.
        people: Number of people who act.
        view: fr front, ba back, le left, ri right.
        quality: bad, med, goo.
    """

    visible: str
    camera: str
    people: int
    view: str
    quality: str


def parse_name(stem: str, class_name: str) -> tuple[str, ClipTags] | None:
    """Split a file name (without its ending) into its source video and its tags.

    The class must be given, because sources contain underscores and names of classes themselves.

    Returns:
        The source and the tags, or None where the name does not follow HMDB51's pattern.
    """
    match = _TAGS.search(stem)
    source, separator, rest = (stem[: match.start()] if match else "").rpartition(f"_{class_name}")
    if match is None or not separator or rest:
        return None
    tags = ClipTags(match["visible"], match["camera"], int(match["people"]), match["view"], match["quality"])
    return source, tags


def film_of(source: str) -> str:
    """Derive a film's name from a source video's: without case, punctuation and trailing numbers.

    `Return_of_the_King_4` and `RETURN_OF_THE_KING` are one film. A name of nothing but numbers and
    punctuation is kept.
    """
    letters = "".join(character for character in source.casefold() if character.isalnum())
    return re.sub(r"\d+$", "", letters) or source


def read_official_split(folder: Path, *, fold: int, class_names: Sequence[str]) -> dict[str, int]:
    """Read the official split of some classes.

    Args:
        folder: Holds `<class>_test_split<fold>.txt`, each line `file name, flag`.
        fold: 1, 2 or 3.
        class_names: The classes to read.

    Returns:
        From `class/file name without its ending` to UNUSED, TRAINING or TEST.

    Raises:
        DataError: no such folder or class, or a line that cannot be parsed (with file and line number).
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of split files; give it as --data.splits_folder")
    matches = [match for path in folder.iterdir() if (match := _SPLIT_FILE.match(path.name))]
    known = sorted({match["class_name"] for match in matches if match["fold"] == str(fold)})
    flags: dict[str, int] = {}
    for class_name in class_names:
        if class_name not in known:
            near = nearest(class_name, known) or known[:3]
            raise DataError(
                f"class {class_name!r} has no file for split {fold} in {folder}; nearest: {', '.join(near)}"
            )
        flags |= _read_split_file(folder / f"{class_name}_test_split{fold}.txt", class_name=class_name)
    return flags


def _read_split_file(path: Path, *, class_name: str) -> dict[str, int]:
    flags: dict[str, int] = {}
    for number, line in numbered_lines(path):
        name, _, flag = line.rpartition(" ")
        if flag not in {"0", "1", "2"} or not name:
            raise DataError(f"{path}, line {number}: expected a file name and 0, 1 or 2, got {line[:80]!r}")
        clip_id = f"{class_name}/{Path(name.strip()).stem}"
        if flags.get(clip_id, int(flag)) != int(flag):
            raise DataError(f"{path}, line {number}: {name.strip()} is on two sides of the split")
        flags[clip_id] = int(flag)
    return flags


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Read the lines of a split file that are not empty, each with its number.

    Raises:
        DataError: it cannot be read as UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as text in UTF-8 ({reason}); complete the split files") from error
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
