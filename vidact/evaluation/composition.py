"""Clips composed of clips, so that where each class is to be seen is known; no label of the action's place is needed.

It explains nothing: relevance for a clip's class in its own part is `localisation.relevance_mass` of a composition's
mask, and `localisation.chance` stands beside it. A composed clip is none that a network was trained on.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from vidact.core import VidactError

NUM_QUADRANTS = 4  # top left, top right, bottom left, bottom right


@dataclass(frozen=True)
class Composition:
    """Clips composed of others.

    Attributes:
        video: What is to be explained, for the class of each clip.
        mask: True where the clip's class is to be seen.
        rows: Row numbers, in the given batch, of the clips that each is made of. Splice: the clip itself and the clip
            it is put into. Mosaic: the clip in each quadrant.
    """

    video: Float[Tensor, "B C T H W"]
    mask: Bool[Tensor, "B T H W"]
    rows: Int[Tensor, "B P"]


def draw_partners(
    label: Int[Tensor, " B"], *, count: int = 1, same: bool = False, generator: torch.Generator
) -> Int[Tensor, "B count"]:
    """Draw other clips for each clip, of other classes.

    Args:
        label: Class numbers.
        count: How many for each; one is drawn twice only where there are not as many.
        same: Whether to draw from the other clips of the clip's own class instead.
        generator: Draws them.

    Returns:
        Row numbers.

    Raises:
        VidactError: a clip that has none.
    """
    alike = label[:, None] == label
    itself = torch.eye(len(label), dtype=torch.bool, device=label.device)
    allowed = alike & ~itself if same else ~alike
    num_allowed = allowed.sum(dim=1, keepdim=True)
    if not bool((num_allowed > 0).all()):
        lonely = sorted({int(number) for number in label[(num_allowed == 0).squeeze(1)]})
        expected = "two clips of each class" if same else "clips of at least two classes"
        raise VidactError(f"composing needs {expected}; got {len(label)} clips and no partner for class {lonely[0]}")
    keys = torch.rand(allowed.shape, generator=generator, device=generator.device).to(label.device)
    order = torch.where(allowed, keys, 2).argsort(dim=1)
    return order.gather(1, torch.arange(count, device=label.device) % num_allowed)


def splice_into(
    video: Float[Tensor, "B C T H W"],
    other: Float[Tensor, "B C T H W"],
    *,
    first: Int[Tensor, " B"],
    num_frames: int,
) -> tuple[Float[Tensor, "B C T H W"], Bool[Tensor, "B T H W"]]:
    """Put some frames of each clip into another clip, at the same place in time.

    Args:
        video: The clips whose frames are put in.
        other: The clips they are put into.
        first: From which frame on, from 0.
        num_frames: How many frames.

    Returns:
        The clips, and masks that are True in those frames.

    Raises:
        VidactError: clips of other shapes, or frames that they do not have.
    """
    if other.shape != video.shape:
        raise VidactError(f"expected other clips of shape {list(video.shape)}, got {list(other.shape)}")
    length = video.shape[2]
    _check_num_frames(num_frames, length)
    low, high = (int(first.min()), int(first.max())) if len(first) else (0, 0)
    if low < 0 or high > length - num_frames:
        last = length - num_frames
        raise VidactError(f"{num_frames} frames of {length} can start at 0 to {last}, got {low} to {high}")
    frames = torch.arange(length, device=video.device)
    inside = (frames >= first[:, None]) & (frames < first[:, None] + num_frames)  # [B, T]
    spliced = torch.where(inside[:, None, :, None, None], video, other)
    return spliced, inside[:, :, None, None].expand(-1, -1, *video.shape[3:]).clone()


def splice(
    video: Float[Tensor, "B C T H W"], label: Int[Tensor, " B"], *, num_frames: int, generator: torch.Generator
) -> Composition:
    """Put some frames of each clip into a clip of another class.

    Args:
        video: In [0, 1].
        label: Class numbers.
        num_frames: How many frames, fewer than the clips have.
        generator: Draws the other clip and the place in time.

    Raises:
        VidactError: one class only, or as many frames as the clips have.
    """
    length = video.shape[2]
    _check_labels(label, len(video))
    _check_num_frames(num_frames, length)
    partner = draw_partners(label, generator=generator).squeeze(1)
    first = torch.randint(length - num_frames + 1, (len(label),), generator=generator, device=generator.device)
    spliced, mask = splice_into(video, video[partner], first=first.to(video.device), num_frames=num_frames)
    return Composition(spliced, mask, torch.stack([torch.arange(len(label), device=label.device), partner], dim=1))


def _check_labels(label: Tensor, num_clips: int) -> None:
    if label.shape != (num_clips,):
        raise VidactError(f"expected a class number for each of {num_clips} clips, got shape {list(label.shape)}")


def _check_num_frames(num_frames: int, length: int) -> None:
    if not 0 < num_frames < length:
        raise VidactError(f"of clips of {length} frames, 1 to {length - 1} can be spliced in, got {num_frames}")


def tile(
    clips: Float[Tensor, "B 4 C T H W"], own: Bool[Tensor, "B 4"]
) -> tuple[Float[Tensor, "B C T H W"], Bool[Tensor, "B T H W"]]:
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
    return tiled, mask


def mosaic(
    video: Float[Tensor, "B C T H W"], label: Int[Tensor, " B"], *, num_own: int = 1, generator: torch.Generator
) -> Composition:
    """Show each clip in a 2×2 grid beside clips of other classes (Arias-Duart et al. 2022, for clips).

    Args:
        video: In [0, 1].
        label: Class numbers.
        num_own: How many quadrants show the clip's class, 1 to 3; the second and third show other clips of it.
        generator: Draws the other clips and the quadrants.

    Raises:
        VidactError: one class only, or a class with too few clips for `num_own`.
    """
    if not 0 < num_own < NUM_QUADRANTS:
        raise VidactError(f"1 to {NUM_QUADRANTS - 1} quadrants can show the clip's class, got {num_own}")
    _check_labels(label, len(video))
    parts = [torch.arange(len(label), device=label.device)[:, None]]
    if num_own > 1:
        parts.append(draw_partners(label, count=num_own - 1, same=True, generator=generator))
    parts.append(draw_partners(label, count=NUM_QUADRANTS - num_own, generator=generator))
    shape = (len(label), NUM_QUADRANTS)
    place = torch.rand(shape, generator=generator, device=generator.device).to(label.device).argsort(dim=1)
    rows = torch.cat(parts, dim=1).gather(1, place)
    tiled, mask = tile(video[rows.to(video.device)], (place < num_own).to(video.device))
    return Composition(tiled, mask, rows)
