"""A table of the clips of a data set: one row per file, with class, source and tags.

It opens no video file and knows nothing of splits.

A data set is a folder, `<root>/<class>/*` or `<root>/videos/<class>/*`, or a CSV file with the columns `path`, `class`
and, if wanted, `group`. Files whose name starts with a dot are never clips.
"""

import csv
import difflib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidact.core import DataError
from vidact.data import ucf101
from vidact.data.hmdb51 import ClipTags, film_of, parse_name
from vidact.terminal import read_cell

ENDINGS = (".avi", ".mkv", ".mov", ".mp4", ".webm")
TABLE_ENDING = ".csv"
# What lies beside class folders: split files and masks.
NO_CLASSES = {
    "splits",
    "testTrainMulti_7030_splits",
    "ucfTrainTestlist",
    "masks",
    "puppet_mask",
    "archives",
    "truth",
    "without_confounder",
}
_COLUMNS = ("path", "class")
_GROUP = "group"


@dataclass(frozen=True)
class Clip:
    """One file of a data set.

    Attributes:
        path: Where it is.
        class_name: Its folder's name, or what the table says.
        label: The class's number.
        source: The video it was cut from, or the table's group; the file's own name where nothing tells.
        tags: HMDB51's five tags, where the name has them.
    """

    path: Path
    class_name: str
    label: int
    source: str
    tags: ClipTags | None

    @property
    def clip_id(self) -> str:
        """`class/file name without its ending`, unique in a data set."""
        return f"{self.class_name}/{self.path.stem}"

    @property
    def film(self) -> str:
        """What the source is a part of, by HMDB51's names (`hmdb51.film_of`); by any other name, the source itself."""
        named = parse_name(self.path.stem, self.class_name)
        return film_of(self.source) if named is not None and named[0] == self.source else self.source


def find_class_folders(root: Path) -> dict[str, Path]:
    """Find the folders of the classes, `<root>/<class>` or `<root>/videos/<class>`, sorted by name.

    Raises:
        DataError: no such folder, a file, archives that were not unpacked, no class folders.
    """
    expected = "--data.root expects a folder with a folder for each class, or a table (.csv)"
    if not root.exists():
        raise DataError(f"{root}: no such folder; {expected}")
    if not root.is_dir():
        raise DataError(f"{root}: is a file; {expected}")
    base = root / "videos" if (root / "videos").is_dir() else root
    folders = {path.name: path for path in sorted(_entries(base)) if _may_be_class(path)}
    if not folders:
        raise DataError(f"{base}: {_why_no_classes(base)}")
    return folders


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); ask for the right to read it") from error


def _may_be_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and path.name not in NO_CLASSES


def _why_no_classes(base: Path) -> str:
    entries = _entries(base)
    if not entries:
        return "the folder is empty; expected a folder for each class, with clips in it"
    if _holds_archives(base):
        return "holds .rar archives that are not unpacked yet; unpack each (`unrar x NAME.rar`) and try again"
    return f"no class folders, but {len(entries)} other entries; expected <class>/*.avi or videos/<class>/*.avi"


def _holds_archives(folder: Path) -> bool:
    return any(entry.suffix.lower() == ".rar" for entry in _entries(folder))


def choose_classes(root: Path, classes: Sequence[str] | None) -> tuple[str, ...]:
    """Name the classes to use, in the order of their numbers: the given ones, or all, sorted.

    Raises:
        DataError: a class that the data set does not have (with the nearest names), or one given twice.
    """
    known = sorted({row.class_name for row in _read_table(root)}) if _is_table(root) else list(find_class_folders(root))
    if classes is None:
        return tuple(known)
    for name in classes:
        if name not in known:
            near = difflib.get_close_matches(name, known, cutoff=0.4) or known[:5]
            raise DataError(f"class {name!r} is not in {root}; nearest: {', '.join(near)}")
    if len(set(classes)) < len(classes):
        raise DataError(f"a class is given twice in {list(classes)}")
    return tuple(classes)


def index_clips(root: Path, *, classes: Sequence[str] | None = None, follow_links: bool = False) -> tuple[Clip, ...]:
    """List the clips of a data set, sorted by class and name.

    Args:
        root: A folder, `<root>/<class>/*` or `<root>/videos/<class>/*`, or a CSV file with the columns `path` (relative
            to the file's own folder), `class` and, if wanted, `group`, which then is the source.
        classes: Which classes; all if None.
        follow_links: Use class folders and clips that are links out of `root`. Links within it are always
            followed, and the paths in a CSV file are used as they are.

    Raises:
        DataError: as in `find_class_folders` and `choose_classes`; a class without clips; a link that leads out; a
            table that is not understood (with the line); two files with the same clip id.
    """
    names = choose_classes(root, classes)
    if _is_table(root):
        clips = sorted(_clips_of_table(root, names), key=lambda clip: (clip.label, clip.path.name, clip.path))
    else:
        folders = find_class_folders(root)
        clips = [
            _index_clip(path, class_name=name, label=label)
            for label, name in enumerate(names)
            for path in _clip_files(folders[name], root=None if follow_links else root)
        ]
    _check_ids(clips)
    return tuple(clips)


