"""How fast things move in a clip."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vidact.audit.factors.clips import Clips

SLOWEST, FASTEST = 0.5, 2.0


@dataclass(frozen=True)
class Speed:
    """The mean change between frames (motion energy), of actor and camera alike.

    A clip is played faster or slower, from half to twice its speed. Frames are repeated or left out, never blended. The
    number of frames stays: a faster clip starts again from its first frame (played backwards, some actions would be
    others), and a slower one ends early. What stands still cannot be made to move.
    """

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Play each clip at such a speed that it changes about as much between frames as its donor."""
        own, lent = _energy(clips.video), _energy(donors.video)
        ratio = torch.where((own > 0) & (lent != own), lent / own.clamp_min(1e-12), 1.0).clamp(SLOWEST, FASTEST)
        count = clips.video.shape[2]
        order = torch.arange(count, device=ratio.device)
        # Rounding errors must not show a frame too early.
        frames = (ratio[:, None] * order + 1e-6).floor().long() % count  # [B, T]
        return torch.stack([own[:, shown] for own, shown in zip(clips.video, frames, strict=True)])


def _energy(video: Float[Tensor, "B C T H W"]) -> Float64[Tensor, " B"]:
    """Compute the mean absolute change between frames; a single frame has none."""
    if video.shape[2] < 2:
        return video.new_zeros(len(video), dtype=torch.float64)
    return video.double().diff(dim=2).abs().mean(dim=(1, 2, 3, 4))
