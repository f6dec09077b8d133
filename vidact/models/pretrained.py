"""Torchvision's video networks, with weights trained on Kinetics-400, frozen stages and a new head."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import video as torchvision_video

from vidact.core.clips import height_and_width
from vidact.core.errors import ConfigError
from vidact.models.layers import InputLayers, Normalisation, check_input, choose
from vidact.models.weights import KINETICS_MEAN, KINETICS_STD, load_pretrained

TorchvisionName = Literal["r3d_18", "mc3_18", "r2plus1d_18", "s3d"]
Stages = OrderedDict[str, nn.Module]


class TorchvisionVideoNet(nn.Module):
    """One of torchvision's video networks, with a head of its own and, if asked, weights trained on Kinetics-400.

    `r3d_18`, `mc3_18`, `r2plus1d_18`: Tran et al., A closer look at spatiotemporal convolutions, 2018. `s3d`: Xie et
    al., Rethinking spatiotemporal feature learning, 2018. With the weights come the mean and the deviation that they
    were trained with. For gray videos the three filters of each first feature are added up, which scores a gray video
    as the coloured network scores its three equal colours, but for the means of the colours, which lie up to 0.03 from
    the mean of all (frame differences do not see them).

    The head is the mean over space and time and one linear layer, as torchvision's: where the weights' number of
    classes is `num_classes` their head is kept, else it is new. Of the stages that are frozen, neither weights nor
    BatchNorm's statistics change in training. Of S3D, BatchNorm's momentum is 0.1, not torchvision's 0.001, with which
    a short training would end with statistics that belong to no network.

    Args:
        num_classes: K.
        num_frames: T.
        channels: C, 1 for gray and 3 for colour.
        size: Side in pixels, or height and width. The weights were trained at 112, S3D's at 224.
        differences: Whether the network sees frame differences instead of frames.
        name: Which network.
        weights: `kinetics400` (torchvision downloads them), the path of a file with a state_dict of this network, or
            None for random weights.
        frozen_stages: How many of the five stages, from the input, are not trained: stem, layer1 to layer4; of S3D
            conv1, conv2, mixed3, mixed4, mixed5.
        dropout: Share of the features that are dropped in training, before the last layer.

    Raises:
        ConfigError: the clips are too small or neither gray nor coloured, or there is no such stage.
        CheckpointError: the weights are missing, damaged, or of another network.
        EnvironmentProblem: the weights could not be downloaded.
    """

    gradcam_layer = "stages"  # the last convolution stands in one branch of several

    def __init__(
        self,
        num_classes: int,
        num_frames: int = 16,
        channels: int = 3,
        size: int | tuple[int, int] = 112,
        differences: bool = False,
        name: TorchvisionName = "r3d_18",
        weights: str | None = None,
        frozen_stages: int = 0,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        height, width = height_and_width(size)
        kind = _check_settings(name, (channels, num_frames, height, width), frozen_stages)
        self.input_shape = (channels, num_frames, height, width)
        self.input = InputLayers(channels, differences=differences)
        network = kind.build()
        trained_head: dict[str, Tensor] = {}
        if weights is not None:
            trained_head = load_pretrained(network, name, weights=weights, head=kind.head)
            self.input[0] = _kinetics_normalisation(channels)
        self.stages = nn.Sequential(kind.stages(network))
        self.pool = kind.pool((num_frames, height, width))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(kind.features, num_classes))
        _fill_head(self.head[-1], trained_head)
        _adapt(self.stages, channels)
        self.frozen_stages = frozen_stages
        self.stages[:frozen_stages].requires_grad_(requires_grad=False)

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class (logits)."""
        check_input(video, self.input_shape)
        scores: Tensor = self.head(self.pool(self.stages(self.input(video))))
        return scores

    def train(self, mode: bool = True) -> "TorchvisionVideoNet":
        """Set training mode as `nn.Module.train` does, but for the frozen stages, which stay in eval mode."""
        super().train(mode)
        self.stages[: self.frozen_stages].eval()  # else BatchNorm would update its statistics
        return self


@dataclass(frozen=True)
class _Kind:
    """Facts about one of torchvision's networks.

    Attributes:
        build: Builds it with random weights.
        head: How the names of its last layer's parameters begin.
        stages: Splits it into its stages.
        pool: Builds the pooling after its stages, for clips of (T, H, W).
        features: Number of inputs of the last layer.
        least_frames: The fewest frames that it can take.
        least_side: The smallest side that it can take, in pixels.
    """

    build: Callable[[], nn.Module]
    head: str
    stages: Callable[[nn.Module], Stages]
    pool: Callable[[tuple[int, int, int]], nn.Module]
    features: int
    least_frames: int
    least_side: int


