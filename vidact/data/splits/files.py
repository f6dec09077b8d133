"""Find and read the official split files of a data set, and write and read vidact's own.

vidact's file is JSON: how the split was made, and the sorted clip ids of each side, without a date or a path. Equal
splits give equal bytes, so files can be published and compared.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

from vidact.core.errors import DataError, first_few
from vidact.core.files import atomic_writer
from vidact.data.datasets import hmdb51, ucf101
from vidact.data.datasets.index import Clip
from vidact.data.datasets.tables import is_table
from vidact.data.splits.kept_out import read_record as read_kept_out
from vidact.data.splits.split import Split, SplitScheme

FORMAT = "vidact split"
FORMAT_VERSION = 1

_SIDES = ("training", "validation", "test")
_OFFICIAL_FOLDERS = ("splits", "testTrainMulti_7030_splits", "ucfTrainTestlist")
_HMDB51_FILES, _UCF101_FILES = "*_test_split?.txt", "trainlist??.txt"


def find_official_folder(root: Path) -> Path:
    """Find the folder of HMDB51's, J-HMDB's or UCF101's official split files, in or beside a data set.

    Raises:
        DataError: they are in none of the usual places.
    """
    found = search_official_folder(root)
    if found is None:
        raise DataError(
            f"official split files not found for {root}: looked for <class>_test_split1.txt and trainlist01.txt in "
            f"{', '.join(map(str, _official_places(root)))}; give their folder as --data.splits_folder"
        )
    return found


def search_official_folder(root: Path) -> Path | None:
    """Do as `find_official_folder`, but return None if there is no such folder."""
    holding = (
        place for place in _official_places(root) if any(place.glob(_HMDB51_FILES)) or any(place.glob(_UCF101_FILES))
    )
    return next(holding, None)


def _official_places(root: Path) -> list[Path]:
    parents = (root.parent,) if is_table(root) else (root, root.parent)
    return [parent / name for parent in parents for name in _OFFICIAL_FOLDERS]


def read_official_flags(folder: Path, *, fold: int, class_names: Sequence[str]) -> dict[str, int]:
    """Read official split files, UCF101's if the folder has `trainlist??.txt`, else HMDB51's.

    Args:
        folder: Folder of the split files.
        fold: 1, 2 or 3.
        class_names: The classes to read.

    Returns:
        From clip id to `hmdb51.UNUSED`, `TRAINING` or `TEST`.

    Raises:
        DataError: see `hmdb51.read_official_split` and `ucf101.read_ucf101_split`.
    """
    if fold not in hmdb51.FOLDS:
        raise DataError(f"the official split has folds 1 to {len(hmdb51.FOLDS)}, got --data.fold {fold}")
    if any(folder.glob(_UCF101_FILES)):
        return ucf101.read_ucf101_split(folder, fold=fold, class_names=class_names)
    return hmdb51.read_official_split(folder, fold=fold, class_names=class_names)


def fingerprint(split: Split) -> str:
    """Hash which clips are on which side, to 12 hexadecimal digits."""
    return _fingerprint(_sides_record(split))


def _fingerprint(sides: Mapping[str, Sequence[str]]) -> str:
    return hashlib.sha256(json.dumps(sides).encode()).hexdigest()[:12]


def write_split_file(path: Path, split: Split, *, leakage: Mapping[str, Any] | None = None) -> None:
    """Write a split to a file that `read_split_file` reads.

    Args:
        path: The file, which is replaced atomically.
        split: The split.
        leakage: Record of a leakage report, to be stored with the split.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    text = json.dumps(split_record(split, leakage=leakage), indent=1) + "\n"
    with atomic_writer(path) as file:
        file.write(text)


def is_split_file(path: Path) -> bool:
    """Return whether a file was written by `write_split_file`.

    Raises:
        OSError, ValueError, AttributeError: it cannot be read as a JSON object.
    """
    return bool(json.loads(path.read_bytes()).get("format") == FORMAT)


def split_record(
    split: Split, *, leakage: Mapping[str, Any] | None = None, sha1s: Mapping[Path, str] | None = None
) -> dict[str, Any]:
    """Convert a split to plain values, as `write_split_file` writes them.

    Args:
        split: The split.
        leakage: Record of a leakage report.
        sha1s: From path to SHA-1 of the usable files. If given, the record contains those of the training and
            validation clips, so that a resumed run can tell whether they have changed.
    """
    kept: dict[str, Any] = {}
    if sha1s is not None:
        learned = (*split.training, *split.validation)
        kept["sha1"] = {clip.clip_id: sha1s.get(clip.path, "") for clip in sorted(learned, key=lambda c: c.clip_id)}
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "vidact": _own_version(),
        "scheme": split.scheme,
        "fold": split.fold,
        "num_folds": split.num_folds,
        "seed": split.seed,
        "notes": list(split.notes),
        "kept_out": split.kept_out.record() if split.kept_out else None,
        "fingerprint": fingerprint(split),
        **_sides_record(split),
        "leakage": leakage,
        **kept,
    }


