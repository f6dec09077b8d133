"""Read a CSV table of clips, and check every row.

It has a row for each clip and the columns `path` and `class`, and optionally `group`, `split`, `start` and `end`
(seconds); or it is one of Kinetics' annotation files (`kinetics`).
"""

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidact.core.errors import DataError, first_few, nearest
from vidact.core.terminal import unescape_cell
from vidact.data.datasets import kinetics
from vidact.data.video.paths import ENDINGS, is_clip_name

TRAINING, VALIDATION, TEST = "training", "validation", "test"
SPELLINGS = {
    TRAINING: ("train", "training"),
    VALIDATION: ("val", "valid", "validation", "validate", "dev"),
    TEST: ("test", "testing"),
}
_SIDE_OF = {word: side for side, words in SPELLINGS.items() for word in words}
TABLE_ENDING = ".csv"
_NEEDED, _OPTIONAL = ("path", "class"), ("group", "split", "start", "end")
_EXPECTED = "expected a first line path,class or path,class,group,split,start,end"
# Other names for the columns, which are suggested where a column is missing.
_SYNONYMS = {
    "path": ("file", "filename", "filepath", "video", "video_path", "clip"),
    "class": ("label", "labels", "class_name", "category", "action", "target"),
    "group": ("source", "groups", "subject", "person", "film"),
    "split": ("subset", "set", "partition", "side", "usage"),
    "start": ("begin", "from", "start_seconds", "start_time", "time_start", "t_start", "onset"),
    "end": ("stop", "to", "end_seconds", "end_time", "time_end", "t_end", "offset"),
}
_Lines = Iterable[tuple[int, Mapping[str | None, Any]]]  # number and cells
_MAX_BYTES = 255  # of a folder's name: explanations have a folder for each class


def side_of(word: str) -> str | None:
    """Return the side that a word names, in any case; None for any other word."""
    return _SIDE_OF.get(word.strip().casefold())


@dataclass(frozen=True)
class Row:
    """A row of a table, or a clip of a class folder.

    Attributes:
        line: Line number in the table; 0 for a clip of a folder.
        path: The clip's file, which may be missing.
        class_name: Its class.
        group: The video it was cut from; None where the table does not say.
        side: `training`, `validation`, `test`; empty where the table does not say; any other text as it is.
        start_seconds: Where the clip starts in the file; None for its start.
        end_seconds: Where it ends; None for its end.
    """

    line: int
    path: Path
    class_name: str
    group: str | None = None
    side: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class Table:
    """The content of a table.

    Attributes:
        rows: One or more, in the file's order.
        unused: Ignored columns, each with the column that may be meant.
        has_split: Whether it has a column `split`.
        notes: Further remarks for the user, one line each.
    """

    rows: tuple[Row, ...]
    unused: tuple[str, ...] = ()
    has_split: bool = False
    notes: tuple[str, ...] = ()


def is_table(root: Path) -> bool:
    """Return whether a data set is a CSV file."""
    return root.suffix.lower() == TABLE_ENDING and root.is_file()


