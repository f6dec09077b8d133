"""Say how large the frames of a small copy are, and when they are shown: pure arithmetic, for whoever encodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from vidact.data.video.timeline import SAME_RATE, measured_times

FINE_TICKS = Fraction(60_000)  # a second; MPEG-4 takes no more than 65,535
MAX_AVI_RATE = 240


@dataclass(frozen=True)
class Clock:
    """When the frames of a copy are shown.

    Attributes:
        rate: Frames per second, for the header.
        ticks: In a second.
        times_seconds: Of each frame; empty where they follow each other evenly.
    """

    rate: Fraction
    ticks: Fraction
    times_seconds: tuple[float, ...] = ()

    @classmethod
    def of(cls, stamps: Sequence[float | None], *, rate: Fraction, ending: str) -> "Clock":
        """Choose a clock for a copy of a video.

        Args:
            stamps: Of the video's frames, as `timeline.measured_times` takes them.
            rate: Frames per second by its header.
            ending: Of the copy's name. AVI has evenly spaced places for frames, some of which may be empty.
        """
        fps, times = measured_times(stamps, claimed_fps=float(rate))
        if not times and abs(fps / rate - 1) > SAME_RATE:
            times = tuple(number / fps for number in range(len(stamps)))
        if not times:
            return cls(rate, rate)
        if ending.lower() != ".avi":
            return cls(rate, FINE_TICKS, times)
        places = max(rate, Fraction(min(1 / min(np.diff(times)), MAX_AVI_RATE)).limit_denominator(1001))
        return cls(places, places, times)

    def tick(self, number: int, *, after: int) -> int:
        """Say when a frame is shown, in ticks, later than `after`.

        Frames that are even are numbered anew: packed B-frames, as HMDB51 has them, come with odd times.
        """
        return max(after + 1, round(self.times_seconds[number] * self.ticks)) if self.times_seconds else number


def small_size(height: int, width: int, *, short_side: int) -> tuple[int, int]:
    """Choose the height and width of a copy in pixels: even, of the same aspect, never more than there is."""
    factor = min(Fraction(short_side, min(height, width)), Fraction(1))
    small_height, small_width = (max(min(2 * round(side * factor / 2), side // 2 * 2), 2) for side in (height, width))
    return small_height, small_width
