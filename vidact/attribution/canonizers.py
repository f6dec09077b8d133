"""Turn parts of the explained copy into the same function of plainer modules, as relevance rules need them.

It does not know which rule goes where. A canonizer changes the copy, leaves its output as it is, and can be undone.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torchvision.models import resnet
from torchvision.models.video import S3D
from torchvision.models.video import resnet as video_resnet
from zennit.canonizers import AttributeCanonizer, Canonizer

from vidact.attribution.unrolling import UnrollGRU, UnrollLSTM
from vidact.models.layers import Sum

Weighted = _ConvNd | nn.Linear


def build_canonizers() -> list[Canonizer]:
    """Build what every composite of vidact applies, in this order."""
    return [AttributeCanonizer(_with_modules), UnrollLSTM(), UnrollGRU(), MergeBatchNorm()]


@dataclass(frozen=True)
class Pair:
    """A BatchNorm, where it stands, and the layer before it.

    Attributes:
        linear: A convolution, transposed convolution or linear layer.
        batch_norm: In eval mode, with running statistics.
        parent: The module that holds the BatchNorm.
        name: The BatchNorm's name there.
    """

    linear: Weighted
    batch_norm: _BatchNorm
    parent: nn.Module
    name: str


class MergeBatchNorm(Canonizer):  # type: ignore[misc]
    """Merge each BatchNorm in eval mode with the convolution or linear layer before it.

    With s = γ / √(var + eps): W' = s W, b' = s (b − mean) + β; an `nn.Identity` stands in the BatchNorm's place.
    Zennit's own leaves its eps there, a factor of 1 / √(1 + eps) per layer, and needs an affine BatchNorm.

    `batch_norm_pairs` says which belong together; `law.examine` finds where that is not so.
    """

    def apply(self, root_module: nn.Module) -> list[Canonizer]:
        """Merge all pairs; gives an instance per pair, each of which can be removed."""
        return [self.copy().register(pair) for pair in batch_norm_pairs(root_module)]

    def register(self, pair: Pair) -> "MergeBatchNorm":
        """Merge one pair."""
        linear = pair.linear
        self._pair, self._weight, self._bias = pair, linear.weight, linear.bias
        weight, bias = merged_parameters(linear, pair.batch_norm)
        # New Parameter objects: the old ones may be shared with other modules.
        linear.weight = nn.Parameter(weight, requires_grad=self._weight.requires_grad)
        linear.bias = nn.Parameter(bias, requires_grad=self._weight.requires_grad)
        setattr(pair.parent, pair.name, nn.Identity())
        return self

    def remove(self) -> None:
        """Put everything back."""
        self._pair.linear.weight, self._pair.linear.bias = self._weight, self._bias
        setattr(self._pair.parent, self._pair.name, self._pair.batch_norm)


@torch.no_grad()
def merged_parameters(linear: Weighted, batch_norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Compute the weight and the bias that do the work of both.

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
    """Bring a value per output channel [J] to where the weight has its output channels."""
    if not isinstance(linear, _ConvTransposeNd):  # [J, I / groups, ...]
        return scale.reshape(-1, *[1] * (linear.weight.ndim - 1))
    per_group = scale.reshape(linear.groups, 1, -1).expand(-1, linear.in_channels // linear.groups, -1)
    return per_group.reshape(linear.in_channels, -1, *[1] * (linear.weight.ndim - 2))  # [I, J / groups, ...]


def batch_norm_pairs(root: nn.Module) -> list[Pair]:
    """Find each BatchNorm that is defined right after a convolution or a linear layer.

    Right after means: in one `nn.Sequential`, or as attributes of one module, whose parts are taken to be called in
    the order in which they are defined. What cannot be merged is left out: a layer or a BatchNorm that stands at two
    places, other channel numbers, a BatchNorm in training mode or without running statistics, a parametrised weight.
    """
    places: dict[nn.Module, list[tuple[nn.Module, str]]] = {}
    for parent in root.modules():
        for name, child in parent._modules.items():
            if child is not None:
                places.setdefault(child, []).append((parent, name))
    found = [ends for module in root.modules() for ends in _neighbours(module)]
    return [
        Pair(linear, batch_norm, *places[batch_norm][0])
        for linear, batch_norm in found
        if _fit(linear, batch_norm) and len(places[linear]) == len(places[batch_norm]) == 1
    ]


def _neighbours(module: nn.Module) -> Iterator[tuple[Any, Any]]:
    children = [child for child in module._modules.values() if child is not None]
    for child, following in itertools.pairwise(children):
        yield _end(child, place=-1), _end(following, place=0)


def _end(module: nn.Module, *, place: int) -> nn.Module | None:
    """Give the first (place 0) or the last (place −1) layer of nested `nn.Sequential`s."""
    while len(module._modules):
        if type(module).forward is not nn.Sequential.forward:
            return None
        module = list(module.children())[place]
    return module


def _fit(linear: object, batch_norm: object) -> bool:
    if not isinstance(linear, _ConvNd | nn.Linear) or not isinstance(batch_norm, _BatchNorm):
        return False
    num_channels = linear.out_features if isinstance(linear, nn.Linear) else linear.out_channels
    is_constant = batch_norm.running_mean is not None and not batch_norm.training
    return is_constant and batch_norm.num_features == num_channels and "weight" in linear._parameters


def _with_modules(name: str, module: nn.Module) -> dict[str, Any] | None:
    """Say what to replace in a module of torchvision that adds or averages without a module; None for others."""
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
