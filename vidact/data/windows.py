"""Windows of clips as a torch data set, and how they become a batch.

It does not know how clips were chosen or split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vidact.core import ClipBatch, DataError
from vidact.data.index import Clip
from vidact.data.measuring import VideoInfo
from vidact.data.sampling import Stride, windows
from vidact.data.video import read_frames


@dataclass(frozen=True)
class Window:
    """Some frames of one clip."""

    clip: Clip
    clip_index: int
    frame_numbers: tuple[int, ...]
    fps: float


def list_windows(
    clips: Sequence[Clip],
    infos: Mapping[Path, VideoInfo],
    *,
    num_frames: int,
    stride: Stride,
    num_windows: int,
) -> list[Window]:
    """List the windows of all clips, clip by clip."""
    return [
        Window(clip, clip_index, frame_numbers, infos[clip.path].fps)
        for clip_index, clip in enumerate(clips)
        for frame_numbers in windows(
            infos[clip.path].num_frames, num_frames=num_frames, stride=stride, num_windows=num_windows
        )
    ]


class WindowDataset(Dataset[ClipBatch]):
    """Decodes one window per item, as a batch of one.

    A clip that cannot be read any more does not raise: its item is a batch of none that says why.

    Args:
        windows: What to decode.
        size: Height and width in pixels.
        gray: One colour channel in place of three.
    """

    def __init__(self, windows: Sequence[Window], *, size: tuple[int, int], gray: bool) -> None:
        self.windows = list(windows)
        self.size = size
        self.gray = gray

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> ClipBatch:
        window = self.windows[index]
        try:
            video = read_frames(window.clip.path, window.frame_numbers, size=self.size, gray=self.gray)
        except DataError as error:
            return self._nothing(len(window.frame_numbers), reason=f"{window.clip.clip_id}: {error}")
        frame_numbers = torch.tensor([window.frame_numbers])
        return ClipBatch(
            video=video[None],
            label=torch.tensor([window.clip.label]),
            clip_id=(window.clip.clip_id,),
            clip_index=torch.tensor([window.clip_index]),
            window_index=torch.tensor([index]),
            frame_numbers=frame_numbers,
            times_seconds=frame_numbers / (window.fps or 1.0),
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
        )


def join(batches: Sequence[ClipBatch]) -> ClipBatch:
    """Join batches into one, in order."""
    values: dict[str, Any] = {}
    for field in fields(ClipBatch):
        parts = [getattr(batch, field.name) for batch in batches]
        if isinstance(parts[0], Tensor):
            values[field.name] = torch.cat(parts)
        elif isinstance(parts[0], tuple):
            values[field.name] = sum(parts, start=())
    return ClipBatch(**values)
