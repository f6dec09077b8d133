"""The light of a background: the layout of bright and dark areas, without details."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vidact.audit.factors.clips import Clips

SMOOTH = 0.1  # σ of the layout, in heights of the frame
DARKEST = 0.2  # of the background's voxels are lifted
_MOVES = 16  # places that are tried for the same changes elsewhere


@dataclass(frozen=True)
class Luminance:
    """The smooth layout of light in the background; its details and the actor stay.

    Attributes:
        dilation: Pixels by which the actor's mask grows.
    """

    dilation: int = 2

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Add what the donor's background is brighter, area by area."""
        more = (_layout(donors) - _layout(clips))[:, :, None]
        lit = (clips.video + more).clamp(0, 1)
        return torch.where(clips.actor(self.dilation), clips.video, lit)

    def alone(self, clips: Clips) -> Float[Tensor, "B C T H W"]:
        """Show the layout in every frame."""
        shape = clips.video.shape
        return _layout(clips)[:, :, None].expand(shape)


def _layout(clips: Clips) -> Float[Tensor, "B 1 H W"]:
    """Smooth the brightness of the still background by a Gaussian."""
    assert clips.plate is not None
    gray = clips.plate.mean(dim=1, keepdim=True)
    sigma = SMOOTH * gray.shape[2]
    reach = max(1, round(3 * sigma))
    place = torch.arange(-reach, reach + 1, device=gray.device, dtype=gray.dtype)
    weights = torch.exp(-((place / sigma) ** 2) / 2)
    weights = weights / weights.sum()
    for kernel, padding in ((weights[:, None], (0, 0, reach, reach)), (weights[None], (reach, reach, 0, 0))):
        gray = F.conv2d(F.pad(gray, padding, mode="replicate"), kernel[None, None])
    return gray


def _quantile(values: Float[Tensor, " N"], share: float) -> Float[Tensor, ""]:
    return values.kthvalue(max(1, round(share * len(values)))).values  # torch.quantile takes no more than 16 million


def lift_darkest(clips: Clips, generator: torch.Generator) -> dict[str, Float[Tensor, "1 C T H W"]]:
    """Lift the darkest fifth of a background to its median, and make the same changes elsewhere in it.

    The changes are moved as a whole, on a frame that is closed like a torus, to the one of 16 drawn places where they
    meet the actor and the dark areas least.

    Args:
        clips: One clip.
        generator: Draws the places.

    Returns:
        `lifted` and `shifted`; nothing where there is no mask, no background, or none that is darker than its median.
    """
    if clips.mask is None:
        return {}
    background = ~clips.actor(dilation=2)[0, 0]
    gray = clips.video[0].mean(dim=0)
    values = gray[background]
    if not len(values):
        return {}
    dark = background & (gray <= _quantile(values, DARKEST))
    change = torch.where(dark, values.median() - gray, torch.zeros_like(gray)).clamp_min(0)
    if not bool((change > 0).any()):
        return {}
    height, width = gray.shape[1:]
    moves = torch.stack([torch.randint(size, (_MOVES,), generator=generator) for size in (height, width)], dim=1)
    free = (background & ~dark).to(gray)
    moved = [torch.roll(change, tuple(move), dims=(1, 2)) for move in moves.tolist()]
    best = max(moved, key=lambda one: float((one * free).sum()))
    elsewhere = best * background
    return {
        name: (clips.video + more[None, None]).clamp(0, 1)
        for name, more in (("lifted", change), ("shifted", elsewhere))
    }
