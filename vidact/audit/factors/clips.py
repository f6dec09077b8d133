"""Clips whose parts can be exchanged, with the masks of their actors and their still backgrounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from vidact.core.errors import ConfigError


@dataclass(frozen=True)
class Clips:
    """Some clips on the network's device.

    Attributes:
        video: In [0, 1].
        mask: True on the actor; None where nobody knows where it is.
        plate: The still background, without the actor; None where there is no mask.
        objects: The same clips with the masks of objects instead, and what lies behind these; by name.
    """

    video: Float[Tensor, "B C T H W"]
    mask: Bool[Tensor, "B T H W"] | None = None
    plate: Float[Tensor, "B C H W"] | None = None
    objects: "Mapping[str, Clips]" = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, rows: Sequence[int] | slice | Tensor) -> "Clips":
        """Choose clips."""
        rows = torch.as_tensor(rows) if isinstance(rows, Sequence) else rows
        video, mask, plate = (None if own is None else own[rows] for own in (self.video, self.mask, self.plate))
        assert video is not None
        return Clips(video, mask, plate, {name: own[rows] for name, own in self.objects.items()})

    @staticmethod
    def join(parts: "Sequence[Clips]") -> "Clips":
        """Put clips together; a mask that one of them lacks is left out."""
        columns = zip(*((one.video, one.mask, one.plate) for one in parts), strict=True)
        joined = [None if any(own is None for own in column) else torch.cat(list(column)) for column in columns]
        objects = {name: Clips.join([one.objects[name] for one in parts]) for name in parts[0].objects}
        video, mask, plate = joined
        assert video is not None
        return Clips(video, mask, plate, objects)

    def actor(self, dilation: int) -> Bool[Tensor, "B 1 T H W"]:
        """Give the actor's mask, grown by some pixels, to be held against the video.

        Raises:
            ConfigError: there is no mask.
        """
        if self.mask is None:
            raise ConfigError("these clips have no masks, which say where the actor is; give masks=…")
        return dilate(self.mask, dilation)[:, None]


def dilate(mask: Bool[Tensor, "B T H W"], pixels: int) -> Bool[Tensor, "B T H W"]:
    """Grow a mask by so many pixels in each direction, frame by frame."""
    for axis in (2, 3):  # one after the other, as a square is; moved copies are several times faster than pooling
        grown, size = mask.clone(), mask.shape[axis]
        for step in range(1, min(pixels, size - 1) + 1):
            grown.narrow(axis, step, size - step).logical_or_(mask.narrow(axis, 0, size - step))
            grown.narrow(axis, 0, size - step).logical_or_(mask.narrow(axis, step, size - step))
        mask = grown
    return mask


def with_plate(video: Float[Tensor, "B C T H W"], mask: Bool[Tensor, "B T H W"], *, dilation: int = 2) -> Clips:
    """Build clips with their still backgrounds.

    A pixel of the plate is the median over the frames in which it is not under the (dilated) mask; one that always is
    gets the value of the nearest that is not, and a clip that is all actor its mean over time.
    """
    hidden = dilate(mask, dilation)
    shown = video.masked_fill(hidden[:, None], torch.nan)
    plate = torch.nanmedian(shown, dim=2).values
    return Clips(video, mask, torch.stack([_filled(own, clip) for own, clip in zip(plate, video, strict=True)]))


def _filled(plate: Float[Tensor, "C H W"], video: Float[Tensor, "C T H W"]) -> Float[Tensor, "C H W"]:
    """Fill holes with the nearest known pixel, ring by ring."""
    known = ~plate[0].isnan()
    if not bool(known.any()):
        return video.mean(dim=1)
    plate = plate.nan_to_num(nan=0.0)
    while not bool(known.all()):
        weight = F.avg_pool2d(known[None, None].to(plate), 3, stride=1, padding=1)[0, 0]
        near = F.avg_pool2d((plate * known)[None], 3, stride=1, padding=1)[0] / weight.clamp_min(1e-12)
        ring = ~known & (weight > 0)
        plate = torch.where(ring, near, plate)
        known = known | ring
    return plate
