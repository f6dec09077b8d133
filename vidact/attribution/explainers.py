"""Explain a network's score for a class by the voxels of its input; it knows no files and makes no pictures.

An explainer is a context manager and a function `(video, target) -> Explanation`. It never touches the network
that it is given: it works on a deep copy in float32, in eval mode, outside autocast and inference mode.
"""

import contextlib
import copy
from types import TracebackType

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from zennit.attribution import Gradient

from vidact.attribution.composites import DEFAULT, build_composite
from vidact.core import Explanation, ExplanationError


class LayerwiseRelevance:
    """Layer-wise relevance propagation (Bach et al. 2015) through Zennit.

    Args:
        network: From [B, C, T, H, W] in [0, 1] to logits [B, K]; stays as it is.
        composite: Name of the rules per layer, one of `composites.COMPOSITES`.

    Raises:
        ConfigError: no composite has this name.
    """

    def __init__(self, network: nn.Module, *, composite: str = DEFAULT) -> None:
        self.method = f"lrp:{composite}"
        self._network = network
        self._composite = build_composite(composite)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "LayerwiseRelevance":
        # Not under inference mode: a copy made there could not be differentiated.
        with torch.inference_mode(mode=False):
            network = copy.deepcopy(self._network).float().eval().requires_grad_(requires_grad=False)
            self._attributor = self._stack.enter_context(Gradient(network, self._composite))
        self._copy = network
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        del self._attributor, self._copy

    def scores(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class of each clip, as the explained copy does: in float32, outside autocast."""
        with torch.inference_mode(mode=False), torch.no_grad(), torch.autocast(video.device.type, enabled=False):
            scores: Tensor = self._copy(video.detach().clone().float())
        return scores

    def __call__(self, video: Float[Tensor, "B C T H W"], target: Int[Tensor, " B"]) -> Explanation:
        """Hand the logit of each clip's target down to its voxels.

        Args:
            video: In [0, 1], on the network's device.
            target: A class number per clip.

        Raises:
            ExplanationError: the input is not finite, or a target is no class of the network.
        """
        if not torch.isfinite(video).all():
            raise ExplanationError("the input holds values that are not finite; expected pixels in [0, 1]")
        with (
            torch.inference_mode(mode=False),
            torch.enable_grad(),
            torch.autocast(video.device.type, enabled=False),
        ):
            scores, relevance = self._attributor(video.detach().clone().float(), _Pick(target))
        score = scores.detach().gather(1, target[:, None]).squeeze(1)
        return Explanation(relevance.detach(), score, target, self.method)


class _Pick:
    """The gradient that starts the propagation: the target's logit, zero for the others, so that ΣR = logit."""

    def __init__(self, target: Int[Tensor, " B"]) -> None:
        self.target = target

    def __call__(self, scores: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        num_classes = scores.shape[1]
        if ((self.target < 0) | (self.target >= num_classes)).any():
            raise ExplanationError(f"targets are class numbers from 0 to {num_classes - 1}, got {self.target.tolist()}")
        return scores.detach() * nn.functional.one_hot(self.target, num_classes)
