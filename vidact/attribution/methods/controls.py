"""Controls, which other methods are compared with: noise, the clip itself, and a network's own attention maps.

They ignore the score and are the same for every target.
"""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidact.attribution.base import Explainer
from vidact.attribution.methods.gradients import noise
from vidact.attribution.targets import Goal
from vidact.core.errors import ConfigError
from vidact.core.networks import Attentive

CENTRE_WIDTH = 0.25


class Control(Explainer):
    """Base class of explainers that ignore the score."""

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        with torch.no_grad():
            return self._relevance(video), self._copy(video)

    @abstractmethod
    def _relevance(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        """Compute the relevance of the clips, whatever their scores."""


class Random(Control):
    """Draws standard normal noise per voxel: the control that every method has to beat.

    Args:
        network: As in `Explainer`.
        seed: Of the noise, which depends on it and on the clip.
        settings: As in `Explainer`.
    """

    method = "random"

    def __init__(self, network: nn.Module, *, seed: int = 0, **settings: Any) -> None:
        super().__init__(network, **settings)
        self._seed = seed

    def _relevance(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        return noise(video, seed=self._seed)()


class Centre(Control):
    """Marks the middle of the picture in every frame: a Gaussian of height 1, spread evenly over the colours.

    People film actions so that they are in the middle; a method that does not beat this has not located them.

    Args:
        network: As in `Explainer`.
        width: The Gaussian's standard deviation, in shares of the picture's height and of its width.
        settings: As in `Explainer`.

    Raises:
        ConfigError: no width.
    """

    method = "centre"

    def __init__(self, network: nn.Module, *, width: float = CENTRE_WIDTH, **settings: Any) -> None:
        super().__init__(network, **settings)
        if width <= 0:
            raise ConfigError(f"width is a share of the picture, above 0, got {width:g}")
        self._width = width

    def _relevance(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        down, across = (
            torch.exp(-(((torch.arange(size).to(video) + 0.5) / size - 0.5) / self._width).square() / 2)
            for size in video.shape[3:]
        )
        return (down[:, None] * across / video.shape[1]).expand_as(video)


class MotionEnergy(Control):
    """Measures how much each pixel changed since the frame before: Σ_C |x_t − x_{t−1}|, spread evenly over colours.

    The first frame gets the value of the second; a single frame has no motion, and gets 0. A method that does not beat
    this shows only that something moves.
    """

    method = "motion_energy"

    def _relevance(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        if video.shape[2] == 1:
            return torch.zeros_like(video)
        change = video.diff(dim=2).abs().mean(dim=1, keepdim=True)
        return torch.cat([change[:, :, :1], change], dim=2).expand_as(video)


class Intensity(Control):
    """Gives each pixel its own brightness, colour by colour."""

    method = "intensity"

    def _relevance(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        return video.clone()


class Attention(Control):
    """Shows the network's own attention maps, spread evenly over the colours.

    Args:
        network: A `core.Attentive`.
        settings: As in `Explainer`.

    Raises:
        ConfigError: the network has no attention maps.
    """

    method = "attention"

    def __init__(self, network: nn.Module, **settings: Any) -> None:
        super().__init__(network, **settings)
        if not isinstance(network, Attentive):
            raise ConfigError(
                f"{type(network).__name__} has no attention_maps, so the method 'attention' cannot show them; "
                "try lrp or grad_cam"
            )

    def _relevance(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        maps: Tensor = self._copy.attention_maps(video)[:, None]  # type: ignore[operator]  # [B, 1, T, H, W]
        return (maps / video.shape[1]).expand_as(video)
