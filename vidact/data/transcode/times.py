"""Choose the frame rate and the frame times of a small copy; `encoding` uses them."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from vidact.data.video.timeline import SAME_RATE, measured_times

FINE_TICKS = Fraction(60_000)  # a second; MPEG-4 takes no more than 65,535
MAX_AVI_RATE = 240


@dataclass(frozen=True)
class Clock:
    """The times of a copy's frames.

    Attributes:
        rate: Frames per second, for the header.
        ticks: Ticks per second.
        times_seconds: Time of each frame; empty where frames are evenly spaced.
    """

    rate: Fraction
    ticks: Fraction
    times_seconds: tuple[float, ...] = ()

    @classmethod
    def of(cls, stamps: Sequence[float | None], *, rate: Fraction, ending: str) -> "Clock":
        """Choose a clock for a copy of a video.

        Args:
            stamps: Time stamps of the video's frames, as for `timeline.measured_times`.
            rate: Frames per second by its header.
            ending: Ending of the copy's name. AVI has evenly spaced places for frames, some of which may be empty.
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
        """Compute the time of a frame in ticks, later than `after`.

        Evenly spaced frames are numbered: packed B-frames, which HMDB51 has, come with inconsistent times.
        """
        return max(after + 1, round(self.times_seconds[number] * self.ticks)) if self.times_seconds else number
