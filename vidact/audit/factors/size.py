"""How large the actor is."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from vidact.audit.factors.clips import Clips


@dataclass(frozen=True)
class Size:
    """The height of the actor's mask, the median over the frames in which it is seen.

    The actor is resized about its foot point, the middle of the lower edge of its mask's box; all sizes, its own too,
    go through the same bilinear filter. What a smaller actor bares shows the clip's own plate. A clip or donor whose
    actor is never seen leaves the size as it is.

    Attributes:
        dilation: Pixels by which the actor's mask grows, so that its edge goes with it.
    """

    dilation: int = 2

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Resize the actor to the height of the donor's.

        Raises:
            ValueError: there are no masks.
        """
        actor, mask = clips.actor(self.dilation), clips.actor(0)[:, 0]
        assert clips.plate is not None
        own, lent = _median_height(mask), _median_height(donors.actor(0)[:, 0])
        scale = torch.where((own > 0) & (lent > 0), lent / own.clamp_min(1), 1.0)
        grid = _grid(mask, scale)
        colour = _resized(clips.video, grid, padding_mode="border")
        cover = _resized(actor.to(clips.video), grid, padding_mode="zeros")  # no actor outside the frame
        behind = torch.where(actor, clips.plate[:, :, None], clips.video)
        return cover * colour + (1 - cover) * behind


def _resized(
    video: Float[Tensor, "B C T H W"], grid: Float[Tensor, "N H W 2"], *, padding_mode: str
) -> Float[Tensor, "B C T H W"]:
    batch, channels, _, height, width = video.shape
    frames = video.transpose(1, 2).reshape(-1, channels, height, width)
    moved = F.grid_sample(frames, grid, padding_mode=padding_mode, align_corners=False)
    return moved.view(batch, -1, channels, height, width).transpose(1, 2)


def _median_height(mask: Bool[Tensor, "B T H W"]) -> Float[Tensor, " B"]:
    """Compute the median height of the mask's box over the frames that have one; 0 where none has."""
    top, bottom = _ends(mask.any(dim=3))
    height = torch.where(mask.flatten(2).any(dim=2), (bottom - top + 1).float(), torch.nan)
    return height.nanmedian(dim=1).values.nan_to_num(nan=0.0)


def _ends(line: Bool[Tensor, "B T N"]) -> tuple[Tensor, Tensor]:
    """Find the first and the last place that is True."""
    return line.int().argmax(dim=2), line.shape[2] - 1 - line.int().flip(2).argmax(dim=2)


def _grid(mask: Bool[Tensor, "B T H W"], scale: Float[Tensor, " B"]) -> Float[Tensor, "N H W 2"]:
    """Compute for each pixel of the resized frames where it was, as `grid_sample` counts."""
    height, width = mask.shape[2:]
    left, right = _ends(mask.any(dim=2))
    foot_row = _ends(mask.any(dim=3))[1] + 0.5  # the lower edge of the lowest pixel
    foot_column = (left + right) / 2
    places = []
    for size, foot, shape in ((width, foot_column, (1, width)), (height, foot_row, (height, 1))):
        pixels = torch.arange(size, device=mask.device) - foot[..., None]  # [B, T, N]
        place = foot[..., None] + pixels / scale[:, None, None]
        places.append(((2 * place + 1) / size - 1).view(-1, *shape).expand(-1, height, width))
    return torch.stack(places, dim=-1)
