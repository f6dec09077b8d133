"""Fill short gaps in masks: frames in which nobody was found between two in which somebody was."""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

MAX_GAP = 4  # frames of a window


def fill_gaps(mask: Bool[Tensor, "T H W"], frame_numbers: Sequence[int]) -> Bool[Tensor, "T H W"]:
    """Fill gaps of at most four frames with the nearest mask, moved to where the actor's centre is by interpolation.

    The centre moves evenly from the last frame before the gap to the first after it. Longer gaps, and frames before the
    first mask and after the last one, stay without an actor.

    Args:
        mask: Of the frames of a window.
        frame_numbers: Their numbers in the file, which may be out of order or repeated.
    """
    numbers = torch.tensor(frame_numbers)
    order = numbers.argsort(stable=True).tolist()
    filled = mask.clone()
    known = [row for row in order if bool(mask[row].any())]
    places = {row: place for place, row in enumerate(order)}
    for before, after in itertools.pairwise(known):
        gap = order[places[before] + 1 : places[after]]
        if len({int(numbers[row]) for row in gap}) > MAX_GAP:
            continue
        first, last = _centre(mask[before]), _centre(mask[after])
        length = max(1, int(numbers[after] - numbers[before]))
        for row in gap:
            share = int(numbers[row] - numbers[before]) / length
            nearest, own = (before, first) if share <= 0.5 else (after, last)
            filled[row] = _moved(mask[nearest], first + share * (last - first) - own)
    return filled


def _centre(mask: Bool[Tensor, "H W"]) -> Tensor:
    return mask.nonzero().double().mean(dim=0)


def _moved(mask: Bool[Tensor, "H W"], way: Tensor) -> Bool[Tensor, "H W"]:
    """Move a mask by whole pixels; what leaves the frame is lost."""
    rows, columns = (mask.nonzero() + way.round().long()).unbind(dim=1)
    inside = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    moved = torch.zeros_like(mask)
    moved[rows[inside], columns[inside]] = True
    return moved
