"""The parts of a clip that are exchanged for those of a donor: its background, a cell, a stretch of time, the border.

A new factor is a class here with `exchange`, and an entry of a section.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vidact.audit.factors.clips import Clips
from vidact.core.errors import ConfigError

GRID = 4  # cells in each direction
NUM_PARTS = 8  # of a clip's time
BORDER = 0.08  # of the frame's shorter side


@runtime_checkable
class Factor(Protocol):
    """A part of clips that can be exchanged."""

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Give each clip this part of its donor, and leave all else as it is."""
        ...


@runtime_checkable
class Alone(Protocol):
    """A factor that can be shown to a network without the rest of the clip."""

    def alone(self, clips: Clips) -> Float[Tensor, "B C T H W"]:
        """Show this part of each clip alone."""
        ...


@dataclass(frozen=True)
class Background:
    """All but the actor: the actor of a clip is pasted on the donor's still background.

    Attributes:
        dilation: Pixels by which the actor's mask grows, so that its edge goes with it.
    """

    dilation: int = 2

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Paste the actor on the donor's plate."""
        return torch.where(clips.actor(self.dilation), clips.video, self.alone(donors))

    def alone(self, clips: Clips) -> Float[Tensor, "B C T H W"]:
        """Show the plate in every frame."""
        if clips.plate is None:
            raise ConfigError("these clips have no masks, without which there is no still background; give masks=…")
        return clips.plate[:, :, None].expand_as(clips.video)


@dataclass(frozen=True)
class Cell:
    """A cell of a grid over the frame, in all frames.

    Attributes:
        row: From 0, at the top.
        column: From 0, at the left.
    """

    row: int
    column: int

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Copy the donor's cell."""
        rows, columns = (
            _part(size, at, GRID) for size, at in zip(clips.video.shape[3:], (self.row, self.column), strict=True)
        )
        found = clips.video.clone()
        found[..., rows, columns] = donors.video[..., rows, columns]
        return found


@dataclass(frozen=True)
class Time:
    """A stretch of a clip's frames.

    Attributes:
        part: Its number among `NUM_PARTS`.
    """

    part: int

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Copy the donor's frames."""
        frames = _part(clips.video.shape[2], self.part, NUM_PARTS)
        found = clips.video.clone()
        found[:, :, frames] = donors.video[:, :, frames]
        return found


@dataclass(frozen=True)
class Border:
    """The outermost ring of all frames: letterbox, logo, subtitles."""

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Put the inner part on the donor's frames."""
        inner = self._inner(clips)
        found = donors.video.clone()
        found[(..., *inner)] = clips.video[(..., *inner)]
        return found

    def alone(self, clips: Clips) -> Float[Tensor, "B C T H W"]:
        """Show the ring around gray of the clip's mean."""
        found = clips.video.clone()
        inner = self._inner(clips)
        found[(..., *inner)] = clips.video.mean(dim=(2, 3, 4), keepdim=True)
        return found

    @staticmethod
    def _inner(clips: Clips) -> tuple[slice, slice]:
        height, width = clips.video.shape[3:]
        ring = max(1, round(BORDER * min(height, width)))
        return slice(ring, height - ring), slice(ring, width - ring)


def _part(size: int, number: int, count: int) -> slice:
    """Give one of `count` parts of a dimension, as equal as they can be."""
    return slice(number * size // count, max((number + 1) * size // count, number * size // count + 1))