def _resnet_stages(network: nn.Module) -> Stages:
    return OrderedDict((name, network.get_submodule(name)) for name in ("stem", "layer1", "layer2", "layer3", "layer4"))


def _resnet_pool(_: tuple[int, int, int]) -> nn.Module:
    return nn.AdaptiveAvgPool3d(1)


def _s3d_stages(network: nn.Module) -> Stages:
    features = network.get_submodule("features")
    assert isinstance(features, nn.Sequential)
    bounds = {"conv1": (0, 2), "conv2": (2, 5), "mixed3": (5, 8), "mixed4": (8, 14), "mixed5": (14, 16)}
    return OrderedDict((name, features[first:last]) for name, (first, last) in bounds.items())


def _s3d_pool(clip: tuple[int, int, int]) -> nn.Module:
    """Average over windows of 2×7×7 and then over the windows, as torchvision; over all where there is less."""
    num_frames, height, width = clip
    # Over time the stem and the third pooling halve and round up; over space so do the first two poolings.
    # The last pooling rounds down.
    shape = (-(-num_frames // 4) // 2, -(-height // 16) // 2, -(-width // 16) // 2)
    time, rows, columns = (min(most, length) for most, length in zip((2, 7, 7), shape, strict=True))
    return nn.Sequential(nn.AvgPool3d((time, rows, columns), stride=1), nn.AdaptiveAvgPool3d(1))


def _resnet(build: Callable[[], nn.Module]) -> _Kind:
    return _Kind(build, "fc.", _resnet_stages, _resnet_pool, features=512, least_frames=1, least_side=16)


_KINDS = {
    "r3d_18": _resnet(torchvision_video.r3d_18),
    "mc3_18": _resnet(torchvision_video.mc3_18),
    "r2plus1d_18": _resnet(torchvision_video.r2plus1d_18),
    # With 5 frames the backward pass of S3D's stem ends the process on a CPU (torch 2.15): 7×1×1, stride 2, padding 3.
    "s3d": _Kind(
        torchvision_video.s3d, "classifier.1.", _s3d_stages, _s3d_pool, features=1024, least_frames=8, least_side=17
    ),
}


def _check_settings(name: str, shape: tuple[int, int, int, int], frozen_stages: int) -> _Kind:
    channels, num_frames, height, width = shape
    kind = choose(_KINDS, name, setting="network")
    if channels not in (1, 3):
        raise ConfigError(f"{name} takes gray (1) or coloured (3) videos, got {channels = }")
    if num_frames < kind.least_frames or min(height, width) < kind.least_side:
        raise ConfigError(
            f"{name} needs {kind.least_frames} frames of {kind.least_side} pixels or more, got {num_frames = }, "
            f"size = {(height, width)}"
        )
    if not 0 <= frozen_stages <= 5:
        raise ConfigError(f"{name} has 5 stages that can be frozen, got {frozen_stages = }")
    return kind


def _kinetics_normalisation(channels: int) -> Normalisation:
    if channels == 3:
        return Normalisation(KINETICS_MEAN, KINETICS_STD)
    return Normalisation([sum(KINETICS_MEAN) / 3], [sum(KINETICS_STD) / 3])


@torch.no_grad()
def _fill_head(head: nn.Module, trained: dict[str, Tensor]) -> None:
    """Copy the trained head where it has as many classes; S3D's is a convolution of 1×1×1."""
    assert isinstance(head, nn.Linear)
    if {"weight", "bias"} <= trained.keys() and trained["weight"].flatten(1).shape == head.weight.shape:
        head.weight.copy_(trained["weight"].flatten(1))
        head.bias.copy_(trained["bias"])


@torch.no_grad()
def _adapt(stages: nn.Sequential, channels: int) -> None:
    """Adapt the stages to gray videos, to short trainings, and to hooks on their activations."""
    for module in stages.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # hooks and Grad-CAM read the values before
        elif isinstance(module, nn.BatchNorm3d):
            module.momentum = 0.1  # S3D has 0.001: too slow for a short training
    if channels == 1:
        first = next(module for module in stages.modules() if isinstance(module, nn.Conv3d))
        std = torch.tensor(KINETICS_STD).reshape(1, 3, 1, 1, 1)
        first.in_channels = 1
        # Three equal colours, each normalised by its own deviation, as one gray channel with the mean deviation.
        first.weight = nn.Parameter((first.weight * std.mean() / std).sum(dim=1, keepdim=True))
