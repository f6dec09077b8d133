"""Decode windows once and cache them on disk as one memory-mapped array, for every later epoch and run.

A set of windows lies in `<cache>/windows/<key>/`: `video.npy`, uint8 [N, C, T, H, W], and `index.json`. The key is a
hash of the files' contents, the frame numbers, the size, the colours, the version of the resizer, and the decoder of
each file with its version; class, label, split and the location of the files do not matter. A folder appears under its
name only when it is complete.
"""

import contextlib
import hashlib
import json
import logging
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from filelock import FileLock
from jaxtyping import UInt8
from torch.utils.data import DataLoader

from vidact.core.cache import cache_folder, folder_bytes, locked
from vidact.core.clips import ClipBatch
from vidact.core.errors import ConfigError, EnvironmentProblem
from vidact.core.files import flush_file, flush_folder
from vidact.core.folders import remove_abandoned, scratch_folder
from vidact.core.terminal import printable
from vidact.data.loading.windows import Window, WindowDataset, join
from vidact.data.loading.workers import worker_options
from vidact.data.video.containers import file_sha1
from vidact.data.video.reading import VERSIONS, Decoder

FORMAT = 2  # of the array and its index; a new number makes all older arrays unused
_HEADER = {"descr": "|u1", "fortran_order": False}

Progress = Callable[[int, int], None]
_Place = tuple[Path, tuple[int, ...]]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Plan:
    """The intended content of an array, row by row."""

    windows: tuple[Window, ...]
    contents: tuple[str, ...]
    size: tuple[int, int]
    gray: bool
    decoder: Decoder

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        return (len(self.windows), 1 if self.gray else 3, len(self.windows[0].frame_numbers), *self.size)

    @property
    def num_bytes(self) -> int:
        return int(np.prod(self.shape))

    def settings(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "decoder": VERSIONS[self.decoder],
            "resizer": f"torch {torch.__version__}, torchvision {torchvision.__version__}",
            "shape": list(self.shape),
        }

    @cached_property
    def key(self) -> str:
        rows = [
            (sha1, window.frame_numbers, VERSIONS[window.decoder(self.decoder)])
            for sha1, window in zip(self.contents, self.windows, strict=True)
        ]
        return hashlib.sha256(json.dumps([self.settings(), rows]).encode()).hexdigest()[:32]


class DecodedWindows:
    """Decoded windows on disk; every process maps the array when it first reads.

    Args:
        folder: Folder of `video.npy`.
        rows: The row of each window that could be decoded, by file and frame numbers.
    """

    def __init__(self, folder: Path, rows: Mapping[_Place, int]) -> None:
        self.folder = folder
        self._rows = dict(rows)
        self._video: UInt8[np.ndarray, "N C T H W"] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_video": None}  # a worker maps the file itself, instead of receiving the pixels

    def rows_of(self, windows: Sequence[Window]) -> list[int | None]:
        """Find the row of each window; None for windows that are not cached."""
        return [self._rows.get((window.clip.path, window.frame_numbers)) for window in windows]

    def read(self, rows: Sequence[int]) -> UInt8[np.ndarray, "B C T H W"]:
        """Copy rows into memory."""
        if self._video is None:
            # A plain array over the map, so that what is copied out of it is plain as well.
            self._video = np.lib.format.open_memmap(self.folder / "video.npy", mode="r").view(np.ndarray)
        return np.take(self._video, rows, axis=0)


