"""Layers that the networks share, and that you can use in your own.

LRP needs a module for each addition, gate and difference of frames. Reshaping, slicing and joining need none: they
only move numbers.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidact.core.errors import ConfigError

# Mean and deviation of HMDB51's pixels in [0, 1] (measured on the seven classes of docs/background/results.md).
PIXEL_MEAN, PIXEL_STD = 0.30, 0.26

Choice = TypeVar("Choice")


class Normalisation(nn.Module):
    """Shift and scale each colour channel: (x − mean) / std.

    It is part of the network, so that it cannot be forgotten, and the box rule can derive its bounds from it.

    Args:
        mean: One value per channel, in the input's units ([0, 1]).
        std: One value per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # Buffers: saved with the weights, moved to the device, and not trained.
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1, 1))

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        """Normalise a video."""
        return (video - self.mean) / self.std

    def bounds(self) -> tuple[Float[Tensor, "1 C 1 1 1"], Float[Tensor, "1 C 1 1 1"]]:
        """Compute the least and the greatest value that a pixel in [0, 1] can have after this."""
        return (0 - self.mean) / self.std, (1 - self.mean) / self.std


class FrameDifferences(nn.Module):
    """Subtracts from each frame the one before it: fixed, linear, without a bias; what stands still vanishes.

    The first frame gets the difference of the second, so that as many frames come out as go in and none of them is
    empty: what biases make of an empty frame could be propagated to no pixel.

    Raises:
        ConfigError: a single frame.
    """

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        """Subtract the frame before."""
        if video.shape[2] < 2:
            raise ConfigError("frame differences need clips of 2 frames or more, got 1; set num_frames")
        differences = video[:, :, 1:] - video[:, :, :-1]
        return torch.cat([differences[:, :, :1], differences], dim=2)


class InputLayers(nn.Sequential):
    """The first layers of every network: normalise the pixels and, if asked, take the differences of frames.

    Args:
        channels: C, 1 for gray and 3 for colour.
        differences: Whether the network sees frame differences instead of frames.
    """

    def __init__(self, channels: int, *, differences: bool = False) -> None:
        normalisation = Normalisation([PIXEL_MEAN] * channels, [PIXEL_STD] * channels)
        super().__init__(normalisation, *([FrameDifferences()] if differences else []))

    def bounds(self) -> tuple[Float[Tensor, "1 C 1 1 1"], Float[Tensor, "1 C 1 1 1"]]:
        """Compute the least and the greatest value that a pixel in [0, 1] can have after these layers."""
        normalisation = self[0]
        assert isinstance(normalisation, Normalisation)
        low, high = normalisation.bounds()
        return (low, high) if len(self) == 1 else (low - high, high - low)  # of a difference of two frames


class FramesAsChannels(nn.Module):
    """Stack the frames of a video as channels of one picture, colour first: C·T channels."""

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B CT H W"]:
        """Merge colour and time."""
        return video.flatten(1, 2)


class Sum(nn.Module):
    """Add tensors of one shape; a module, so that relevance can be divided among them."""

    def forward(self, first: Float[Tensor, "..."], *others: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Add up."""
        for other in others:
            first = first + other
        return first


class SumOver(nn.Module):
    """Add up along one dimension; a module, so that relevance can be divided along it.

    Args:
        dim: Which dimension; it vanishes.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Add up."""
        return values.sum(dim=self.dim)


class Gate(nn.Module):
    """Multiply a signal by a gate (of the signal's shape, or one that broadcasts to it).

    All relevance belongs to the signal (signal-take-all; Arras et al., Explaining and interpreting LSTMs, 2019).
    """

    def forward(self, signal: Float[Tensor, "..."], gate: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Multiply the signal by the gate."""
        return signal * gate


def check_input(video: Tensor, expected: tuple[int, int, int, int]) -> None:
    """Check that a video has the shape that a network was built for.

    Args:
        video: [B, C, T, H, W].
        expected: (C, T, H, W).

    Raises:
        ConfigError: another shape.
    """
    if video.shape[1:] != expected:
        raise ConfigError(
            f"this network takes videos of shape [B, {', '.join(map(str, expected))}], got "
            f"{tuple(video.shape)}; set its num_frames, channels and size as the data's"
        )


def choose(choices: Mapping[str, Choice], name: str, *, setting: str) -> Choice:
    """Look up what a setting names.

    Raises:
        ConfigError: an unknown name; says which there are.
    """
    if name not in choices:
        raise ConfigError(f"{setting} {name!r} is unknown; there are {', '.join(choices)}")
    return choices[name]
