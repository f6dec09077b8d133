"""Feed a network that was written for other inputs with clips [B, C, T, H, W], and pick the logits from its output."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidact.core.errors import ConfigError, NetworkError
from vidact.models.layers import Normalisation

Layout = Literal["BCTHW", "BTCHW"]


class AdaptedNetwork(nn.Module):
    """A network as it is, with its own order of axes, normalisation, pathways and output.

    Args:
        network: The network.
        layout: The order of axes that it takes.
        pathways: For a network that takes a list of clips: by how much the frames of each are thinned out, as
            `[4, 1]` for a slow pathway with a quarter of the frames and a fast one with all (Feichtenhofer et al.,
            SlowFast networks, 2019). Frames are picked evenly from the first to the last, as PySlowFast and
            PyTorchVideo do.
        output: Where the logits are in what it returns: a key, an attribute, or a place in a tuple, as `logits` or `0`;
            None if it returns the logits alone.
        mean: What is subtracted from pixels in [0, 1], a number per colour; None for nothing.
        std: What they are divided by then.

    Raises:
        ConfigError: an unknown layout, no pathway or one below 1, or a mean without a deviation.
    """

    def __init__(
        self,
        network: nn.Module,
        layout: Layout = "BCTHW",
        pathways: list[int] | None = None,
        output: str | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        if layout not in ("BCTHW", "BTCHW"):
            raise ConfigError(f"layout is BCTHW or BTCHW, got {layout!r}")
        if pathways is not None and (not pathways or min(pathways) < 1):
            raise ConfigError(f"pathways are numbers of 1 or more, such as [4, 1], got {pathways}")
        if (mean is None) != (std is None) or (mean and std and (len(mean) != len(std) or min(std) <= 0)):
            raise ConfigError(f"mean and std are given together, a number per colour, std above 0; got {mean}, {std}")
        if mean and std and (max(map(abs, mean)) > 1 or max(std) > 1):
            raise ConfigError(f"mean and std are of pixels in [0, 1], got {mean}, {std}; divide them by 255")
        self.input = nn.Identity() if mean is None or std is None else Normalisation(mean, std)
        self.network = network
        self.layout, self.pathways, self.output = layout, pathways, output

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class (logits)."""
        video = self.input(video)
        given = video if self.pathways is None else [self._thinned(video, by) for by in self.pathways]
        if self.layout == "BTCHW":
            given = given.transpose(1, 2) if isinstance(given, Tensor) else [one.transpose(1, 2) for one in given]
        found = self.network(given)
        scores: Tensor = found if self.output is None else _part(found, self.output)
        return scores

    @staticmethod
    def _thinned(video: Float[Tensor, "B C T H W"], by: int) -> Float[Tensor, "B C S H W"]:
        num_frames = video.shape[2]
        if by == 1:
            return video
        if num_frames < by:
            raise ConfigError(f"a pathway with one frame in {by} needs clips of {by} frames or more, got {num_frames}")
        return video[:, :, torch.linspace(0, num_frames - 1, num_frames // by).long()]


def _part(scores: Any, name: str) -> Any:
    """Pick the part of a network's output that holds the logits."""
    if isinstance(scores, dict) and name in scores:
        return scores[name]
    if isinstance(scores, tuple | list) and name.isdigit() and int(name) < len(scores):
        return scores[int(name)]
    if not isinstance(scores, Tensor) and hasattr(scores, name):
        return getattr(scores, name)
    there = ", ".join(map(str, scores)) if isinstance(scores, dict) else type(scores).__name__
    raise NetworkError(f"the network's output has no part {name!r}; it returns {there}")