def decode_windows(
    windows: Sequence[Window],
    *,
    size: tuple[int, int],
    gray: bool,
    limit_bytes: int,
    decoder: Decoder = "decord",
    folder: Path | None = None,
    num_workers: int = 0,
    progress: Progress | None = None,
) -> DecodedWindows:
    """Decode windows into an array on disk, or find the array that an earlier run made of the same windows.

    Of several processes that start at once one decodes, and the others wait for it. Unfinished arrays of killed
    processes are removed. A window that cannot be decoded has no row.

    Args:
        windows: One or more, in any order, all with the same number of frames.
        size: Height and width in pixels.
        gray: One colour channel instead of three.
        limit_bytes: Limit for all arrays in `folder` together.
        decoder: The library that decodes.
        folder: Folder of the arrays; `windows` in the user's cache folder if None.
        num_workers: Number of processes that decode; 0 decodes in this one.
        progress: Called after each window with (done, total).

    Raises:
        ConfigError: the array would exceed the limit; nothing was decoded.
        EnvironmentProblem: the disk is full, or the folder cannot be written.
    """
    contents = _contents(windows)
    plan = _Plan(*_in_order(windows, contents), size=size, gray=gray, decoder=decoder)
    folder = folder or cache_folder() / "windows"
    entry = folder / plan.key
    try:
        if (rows := _rows_of(entry, plan)) is None:
            folder.mkdir(parents=True, exist_ok=True)
            waiting = f"{folder}: another process is decoding these windows; waiting for it"
            with locked(folder / f"{plan.key}.lock", waiting=waiting):
                rows = _rows_of(entry, plan)
                if rows is None:
                    rows = _replace(entry, plan, limit_bytes=limit_bytes, num_workers=num_workers, progress=progress)
    except OSError as error:
        reason = error.strerror or str(error)
        raise EnvironmentProblem(
            f"{folder}: decoded windows cannot be kept there ({reason}); set VIDACT_CACHE to another folder"
        ) from error
    places = _places(windows, contents, plan=plan)
    return DecodedWindows(entry, {place: row for place, row in places.items() if row in rows})


def _in_order(windows: Sequence[Window], contents: Mapping[Path, str]) -> tuple[tuple[Window, ...], tuple[str, ...]]:
    """Sort windows independently of the split, and drop those of equal content."""
    # Reversed, so that of equal contents the first clip stays.
    unique = {(contents[window.clip.path], window.frame_numbers): window for window in reversed(windows)}
    rows = sorted(unique.items(), key=lambda row: (row[1].clip.clip_id, row[0]))
    return tuple(window for _, window in rows), tuple(sha1 for (sha1, _), _ in rows)


def _places(windows: Sequence[Window], contents: Mapping[Path, str], *, plan: _Plan) -> dict[_Place, int]:
    """Find the row of every window; files of equal content share their rows."""
    keys = zip(plan.contents, (window.frame_numbers for window in plan.windows), strict=True)
    row_of = {key: row for row, key in enumerate(keys)}
    return {
        (window.clip.path, window.frame_numbers): row_of[contents[window.clip.path], window.frame_numbers]
        for window in windows
    }


def _contents(windows: Sequence[Window]) -> dict[Path, str]:
    known = {window.clip.path: window.sha1 for window in windows}
    return {path: sha1 or _sha1(path) for path, sha1 in known.items()}


def _sha1(path: Path) -> str:
    try:
        return file_sha1(path)
    except OSError:
        return f"unreadable: {path}"  # decoding will fail as well, and say why


def _rows_of(entry: Path, plan: _Plan) -> set[int] | None:
    """List the rows of an array that hold a window; None where there is no intact array of the plan."""
    try:
        index = json.loads((entry / "index.json").read_text(encoding="utf-8"))
        video = np.lib.format.open_memmap(entry / "video.npy", mode="r")
        if video.shape == plan.shape and video.dtype == np.uint8 and index["key"] == plan.key:
            return set(range(len(plan.windows))) - {int(row) for row in index["left_out"]}
    except FileNotFoundError:
        return None
    except (ValueError, EOFError, TypeError, KeyError):
        return None  # damaged: `_replace` warns
    return None


