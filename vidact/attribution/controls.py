"""Explanations that look at no score: chance, and the attention that a network states itself.

They are what the others are measured against.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidact.attribution.base import Explainer
from vidact.attribution.gradients import noise
from vidact.attribution.targets import Goal
from vidact.core import Attentive, ConfigError


class Random(Explainer):
    """Standard normal noise per voxel: the control that a method has to beat. It is the same for every target.

    Args:
        network: As in `Explainer`.
        seed: Of the noise, which depends on it and on the clip.
        settings: As in `Explainer`.
    """

    method = "random"

    def __init__(self, network: nn.Module, *, seed: int = 0, **settings: Any) -> None:
        super().__init__(network, **settings)
        self._seed = seed

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        with torch.no_grad():
            return noise(video, seed=self._seed)(), self._copy(video)


class Attention(Explainer):
    """The network's own attention maps, spread evenly over the colours. They are the same for every target.

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

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        with torch.no_grad():
            maps = self._copy.attention_maps(video)[:, None]  # type: ignore[operator]  # [B, 1, T, H, W]
            return (maps / video.shape[1]).expand_as(video), self._copy(video)
