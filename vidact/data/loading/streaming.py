"""Read videos of any length from first frame to last, with a few frames in memory; `explaining` uses it.

Training reads windows by frame number (`video.reading`); both give the same frames, up to rounding where training reads
with decord.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from vidact.core.errors import ConfigError, DataError
from vidact.data.checks.inspection import TIME_LIMIT_SECONDS, inspect_clips
from vidact.data.video.display import Painter
from vidact.data.video.reading import checked_path, decode_all, to_network_size
from vidact.data.video.sampling import Stride, sampled_frames, sliding_starts
from vidact.data.video.timeline import FrameRates, mean_rate, timeline

BYTES_PER_SECOND = 200_000  # slower than any inspection seen: long videos get a longer time limit


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        number: Frame number, from 0.
        time_seconds: When it is shown, from the first one on.
        picture: Pixels as stored, rotated and mirrored as they are to be seen; a network gets them resized.
        size: Height and width in square pixels; those of `picture` if None.
    """

    number: int
    time_seconds: float
    picture: UInt8[np.ndarray, "H W C"] = field(repr=False)
    size: tuple[int, int] | None = None

    @property
    def shown(self) -> UInt8[np.ndarray, "h w C"]:
        """The picture in square pixels, with its true aspect."""
        if self.size is None or self.size == self.picture.shape[:2]:
            return self.picture
        resized = to_network_size(torch.from_numpy(self.picture), self.size, gray=False)
        return np.ascontiguousarray(resized.permute(1, 2, 0).numpy())


@runtime_checkable
class Video(Protocol):
    """A source of frames that can be read repeatedly, from the first to the last."""

    @property
    def name(self) -> str:
        """Its name for users."""

    @property
    def num_frames(self) -> int:
        """Number of frames."""

    @property
    def times_seconds(self) -> Sequence[float]:
        """When each frame is shown, from the first one on."""

    def frames(self) -> Iterator[Frame]:
        """Yield all frames in order."""


class VideoFile:
    """A video file, inspected first in a child process that may crash or hang.

    Args:
        path: Any format that FFmpeg opens.

    Raises:
        DataError: no frame of it can be read; says why.
    """

    def __init__(self, path: Path) -> None:
        self.path = checked_path(path)
        limit = max(TIME_LIMIT_SECONDS, self.path.stat().st_size / BYTES_PER_SECOND)
        found = inspect_clips([self.path], decoder="pyav", time_limit_seconds=limit)[self.path]
        if found.info is None:
            raise DataError(f"{path}: {found.reason}")
        self.num_frames, self.size = found.info.num_frames, (found.info.height, found.info.width)
        self.sha1, self.warning = found.sha1, found.reason
        self.times_seconds = found.info.shown_at

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def frames(self) -> Iterator[Frame]:
        """Yield all frames in order.

        Raises:
            DataError: the file has changed or vanished since it was inspected.
        """
        number, painter = -1, Painter()
        # Not strict: frames after the first damage decode, but were not counted.
        for number, (time, frame) in enumerate(zip(self.times_seconds, decode_all(self.path), strict=False)):
            yield Frame(number, time, painter.upright(frame), self.size)
        if number + 1 < self.num_frames:
            raise DataError(
                f"{self.path}: has {number + 1} frames now, had {self.num_frames}; the file changed meanwhile"
            )


class VideoArray:
    """A video in memory.

    Args:
        pixels: [T, H, W, C] or [C, T, H, W], gray or RGB, 0 to 255.
        fps: Frames per second.

    Raises:
        DataError: another shape or type, or an invalid frame rate.
    """

    name = "array"

    def __init__(self, pixels: np.ndarray | Tensor, *, fps: float | int = 30.0) -> None:
        array = np.asarray(pixels)
        if array.ndim == 4 and array.shape[0] in (1, 3) and array.shape[3] not in (1, 3):
            array = array.transpose(1, 2, 3, 0)
        if array.ndim != 4 or array.shape[3] not in (1, 3) or not array.size or array.dtype != np.uint8:
            raise DataError(
                f"expected a video uint8 [T, H, W, C] or [C, T, H, W] with C 1 or 3, got {array.dtype} "
                f"{list(array.shape)}; for values in [0, 1] multiply by 255"
            )
        if not 0 < fps < math.inf:
            raise DataError(f"fps must be the array's frames per second, more than 0, got {fps}")
        self._pixels: UInt8[np.ndarray, "T H W C"] = array
        self.num_frames = len(array)
        self.times_seconds = tuple(number / fps for number in range(len(array)))

    def frames(self) -> Iterator[Frame]:
        """Yield all frames in order."""
        for number, picture in enumerate(self._pixels):
            rgb = np.broadcast_to(picture, (*picture.shape[:2], 3))
            yield Frame(number, self.times_seconds[number], np.array(rgb))


