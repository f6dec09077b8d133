"""Explanations that look at no score: chance, the clip itself, and the attention that a network states itself.

They are what the others are measured against, and the same for every target.
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
    """An explanation that looks at no score."""

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        with torch.no_grad():
            return self._relevance(video), self._copy(video)

    @abstractmethod
    def _relevance(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        """Say what the clips get, whatever the network makes of them."""


class Random(Control):
    """Standard normal noise per voxel: the control that a method has to beat.

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
    """The middle of the picture, in every frame alike: a Gaussian of height 1, spread evenly over the colours.

    Actions are filmed so that they are in the middle; a method that does not beat this has not found them.

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
    """How much each pixel has changed since the frame before: Σ_C |x_t − x_{t−1}|, spread evenly over the colours.

    The first frame has none before it and gets what the second has; a single frame has no motion, and gets 0.
    A method that does not beat this has shown nothing but that something moves.
    """

    method = "motion_energy"

    def _relevance(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        if video.shape[2] == 1:
            return torch.zeros_like(video)
        change = video.diff(dim=2).abs().mean(dim=1, keepdim=True)
        return torch.cat([change[:, :, :1], change], dim=2).expand_as(video)


class Intensity(Control):
    """How bright each pixel is: its value, colour by colour."""

    method = "intensity"

    def _relevance(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        return video.clone()


class Attention(Control):
    """The network's own attention maps, spread evenly over the colours.

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