def named_clip(clip_id: str) -> Clip:
    """Read what a clip's id alone tells of its source and its film; its path leads nowhere."""
    class_name, _, stem = clip_id.partition("/")
    return _index_clip(Path(f"{stem}.avi"), class_name=class_name, label=0)


def count_other_files(root: Path, *, classes: Sequence[str] | None = None) -> Counter[str]:
    """Count what lies in the class folders and is no clip, by its ending (lower case; empty where it has none)."""
    if _is_table(root):
        return Counter()
    folders = find_class_folders(root)
    paths = (path for name in choose_classes(root, classes) for path in _entries(folders[name]))
    return Counter(path.suffix.lower() for path in paths if not _is_clip(path))


def _is_clip(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".")


def _clip_files(folder: Path, *, root: Path | None) -> list[Path]:
    """List a class's clips by name; with a root, make sure that no link leads out of it."""
    if root is not None:
        _check_links([folder], root=root)
    paths = sorted(path for path in _entries(folder) if _is_clip(path))
    if not paths:
        why = "its .rar archives are not unpacked yet" if _holds_archives(folder) else f"no {_or(ENDINGS)} file"
        raise DataError(f"class {folder.name!r} has no clip: {why} in {folder}; name the others as --data.classes")
    if root is not None:
        _check_links([path for path in paths if path.is_symlink()], root=root)
    return paths


def _check_links(paths: Sequence[Path], *, root: Path) -> None:
    inside = os.path.realpath(root)  # unlike Path.resolve, it does not raise on a loop
    leading_out = [path for path in paths if path.exists() and not Path(os.path.realpath(path)).is_relative_to(inside)]
    if leading_out:
        more = f" ({len(leading_out)} such links in all)" if len(leading_out) > 1 else ""
        raise DataError(
            f"{leading_out[0]}: leads out of {root}, to {os.path.realpath(leading_out[0])}{more}; "
            "links out of the data set are followed only with --data.follow_links true"
        )


def _index_clip(path: Path, *, class_name: str, label: int, group: str | None = None) -> Clip:
    source, tags = parse_name(path.stem, class_name) or (ucf101.parse_name(path.stem) or path.stem, None)
    return Clip(path=path, class_name=class_name, label=label, source=group or source, tags=tags)


def _check_ids(clips: Sequence[Clip]) -> None:
    seen: dict[str, Clip] = {}
    for clip in clips:
        other = seen.setdefault(clip.clip_id, clip)
        if other is not clip:
            raise DataError(f"{other.path} and {clip.path} would both be clip {clip.clip_id!r}; rename one of them")


@dataclass(frozen=True)
class _Row:
    line: int
    path: Path
    class_name: str
    group: str | None


def _is_table(root: Path) -> bool:
    return root.suffix.lower() == TABLE_ENDING and root.is_file()


def _clips_of_table(path: Path, class_names: Sequence[str]) -> Iterator[Clip]:
    labels = {name: label for label, name in enumerate(class_names)}
    for row in _read_table(path):
        if row.class_name in labels:
            yield _index_clip(row.path, class_name=row.class_name, label=labels[row.class_name], group=row.group)


def _read_table(path: Path) -> list[_Row]:
    """Read every row of a CSV file, checked."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = [name.strip() for name in reader.fieldnames or ()]
            if missing := [name for name in _COLUMNS if name not in header]:
                raise DataError(
                    f"{path}, line 1: no column {missing[0]!r}; expected a first line path,class or path,class,group, "
                    f"got {','.join(header)[:80]!r}"
                )
            reader.fieldnames = header
            rows = [_read_row(values, path=path, line=reader.line_num) for values in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a table in UTF-8 with commas between its columns ({error})") from error
    if not rows:
        raise DataError(f"{path}: the table has no row after its first line; expected one for each clip")
    _check_rows(rows, path)
    return rows


def _read_row(values: dict[str | None, str | None], *, path: Path, line: int) -> _Row:
    if None in values:
        raise DataError(f"{path}, line {line}: more columns than the first line names; quote names that hold commas")
    cells = {name: read_cell((values[name] or "").strip()) for name in (*_COLUMNS, _GROUP) if name in values}
    for name, cell in cells.items():
        if not cell:
            raise DataError(f"{path}, line {line}: {name} is empty")
    if set(cells["class"]) & set("/\\\0") or not cells["class"].strip("."):
        raise DataError(
            f"{path}, line {line}: a class is a name without / and \\, and not of dots alone, got {cells['class']!r}"
        )
    clip = Path(os.path.normpath(path.parent / cells["path"]))
    if not _is_clip(clip) or "\0" in cells["path"]:
        raise DataError(f"{path}, line {line}: {cells['path']!r} is no clip; expected {_or(ENDINGS)}")
    return _Row(line, clip, cells["class"], cells.get(_GROUP))


def _check_rows(rows: Sequence[_Row], table: Path) -> None:
    lines: dict[Path, int] = {}
    for row in rows:
        if lines.setdefault(row.path, row.line) != row.line:
            raise DataError(f"{table}, line {row.line}: {row.path} stands in line {lines[row.path]} already")


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
