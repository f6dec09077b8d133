"""An object that users have marked, such as a punching bag or a ball."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vidact.audit.factors.clips import Clips


@dataclass(frozen=True)
class Object:
    """Whether an object is there, where, and what it looks like.

    A clip's own object is covered by what lies behind it in other frames, or around it; then the donor's is pasted
    where the donor has it, behind the actor. A donor without the object lends its absence.

    Attributes:
        name: Among the objects of the clips.
        dilation: Pixels by which the object's mask grows, so that its edge goes with it.
    """

    name: str
    dilation: int = 2

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Cover the clip's object, and paste the donor's."""
        own, lent = clips.objects[self.name], donors.objects[self.name]
        assert own.plate is not None
        pasted = lent.actor(self.dilation)
        changed = torch.where(own.actor(self.dilation), own.plate[:, :, None], clips.video)
        changed = torch.where(pasted, donors.video, changed)
        return changed if clips.mask is None else torch.where(clips.actor(self.dilation), clips.video, changed)

    def alone(self, clips: Clips) -> Float[Tensor, "B C T H W"]:
        """Show the object on gray of the clip's mean."""
        own = clips.objects[self.name].actor(self.dilation)
        return torch.where(own, clips.video, clips.video.mean(dim=(2, 3, 4), keepdim=True))
