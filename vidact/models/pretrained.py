"""Torchvision's video networks, with weights trained on Kinetics-400, frozen stages and a new head."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import video as torchvision_video
from torchvision.ops import Permute

from vidact.core.clips import height_and_width
from vidact.core.errors import ConfigError
from vidact.core.networks import TrainedWeights
from vidact.models.layers import InputLayers, Normalisation, check_input, choose
from vidact.models.mvit import ClassToken, build_mvit, mvit_stages
from vidact.models.weights import (
    add_up_colours,
    fill_head,
    load_pretrained,
    trained_clips,
    trained_statistics,
)

TorchvisionName = Literal[
    "r3d_18", "mc3_18", "r2plus1d_18", "s3d", "swin3d_t", "swin3d_s", "swin3d_b", "mvit_v1_b", "mvit_v2_s"
]
Clip = tuple[int, int, int]  # (T, H, W)
Stages = OrderedDict[str, nn.Module]


class TorchvisionVideoNet(nn.Module):
    """One of torchvision's video networks, with a head of its own and, if asked, weights trained on Kinetics-400.

    `r3d_18`, `mc3_18`, `r2plus1d_18`: Tran et al., A closer look at spatiotemporal convolutions, 2018. `s3d`: Xie et
    al., Rethinking spatiotemporal feature learning, 2018. `swin3d_t`, `_s`, `_b`: Liu et al., Video Swin Transformer,
    2022. `mvit_v1_b`: Fan et al., Multiscale vision transformers, 2021; `mvit_v2_s`: Li et al., MViTv2, 2022. Those
    five attend: explain them with the composite `cp_lrp` or `attnlrp`. With the weights come the mean and the deviation
    that they were trained with. For gray videos the three filters of each first feature are added up, which scores a
    gray video as the coloured network scores its three equal colours, but for the means of the colours, which lie up
    to 0.04 from the mean of all (frame differences do not see them).

    The head is the mean over space and time (of MViT the class token) and one linear layer, as torchvision's: where the
    weights' number of classes is `num_classes` their head is kept, else it is new. Of the stages that are frozen,
    neither weights nor BatchNorm's statistics change in training, and no block is dropped at random. Of S3D,
    BatchNorm's momentum is 0.1, not torchvision's 0.001, with which a short training would end with statistics that
    belong to no network.

    Args:
        num_classes: K.
        num_frames: T.
        channels: C, 1 for gray and 3 for colour.
        size: Side in pixels, or height and width. The weights were trained at 112; S3D's, Swin's and MViT's at 224.
            MViT's fit 16 frames of 224 × 224 pixels only.
        differences: Whether the network sees frame differences instead of frames.
        name: Which network.
        weights: `kinetics400` (torchvision downloads them), the path of a file with a state_dict of this network, or
            None for random weights.
        frozen_stages: How many of the five stages, from the input, are not trained: stem, layer1 to layer4; of S3D
            conv1, conv2, mixed3, mixed4, mixed5; of Swin and MViT patches, blocks1 to blocks4, which are the blocks of
            one resolution, with the merging of patches behind them in Swin, and the last norm in blocks4.
        dropout: Share of the features that are dropped in training, before the last layer.

    Raises:
        ConfigError: the clips are too small or neither gray nor coloured, MViT's weights do not fit their shape, or
            there is no such stage.
        CheckpointError: the weights are missing, damaged, or of another network.
        EnvironmentProblem: the weights could not be downloaded.
    """

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
        clip = (num_frames, height, width)
        kind = _check_settings(name, channels, clip, frozen_stages, is_trained=weights is not None)
        self.input_shape = (channels, *clip)
        self.gradcam_layer = kind.gradcam_layer
        self.input = InputLayers(channels, differences=differences)
        network = kind.build() if kind.trained_clip is None else build_mvit(kind.build, clip)
        mean, std = trained_statistics(name)
        trained_head: dict[str, Tensor] = {}
        if weights is not None:
            trained_head = load_pretrained(network, name, weights=weights, head=kind.head)
            self.input[0] = _normalisation(mean, std, channels)
        self.stages = nn.Sequential(kind.stages(network))
        self.pool = kind.pool(clip)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(kind.features, num_classes))
        self.has_trained_head = fill_head(self.head[-1], trained_head)
        _adapt(self.stages)
        if channels == 1:
            add_up_colours(self.stages, std)
        self.frozen_stages = frozen_stages
        self.stages[:frozen_stages].requires_grad_(requires_grad=False)

    @property
    def reopening_settings(self) -> dict[str, Any]:
        """Settings that build it without its trained weights, once a checkpoint has them."""
        return {"weights": None}

    @classmethod
    def trained(cls, reference: str, weights: str | None) -> TrainedWeights:
        """Say how a network is built with its weights, for `adopt`.

        Args:
            reference: Its name.
            weights: File with a state_dict, or None for those trained on Kinetics-400.

        Raises:
            ConfigError: no such network.
        """
        choose(_KINDS, reference, setting="network")
        return trained_clips(reference, weights)

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
        trained_clip: The only shape that its trained weights fit, as MViT's; None where they fit any.
        gradcam_layer: What Grad-CAM looks at: the last features that are pictures and that the head sees. The last
            convolution often stands in one branch of several.
    """

    build: Callable[..., nn.Module]
    head: str
    stages: Callable[[nn.Module], Stages]
    pool: Callable[[Clip], nn.Module]
    features: int
    least_frames: int
    least_side: int
    trained_clip: Clip | None = None
    gradcam_layer: str = "stages"


