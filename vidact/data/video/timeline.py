"""Compute from time stamps the frame rate of a video, and the frames of a clip that is a part of it or resampled.

Pure arithmetic. Times are in seconds, from the first frame on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from vidact.core.errors import DataError

EVEN_SECONDS = 0.0006  # containers round time stamps, Matroska to the nearest millisecond
SAME_RATE = 0.005  # 29.97 and 30 frames a second are the same rate
NEAR_RATE = 0.05  # relative difference up to which motion looks alike
# Time stamps jitter, so a frame counts as shown from a little before its time: about a quarter of the time between two
# frames. Not exactly a quarter: there 30 frames a second sampled at 24 would be decided by rounding.
EARLY_SHARE = 0.26
BEYOND_SECONDS = 1.0  # tolerated after the file's end: tables round their times


def measured_times(stamps: Sequence[float | None], *, claimed_fps: float) -> tuple[float, tuple[float, ...]]:
    """Compute the frame rate of a video and, if its frames are not evenly spaced, the time of each.

    Frames are taken as evenly spaced where the container holds no time stamps, or inconsistent ones (AVI with
    B-frames). AVI has numbered places for frames, some of which may be empty: H.264 in AVI often has twice the rate in
    the header and fills every second place.

    Args:
        stamps: Time stamps of all frames in order; None where the container has none.
        claimed_fps: Frames per second by the header; 0 where it does not say.

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
    """Compute the mean frames per second, from the first frame to the last; 0 for fewer than two frames."""
    span = float(times_seconds[-1]) - float(times_seconds[0])
    return (len(times_seconds) - 1) / span if span > 0 else 0.0


def timeline(
    times_seconds: Sequence[float], *, start: float | None = None, end: float | None = None, fps: float | None = None
) -> tuple[int, ...]:
    """List the frame numbers of a clip in its file, in order.

    With `fps` the clip is resampled: one frame every 1 / fps seconds from its start on, the one shown at that instant.
    At half the video's rate that is every second frame; at a higher rate some frames come several times. A video that
    has about this rate already keeps its frames, also where time stamps jitter.

    Args:
        times_seconds: When each frame of the file is shown, increasing; at least one.
        start: Start of the clip, which begins with the frame shown then; the first frame if None.
        end: End of the clip, exclusive; after the last frame if None.
        fps: Frames per second of the clip; those of the file if None.

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
    # Half of that tolerance, so that rounded ends add no frame.
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
    """Return whether frames already have a rate, each at most half a frame early or late."""
    own = mean_rate(times)
    rates = [rate for rate, near in ((fps, NEAR_RATE), (own, SAME_RATE)) if abs(own / fps - 1) <= near]
    return any(np.ptp(times - np.arange(len(times)) / rate) <= 1 / rate for rate in rates)


@dataclass(frozen=True)
class FrameRates:
    """Frames per second of the clips that a network was trained on, after resampling.

    Attributes:
        lowest: Smallest rate.
        usual: Median rate.
        highest: Largest rate.
    """

    lowest: float
    usual: float
    highest: float

    @classmethod
    def of(cls, rates: Sequence[float], *, fps: float | None) -> "FrameRates":
        """Summarise the rates of files; with `fps`, to which all are resampled, that alone."""
        return cls(min(rates), median(rates), max(rates)) if fps is None else cls(fps, fps, fps)

    @property
    def differ(self) -> bool:
        """Whether rates differ so much that motion looks faster in some clips."""
        return self.highest > (1 + NEAR_RATE) * self.lowest

    def rate_for(self, rate: float) -> float | None:
        """Choose the rate at which to sample a video; None keeps its own, which the training clips had as well.

        Args:
            rate: The video's own rate; 0 for a single frame.
        """
        own = not rate or (self.lowest < self.highest and self.lowest <= rate <= self.highest)
        return None if own else self.usual

    def note(self, rate: float) -> str:
        """Describe in one line how a video is resampled for the network; empty if its rate is that of training."""
        learned = f"the network was trained on clips of {self}"
        sampled = self.rate_for(rate)
        if sampled is None:
            return f"shown at its own {rate:.4g} frames a second; {learned}" if rate and self.differ else ""
        if abs(rate / sampled - 1) <= NEAR_RATE:
            return ""
        how = "sampled" if rate > sampled else "too few, some are shown several times"
        return f"{rate:.4g} frames a second, {how}: {learned}"

    def unlike(self, others: "FrameRates") -> str:
        """Warn where clips to be tested have other frame rates than the training clips; else empty."""
        low, high = self.lowest / (1 + NEAR_RATE), self.highest * (1 + NEAR_RATE)
        if low <= others.lowest and others.highest <= high:
            return ""
        return (
            f"the network was trained on clips of {self}, these have {others}, so motion looks faster or slower; "
            f"--data.fps {round(self.usual)} resamples them by time"
        )

    def advice(self) -> list[str]:
        """Advise in one line where the rates of training clips differ; no line where they do not."""
        told = (
            f"training clips have {self}: motion looks slower in those with more; "
            f"--data.fps {round(self.usual)} resamples all of them by time"
        )
        return [told] if self.differ else []

    def __str__(self) -> str:
        ends = [f"{self.lowest:.4g}", f"{self.highest:.4g}"] if self.differ else [f"{self.usual:.4g}"]
        return f"{' to '.join(ends)} frames a second"
