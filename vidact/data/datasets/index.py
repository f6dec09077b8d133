"""List the clips of a data set as `Clip`s, each with its file, class, source video and tags; no video is opened.

A data set is a folder, `<root>/<class>/*` or `<root>/videos/<class>/*`, also with `train`, `val` and `test` above the
classes, or a CSV table (`tables`). Files whose name starts with a dot are never clips.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from vidact.core.errors import DataError, nearest
from vidact.data.datasets import ucf101
from vidact.data.datasets.folders import ClassFolder, find_class_folders, list_files
from vidact.data.datasets.hmdb51 import ClipTags, film_of, parse_name
from vidact.data.datasets.tables import Row, is_table, read_table
from vidact.data.video.paths import ENDINGS as ENDINGS

_TIMES = re.compile(r"@[\d.e+-]*-[\d.e+-]*$")  # what `_times` adds


@dataclass(frozen=True)
class Clip:
    """One clip of a data set: a file, or a part of one.

    Attributes:
        path: The file.
        class_name: Name of its folder, or the table's class.
        label: The class's number.
        source: The video it was cut from, or the table's group; the file's own name where neither is known.
        tags: HMDB51's five tags, where the name has them.
        start_seconds: Where the clip starts in its file; at the first frame if None.
        end_seconds: Where it ends, exclusive; after the last frame if None.
        side: The data set's own side: `training`, `validation`, `test`; empty where it has none; any other text is
            the table's, and not understood.
        name: Name within its class, where that is not the file's name without its ending.
    """

    path: Path
    class_name: str
    label: int
    source: str
    tags: ClipTags | None
    start_seconds: float | None = None
    end_seconds: float | None = None
    side: str = ""
    name: str = ""

    @property
    def clip_id(self) -> str:
        """`class/name`, unique in a data set; mostly the file's name without its ending (see `index_clips`)."""
        return f"{self.class_name}/{self.name or self.path.stem}"

    @property
    def film(self) -> str:
        """The film of the source, for HMDB51's names (`hmdb51.film_of`); for all others the source itself."""
        named = parse_name(self.path.stem, self.class_name)
        return film_of(self.source) if named is not None and named[0] == self.source else self.source


def choose_classes(root: Path, classes: Sequence[str] | None) -> tuple[str, ...]:
    """List the classes to use, in the order of their numbers: the given ones, or all, sorted.

    Raises:
        DataError: a class that the data set does not have (with the nearest names), or one given twice.
    """
    return _choose_classes(root, classes, there={one.class_name for one in _read(root)})


def _read(root: Path) -> Sequence[Row] | Sequence[ClassFolder]:
    return read_table(root).rows if is_table(root) else find_class_folders(root)


def _choose_classes(root: Path, classes: Sequence[str] | None, *, there: Iterable[str]) -> tuple[str, ...]:
    known = sorted(there)
    if classes is None:
        return tuple(known)
    for name in classes:
        if name not in known:
            near = nearest(name, known) or known[:5]
            raise DataError(f"class {name!r} is not in {root}; nearest: {', '.join(near)}")
    if len(set(classes)) < len(classes):
        raise DataError(f"a class is given twice in {list(classes)}")
    return tuple(classes)


def index_clips(root: Path, *, classes: Sequence[str] | None = None, follow_links: bool = False) -> tuple[Clip, ...]:
    """List the clips of a data set, sorted by class and name.

    A clip's id is `class/file name without its ending`. Where a class has several files of one name, their folders are
    added as far as they differ (`run/1@train`), and to a part of a file its times (`run/1@2.5-4`).

    Args:
        root: A folder, `<root>/<class>/*` or `<root>/videos/<class>/*`, also with `train`, `val` and `test` above the
            classes, or a CSV file that `tables.read_table` reads; a group is the source.
        classes: Which classes; all if None.
        follow_links: Use class folders and clips that are links out of `root`. Links within it are always
            followed, and the paths in a CSV file are used as they are.

    Raises:
        DataError: no such data set; as in `choose_classes`; a class without clips; a link that leads out; a
            table with a mistake (with the line); two files with the same clip id.
    """
    found = _read(root)
    names = _choose_classes(root, classes, there={one.class_name for one in found})
    labels = {name: label for label, name in enumerate(names)}
    rows = [one for one in found if isinstance(one, Row) and one.class_name in labels]
    folders = [one for one in found if isinstance(one, ClassFolder) and one.class_name in labels]
    rows += list_files(folders, root=None if follow_links else root)
    clips = _to_clips(rows, labels)
    _check_ids(clips)
    return tuple(sorted(clips, key=_place))


