"""When the frames of a video are shown, and of which of them a clip consists: pure arithmetic on time stamps.

It opens no file. Times are in seconds, from the first frame on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from vidact.core.errors import DataError

EVEN_SECONDS = 0.0006  # containers round time stamps, Matroska to the nearest millisecond
SAME_RATE = 0.005  # 29.97 and 30 frames a second are the same rate
NEAR_RATE = 0.05  # where motion looks alike
# A frame counts as shown from a little before its own time: time stamps jitter. A quarter of the time between two
# frames; not quite that, for 30 frames a second sampled at 24 would meet it exactly, and rounding would decide.
EARLY_SHARE = 0.26
BEYOND_SECONDS = 1.0  # tables name ends in round numbers


def measured_times(stamps: Sequence[float | None], *, claimed_fps: float) -> tuple[float, tuple[float, ...]]:
    """Say how many frames a second a video has, and when they are shown where that does not tell it.

    A container that holds no time stamps, or odd ones (AVI with B-frames), has its frames evenly spaced. AVI has places
    for frames, some of which may be empty: copies of H.264 often name twice the rate and fill every second place.

    Args:
        stamps: Of all frames in order; None where the container has none.
        claimed_fps: Frames per second by the header; 0 where it says nothing.

    Returns:
        Frames per second, and the time of each frame; no times where frame n is shown at n / fps.
    """
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) < max(len(stamps), 2) or (np.diff(known) <= 0).any():
        return claimed_fps / _places_per_frame(stamps, claimed_fps), ()
    times = np.asarray(known) - known[0]
    for fps in (claimed_fps, mean_rate(times)):
        if fps > 0 and np.abs(times - np.arange(len(times)) / fps).max() < EVEN_SECONDS:
            return fps, ()
    return mean_rate(times), tuple(np.round(times, 6).tolist())


def _places_per_frame(stamps: Sequence[float | None], claimed_fps: float) -> int:
    known = [(number, stamp) for number, stamp in enumerate(stamps) if stamp is not None]
    if len(known) < 2 or len(known) == len(stamps):
        return 1
    (first, begins), (last, ends) = known[0], known[-1]
    return max(1, round((ends - begins) * claimed_fps / (last - first)))


def mean_rate(times_seconds: Sequence[float] | np.ndarray) -> float:
    """Count the frames per second, from the first frame to the last; 0 where there are not two."""
    span = float(times_seconds[-1]) - float(times_seconds[0])
    return (len(times_seconds) - 1) / span if span > 0 else 0.0


def timeline(
    times_seconds: Sequence[float], *, start: float | None = None, end: float | None = None, fps: float | None = None
) -> tuple[int, ...]:
    """List the frames of which a clip consists, in order.

    With a rate, the clip has a frame every 1 / fps seconds from its start on, the one that is shown at that instant:
    at half a video's rate every second one, at a higher rate than the video's some of them several times. A video that
    has this rate already keeps its frames as they are, also where time stamps jitter.

    Args:
        times_seconds: When each frame of the file is shown, increasing; at least one.
        start: Of the clip; the first frame if None. It begins with the frame that is shown then.
        end: Of the clip, this instant left out; after the last frame if None.
        fps: Frames per second of the clip; as in the file if None.

    Raises:
        DataError: the clip is empty, or not within the file.
    """
    times = np.asarray(times_seconds, dtype=np.float64)
    gap = median(np.diff(times).tolist()) if len(times) > 1 else 1 / (fps or 30)
    until = float(times[-1]) + gap
    begins, ends = start or 0.0, until if end is None else min(end, until)
    _check_within(start, end, until=until)
    early = EARLY_SHARE * gap
    if fps is None or _has_rate(times, fps):
        first = 0 if start is None else int(np.searchsorted(times, begins + early, side="right")) - 1
        after = len(times) if end is None else int(np.searchsorted(times, ends - early, side="left"))
        return tuple(range(first, max(after, first + 1)))
    early = EARLY_SHARE * min(gap, 1 / fps)
    count = max(1, math.ceil((ends - begins) * fps - EARLY_SHARE / 2))
    instants = begins + np.arange(count) / fps
    return tuple((np.searchsorted(times, instants + early, side="right") - 1).tolist())


def _check_within(start: float | None, end: float | None, *, until: float) -> None:
    if not all(time is None or (math.isfinite(time) and time >= 0) for time in (start, end)):
        raise DataError(f"starts at {start} and ends at {end}; expected seconds of 0 or more")
    if end is not None and end <= (start or 0.0):
        raise DataError(f"starts at {start or 0:g} s and ends at {end:g} s; expected an end after the start")
    if (start or 0.0) >= until:
        raise DataError(f"starts at {start:g} s, but its file ends at {until:.2f} s")
    if end is not None and end > until + BEYOND_SECONDS:
        raise DataError(f"ends at {end:g} s, but its file ends at {until:.2f} s")


def _has_rate(times: np.ndarray, fps: float) -> bool:
    """Say whether frames already follow each other at a rate, each at most half a frame early or late."""
    own = mean_rate(times)
    rates = [rate for rate, near in ((fps, NEAR_RATE), (own, SAME_RATE)) if abs(own / fps - 1) <= near]
    return any(np.ptp(times - np.arange(len(times)) / rate) <= 1 / rate for rate in rates)


@dataclass(frozen=True)
class FrameRates:
    """Frames per second of the clips that a network learned from, as it saw them.

    Attributes:
        lowest: Of all clips.
        usual: The median.
        highest: Of all clips.
    """

    lowest: float
    usual: float
    highest: float

    @classmethod
    def of(cls, rates: Sequence[float], *, fps: float | None) -> "FrameRates":
        """Sum up the rates of files that are sampled at `fps`, or shown as they are if None."""
        return cls(min(rates), median(rates), max(rates)) if fps is None else cls(fps, fps, fps)

    @property
    def differ(self) -> bool:
        """Whether motion looks faster in some clips than in others."""
        return self.highest > (1 + NEAR_RATE) * self.lowest

    def rate_for(self, rate: float) -> float | None:
        """Choose the rate at which to sample a video; None for its own, which clips that were learned from had, too.

        Args:
            rate: The video's own; 0 of a single frame.
        """
        own = not rate or (self.lowest < self.highest and self.lowest <= rate <= self.highest)
        return None if own else self.usual

    def note(self, rate: float) -> str:
        """Say in one line what becomes of a video's frames; empty where it has the rate that was learned from."""
        learned = f"the network learned from clips of {self}"
        sampled = self.rate_for(rate)
        if sampled is None:
            return f"shown at its own {rate:.4g} frames a second; {learned}" if rate and self.differ else ""
        if abs(rate / sampled - 1) <= NEAR_RATE:
            return ""
        how = "sampled" if rate > sampled else "too few, some are shown several times"
        return f"{rate:.4g} frames a second, {how}: {learned}"

    def unlike(self, others: "FrameRates") -> str:
        """Say so where clips to be measured have other frames per second than those learned from; else empty."""
        low, high = self.lowest / (1 + NEAR_RATE), self.highest * (1 + NEAR_RATE)
        if low <= others.lowest and others.highest <= high:
            return ""
        return (
            f"the network learned from clips of {self}, these have {others}, so what moves looks faster or slower; "
            f"--data.fps {round(self.usual)} samples them by time"
        )

    def advice(self) -> list[str]:
        """Say what to do where clips differ; nothing where they do not."""
        told = (
            f"training clips have {self}: what moves looks slower in those with more of them; "
            f"--data.fps {round(self.usual)} samples all of them by time"
        )
        return [told] if self.differ else []

    def __str__(self) -> str:
        ends = [f"{self.lowest:.4g}", f"{self.highest:.4g}"] if self.differ else [f"{self.usual:.4g}"]
        return f"{' to '.join(ends)} frames a second"
