"""Average the relevance of overlapping windows over time, frame by frame, into a scratch file."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vidact.core.clips import as_float
from vidact.core.errors import EnvironmentProblem
from vidact.data.loading.streaming import Video, WindowSettings, sliding_windows


@dataclass(frozen=True)
class Subject:
    """A video as a network sees it.

    Attributes:
        video: Of any length and size.
        window: What the network sees of it at once.
        device: The network's.
    """

    video: Video
    window: WindowSettings
    device: torch.device

    @cached_property
    def sampled(self) -> tuple[int, ...]:
        """The frames that windows see, repeated where windows repeat them."""
        return self.window.sampled(self.video.times_seconds)

    @property
    def starts(self) -> tuple[int, ...]:
        """The first place of each window among the sampled frames."""
        return self.window.starts(len(self.sampled))

    def batches(self, size: int) -> Iterator[tuple[list[tuple[int, ...]], Float[Tensor, "B C T H W"]]]:
        """Yield the windows in batches: the places of each one's frames, and their pixels in [0, 1]."""
        windows = sliding_windows(self.video, self.window)
        while batch := list(islice(windows, size)):
            places, pixels = zip(*batch, strict=True)
            yield list(places), as_float(torch.stack(pixels).to(self.device))


class RelevanceFile:
    """Relevance of many frames in a file of float32, of which one frame is in memory at a time.

    Args:
        path: The file.
        shape: (T, h, w).
    """

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self.path, self.shape = path, shape

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Float[np.ndarray, "h w"]]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Float[np.ndarray, "h w"]:
        pixels = self.shape[1] * self.shape[2]
        frame = np.fromfile(self.path, np.float32, count=pixels, offset=number * pixels * 4)
        return frame.reshape(self.shape[1:])

    def read(self) -> Float[np.ndarray, "T h w"]:
        """Read all of it into memory."""
        return np.fromfile(self.path, np.float32).reshape(self.shape)


class Stitcher:
    """Averages the relevance of frames over the windows that hold them; frames that are done go to a file.

    Where a window repeats its last frame because the video is too short, the relevance of all repeats counts. A frame
    that is sampled at several places is averaged at each, and then summed over them.

    Args:
        path: The file.
        subject: Says which windows hold which frame.
    """

    def __init__(self, path: Path, subject: Subject) -> None:
        length, num_sampled = subject.window.num_frames, len(subject.sampled)
        # How many windows hold each place: what its relevance is divided by.
        self._coverage = Counter(
            place for start in subject.starts for place in range(start, min(start + length, num_sampled))
        )
        self._path, self._open, self._written = path, dict[int, Float[np.ndarray, "h w"]](), 0
        self._frames = subject.sampled
        self.positive, self.negative, self.largest = list[float](), list[float](), 0.0

    def __enter__(self) -> "Stitcher":
        try:
            self._file = self._path.open("wb")
        except OSError as error:
            raise self._problem(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                self._write_before(len(self._coverage))
            self._file.close()
        except OSError as problem:
            raise self._problem(problem) from problem

    def add(self, places: Sequence[Sequence[int]], relevance: Float[Tensor, "B C T h w"]) -> None:
        """Add the relevance of windows, in the order of their starts."""
        for own, voxels in zip(places, relevance.sum(dim=1).float().cpu().numpy(), strict=True):
            self._write_before(own[0])  # windows come in order: no later one holds an earlier place
            for place, frame in zip(own, voxels, strict=True):
                share = frame / np.float32(self._coverage[place])
                self._open[place] = self._open[place] + share if place in self._open else share

    def _write_before(self, place: int) -> None:
        try:
            for done in range(self._written, min(place, len(self._coverage))):
                self._written += 1
                frame = self._open.pop(done)
                if done + 1 < len(self._frames) and self._frames[done + 1] == self._frames[done]:  # the same one again
                    self._open[done + 1] = self._open[done + 1] + frame if done + 1 in self._open else frame
                    continue
                self._file.write(frame.astype(np.float32).tobytes())
                self.positive.append(float(frame.clip(min=0).sum(dtype=np.float64)))
                self.negative.append(float(frame.clip(max=0).sum(dtype=np.float64)))
                self.largest = max(self.largest, float(np.abs(frame).max()))
        except OSError as error:
            raise self._problem(error) from error

    def _problem(self, error: OSError) -> EnvironmentProblem:
        return EnvironmentProblem(f"{self._path}: cannot be written ({error.strerror or error}); choose another --out")
