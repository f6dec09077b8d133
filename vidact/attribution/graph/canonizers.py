"""Canonizers: rewrite parts of the explained copy as modules that relevance rules can handle.

A canonizer leaves the network's output as it is, and can be undone. This file merges BatchNorms into layers and gives
modules to the additions and averages of torchvision's networks.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd
from torchvision.models import resnet
from torchvision.models.video import S3D
from torchvision.models.video import resnet as video_resnet
from zennit.canonizers import AttributeCanonizer, Canonizer

from vidact.attribution.graph.pairs import Pair, Weighted, batch_norm_pairs
from vidact.attribution.graph.unrolling import UnrollGRU, UnrollLSTM
from vidact.models.layers import Sum


def build_canonizers(clip: Float[Tensor, "..."]) -> list[Canonizer]:
    """Build the canonizers that every composite of vidact applies, in this order.

    Args:
        clip: An input of the network; running it shows which BatchNorm belongs to which layer.
    """
    return [AttributeCanonizer(_with_modules), UnrollLSTM(), UnrollGRU(), MergeBatchNorm(clip)]


class MergeBatchNorm(Canonizer):  # type: ignore[misc]
    """Merge each BatchNorm in eval mode with the convolution or linear layer whose output it alone normalises.

    With s = γ / √(var + eps): W' = s W, b' = s (b − mean) + β; an `nn.Identity` replaces the BatchNorm.
    Zennit's own canonizer leaves a factor of 1 / √(1 + eps) per layer, needs an affine BatchNorm, and pairs modules by
    the order of their definition.

    Args:
        clip: An input of the network; `batch_norm_pairs` runs it to see which belong together.
    """

    def __init__(self, clip: Float[Tensor, "..."]) -> None:
        super().__init__()
        self._clip = clip

    def apply(self, root_module: nn.Module) -> list[Canonizer]:
        """Merge all pairs; gives a canonizer for each, which can be removed."""
        return [self.copy().register(pair) for pair in batch_norm_pairs(root_module, self._clip)]

    def copy(self) -> "MergeBatchNorm":
        """Copy the canonizer for another pair."""
        return type(self)(self._clip)

    def register(self, pair: Pair) -> "MergeBatchNorm":
        """Merge one pair."""
        linear = pair.linear
        self._pair, self._weight, self._bias = pair, linear.weight, linear.bias
        weight, bias = merged_parameters(linear, pair.batch_norm)
        # New Parameter objects: the old ones may be shared with other modules.
        linear.weight = nn.Parameter(weight, requires_grad=self._weight.requires_grad)
        linear.bias = nn.Parameter(bias, requires_grad=self._weight.requires_grad)
        for parent, name in pair.places:
            setattr(parent, name, nn.Identity())
        return self

    def remove(self) -> None:
        """Undo the merge."""
        self._pair.linear.weight, self._pair.linear.bias = self._weight, self._bias
        for parent, name in self._pair.places:
            setattr(parent, name, self._pair.batch_norm)


@torch.no_grad()
def merged_parameters(linear: Weighted, batch_norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Compute the weight and the bias that replace both.

    Args:
        linear: A convolution, transposed convolution or linear layer with J output channels.
        batch_norm: With J features and running statistics.

    Returns:
        The weight, in the shape that `linear` has, and the bias [J].
    """
    mean, variance = batch_norm.running_mean, batch_norm.running_var
    assert mean is not None
    assert variance is not None
    scale = (variance + batch_norm.eps).rsqrt()
    if batch_norm.weight is not None:
        scale = scale * batch_norm.weight
    bias = -mean if linear.bias is None else linear.bias - mean
    bias = bias * scale if batch_norm.bias is None else bias * scale + batch_norm.bias
    return linear.weight * _per_weight(scale, linear), bias


def _per_weight(scale: Tensor, linear: Weighted) -> Tensor:
    """Reshape a value per output channel [J] so that it broadcasts to the weight."""
    if not isinstance(linear, _ConvTransposeNd):  # [J, I / groups, ...]
        return scale.reshape(-1, *[1] * (linear.weight.ndim - 1))
    per_group = scale.reshape(linear.groups, 1, -1).expand(-1, linear.in_channels // linear.groups, -1)
    return per_group.reshape(linear.in_channels, -1, *[1] * (linear.weight.ndim - 2))  # [I, J / groups, ...]


def _with_modules(name: str, module: nn.Module) -> dict[str, Any] | None:
    """List what to replace in a module of torchvision that adds or averages without a module; None for others."""
    if type(module).forward not in _REPLACED:
        return None
    attribute, build, forward = _REPLACED[type(module).forward]
    return {attribute: build(), "forward": MethodType(forward, module)}


def _video_block(block: Any, video: Tensor) -> Tensor:
    """`video_resnet.BasicBlock` and `Bottleneck`, with a module that adds."""
    out: Tensor = block.conv2(block.conv1(video))
    if hasattr(block, "conv3"):
        out = block.conv3(out)
    return _add(block, out, video)


def _picture_block(block: Any, picture: Tensor) -> Tensor:
    """`resnet.BasicBlock` and `Bottleneck`, with a module that adds."""
    out: Tensor = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(picture)))))
    if hasattr(block, "conv3"):
        out = block.bn3(block.conv3(block.relu(out)))
    return _add(block, out, picture)


def _add(block: Any, out: Tensor, residual: Tensor) -> Tensor:
    if block.downsample is not None:
        residual = block.downsample(residual)
    added: Tensor = block.relu(block.sum(out, residual))
    return added


def _s3d(network: Any, video: Tensor) -> Tensor:
    """`S3D`, with a module that averages; the branches of its blocks are joined by `cat`, which hides nothing."""
    scores: Tensor = network.mean(network.classifier(network.avgpool(network.features(video))))
    return scores


def _mean() -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())


_REPLACED: dict[Any, tuple[str, Callable[[], nn.Module], Callable[..., Tensor]]] = {
    video_resnet.BasicBlock.forward: ("sum", Sum, _video_block),
    video_resnet.Bottleneck.forward: ("sum", Sum, _video_block),
    resnet.BasicBlock.forward: ("sum", Sum, _picture_block),
    resnet.Bottleneck.forward: ("sum", Sum, _picture_block),
    S3D.forward: ("mean", _mean, _s3d),
}
