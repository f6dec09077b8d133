"""Choose evenly spaced frames, and average many frames into a few bars."""

import math

import numpy as np
from jaxtyping import Float, Int

from vidact.core.errors import VidactError


def evenly_spread(count: int, *, at_most: int) -> Int[np.ndarray, " n"]:
    """Choose at most `at_most` of `count` places, as evenly as whole numbers allow, always the first and the last.

    Raises:
        VidactError: there is no place, or fewer than two may be chosen of several.
    """
    if count < 1 or at_most < min(count, 2):
        raise VidactError(f"expected at least one frame, and two or more to choose, got {count = }, {at_most = }")
    return np.rint(np.linspace(0, count - 1, min(count, at_most))).astype(np.int64)


def frames_per_bar(count: int, *, max_bars: int) -> int:
    """Say how many frames share a bar so that `count` frames need no more than `max_bars`."""
    return max(1, math.ceil(count / max_bars))


def means_of(values: Float[np.ndarray, " T"], *, size: int) -> Float[np.ndarray, " bars"]:
    """Average each `size` neighbours; the last group may be smaller."""
    starts = np.arange(0, len(values), size)
    sizes = np.diff(np.append(starts, len(values)))
    means: Float[np.ndarray, " bars"] = np.add.reduceat(values.astype(np.float64), starts) / sizes
    return means


def shown_until(times_seconds: Float[np.ndarray, " T"], *, start: float, end: float) -> Float[np.ndarray, " T+1"]:
    """Find the edges between the times for which each sampled frame stands: half way to its neighbours.

    Args:
        times_seconds: When the sampled frames are shown, increasing.
        start: The first edge, or the first sampled frame if that is earlier.
        end: The last edge, or the last sampled frame if that is later.
    """
    middles = (times_seconds[1:] + times_seconds[:-1]) / 2
    return np.concatenate([[min(start, times_seconds[0])], middles, [max(end, times_seconds[-1])]])


def means_over_time(
    values: Float[np.ndarray, " T"], edges: Float[np.ndarray, " T+1"], *, grid: Float[np.ndarray, " grid"]
) -> Float[np.ndarray, " n"]:
    """Average a step function over the cells of a coarser grid, weighted by duration."""
    integral = np.concatenate([[0.0], np.cumsum(values * np.diff(edges))])
    means: Float[np.ndarray, " n"] = np.diff(np.interp(grid, edges, integral)) / np.diff(grid)
    return means