@dataclass(frozen=True)
class WindowSettings:
    """How a video is cut into windows for a network.

    Attributes:
        num_frames: Frames per window.
        stride: Distance between two frames of a window, or `adaptive`.
        size: Height and width.
        gray: One colour channel instead of three.
        overlap: Share of a window that the next one contains as well, in [0, 1).
        rates: Frames per second of the training clips; None, if unknown, keeps every video's own rate.

    Raises:
        ConfigError: `overlap` is outside of [0, 1).
    """

    num_frames: int
    stride: Stride
    size: tuple[int, int]
    gray: bool
    overlap: float = 0.5
    rates: FrameRates | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise ConfigError(
                f"overlap must be the share of a window that the next one repeats, in [0, 1), got {self.overlap}"
            )

    def sampled(self, times_seconds: Sequence[float]) -> tuple[int, ...]:
        """List the sampled frames, some several times if the video's rate is lower than that of the training clips.

        Args:
            times_seconds: When each frame of the video is shown.
        """
        fps = self.rates.rate_for(mean_rate(times_seconds)) if self.rates else None
        frames = timeline(times_seconds, fps=fps)
        places = sampled_frames(len(frames), num_frames=self.num_frames, stride=self.stride)
        return tuple(frames[place] for place in places)

    def note(self, times_seconds: Sequence[float]) -> str:
        """Describe in one line how a video is resampled whose rate is not that of the training clips."""
        return self.rates.note(mean_rate(times_seconds)) if self.rates else ""

    def starts(self, num_sampled: int) -> tuple[int, ...]:
        """List the starts of windows, as indices into the sampled frames."""
        hop = max(1, round(self.num_frames * (1 - self.overlap)))
        return sliding_starts(num_sampled, num_frames=self.num_frames, hop=hop)


def sliding_windows(
    video: Video, settings: WindowSettings
) -> Iterator[tuple[tuple[int, ...], UInt8[Tensor, "C T H W"]]]:
    """Yield every window of a video, with the indices of its frames among the sampled ones.

    The last frame is repeated where a video does not fill a window. At most one window is in memory.
    """
    sampled = settings.sampled(video.times_seconds)
    pictures = _pictures(video, sampled, settings)
    held: deque[UInt8[Tensor, "C H W"]] = deque(maxlen=settings.num_frames)
    read = 0
    for start in settings.starts(len(sampled)):
        end = min(start + settings.num_frames, len(sampled))
        held.extend(islice(pictures, end - read))
        read = end
        places = [*range(start, end), *[end - 1] * (settings.num_frames - (end - start))]
        window = list(held) + [held[-1]] * (settings.num_frames - len(held))
        yield tuple(places), torch.stack(window, dim=1)


def _pictures(video: Video, numbers: Sequence[int], settings: WindowSettings) -> Iterator[UInt8[Tensor, "C H W"]]:
    for frame in pick_frames(video, numbers):
        yield to_network_size(torch.from_numpy(frame.picture), settings.size, gray=settings.gray)


def pick_frames(video: Video, numbers: Iterable[int]) -> Iterator[Frame]:
    """Yield the frames of ascending numbers; a repeated number repeats its frame."""
    wanted = iter(numbers)
    following = next(wanted, None)
    for frame in video.frames():
        if following is None:
            return
        while frame.number == following:
            yield frame
            following = next(wanted, None)
