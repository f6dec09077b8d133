"""Layers that networks of every kind share; they know nothing of rules or canonizers."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Normalisation(nn.Module):
    """Shift and scale each colour channel: (x − mean) / std.

    The network owns it, so nobody can forget it, and a box rule can derive its bounds from it.

    Args:
        mean: One value per channel, in the input's units ([0, 1]).
        std: One value per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1, 1))

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        """Normalise a video."""
        return (video - self.mean) / self.std


class FramesAsChannels(nn.Module):
    """Stack the frames of a video as channels of one picture, colour first: C·T channels."""

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B CT H W"]:
        """Merge colour and time."""
        return video.flatten(1, 2)
