import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vidact.data.video.sampling import Stride, reorder, stride_for, window_starts, windows

lengths = st.integers(1, 1100)
strides = st.one_of(st.integers(1, 12), st.just("adaptive"))


@given(lengths, st.integers(1, 40), strides, st.integers(1, 12))
def test_frame_numbers_lie_inside_the_clip_and_never_go_back(
    clip_frames: int, num_frames: int, stride: int | str, num_windows: int
) -> None:
    found = windows(clip_frames, num_frames=num_frames, stride=stride, num_windows=num_windows)
    assert 1 <= len(found) <= num_windows
    assert len(set(found)) == len(found)
    for window in found:
        assert len(window) == num_frames
        assert min(window) >= 0
        assert max(window) < clip_frames
        assert list(window) == sorted(window)


@given(lengths, st.integers(2, 40), st.integers(1, 12))
def test_steps_equal_the_stride_until_the_last_frame(clip_frames: int, num_frames: int, stride: int) -> None:
    (window,) = windows(clip_frames, num_frames=num_frames, stride=stride, num_windows=1)
    for before, after in itertools.pairwise(window):
        assert after - before == stride or after == clip_frames - 1


def test_a_short_clip_repeats_its_last_frame() -> None:
    assert windows(5, num_frames=4, stride=2, num_windows=3) == [(0, 2, 4, 4)]


def test_one_window_sits_in_the_middle() -> None:
    assert windows(20, num_frames=3, stride=2, num_windows=1) == [(7, 9, 11)]


def test_several_windows_reach_both_ends_evenly() -> None:
    assert window_starts(31, span=11, num_windows=3) == [0, 10, 20]


@pytest.mark.parametrize(
    ("clip_frames", "expected"),
    [(17, 3), (60, 3), (61, 4), (75, 4), (76, 5), (90, 5), (91, 6), (1061, 6)],
)
def test_the_adaptive_stride_is_the_largest_of_3_to_6_that_fits(clip_frames: int, expected: int) -> None:
    assert stride_for(clip_frames, num_frames=16, stride="adaptive") == expected


@example(clip_frames=11, num_frames=2, stride=2, num_windows=4, margin=2)  # six even frames, but five odd ones
@given(
    clip_frames=st.integers(1, 200),
    num_frames=st.integers(1, 20),
    stride=st.sampled_from([1, 2, 3, "adaptive"]),
    num_windows=st.integers(1, 4),
    margin=st.integers(0, 5),
)
def test_a_margin_keeps_the_window_and_repeats_no_frame_that_fits(
    clip_frames: int, num_frames: int, stride: Stride, num_windows: int, margin: int
) -> None:
    plain = windows(clip_frames, num_frames=num_frames, stride=stride, num_windows=num_windows)
    wider = windows(clip_frames, num_frames=num_frames, stride=stride, num_windows=num_windows, margin=margin)
    assert len(plain) == len(wider)
    for window, wide in zip(plain, wider, strict=True):
        assert len(wide) == num_frames + 2 * margin
        assert min(wide) >= 0
        assert max(wide) < clip_frames
        assert window in [wide[first : first + num_frames] for first in range(2 * margin + 1)]
        step = stride_for(clip_frames, num_frames=num_frames, stride=stride)
        if len(range(window[0] % step, clip_frames, step)) >= len(wide):  # of the frames in step with the window
            assert {b - a for a, b in itertools.pairwise(wide)} <= {step}


@given(st.lists(st.integers(0, 300), min_size=1, max_size=30), st.text(max_size=5))
def test_frame_orders_do_what_they_are_called(numbers: list[int], seed: str) -> None:
    assert reorder(numbers, "natural", seed=seed) == tuple(numbers)
    assert reorder(numbers, "reversed", seed=seed) == tuple(numbers[::-1])
    assert reorder(numbers, "frozen", seed=seed) == (numbers[len(numbers) // 2],) * len(numbers)
    shuffled = reorder(numbers, "shuffled", seed=seed)
    assert sorted(shuffled) == sorted(numbers)
    assert shuffled == reorder(numbers, "shuffled", seed=seed)


def test_shuffling_puts_each_frame_anywhere_equally_often() -> None:
    counts = [[0] * 4 for _ in range(4)]
    for seed in range(4000):
        for place, number in enumerate(reorder(range(4), "shuffled", seed=str(seed))):
            counts[place][number] += 1
    assert all(abs(count - 1000) < 5 * (4000 * 3 / 16) ** 0.5 for row in counts for count in row)
