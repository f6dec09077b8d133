"""How bright the background is where: exchanged between clips, or lifted where it is darkest."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vidact.audit.factors.clips import Clips

BLUR = 0.1  # of the frame's height: the standard deviation of the low-pass filter
DARKEST = 0.2  # of the background's voxels
NUM_SHIFTS = 16  # drawn places for the changes of the control
_LEAST_WEIGHT = 1e-6  # below it no seen pixel is near


@dataclass(frozen=True)
class Luminance:
    """The background's low-pass luminance: where it is dark or bright; details and the actor stay.

    Luminance is the mean over channels. Without masks, the whole frame is background.

    Attributes:
        dilation: Pixels by which the actor's mask grows, so that its edge goes with it.
    """

    dilation: int = 2

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Add the difference of both fields to all channels of the background; what leaves [0, 1] is clamped."""
        change = (self._field(donors) - self._field(clips))[:, None, None]
        changed = (clips.video + change).clamp(0, 1)
        return torch.where(_background(clips, self.dilation)[:, None], changed, clips.video)

    def alone(self, clips: Clips) -> Float[Tensor, "B C T H W"]:
        """Show the field in all frames and channels."""
        return self._field(clips)[:, None, None].expand_as(clips.video)

    def _field(self, clips: Clips) -> Float[Tensor, "B H W"]:
        """Average the plate over Gaussian surroundings, of pixels that the actor leaves free in some frame."""
        plate = (clips.video.median(dim=2).values if clips.plate is None else clips.plate).mean(dim=1)
        seen = _background(clips, self.dilation).any(dim=1).to(plate)
        weight = _blur(seen)
        return torch.where(weight > _LEAST_WEIGHT, _blur(plate * seen) / weight.clamp_min(_LEAST_WEIGHT), plate)


def lifted(
    clip: Clips, *, generator: torch.Generator, dilation: int = 2
) -> tuple[Float[Tensor, "1 C T H W"], Float[Tensor, "1 C T H W"]] | None:
    """Lift the darkest fifth of a clip's background to the background's median, and the same elsewhere as a control.

    The control adds the same field of changes to all channels, moved by a circular shift in rows and columns: of
    `NUM_SHIFTS` drawn ones, that whose changes meet the actor and the dark voxels least. Changes that would meet the
    actor there are left out of both clips, so that both have the same changes; only clamping to [0, 1] may cut those
    of the control on bright ground. Without a mask, the whole frame is background.

    Args:
        clip: One clip.
        generator: Draws the shifts; on the CPU.
        dilation: Pixels by which the actor's mask grows.

    Returns:
        The lifted clip and its control; None where there is no background, or nothing in it to lift.
    """
    ground = _background(clip, dilation)[0]
    height, width = ground.shape[1:]
    count = round(DARKEST * int(ground.sum()))
    if count == 0 or height * width == 1:
        return None
    luminance = clip.video[0].mean(dim=0)
    order = luminance.masked_fill(~ground, torch.inf).flatten().argsort(stable=True)
    dark = torch.zeros_like(ground).flatten().index_fill(0, order[:count], value=True).view_as(ground)
    change = (luminance[ground].median() - luminance).clamp_min(0) * dark
    offsets = torch.randint(1, height * width, (NUM_SHIFTS,), generator=generator).tolist()
    shifts = [divmod(offset, width) for offset in offsets]
    down, right = min(shifts, key=lambda shift: int((dark.roll(shift, (1, 2)) & (dark | ~ground)).sum()))
    change = change * ground.roll((-down, -right), (1, 2))
    if not bool(change.any()):
        return None
    moved = change.roll((down, right), (1, 2))
    return (clip.video + change).clamp(0, 1), (clip.video + moved).clamp(0, 1)


def _background(clips: Clips, dilation: int) -> Bool[Tensor, "B T H W"]:
    """Mark all but the actor."""
    if clips.mask is None:
        return torch.ones_like(clips.video[:, 0], dtype=torch.bool)
    return ~clips.actor(dilation)[:, 0]


def _blur(image: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
    """Convolve with a Gaussian; what is outside counts as 0."""
    deviation = BLUR * image.shape[1]
    down, right = (_kernel(size, deviation, like=image) for size in image.shape[1:])
    return down @ image @ right


def _kernel(size: int, deviation: float, *, like: Tensor) -> Float[Tensor, "N N"]:
    place = torch.arange(size, device=like.device, dtype=like.dtype)
    kernel: Tensor = (-0.5 * ((place[:, None] - place) / deviation) ** 2).exp()
    return kernel.div(deviation * (2 * torch.pi) ** 0.5)
