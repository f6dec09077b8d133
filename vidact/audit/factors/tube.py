"""A fixed region of the frame, in all frames, as a part of clips that can be exchanged."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from vidact.audit.factors.clips import Clips


@dataclass(frozen=True)
class Tube:
    """A region that is the same in all frames.

    Attributes:
        region: True on its cells; a coarse grid is laid over frames of any size.
    """

    region: Bool[Tensor, "h w"]

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Copy the donor's region."""
        return torch.where(self._on(clips), donors.video, clips.video)

    def alone(self, clips: Clips) -> Float[Tensor, "B C T H W"]:
        """Show the region on gray of the clip's mean."""
        return torch.where(self._on(clips), clips.video, clips.video.mean(dim=(2, 3, 4), keepdim=True))

    def _on(self, clips: Clips) -> Bool[Tensor, "H W"]:
        size = clips.video.shape[3:]
        return (
            F.interpolate(self.region[None, None].float(), size=size, mode="nearest-exact")[0, 0].to(clips.video.device)
            > 0.5
        )
