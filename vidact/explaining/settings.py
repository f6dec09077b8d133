"""Settings of `explain`: how a video is explained and what is written; imports no torch, so that help is fast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vidact.attribution.names import AUTO, HOTSPOT_THRESHOLD, LRP, PREDICTED
from vidact.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from vidact.attribution.base import Explainer


@dataclass(frozen=True)
class ExplainSettings:
    """How a video is explained.

    Attributes:
        method: lrp, gradient, gradient_x_input, smoothgrad, integrated_gradients, occlusion, grad_cam, …
        composite: The relevance rules per layer, for lrp: a name or a .yaml file; auto for epsilon_plus where rules on
            modules can follow the network, else cp_lrp.
        target: What is explained: predicted, a class, or A-vs-B (why A and not B).
        batch_size: Windows that go through the network at once.
    """

    method: str = LRP
    composite: str | Mapping[str, Any] = AUTO
    target: str = PREDICTED
    batch_size: int = 8

    def __post_init__(self) -> None:
        from vidact.attribution.registry import check_composite, check_method

        check_method(self.method)
        check_composite(self.composite)
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")

    def check_target(self, class_names: Sequence[str]) -> None:
        """Make sure that the target is a class, before any video is read.

        Raises:
            ExplanationError: it is not.
        """
        import torch

        from vidact.attribution.targets import select_target

        select_target(self.target, torch.eye(len(class_names))[:1], label=None, class_names=class_names)

    def build_explainer(self, network: "nn.Module") -> "Explainer":
        """Build the explainer of a network."""
        from vidact.attribution.registry import build_explainer

        own = {"composite": self.composite} if self.method == LRP else {}
        return build_explainer(self.method, network, batch_size=self.batch_size, **own)


@dataclass(frozen=True)
class FileSettings:
    """What is written about a video.

    Attributes:
        threshold: A voxel is a hotspot from this share of the video's largest relevance on.
        top_k: How many classes are named.
        layout: The overlay beside the original, or over it.
        max_width: The overlay video's greatest width in pixels, at least 320.
    """

    threshold: float = HOTSPOT_THRESHOLD
    top_k: int = 3
    layout: Literal["beside", "over"] = "beside"
    max_width: int = 1920

    def __post_init__(self) -> None:
        from vidact.core.explanation import check_threshold
        from vidact.drawing.video.overlay import MIN_WIDTH

        check_threshold(self.threshold, "threshold")
        if self.top_k < 1:
            raise ConfigError(f"top_k must be at least 1, got {self.top_k}")
        if self.max_width < MIN_WIDTH:
            raise ConfigError(f"max_width must be at least {MIN_WIDTH} pixels, got {self.max_width}")