def read_table(path: Path) -> Table:
    """Read every row of a CSV file, checked.

    Raises:
        DataError: a mistake in the file (with the line), or none of the clips of a Kinetics file is on disk.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets put a byte order mark first
            reader = csv.DictReader(file, strict=True)
            header = _column_names([name.strip() for name in reader.fieldnames or ()], path)
            reader.fieldnames = header
            table = _read_rows(((reader.line_num, values) for values in reader), header, path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a table in UTF-8 with commas between its columns ({error})") from error
    _check_rows(table.rows, path)
    return table


def _column_names(header: list[str], path: Path) -> list[str]:
    """Lower the case of known columns, and refuse columns that occur twice."""
    known = {*_NEEDED, *_OPTIONAL, *kinetics.COLUMNS}
    names = [name.lower() if name not in known and name.lower() in known else name for name in header]
    for name in names:
        if name and names.count(name) > 1:
            raise DataError(f"{path}, line 1: {names.count(name)} columns are called {name!r}; keep one")
    return names


def _read_rows(lines: _Lines, header: Sequence[str], path: Path) -> Table:
    if kinetics.is_annotation(header):
        return _read_kinetics(lines, header, path)
    if missing := [name for name in _NEEDED if name not in header]:
        near = [name for name in header if name.lower() in _SYNONYMS[missing[0]]]
        raise DataError(
            f"{path}, line 1: no column {missing[0]!r}; {_EXPECTED}, got {','.join(header)[:80]!r}"
            f"{f'; is {near[0]!r} the one?' if near else ''}"
        )
    rows = [_read_row(values, path=path, line=line) for line, values in lines]
    if not rows:
        raise DataError(f"{path}: the table has no row after its first line; expected one for each clip")
    unused = [_with_guess(name, header) for name in header if name not in {*_NEEDED, *_OPTIONAL}]
    return Table(tuple(rows), tuple(unused), has_split="split" in header)


def _with_guess(name: str, header: Sequence[str]) -> str:
    """Name an ignored column and, if it may be a misspelling, the column that may be meant."""
    free = [column for column in (*_NEEDED, *_OPTIONAL) if column not in header]
    alike = [column for column in free if name.lower() in _SYNONYMS[column]]
    near = alike or nearest(name.lower(), free, at_most=1)
    return f"{name!r} (is {near[0]!r} meant?)" if near else repr(name)


def _read_row(values: Mapping[str | None, Any], *, path: Path, line: int) -> Row:
    cells = _cells(values, path=path, line=line)
    for name in (*_NEEDED, "group"):
        if not cells.get(name, "-"):
            raise DataError(f"{path}, line {line}: {name} is empty")
    try:
        _check_class(cells["class"])
        start, end = (_seconds(cells.get(name, ""), name) for name in ("start", "end"))
        if end is not None and end <= (start or 0):
            raise DataError(f"the clip ends at {end:g} s, but starts at {start or 0:g} s; expected start < end")
        clip = Path(os.path.normpath(path.parent / cells["path"]))  # not resolved: links keep their names
        if not is_clip_name(clip.name) or "\0" in cells["path"]:
            dot = ", without a dot at its start" if clip.name.startswith(".") else ""
            raise DataError(
                f"{cells['path']!r} is not a clip; expected {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}{dot}"
            )
    except DataError as error:
        raise DataError(f"{path}, line {line}: {error}") from None
    side = cells.get("split", "")
    return Row(line, clip, cells["class"], cells.get("group"), side_of(side) or side, start, end)


def _cells(values: Mapping[str | None, Any], *, path: Path, line: int) -> dict[str, str]:
    if None in values:
        raise DataError(f"{path}, line {line}: more columns than the first line names; quote names that hold commas")
    return {name: unescape_cell((value or "").strip()) for name, value in values.items() if name is not None}


def _check_class(name: str) -> None:
    """Refuse a class whose name cannot be that of a folder: results have a folder for each class."""
    if "/" in name:
        raise DataError(f"a class must be a name without /, got {name!r}")
    if name.startswith(".") or len(name.encode()) > _MAX_BYTES or any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise DataError(
            "a class must be a valid folder name, without a dot at its start and without control characters, "
            f"at most {_MAX_BYTES} bytes long; got {name[:40]!r}"
        )


def _seconds(cell: str, name: str) -> float | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise DataError(
            f"{name} must be a number of seconds from the start of the file, such as 2.5; got {cell[:40]!r}"
        )
    return value


def _check_rows(rows: Sequence[Row], table: Path) -> None:
    """Refuse repeated rows, and clips of one file with different groups."""
    lines: dict[tuple[object, ...], int] = {}
    groups: dict[Path, Row] = {}
    for row in rows:
        key = row.path, row.start_seconds or 0.0, row.end_seconds
        if lines.setdefault(key, row.line) != row.line:
            times = "" if key[1:] == (0.0, None) else " with the same start and end"
            raise DataError(f"{table}, line {row.line}: {row.path} is in line {lines[key]} already{times}")
        first = groups.setdefault(row.path, row)
        if first.group != row.group:
            raise DataError(
                f"{table}, line {row.line}: {row.path} is of group {row.group!r}, and in line {first.line} of group "
                f"{first.group!r}; clips of one file are of one group"
            )


def _read_kinetics(lines: _Lines, header: Sequence[str], path: Path) -> Table:
    """Read a Kinetics annotation file, and find its clips on disk."""
    files = kinetics.find_files(path)
    rows: list[Row] = []
    seen: set[tuple[str, ...]] = set()
    repeated = 0
    for line, values in lines:
        cells = _cells(values, path=path, line=line)
        try:
            key = tuple(cells.get(name, "") for name in (*kinetics.COLUMNS, "split"))
            annotation = kinetics.read_row(cells)
            _check_class(annotation.label)
        except DataError as error:
            raise DataError(f"{path}, line {line}: {error}") from None
        repeated += key in seen
        if key not in seen:
            seen.add(key)
            found = kinetics.find_clip(annotation, files, folder=path.parent)
            side = cells.get("split", "")
            times = (annotation.start_seconds, annotation.end_seconds) if found.is_whole else (None, None)
            rows.append(Row(line, found.path, annotation.label, annotation.youtube_id, side_of(side) or side, *times))
    return _check_kinetics(rows, repeated, header, path, there={file for paths in files.values() for file in paths})


def _check_kinetics(
    rows: Sequence[Row], repeated: int, header: Sequence[str], path: Path, *, there: set[Path]
) -> Table:
    """Drop the classes of which no clip is on disk, and note that."""
    if not rows:
        raise DataError(f"{path}: the table has no row after its first line; expected one for each clip")
    known = {row.class_name for row in rows if row.path in there}
    if not known:
        raise DataError(
            f"{path}: none of its {len(rows)} clips is on disk: looked in {path.parent} and three folders deep for "
            f"{rows[0].path.name} and the like; put the file beside the clips or their folders"
        )
    absent = sorted({row.class_name for row in rows} - known)
    left = tuple(row for row in rows if row.class_name in known)
    missing = sum(row.path not in there for row in left)
    notes = [f"{missing} of {len(left)} clips are not on disk and are skipped"] * bool(missing)
    if absent:
        notes.append(f"{len(absent)} classes have no clip on disk and are skipped ({first_few(absent)})")
    notes += [f"{repeated} rows are repeated"] * bool(repeated)
    unused = tuple(repr(name) for name in header if name not in {*kinetics.COLUMNS, "split"})
    return Table(left, unused, has_split="split" in header, notes=tuple(notes))