def _place(clip: Clip) -> tuple[object, ...]:
    return clip.label, clip.path.name, clip.path, clip.start_seconds or 0.0, clip.end_seconds or float("inf")


def list_notes(root: Path, *, scheme: str | None = None) -> list[str]:
    """Describe what of a data set is ignored, such as columns of a table, in a line or two.

    Args:
        root: The data set.
        scheme: The split scheme; None where clips are not split.
    """
    if not is_table(root):
        sides = {one.path.parent.name: one.side for one in find_class_folders(root) if one.side}
        if not sides or scheme in {"folders", None}:
            return []
        return [f"{root}: the folders {', '.join(sides)} are not used as a split; --data.split folders uses them"]
    table = read_table(root)
    unused = [*table.unused]
    if table.has_split and scheme not in {"table", None}:
        unused.append("'split' (--data.split table uses it)")
    columns = [f"{root}: not used: column{'s' * (len(unused) > 1)} {', '.join(unused)}"] * bool(unused)
    return columns + [f"{root}: {note}" for note in table.notes]


def named_clip(clip_id: str) -> Clip:
    """Build a clip from its id alone, for its source and film; its file does not exist."""
    class_name, _, name = clip_id.partition("/")
    row = Row(0, Path(f"{_TIMES.sub('', name)}.avi"), class_name)
    (clip,) = _to_clips([row], {class_name: 0})
    return replace(clip, name=name)


def _to_clips(rows: Sequence[Row], labels: Mapping[str, int]) -> list[Clip]:
    """Turn rows into clips, each with its label, its source and a unique name."""
    folders: dict[tuple[str, str], set[Path]] = defaultdict(set)
    for row in rows:
        folders[row.class_name, row.path.stem].add(row.path.parent)
    names = [_name(row.path, folders[row.class_name, row.path.stem]) for row in rows]
    sources = _sources(rows, names)
    clips = []
    for row, name in zip(rows, names, strict=True):
        parsed, full = parse_name(row.path.stem, row.class_name), f"{name}{_times(row)}"
        clips.append(
            Clip(
                path=row.path,
                class_name=row.class_name,
                label=labels[row.class_name],
                source=row.group or sources[row.path],
                tags=parsed[1] if parsed else None,
                start_seconds=row.start_seconds,
                end_seconds=row.end_seconds,
                side=row.side,
                name=full if full != row.path.stem else "",
            )
        )
    return clips


def _sources(rows: Sequence[Row], names: Sequence[str]) -> dict[Path, str]:
    """Find the source of each file, the same for all its parts, also if its name fits the pattern of one class only."""
    parsed = {row.path: source for row in rows if (source := _source_in_name(row))}
    longest: dict[Path, str] = {}
    for row, name in zip(rows, names, strict=True):
        longest[row.path] = max(longest.get(row.path, ""), name, key=len)
    return longest | parsed


def _source_in_name(row: Row) -> str | None:
    named = parse_name(row.path.stem, row.class_name)
    return named[0] if named else ucf101.parse_name(row.path.stem)


def _name(path: Path, folders: Iterable[Path]) -> str:
    """Name a file by its stem and by the parts of its folder that differ from those of files of the same name."""
    folder = path.parent
    parts = [one.parts for one in folders]
    head = _num_common(parts)
    tail = _num_common([one[head:][::-1] for one in parts])
    difference = "+".join(folder.parts[head : len(folder.parts) - tail])
    return f"{path.stem}@{difference}" if difference else path.stem


def _num_common(parts: Sequence[Sequence[str]]) -> int:
    """Count the leading items that all sequences share."""
    return sum(1 for _ in takewhile(lambda items: len(set(items)) == 1, zip(*parts, strict=False)))


def _times(row: Row) -> str:
    """Name a part of a file by its seconds: `@2.5-4`, `@0-4`, `@2.5-`; empty for a whole file."""
    if row.start_seconds is None and row.end_seconds is None:
        return ""
    start, end = (str(value).removesuffix(".0") for value in (row.start_seconds or 0, row.end_seconds or ""))
    return f"@{start}-{end}"


def _check_ids(clips: Sequence[Clip]) -> None:
    seen: dict[str, Clip] = {}
    for clip in clips:
        other = seen.setdefault(clip.clip_id, clip)
        if other is not clip:
            raise DataError(f"{other.path} and {clip.path} would both be clip {clip.clip_id!r}; rename one of them")
