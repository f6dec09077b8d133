"""List the windows of clips, read them as a torch `Dataset`, and join them to batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from vidact.core.clips import ClipBatch
from vidact.core.errors import DataError
from vidact.data.checks.file_inspection import VideoInfo
from vidact.data.datasets.clip_frames import frames_of
from vidact.data.datasets.index import Clip
from vidact.data.video.reading import Decoder, read_frames
from vidact.data.video.sampling import FrameOrder, Stride, reorder, windows


@dataclass(frozen=True)
class Window:
    """Some frames of one clip.

    Attributes:
        clip: The clip.
        clip_index: Its number on its side of the split.
        frame_numbers: Frame numbers in the file, from 0.
        times_seconds: When each of them is shown, from the file's first frame on.
        clip_frames: Number of frames of the whole file.
        sha1: SHA-1 of the clip's file; empty if unknown.
        only_pyav: Whether the file must be read with PyAV.
        datapoint: Its name as in the 2020 report (`vcP1269_3`); empty if not asked for.
    """

    clip: Clip
    clip_index: int
    frame_numbers: tuple[int, ...]
    times_seconds: tuple[float, ...]
    clip_frames: int
    sha1: str = ""
    only_pyav: bool = False
    datapoint: str = ""

    def decoder(self, wanted: Decoder) -> Decoder:
        """Choose the library that reads the file: the wanted one, unless only PyAV reads it rightly."""
        return "pyav" if self.only_pyav else wanted


@runtime_checkable
class MaskSource(Protocol):
    """A source of masks."""

    def read(
        self, clip_id: str, frame_numbers: Sequence[int], *, clip_frames: int, size: tuple[int, int]
    ) -> Bool[Tensor, "T H W"]:
        """Read the masks of a clip's frames; raise DataError if there is none that fits."""


@runtime_checkable
class PixelSource(Protocol):
    """A cache of decoded windows."""

    def rows_of(self, windows: Sequence[Window]) -> list[int | None]:
        """Find the row of each window; None for windows that are not cached."""

    def read(self, rows: Sequence[int]) -> UInt8[np.ndarray, "B C T H W"]:
        """Copy rows into memory."""


def list_windows(
    clips: Sequence[Clip],
    infos: Mapping[Path, VideoInfo],
    *,
    num_frames: int,
    stride: Stride,
    num_windows: int,
    margin: int = 0,
    sha1s: Mapping[Path, str] | None = None,
    frame_order: FrameOrder = "natural",
    fps: float | None = None,
    datapoints: Mapping[str, str] | None = None,
) -> list[Window]:
    """List the windows of all clips, clip by clip.

    A clip may be a part of its file, or resampled: see `clip_frames.frames_of`.

    Args:
        clips: The clips, numbered in this order.
        infos: The inspected content of each file.
        num_frames: Frames per window.
        stride: Distance between two frames of a window, or 'adaptive'.
        num_windows: Windows to spread over each clip.
        margin: Further frames before and after each window, see `sampling.windows`.
        sha1s: SHA-1 of the files, as far as known.
        frame_order: See `sampling.reorder`; a window is always shuffled in the same way.
        fps: Frames per second at which clips are sampled; as in their files if None.
        datapoints: From clip id to `vcP1269`, see `datapoints.datapoint_prefixes`; windows have no such names if None.

    Raises:
        DataError: a clip's start and end are not within its file; check with `clip_frames.why_unusable` before.
    """
    listed = []
    for clip_index, clip in enumerate(clips):
        info = infos[clip.path]
        frames = frames_of(clip, info, fps=fps)
        for places in windows(
            len(frames), num_frames=num_frames, stride=stride, num_windows=num_windows, margin=margin
        ):
            numbers = tuple(frames[place] for place in places)
            ordered = reorder(numbers, frame_order, seed=f"{clip.clip_id} {numbers[0]}")
            times = tuple(info.shown_at[number] for number in ordered)
            listed.append(
                Window(
                    clip,
                    clip_index,
                    ordered,
                    times,
                    info.num_frames,
                    sha1=(sha1s or {}).get(clip.path, ""),
                    only_pyav=bool(info.only_pyav),
                    datapoint=f"{datapoints[clip.clip_id]}_{numbers[0]}" if datapoints else "",
                )
            )
    return listed


