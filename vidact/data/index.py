"""A table of the clips of a data set: one row per file, with class, source and tags.

It opens no video file and knows nothing of splits.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidact.core import DataError
from vidact.data.hmdb51 import ClipTags, parse_name

ENDING = ".avi"


@dataclass(frozen=True)
class Clip:
    """One file of a data set.

    Attributes:
        path: Where it is.
        class_name: Its folder's name.
        label: The class's number.
        source: The video it was cut from; the file's own name where the name does not tell.
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


def find_class_folders(root: Path) -> dict[str, Path]:
    """Find the folders of the classes, `<root>/<class>` or `<root>/videos/<class>`, sorted by name.

    Raises:
        DataError: no such folder, a file, archives that were not unpacked, no class folders.
    """
    if not root.exists():
        raise DataError(f"{root}: no such folder; --data.root expects a folder with a folder for each class")
    if not root.is_dir():
        raise DataError(f"{root}: is a file; --data.root expects a folder with a folder for each class")
    base = root / "videos" if (root / "videos").is_dir() else root
    folders = {path.name: path for path in sorted(base.iterdir()) if _may_be_class(path)}
    if not folders:
        raise DataError(f"{base}: {_why_no_classes(base)}")
    return folders


def _may_be_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and path.name not in {"splits", "masks"}


def _why_no_classes(base: Path) -> str:
    entries = list(base.iterdir())
    if not entries:
        return "the folder is empty; expected a folder for each class, with .avi clips in it"
    if any(entry.suffix == ".rar" for entry in entries):
        return "holds .rar archives that are not unpacked yet; unpack each (`unrar x NAME.rar`) and try again"
    return f"no class folders, but {len(entries)} other entries; expected <class>/*.avi or videos/<class>/*.avi"


def choose_classes(root: Path, classes: Sequence[str] | None) -> tuple[str, ...]:
    """Name the classes to use, in the order of their numbers: the given ones, or all, sorted.

    Raises:
        DataError: a class that the folder does not have (with the nearest names), or one given twice.
    """
    folders = find_class_folders(root)
    if classes is None:
        return tuple(folders)
    for name in classes:
        if name not in folders:
            near = difflib.get_close_matches(name, folders, cutoff=0.4) or list(folders)[:5]
            raise DataError(f"class {name!r} is not in {root}; nearest: {', '.join(near)}")
    if len(set(classes)) < len(classes):
        raise DataError(f"a class is given twice in {list(classes)}")
    return tuple(classes)


def index_clips(root: Path, *, classes: Sequence[str] | None = None) -> tuple[Clip, ...]:
    """List the clips of a data set, sorted by class and name.

    Args:
        root: HMDB51's layout, `<root>/<class>/*.avi` or `<root>/videos/<class>/*.avi`.
        classes: Which classes; all if None.

    Raises:
        DataError: as in `find_class_folders` and `choose_classes`; a class without clips.
    """
    folders = find_class_folders(root)
    return tuple(
        clip
        for label, name in enumerate(choose_classes(root, classes))
        for clip in _index_class(folders[name], label=label)
    )


def _index_class(folder: Path, *, label: int) -> list[Clip]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ENDING)
    if not paths:
        raise DataError(
            f"class {folder.name!r} has no clip: no {ENDING} file in {folder}; name the others as --data.classes"
        )
    return [_index_clip(path, label=label) for path in paths]


def _index_clip(path: Path, *, label: int) -> Clip:
    class_name = path.parent.name
    source, tags = parse_name(path.stem, class_name) or (path.stem, None)
    return Clip(path=path, class_name=class_name, label=label, source=source, tags=tags)
