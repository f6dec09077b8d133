"""Find the class folders of a data set and the clips in them; `index` turns these into a table of clips.

The layouts are `<root>/<class>/*` and `<root>/videos/<class>/*`, and the same once in each of the folders `train`,
`val` and `test`.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vidact.core.errors import DataError
from vidact.data.datasets.tables import Row, side_of
from vidact.data.video.paths import ENDINGS, is_clip_name

# Folders that lie beside class folders: split files, masks and what vidact adds.
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


@dataclass(frozen=True)
class ClassFolder:
    """A folder with the clips of a class; `side` where it lies in `train`, `val` or `test`."""

    class_name: str
    path: Path
    side: str = ""


def find_class_folders(root: Path) -> list[ClassFolder]:
    """Find the class folders, sorted by name: one per class, or one per class and side.

    Raises:
        DataError: no such folder, a file, archives that are not unpacked, no class folders.
    """
    expected = "--data.root expects a folder with a folder for each class, or a table (.csv)"
    if not root.exists():
        raise DataError(f"{root}: no such folder; {expected}")
    if not root.is_dir():
        raise DataError(f"{root}: is a file; {expected}")
    base = _base(root)
    folders = sorted(path for path in entries(base) if _may_be_class(path))
    if not folders:
        raise DataError(f"{base}: {_why_no_classes(base)}")
    if sides := _side_folders(folders):
        found = [
            ClassFolder(path.name, path, side)
            for folder, side in sides.items()
            for path in entries(folder)
            if _may_be_class(path)
        ]
        return sorted(found, key=lambda one: (one.class_name, one.path))
    if len(folders) > 1 and all(side_of(path.name) for path in folders):
        raise DataError(
            f"{base}: its folders {', '.join(path.name for path in folders)} are no classes; expected class folders in "
            f"each of them ({folders[0].name}/<class>/*), or a table that names the clips and their classes (.csv)"
        )
    return [ClassFolder(path.name, path) for path in folders]


def _base(root: Path) -> Path:
    return root / "videos" if (root / "videos").is_dir() else root


def _side_folders(folders: Sequence[Path]) -> dict[Path, str]:
    """Find the folders `train`, `val` and `test`; none where these are names of classes.

    They count as sides if they hold folders but no clips, and nothing beside them holds clips.
    """
    sides = {path: side for path in folders if (side := side_of(path.name))}
    others = [path for path in folders if path not in sides]
    if any(_holds_clips(path) or not _folders_in(path) for path in sides):
        return {}
    if any(_holds_clips(path) or any(map(_holds_clips, _folders_in(path))) for path in others if sides):
        return {}
    return sides


def _holds_clips(folder: Path) -> bool:
    return any(_is_clip(path) for path in entries(folder))


def _folders_in(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if _may_be_class(path)]


def entries(folder: Path) -> list[Path]:
    """List a folder.

    Raises:
        DataError: it may not be read.
    """
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); ask for permission to read it") from error


def _may_be_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".") and path.name not in NO_CLASSES


def _why_no_classes(base: Path) -> str:
    found = entries(base)
    if not found:
        return "the folder is empty; expected a folder for each class, with clips in it"
    if _holds_archives(base):
        return "holds .rar archives that are not unpacked yet; unpack each (`unrar x NAME.rar`) and try again"
    return f"no class folders, but {len(found)} other entries; expected <class>/*.avi or videos/<class>/*.avi"


def _holds_archives(folder: Path) -> bool:
    return any(entry.suffix.lower() == ".rar" for entry in entries(folder))


def list_files(folders: Sequence[ClassFolder], *, root: Path | None) -> list[Row]:
    """List the clips of class folders; with a root, refuse links that lead out of it.

    Raises:
        DataError: a class has none, or a link leads out.
    """
    files: dict[str, list[Row]] = defaultdict(list)
    for one in folders:
        if root is not None:
            _check_links([one.path], root=root)
        paths = [path for path in entries(one.path) if _is_clip(path)]
        files[one.class_name] += [Row(0, path, one.class_name, side=one.side) for path in sorted(paths)]
    for one in folders:
        if not files[one.class_name]:
            why = "its .rar archives are not unpacked yet" if _holds_archives(one.path) else f"no {_or(ENDINGS)} file"
            raise DataError(
                f"class {one.class_name!r} has no clip: {why} in {one.path}; name the others as --data.classes"
            )
    rows = [row for listed in files.values() for row in listed]
    if root is not None:
        _check_links([row.path for row in rows if row.path.is_symlink()], root=root)
    return rows


def _is_clip(path: Path) -> bool:
    return is_clip_name(path.name)


def _check_links(paths: Sequence[Path], *, root: Path) -> None:
    inside = os.path.realpath(root)  # unlike Path.resolve, it does not raise on a loop
    leading_out = [path for path in paths if path.exists() and not Path(os.path.realpath(path)).is_relative_to(inside)]
    if leading_out:
        more = f" ({len(leading_out)} such links in all)" if len(leading_out) > 1 else ""
        raise DataError(
            f"{leading_out[0]}: leads out of {root}, to {os.path.realpath(leading_out[0])}{more}; "
            "links out of the data set are followed only with --data.follow_links true"
        )


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