def _replace(entry: Path, plan: _Plan, *, limit_bytes: int, num_workers: int, progress: Progress | None) -> set[int]:
    """Decode into a scratch folder and rename it; the caller holds the plan's lock."""
    if entry.exists():
        _log.warning("%s: the decoded windows are damaged; decoding them again", printable(entry))
        for name in ("video.npy", "index.json"):
            (entry / name).unlink(missing_ok=True)
        entry.rmdir()  # raises if it contains anything else
    remove_abandoned(entry.parent)
    with _reserved(entry, plan, limit_bytes=limit_bytes) as temporary:
        left_out = _write_video(temporary / "video.npy", plan, num_workers=num_workers, progress=progress)
        content = plan.settings() | {"key": plan.key, "left_out": left_out}
        with (temporary / "index.json").open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            flush_file(file)
        temporary.replace(entry)
    flush_folder(entry.parent)
    if left_out:
        reason = next(iter(left_out.values()))
        _log.warning(
            "%d of %d windows cannot be decoded; the first: %s", len(left_out), len(plan.windows), printable(reason)
        )
    return set(range(len(plan.windows))) - set(left_out)


@contextlib.contextmanager
def _reserved(entry: Path, plan: _Plan, *, limit_bytes: int) -> Iterator[Path]:
    """Make a scratch folder with a file of the array's full size, if the limit and the disk allow it."""
    folder = entry.parent
    with scratch_folder(folder) as room:
        with FileLock(folder / "space.lock"):  # two runs must not both take the same free space
            _check_space(folder, plan, limit_bytes=limit_bytes)
            (temporary := room / "windows").mkdir()
            with (temporary / "video.npy").open("wb") as file:
                file.truncate(plan.num_bytes)
        yield temporary


def _check_space(folder: Path, plan: _Plan, *, limit_bytes: int) -> None:
    used = folder_bytes(folder)
    what = f"{len(plan.windows)} windows of {plan.shape[2]} frames, {plan.size[0]}x{plan.size[1]} pixels, decoded"
    if used + plan.num_bytes > limit_bytes:
        raise ConfigError(
            f"{what}, need {_megabytes(plan.num_bytes)}, the cache's limit is {_megabytes(limit_bytes)} and "
            f"{_megabytes(used)} of it are in use: raise --data.cache_gigabytes (0: no cache), use fewer windows or "
            "smaller frames" + (f", or remove the old ones: rm -r {shlex.quote(str(folder))}" if used else "")
        )
    free = shutil.disk_usage(folder).free
    if plan.num_bytes > free:
        raise EnvironmentProblem(
            f"{what}, need {_megabytes(plan.num_bytes)}, {folder} has {_megabytes(free)} free: set VIDACT_CACHE to "
            "a folder with more, use fewer windows or smaller frames, or train without the cache"
        )


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB"


def _write_video(path: Path, plan: _Plan, *, num_workers: int, progress: Progress | None) -> dict[int, str]:
    """Write the array row by row, zeros for windows that cannot be decoded; return those with the reasons."""
    left_out = {}
    with path.open("r+b") as file:  # no memory map: there a full disk kills the process by a signal
        np.lib.format.write_array_header_1_0(file, _HEADER | {"shape": plan.shape})
        for row, window in enumerate(_decode(plan, num_workers=num_workers)):
            if len(window):
                file.write(window.video.numpy().data)
            else:
                left_out[row] = window.left_out[0]
                file.seek(plan.num_bytes // len(plan.windows), os.SEEK_CUR)
            if progress is not None:
                progress(row + 1, len(plan.windows))
        file.truncate()
        flush_file(file)
    return left_out


def _decode(plan: _Plan, *, num_workers: int) -> Iterator[ClipBatch]:
    loader: DataLoader[ClipBatch] = DataLoader(
        WindowDataset(plan.windows, size=plan.size, gray=plan.gray, decoder=plan.decoder),
        collate_fn=join,
        generator=torch.Generator(),  # training's random numbers must not depend on the cache
        **worker_options(num_workers),
    )
    return iter(loader)
