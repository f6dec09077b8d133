"""Occlusion: explain a score by how much it falls when parts of the clip are covered; needs no gradient."""

from typing import Any

import torch
from captum.attr import Occlusion as CaptumOcclusion
from jaxtyping import Float
from torch import Tensor, nn

from vidact.attribution.base import Explainer, mean_picture
from vidact.attribution.targets import Goal
from vidact.core.errors import ConfigError


class Occlusion(Explainer):
    """Measures how much the score falls when a tube of voxels is covered: R = F(x) − F(x covered).

    Zeiler and Fergus, Visualizing and understanding convolutional networks, 2014.

    Tubes stand side by side and cover the clip; those at the far edges may be smaller. Every voxel of a tube carries
    the whole fall, so ΣR is not the score. F is `targets.contrast`. Through captum.

    Args:
        network: As in `Explainer`.
        tube: Length in frames, height and width in pixels.
        fill: What covers them: a value in [0, 1]; None for the mean that the network subtracts (`Normalisation`), or
            each clip's own mean where it subtracts none.
        settings: As in `Explainer`.

    Raises:
        ConfigError: a tube of no voxel.
    """

    method = "occlusion"

    def __init__(
        self,
        network: nn.Module,
        *,
        tube: tuple[int, int, int] = (2, 10, 10),
        fill: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(network, **settings)
        if len(tube) != 3 or min(tube) < 1:
            raise ConfigError(f"a tube is (frames, height, width), each at least 1, got {tube}")
        self._tube, self._fill = tuple(tube), fill

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        def value(covered: Tensor, target: Tensor, against: Tensor | None) -> Tensor:
            return Goal(target, against).value(self._copy(covered))

        channels, *clip = video.shape[1:]
        tube = (channels, *(min(pair) for pair in zip(self._tube, clip, strict=True)))
        fill = mean_picture(self._copy, video) if self._fill is None else torch.full_like(video[:, :, :1], self._fill)
        with torch.no_grad():
            scores = self._copy(video)
            relevance = CaptumOcclusion(value).attribute(
                video,
                sliding_window_shapes=tube,
                strides=tube,
                baselines=fill.expand_as(video),
                additional_forward_args=(goal.target, goal.against),
            )
        return relevance, scores