def _sides_record(split: Split) -> dict[str, list[str]]:
    sides = {**split.sides, "unused": split.unused}
    classes = {clip.class_name for side in sides.values() for clip in side}
    return {"classes": sorted(classes)} | {name: sorted(clip.clip_id for clip in side) for name, side in sides.items()}


def _own_version() -> str:
    try:
        return version("vidact")
    except PackageNotFoundError:
        return "not installed"


def read_split_file(path: Path, clips: Sequence[Clip]) -> Split:
    """Read a split that `write_split_file` wrote, for the clips of a data set.

    Clips that are on no side in the file are unused; a note counts those that it does not mention at all.

    Args:
        path: The file.
        clips: The whole data set.

    Raises:
        DataError: not such a file, other classes (which), a clip on two sides, or clips that the data set lacks
            (how many, the first three).
    """
    record = _read_record(path)
    _check_classes(path, set(record["classes"]), {clip.class_name for clip in clips})
    side_of: dict[str, str] = {}
    for side in (*_SIDES, "unused"):
        for clip_id in record[side]:
            if side_of.setdefault(clip_id, side) != side:
                raise DataError(f"{path}: {clip_id} is on two sides, {side_of[clip_id]} and {side}")
    here = {clip.clip_id for clip in clips}
    missing = sorted(clip_id for clip_id, side in side_of.items() if side in _SIDES and clip_id not in here)
    if missing:
        raise DataError(
            f"{path}: names {len(missing)} clips that are not in the data set: {first_few(missing)}; "
            "complete the data set, or make a new split with `vidact data split`"
        )
    unknown = sorted(here - set(side_of))
    notes = [f"{len(unknown)} clips are not in the split file and are not used: {first_few(unknown)}"] * bool(unknown)
    notes += [f"the split file names no clip for {side}" for side in _SIDES if not record[side]]
    if record.get("fingerprint") != _fingerprint({key: sorted(record[key]) for key in ("classes", *_SIDES, "unused")}):
        notes.append("the split file was changed after it was written: its fingerprint does not match")
    sides = {side: tuple(clip for clip in clips if side_of.get(clip.clip_id) == side) for side in _SIDES}
    return Split(
        **sides,
        unused=tuple(clip for clip in clips if side_of.get(clip.clip_id, "unused") == "unused"),
        scheme=record["scheme"],
        fold=record["fold"],
        num_folds=record["num_folds"],
        seed=record["seed"],
        notes=(*record["notes"], *notes),
        kept_out=read_kept_out(record.get("kept_out")),
    )


def _read_record(path: Path) -> dict[str, Any]:
    """Read the JSON and check the type of every value."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: not a split file ({reason}); `vidact data split` writes one") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise DataError(f"{path}: not a split file: its format is not {FORMAT!r}; `vidact data split` writes one")
    if record.get("version") != FORMAT_VERSION:
        raise DataError(
            f"{path}: a split file of version {record.get('version')!r}, this vidact reads version {FORMAT_VERSION}; "
            "update vidact"
        )
    for key in ("classes", *_SIDES, "unused", "notes"):
        value = record.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise DataError(f"{path}: {key!r} is not a list of names; write the file again with `vidact data split`")
    for key in ("fold", "num_folds", "seed"):
        if not isinstance(record.get(key), int):
            raise DataError(f"{path}: {key!r} is not a whole number; write the file again with `vidact data split`")
    try:
        read_kept_out(record.get("kept_out"))
    except ValueError as error:
        raise DataError(f"{path}: 'kept_out': {error}; write the file again with `vidact data split`") from error
    if record.get("scheme") not in get_args(SplitScheme):
        raise DataError(f"{path}: 'scheme' is none of {', '.join(get_args(SplitScheme))}; got {record.get('scheme')!r}")
    return record


def _check_classes(path: Path, said: set[str], here: set[str]) -> None:
    if said != here:
        differences = [
            f"{which}: {', '.join(sorted(names))}"
            for which, names in (("only in the file", said - here), ("only in the data set", here - said))
            if names
        ]
        raise DataError(f"{path}: its classes differ from the data set's; {'; '.join(differences)}")