class WindowDataset(Dataset[ClipBatch]):
    """Windows, decoded on demand or read from a cache of decoded windows.

    A clip that can no longer be read does not raise: its item is an empty batch with the reason.

    Args:
        windows: The windows.
        size: Height and width in pixels.
        gray: One colour channel instead of three.
        decoder: The library that decodes, for files that it reads rightly.
        decoded: Cache of windows decoded at this size and in these colours; others are decoded from their files.
        masks: Source of masks; batches have none if None.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        *,
        size: tuple[int, int],
        gray: bool,
        decoder: Decoder = "decord",
        decoded: PixelSource | None = None,
        masks: MaskSource | None = None,
    ) -> None:
        self.windows = list(windows)
        self.size = size
        self.gray = gray
        self.decoder: Decoder = decoder
        self.decoded = decoded
        self.masks = masks
        self._rows = decoded.rows_of(self.windows) if decoded is not None else [None] * len(self.windows)

    @property
    def needs_no_decoding(self) -> bool:
        """True where reading an item only copies memory, which is not worth a worker process."""
        return self.decoded is not None and self.masks is None and None not in self._rows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> ClipBatch:
        return join(self.__getitems__([index]))

    def __getitems__(self, indices: Sequence[int]) -> list[ClipBatch]:
        """Read a batch's windows in order, in as few parts as possible; torch's DataLoader calls this."""
        # One copy for the whole batch is faster than one for each window.
        if self.decoded is not None and all(self._rows[index] is not None for index in indices):
            rows = [row for index in indices if (row := self._rows[index]) is not None]
            video = torch.from_numpy(self.decoded.read(rows))
            if self.masks is None:
                return [self._batch(indices, video=video)]
            return [self._one(index, video[place]) for place, index in enumerate(indices)]
        return [self._one(index) for index in indices]

    def _one(self, index: int, video: UInt8[Tensor, "C T H W"] | None = None) -> ClipBatch:
        window = self.windows[index]
        try:
            if video is None:
                video = self._pixels(index)
            mask = self._mask(window)
        except DataError as error:
            return self._nothing(len(window.frame_numbers), reason=f"{window.clip.clip_id}: {error}")
        return self._batch([index], video=video[None], mask=mask)

    def _pixels(self, index: int) -> UInt8[Tensor, "C T H W"]:
        row = self._rows[index]
        if self.decoded is not None and row is not None:
            return torch.from_numpy(self.decoded.read([row])[0])
        window = self.windows[index]
        path, numbers = window.clip.path, window.frame_numbers
        return read_frames(path, numbers, size=self.size, gray=self.gray, decoder=window.decoder(self.decoder))

    def _mask(self, window: Window) -> Bool[Tensor, "1 T H W"] | None:
        if self.masks is None:
            return None
        numbers, frames = window.frame_numbers, window.clip_frames
        return self.masks.read(window.clip.clip_id, numbers, clip_frames=frames, size=self.size)[None]

    def _batch(
        self,
        indices: Sequence[int],
        *,
        video: UInt8[Tensor, "B C T H W"],
        mask: Bool[Tensor, "B T H W"] | None = None,
    ) -> ClipBatch:
        chosen = [self.windows[index] for index in indices]
        frame_numbers = torch.tensor([window.frame_numbers for window in chosen])
        return ClipBatch(
            video=video,
            label=torch.tensor([window.clip.label for window in chosen]),
            clip_id=tuple(window.clip.clip_id for window in chosen),
            clip_index=torch.tensor([window.clip_index for window in chosen]),
            window_index=torch.tensor(list(indices)),
            frame_numbers=frame_numbers,
            times_seconds=torch.tensor([window.times_seconds for window in chosen]),
            mask=mask,
            datapoint=tuple(window.datapoint for window in chosen if window.datapoint),
            source=tuple(window.clip.source for window in chosen),
        )

    def _nothing(self, num_frames: int, *, reason: str) -> ClipBatch:
        none = torch.empty(0, dtype=torch.int64)
        return ClipBatch(
            video=torch.empty(0, 1 if self.gray else 3, num_frames, *self.size, dtype=torch.uint8),
            label=none,
            clip_id=(),
            clip_index=none,
            window_index=none,
            frame_numbers=none.reshape(0, num_frames),
            times_seconds=torch.empty(0, num_frames),
            left_out=(reason,),
            mask=torch.empty(0, num_frames, *self.size, dtype=torch.bool) if self.masks is not None else None,
        )


def join(batches: Sequence[ClipBatch]) -> ClipBatch:
    """Concatenate batches, of which all have masks or none has."""
    if len(batches) == 1:
        return batches[0]
    values: dict[str, Any] = {}
    for field in fields(ClipBatch):
        parts = [getattr(batch, field.name) for batch in batches]
        if isinstance(parts[0], Tensor):
            values[field.name] = torch.cat(parts)
        elif isinstance(parts[0], tuple):
            values[field.name] = sum(parts, start=())
    return ClipBatch(**values)


def pick_rows(
    windows: Sequence[Window], *, clips_per_class: int, generator: torch.Generator, other_sources: bool = False
) -> list[int]:
    """Draw some clips of each class, one window each.

    Args:
        windows: Windows to draw from.
        clips_per_class: Number of clips; fewer where a class has fewer.
        generator: Random generator.
        other_sources: No two clips of a class from one source.

    Returns:
        Indices into `windows`, class by class in the order of their numbers.
    """
    chosen: dict[int, list[int]] = {label: [] for label in sorted({window.clip.label for window in windows})}
    seen: set[int | tuple[int, str]] = set()
    for row in torch.randperm(len(windows), generator=generator).tolist():
        clip = windows[row].clip
        rows, kind = chosen[clip.label], (clip.label, clip.source) if other_sources else windows[row].clip_index
        if len(rows) < clips_per_class and kind not in seen:
            seen.add(kind)
            rows.append(row)
    return [row for rows in chosen.values() for row in rows]
