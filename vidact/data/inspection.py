"""Measure every clip of a data set once, and remember it for the next run.

It does not know classes or splits. What it finds is kept in a manifest in the user's cache folder; a file whose
size or time of change differs is measured again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidact.core import DataError
from vidact.data.cache import atomic_writer, cache_folder
from vidact.data.measuring import VideoInfo, measure_video

MANIFEST_VERSION = 1


@dataclass(frozen=True)
class Inspection:
    """What is known of one file: its measures, or the reason why it cannot be used."""

    info: VideoInfo | None
    reason: str = ""

    @property
    def truncated(self) -> bool:
        """True where the header claims more frames than decode (one more is common and harmless)."""
        return self.info is not None and self.info.header_frames > self.info.num_frames + 1


def inspect_clips(
    paths: Sequence[Path], *, progress: Callable[[int, int], None] | None = None
) -> dict[Path, Inspection]:
    """Measure files, or recall what an earlier run measured.

    Args:
        paths: The files, each of which may be missing or damaged.
        progress: Called with how many are measured and how many are to be.

    Returns:
        An inspection for each path.
    """
    if not paths:
        return {}
    manifest = _manifest_path(Path(os.path.commonpath([str(path.absolute()) for path in paths])))
    rows = _read_manifest(manifest)
    known = {path: rows[str(path)] for path in paths if rows.get(str(path), {}).get("stamp") == _stamp(path)}
    todo = [path for path in paths if path not in known]
    # FFmpeg decodes without holding Python's lock, so threads are enough.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, (path, row) in enumerate(zip(todo, pool.map(_measure, todo), strict=True), start=1):
            known[path] = row
            if progress:
                progress(done, len(todo))
    if todo:
        _write_manifest(manifest, rows | {str(path): row for path, row in known.items()})
    return {path: _to_inspection(known[path]) for path in paths}


def _measure(path: Path) -> dict[str, Any]:
    stamp = _stamp(path)
    try:
        return {"stamp": stamp, "info": asdict(measure_video(path))}
    except DataError as error:
        return {"stamp": stamp, "reason": str(error).removeprefix(f"{path.absolute()}: ")}


def _stamp(path: Path) -> list[int]:
    """Tell one state of a file from another: bytes and nanoseconds of the last change."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _to_inspection(row: dict[str, Any]) -> Inspection:
    info = row.get("info")
    return Inspection(VideoInfo(**info) if info else None, row.get("reason", ""))


def _manifest_path(folder: Path) -> Path:
    key = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return cache_folder() / "manifests" / f"{key}.json"


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # not there yet, or not ours: measure again
    if not isinstance(content, dict) or content.get("version") != MANIFEST_VERSION:
        return {}
    rows: dict[str, dict[str, Any]] = content["clips"]
    return rows


def _write_manifest(path: Path, rows: dict[str, dict[str, Any]]) -> None:
    with atomic_writer(path) as file:
        json.dump({"version": MANIFEST_VERSION, "clips": rows}, file)
