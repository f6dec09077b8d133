"""Frames are chosen evenly, and averages lose nothing."""

import numpy as np
import pytest

from vidact.core.errors import VidactError
from vidact.drawing.timeline import evenly_spread, frames_per_bar, means_of, means_over_time, shown_until


@pytest.mark.parametrize("count", [1, 2, 16, 17, 100_001])
def test_first_and_last_are_chosen_and_gaps_differ_by_one_at_most(count: int) -> None:
    chosen = evenly_spread(count, at_most=16)
    assert chosen[0] == 0
    assert chosen[-1] == count - 1
    assert len(chosen) == min(count, 16)
    assert np.ptp(np.diff(chosen)) <= 1 if count > 2 else True
    assert (np.diff(chosen) >= 1).all()


def test_there_must_be_something_to_choose_from() -> None:
    with pytest.raises(VidactError, match="count = 0"):
        evenly_spread(0, at_most=16)
    with pytest.raises(VidactError, match="at_most = 1"):
        evenly_spread(5, at_most=1)


@pytest.mark.parametrize("count", [1, 100, 101, 5001])
def test_bars_are_never_too_many(count: int) -> None:
    size = frames_per_bar(count, max_bars=100)
    values = np.random.default_rng(0).normal(size=count)
    means = means_of(values, size=size)
    assert len(means) <= 100
    assert means == pytest.approx([values[at : at + size].mean() for at in range(0, count, size)])


def test_a_sampled_frame_is_shown_until_half_way_to_the_next() -> None:
    times = np.array([1.0, 2.0, 6.0])
    assert shown_until(times, start=0.0, end=7.0).tolist() == [0.0, 1.5, 4.0, 7.0]
    assert shown_until(times, start=3.0, end=5.0).tolist() == [1.0, 1.5, 4.0, 6.0]


def test_means_over_time_keep_the_integral() -> None:
    generator = np.random.default_rng(0)
    edges = np.concatenate([[0.0], np.cumsum(generator.exponential(1, 1000))])
    values = generator.normal(size=1000)
    grid = np.linspace(0, edges[-1], 78)
    means = means_over_time(values, edges, grid=grid)
    assert np.sum(means * np.diff(grid)) == pytest.approx(np.sum(values * np.diff(edges)))
    assert means_over_time(np.array([1.0, 3.0]), np.array([0.0, 1.0, 2.0]), grid=np.array([0.5, 1.5])) == [2.0]
