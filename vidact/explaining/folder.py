"""The folder of an explained video: names of its files, its record, and how it replaces an older explanation.

Only files that the older record names are removed or replaced; everything else in the folder stays.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidact.core import jobs
from vidact.core.errors import ConfigError

RECORD = "explanation.json"
ARRAYS = "explanation.npz"
OVERLAY = "overlay.mp4"
COMPARISON = "comparison.png"
PICTURES = ("frames.png", "heatmap.png", "frame_relevance.png", "hotspots.png", "classes.png")
ALL_FILES = frozenset({RECORD, ARRAYS, OVERLAY, COMPARISON, *PICTURES})
UNFINISHED = "unfinished"


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read the record of the explanation in a folder; None where there is none."""
    record = jobs.read_record(folder / RECORD)
    return record if record is not None and "video_sha1" in record["request"] else None


def check_folder(folder: Path, *, is_compared: bool) -> None:
    """Check that an explanation can be written without loss: only an older explanation may be in the way.

    Args:
        folder: Where to.
        is_compared: Whether two explanations are drawn together.

    Raises:
        ConfigError: files that vidact did not write are in the way.
    """
    if (file := next((parent for parent in folder.parents if parent.is_file()), None)) is not None:
        raise ConfigError(f"{file}: is a file, and {folder} would lie in it; choose another --out")
    if not os.path.lexists(folder):
        return
    if (record := read_record(folder)) is None:
        raise ConfigError(f"{folder}: exists, and holds no explanation; choose another --out")
    needed = ALL_FILES if is_compared else ALL_FILES - {COMPARISON}
    for name in sorted(needed - _written(record)):
        if os.path.lexists(folder / name):
            raise ConfigError(
                f"{folder / name}: is not of the explanation there; move it away, or choose another --out"
            )


def _written(record: Mapping[str, Any]) -> frozenset[str]:
    """Name the files of an explanation; records of older versions of vidact do not list them."""
    names = record.get("files")
    return ALL_FILES & {RECORD, *map(str, names)} if isinstance(names, list) else ALL_FILES


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as JSON."""
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def put_in_place(part: Path, folder: Path, record: Mapping[str, Any]) -> None:
    """Move a finished explanation to its folder or, where there is an older one, replace its files one by one.

    Args:
        part: The finished folder, on the same disk.
        folder: Where to.
        record: Of the finished explanation.

    Raises:
        ConfigError: files that vidact did not write are in the way.
        OSError: it cannot be written.
    """
    check_folder(folder, is_compared=COMPARISON in record["files"])
    old = read_record(folder)
    if old is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part.rename(folder)
        return
    names = frozenset(record["files"])
    # A process that is stopped below leaves a record that says so, and names all files.
    write_record(
        part / UNFINISHED, {"request": old["request"], UNFINISHED: True, "files": sorted(names | _written(old))}
    )
    (part / UNFINISHED).replace(folder / RECORD)
    for name in sorted(_written(old) - names):
        (folder / name).unlink(missing_ok=True)
    for name in sorted(names - {RECORD}):
        (part / name).replace(folder / name)
    (part / RECORD).replace(folder / RECORD)
