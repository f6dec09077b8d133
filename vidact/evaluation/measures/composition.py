"""Compose clips of different classes, so that it is known without masks where each class can be seen.

The share of relevance in a clip's own part is `localisation.relevance_mass` with the composition's mask, and
`localisation.chance` is its value without any knowledge. Networks were not trained on composed clips.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from vidact.core.errors import VidactError

NUM_QUADRANTS = 4  # top left, top right, bottom left, bottom right


@dataclass(frozen=True)
class Composition:
    """Clips composed of others.

    Attributes:
        video: The composed clips, to be explained for the class of each clip.
        mask: True where the clip's class can be seen.
    """

    video: Float[Tensor, "B C T H W"]
    mask: Bool[Tensor, "B T H W"]


def splice(
    video: Float[Tensor, "B C T H W"],
    other: Float[Tensor, "B C T H W"],
    *,
    place: Float[Tensor, " B"],
    num_frames: int | None = None,
) -> Composition:
    """Put some frames of each clip into another clip, at the same place in time.

    Args:
        video: The clips whose frames are put in.
        other: The clips they are put into, of other classes.
        place: Where, in [0, 1): 0 is as early as possible; each possible first frame has an equal share.
        num_frames: How many frames, fewer than the clips have; None for half of them, rounded down.

    Raises:
        VidactError: clips of other shapes, as many frames as the clips have or none, or no such place.
    """
    length = video.shape[2]
    num_frames = length // 2 if num_frames is None else num_frames
    if other.shape != video.shape:
        raise VidactError(f"expected other clips of shape {list(video.shape)}, got {list(other.shape)}")
    if not 0 < num_frames < length:
        raise VidactError(f"of clips of {length} frames, 1 to {length - 1} can be spliced in, got {num_frames}")
    first = _numbers(place, length - num_frames + 1, video)
    frames = torch.arange(length, device=video.device)
    inside = (frames >= first) & (frames < first + num_frames)  # [B, T]
    spliced = torch.where(inside[:, None, :, None, None], video, other)
    return Composition(spliced, inside[:, :, None, None].expand(-1, -1, *video.shape[3:]).clone())


def mosaic(
    video: Float[Tensor, "B C T H W"], others: Float[Tensor, "B 3 C T H W"], *, place: Float[Tensor, " B"]
) -> Composition:
    """Show each clip in a 2×2 grid beside clips of other classes (Arias-Duart et al. 2022, for clips).

    Args:
        video: In [0, 1].
        others: Three clips of other classes for each; they fill the quadrants after the clip's own.
        place: Which quadrant the clip gets, in [0, 1): a quarter each, from top left to bottom right.

    Raises:
        VidactError: clips of other shapes or of less than 2×2 pixels, or no such place.
    """
    expected = [len(video), NUM_QUADRANTS - 1, *video.shape[1:]]
    if list(others.shape) != expected:
        raise VidactError(f"expected other clips of shape {expected}, got {list(others.shape)}")
    quadrant = _numbers(place, NUM_QUADRANTS, video)
    numbers = torch.arange(NUM_QUADRANTS, device=video.device)
    every = torch.cat([video[:, None], others], dim=1)
    rows = torch.arange(len(video), device=video.device)[:, None]
    return tile(every[rows, (numbers - quadrant) % NUM_QUADRANTS], numbers == quadrant)


def _numbers(place: Float[Tensor, " B"], count: int, video: Float[Tensor, "B C T H W"]) -> Int[Tensor, "B 1"]:
    """Turn places in [0, 1) into numbers from 0, each with an equal share."""
    if place.shape != (len(video),) or not bool(((place >= 0) & (place < 1)).all()):
        raise VidactError(f"expected a place from 0 to below 1 for each of {len(video)} clips, got {place.tolist()}")
    return (place.double() * count).long().to(video.device)[:, None]


def tile(clips: Float[Tensor, "B 4 C T H W"], own: Bool[Tensor, "B 4"]) -> Composition:
    """Show four clips in one, a 2×2 grid at half the size; bilinear with antialiasing.

    Args:
        clips: Top left, top right, bottom left, bottom right.
        own: Which of them show the class that is explained.

    Returns:
        The clips, and masks that are True in those quadrants. Of an odd number of rows or columns, the second half
        has one more.

    Raises:
        VidactError: clips of less than 2×2 pixels.
    """
    height, width = clips.shape[-2:]
    if height < 2 or width < 2:
        raise VidactError(f"a grid of 2×2 clips needs at least 2×2 pixels, got {height}×{width}")
    tiled = clips.new_empty(len(clips), *clips.shape[2:])
    mask = torch.zeros(len(clips), *clips.shape[3:], dtype=torch.bool, device=clips.device)
    halves = [(slice(0, size // 2), slice(size // 2, size)) for size in (height, width)]
    for number in range(NUM_QUADRANTS):
        down, across = halves[0][number // 2], halves[1][number % 2]
        size = (down.stop - down.start, across.stop - across.start)
        frames = clips[:, number].flatten(0, 1)  # [B·C, T, H, W]
        small = F.interpolate(frames, size=size, mode="bilinear", antialias=True, align_corners=False)
        tiled[..., down, across] = small.view(*tiled.shape[:3], *size)
        mask[..., down, across] = own[:, number, None, None, None]
    return Composition(tiled, mask)
