"""Choose the frame numbers of windows: strides, starts, margins and orders, as pure arithmetic.

A clip shorter than its window is used all the same: its last frame is repeated until the window is full.
"""

import math
import random
from collections.abc import Sequence
from typing import Literal

Stride = int | Literal["adaptive"]
FrameOrder = Literal["natural", "shuffled", "reversed", "frozen"]

ADAPTIVE_STRIDES = (3, 6)


def window_span(num_frames: int, *, stride: int) -> int:
    """Compute the number of frames from a window's first frame to its last, both included."""
    return (num_frames - 1) * stride + 1


def least_frames(*, num_frames: int, stride: Stride) -> int:
    """Compute how many frames a clip needs so that its window repeats none."""
    return window_span(num_frames, stride=ADAPTIVE_STRIDES[0] if stride == "adaptive" else stride)


def stride_for(clip_frames: int, *, num_frames: int, stride: Stride) -> int:
    """Resolve a stride: a number stays, 'adaptive' depends on the clip's length.

    Adaptive is the 2020 report's scheme: every 3rd, 4th, 5th or 6th frame, the largest stride whose window fits into
    the clip (3 where none fits). It leaks the clip's length to the network; a fixed stride does not.
    """
    if stride != "adaptive":
        return stride
    smallest, largest = ADAPTIVE_STRIDES
    fitting = (clip_frames - 1) // (num_frames - 1) if num_frames > 1 else largest
    return min(max(fitting, smallest), largest)


def window_starts(clip_frames: int, *, span: int, num_windows: int) -> list[int]:
    """Spread the first frames of windows evenly: a single window in the middle, several from end to end.

    Equal starts are dropped, so a short clip has fewer windows.
    """
    room = max(clip_frames - span, 0)
    if num_windows == 1:
        return [room // 2]
    starts = [round(number * room / (num_windows - 1)) for number in range(num_windows)]
    return sorted(set(starts))


def frame_numbers(start: int, *, num_frames: int, stride: int, clip_frames: int) -> tuple[int, ...]:
    """List a window's frame numbers; beyond the clip's end its last frame is repeated."""
    last = clip_frames - 1
    return tuple(min(start + step * stride, last) for step in range(num_frames))


def start_with_margin(start: int, *, num_frames: int, stride: int, margin: int, clip_frames: int) -> int:
    """Compute where a window with 2 × `margin` more frames starts, so that it contains the window at `start`.

    There are `margin` more frames on either side; near an end of the clip, more of them on the other side.
    """
    first = start - margin * stride
    beyond = first + (num_frames + 2 * margin - 1) * stride - (clip_frames - 1)
    first -= max(math.ceil(beyond / stride), 0) * stride
    return first if first >= 0 else first % stride


def windows(
    clip_frames: int, *, num_frames: int, stride: Stride, num_windows: int, margin: int = 0
) -> list[tuple[int, ...]]:
    """List the frame numbers of all windows of a clip.

    Args:
        clip_frames: Frames that the clip has, at least 1.
        num_frames: Frames per window.
        stride: Distance between two frames of a window, or 'adaptive'.
        num_windows: Windows to spread over the clip.
        margin: Every window has 2 × this many more frames, which augmentation needs for a shift in time; they change
            neither its stride nor where it would start without them.
    """
    step = stride_for(clip_frames, num_frames=num_frames, stride=stride)
    starts = window_starts(clip_frames, span=window_span(num_frames, stride=step), num_windows=num_windows)
    return [
        frame_numbers(
            start_with_margin(start, num_frames=num_frames, stride=step, margin=margin, clip_frames=clip_frames),
            num_frames=num_frames + 2 * margin,
            stride=step,
            clip_frames=clip_frames,
        )
        for start in starts
    ]


def reorder(numbers: Sequence[int], order: FrameOrder, *, seed: str) -> tuple[int, ...]:
    """Change the order of a window's frames, to measure what a network learns from it.

    Args:
        numbers: The window's frame numbers.
        order: `natural` keeps the order, `reversed` reverses it, `shuffled` permutes the frames, `frozen` repeats the
            middle one.
        seed: Seed of the permutation.
    """
    match order:
        case "natural":
            return tuple(numbers)
        case "reversed":
            return tuple(reversed(numbers))
        case "shuffled":
            # Seeded by a text, which Python hashes alike in every process, unlike hash().
            return tuple(random.Random(seed).sample(numbers, len(numbers)))
        case "frozen":
            return (numbers[len(numbers) // 2],) * len(numbers)


def sampled_frames(clip_frames: int, *, num_frames: int, stride: Stride) -> tuple[int, ...]:
    """List the frames that sliding windows over a video see: every `stride`-th from the first one on.

    For a video shorter than one window the last frame is included as well, because it fills the rest of the window.
    """
    step = stride_for(clip_frames, num_frames=num_frames, stride=stride)
    if window_span(num_frames, stride=step) > clip_frames:
        return tuple(dict.fromkeys(frame_numbers(0, num_frames=num_frames, stride=step, clip_frames=clip_frames)))
    return tuple(range(0, clip_frames, step))


def sliding_starts(num_sampled: int, *, num_frames: int, hop: int) -> tuple[int, ...]:
    """List the starts of windows that slide over a sequence by `hop`; the last window ends where the sequence does.

    Args:
        num_sampled: Length of the sequence, at least 1; one shorter than the window has one window.
        num_frames: Length of a window.
        hop: Distance from one window to the next, 1 to `num_frames`.
    """
    last = max(num_sampled - num_frames, 0)
    return tuple(dict.fromkeys((*range(0, last, hop), last)))