def _mean(_: Clip) -> nn.Module:
    return nn.AdaptiveAvgPool3d(1)


def _resnet_stages(network: nn.Module) -> Stages:
    return OrderedDict((name, network.get_submodule(name)) for name in ("stem", "layer1", "layer2", "layer3", "layer4"))


def _s3d_stages(network: nn.Module) -> Stages:
    features = network.get_submodule("features")
    assert isinstance(features, nn.Sequential)
    bounds = {"conv1": (0, 2), "conv2": (2, 5), "mixed3": (5, 8), "mixed4": (8, 14), "mixed5": (14, 16)}
    return OrderedDict((name, features[first:last]) for name, (first, last) in bounds.items())


def _s3d_pool(clip: Clip) -> nn.Module:
    """Average over windows of 2×7×7 and then over the windows, as torchvision; over all where there is less."""
    num_frames, height, width = clip
    # Over time the stem and the third pooling halve and round up; over space so do the first two poolings.
    # The last pooling rounds down.
    shape = (-(-num_frames // 4) // 2, -(-height // 16) // 2, -(-width // 16) // 2)
    time, rows, columns = (min(most, length) for most, length in zip((2, 7, 7), shape, strict=True))
    return nn.Sequential(nn.AvgPool3d((time, rows, columns), stride=1), nn.AdaptiveAvgPool3d(1))


def _swin_stages(network: nn.Module) -> Stages:
    features = network.get_submodule("features")
    assert isinstance(features, nn.Sequential)
    stages: Stages = OrderedDict(
        patches=nn.Sequential(network.get_submodule("patch_embed"), network.get_submodule("pos_drop"))
    )
    stages |= {f"blocks{number + 1}": features[2 * number : 2 * number + 2] for number in range(3)}
    last = nn.Sequential(features[6], network.get_submodule("norm"), Permute([0, 4, 1, 2, 3]))  # [B, C, T, H, W]
    return OrderedDict(stages, blocks4=last)


def _resnet(build: Callable[[], nn.Module]) -> _Kind:
    return _Kind(build, "fc.", _resnet_stages, _mean, features=512, least_frames=1, least_side=16)


def _swin(build: Callable[[], nn.Module], features: int) -> _Kind:
    """Less than one patch of 2×4×4 would be filled up with zeros."""
    return _Kind(build, "head.", _swin_stages, _mean, features, least_frames=2, least_side=4)


def _mvit(build: Callable[..., nn.Module]) -> _Kind:
    return _Kind(
        *(build, "head.1.", mvit_stages, lambda _: ClassToken()),
        features=768,
        least_frames=2,
        least_side=9,  # on a smaller grid a table of relative positions would have no entry
        trained_clip=(16, 224, 224),
        gradcam_layer="stages.blocks4.1.pictures",
    )


_KINDS = {
    "r3d_18": _resnet(torchvision_video.r3d_18),
    "mc3_18": _resnet(torchvision_video.mc3_18),
    "r2plus1d_18": _resnet(torchvision_video.r2plus1d_18),
    # With 5 frames the backward pass of S3D's stem ends the process on a CPU (torch 2.15): 7×1×1, stride 2, padding 3.
    "s3d": _Kind(
        torchvision_video.s3d, "classifier.1.", _s3d_stages, _s3d_pool, features=1024, least_frames=8, least_side=17
    ),
    "swin3d_t": _swin(torchvision_video.swin3d_t, 768),
    "swin3d_s": _swin(torchvision_video.swin3d_s, 768),
    "swin3d_b": _swin(torchvision_video.swin3d_b, 1024),
    "mvit_v1_b": _mvit(torchvision_video.mvit_v1_b),
    "mvit_v2_s": _mvit(torchvision_video.mvit_v2_s),
}


def _check_settings(name: str, channels: int, clip: Clip, frozen_stages: int, *, is_trained: bool) -> _Kind:
    num_frames, height, width = clip
    kind = choose(_KINDS, name, setting="network")
    if channels not in (1, 3):
        raise ConfigError(f"{name} takes gray (1) or coloured (3) videos, got {channels = }")
    if num_frames < kind.least_frames or min(height, width) < kind.least_side:
        raise ConfigError(
            f"{name} needs {kind.least_frames} frames of {kind.least_side} pixels or more, got {num_frames = }, "
            f"size = {(height, width)}"
        )
    if is_trained and kind.trained_clip not in (None, clip):
        raise ConfigError(
            f"the weights of {name} fit clips of {kind.trained_clip} (frames, height, width) only, got {clip}; set "
            "num_frames and size so, or weights to null for random ones"
        )
    if not 0 <= frozen_stages <= 5:
        raise ConfigError(f"{name} has 5 stages that can be frozen, got {frozen_stages = }")
    return kind


def _normalisation(mean: list[float], std: list[float], channels: int) -> Normalisation:
    return Normalisation(mean, std) if channels == 3 else Normalisation([sum(mean) / 3], [sum(std) / 3])


def _adapt(stages: nn.Sequential) -> None:
    """Adapt the stages to short trainings, and to hooks on their activations."""
    for module in stages.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # hooks and Grad-CAM read the values before
        elif isinstance(module, nn.BatchNorm3d):
            module.momentum = 0.1  # S3D has 0.001: too slow for a short training
