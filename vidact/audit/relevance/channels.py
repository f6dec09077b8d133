"""A layer's channels: find the layer, follow relevance to it and on to the pixels, and run without a channel.

Concept relevance: Achtibat et al. 2023, "From attribution maps to human-understandable explanations through concept
relevance propagation".
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidact.attribution.base import Explainer
from vidact.attribution.copies import differentiable, in_eval
from vidact.attribution.gradient_form.explainer import without_checkpoints
from vidact.attribution.gradient_form.handlers import HANDLERS
from vidact.attribution.gradient_form.ledger import Ledger
from vidact.attribution.gradient_form.walk import Walk
from vidact.attribution.gradient_form.weights import Rules
from vidact.attribution.lrp.composites import GRADIENT_FORM, read_recipe
from vidact.attribution.names import LRP
from vidact.core.errors import ConfigError, ExplanationError, nearest
from vidact.core.networks import module_names

_NORMS = (nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Layer:
    """The layer whose channels are the concepts.

    Attributes:
        name: Of the module.
        axis: Of the channels in its output.
        channels: How many there are.
    """

    name: str
    axis: int
    channels: int

    def of(self, values: Tensor, channel: int) -> Tensor:
        """Keep one channel of a tensor in the shape of the layer's output; the others are 0."""
        kept = torch.zeros_like(values)
        kept.select(self.axis, channel).copy_(values.select(self.axis, channel))
        return kept

    def sums(self, values: Tensor) -> Float[Tensor, " K"]:
        """Add up each channel over places, times and clips."""
        return values.movedim(self.axis, 0).flatten(1).double().sum(dim=1)


def find_layer(network: nn.Module, video: Float[Tensor, "B C T H W"], name: str | None = None) -> Layer:
    """Find the layer whose channels are the concepts.

    Args:
        network: Stays as it is.
        video: The first clip is used.
        name: A module's name; None for the last that gives maps or tokens, before they are pooled.

    Raises:
        ConfigError: there is no such layer, or it gives no maps or tokens in one call.
    """
    names = [own for own in module_names(network) if own]
    if name is not None and name not in names:
        near = nearest(name, names) or names[:8]
        raise ConfigError(f"the network has no layer {name!r}; nearest: {', '.join(near)}")
    shapes, num_classes = _output_shapes(network, video[:1])
    has_tokens = any(isinstance(module, _NORMS) for module in network.modules())
    suited = [own for own, calls in shapes.items() if len(calls) == 1 and _has_places(network, own, calls[0])]
    if name is None:
        usual = [own for own in suited if len(shapes[own][0]) > 3 or has_tokens]
        if not usual:
            raise ConfigError("no layer of the network gives maps or tokens in one call; there are no concepts")
        # A last convolution may give logits at each place.
        concepts = [own for own in usual if _channels(network, own, shapes[own][0]) != num_classes]
        name = (concepts or usual)[-1]
    elif name not in suited:
        calls = shapes.get(name, [])
        raise ConfigError(
            f"concepts need a layer that is called once and gives maps [B, K, T, H, W] or [B, K, H, W], or tokens "
            f"[B, N, K]; {name!r} is called {len(calls)} times and gives {[list(shape) for shape in calls[:1]]}; "
            f"nearest that suit: {', '.join(nearest(name, suited) or suited[-3:]) or 'none'}"
        )
    axis = _channel_axis(network.get_submodule(name), shapes[name][0])
    return Layer(name, axis, shapes[name][0][axis])


def _output_shapes(network: nn.Module, video: Float[Tensor, "1 C T H W"]) -> tuple[dict[str, list[torch.Size]], int]:
    """List the shapes of each module's outputs, in the order in which modules first finish; and count the classes."""
    shapes: dict[str, list[torch.Size]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                shapes.setdefault(name, []).append(output.shape)

        return hook

    with in_eval(network), contextlib.ExitStack() as stack, torch.no_grad():
        for name, module in network.named_modules():
            if name:
                stack.callback(module.register_forward_hook(note(name)).remove)
        scores: Tensor = network(video)
    return shapes, scores.shape[1]


def _has_places(network: nn.Module, name: str, shape: torch.Size) -> bool:
    if len(shape) not in (3, 4, 5):
        return False
    return shape.numel() > _channels(network, name, shape)


def _channels(network: nn.Module, name: str, shape: torch.Size) -> int:
    return shape[_channel_axis(network.get_submodule(name), shape)]


def _channel_axis(module: nn.Module, shape: torch.Size) -> int:
    """Find the channels: last in tokens, and in maps as Swin has them, which a norm over the last dimension tells."""
    over = [own.normalized_shape for own in module.modules() if isinstance(own, _NORMS)]
    return len(shape) - 1 if len(shape) == 3 or (shape[-1],) in map(tuple, over) else 1


@dataclass(frozen=True)
class Followed:
    """One clip's relevance at a layer.

    Attributes:
        layer: The layer.
        output: What it gives.
        relevance: R of each element of its output.
        handed: What stands for R on its way down: R, or R / output in gradient form.
        down: Brings some of that to the voxels.
        score: The logit that is explained.
    """

    layer: Layer
    output: Tensor
    relevance: Tensor
    handed: Tensor
    down: Callable[[Tensor], Tensor]
    score: float

    def conditional(self, channel: int) -> Float[Tensor, "1 C T H W"]:
        """Compute the relevance of voxels by way of one channel; over all channels it adds up to what the layer has."""
        with differentiable(self.output.device):
            return self.down(self.layer.of(self.handed, channel)).detach()


def why_not(method: str | None) -> str | None:
    """Say why concepts cannot be found with a method; None where they can."""
    composite = (method or "").removeprefix(LRP).removeprefix(":")
    is_own = composite not in GRADIENT_FORM and composite.startswith(tuple(f"{name}_" for name in GRADIENT_FORM))
    if method is not None and method.partition(":")[0] == LRP and not is_own:
        return None
    return f"concepts need relevance by {LRP} with one of its own composites, as lrp or lrp:epsilon_plus; got {method}"


def follow(explain: Explainer, video: Float[Tensor, "1 C T H W"], target: int, layer: Layer) -> Followed:
    """Propagate the relevance of a logit down to a layer, by the rules of an explainer.

    Args:
        explain: An open one of `lrp`; see `why_not`.
        video: One clip.
        target: A class number.
        layer: Of `find_layer`.

    Raises:
        ConfigError: the method is no `lrp`, or relevance does not go through the layer.
        ExplanationError: the network cannot be explained so.
    """
    explain.prepare(video)
    if reason := why_not(explain.method):
        raise ConfigError(reason)
    in_gradient_form = explain.method.removeprefix(f"{LRP}:") in GRADIENT_FORM
    with differentiable(video.device):
        scores, output, down = _run(explain, video, layer)
        start = torch.zeros_like(scores)
        start[:, target] = 1 if in_gradient_form else scores[:, target].detach()
        (handed,) = torch.autograd.grad(scores, output, start, retain_graph=True, allow_unused=True)
        if handed is None:
            raise ConfigError(f"the network's scores do not depend on what {layer.name!r} gives; name another layer")
        output, score = output.detach(), float(scores[0, target].detach())
        relevance = handed * output if in_gradient_form else handed

    def again(values: Tensor) -> Tensor:  # in gradient form, a pass down to the voxels uses the graph up
        return _run(explain, video, layer)[2](values)

    return Followed(layer, output, relevance, handed, again if in_gradient_form else down, score)


def _run(
    explain: Explainer, video: Float[Tensor, "1 C T H W"], layer: Layer
) -> tuple[Float[Tensor, "1 K"], Tensor, Callable[[Tensor], Tensor]]:
    """Run the explained copy; gives its logits, the layer's output, and what brings relevance from there down."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        kept.append(output)
        return output.clone()  # what follows may work in place

    network, name = explain.network, explain.method.removeprefix(f"{LRP}:")
    if layer.name not in module_names(network):
        raise ConfigError(_not_followed(layer))
    own = next((parameter.dtype for parameter in network.parameters()), video.dtype)
    leaf = video.detach().to(own).clone().requires_grad_()
    handle = network.get_submodule(layer.name).register_forward_hook(keep)
    try:
        if name in GRADIENT_FORM:
            with without_checkpoints():
                walk = Walk(network, Rules(read_recipe(name)), HANDLERS, Ledger(1))
                scores, pixels = walk.run(leaf)
            if walk.refused:  # a step that the clips before did not take
                raise ExplanationError(str(next(iter(walk.refused))))
        else:
            scores = network(leaf.clone())
    finally:
        handle.remove()
    if len(kept) != 1:
        raise ConfigError(_not_followed(layer))
    if name in GRADIENT_FORM:
        return scores, kept[0], lambda values: pixels.relevance(kept[0], values)
    return scores, kept[0], lambda values: torch.autograd.grad(kept[0], leaf, values, retain_graph=True)[0]


def _not_followed(layer: Layer) -> str:
    return f"relevance does not go through {layer.name!r} as a module of its own; name another layer"


@contextlib.contextmanager
def ablated(network: nn.Module, layer: Layer, values: Mapping[int, float]) -> Iterator[nn.Module]:
    """Let a network run with some channels of a layer at fixed values, and restore it afterwards.

    Args:
        network: In eval mode meanwhile.
        layer: Of `find_layer`.
        values: By channel, what stands for all that it gives: its mean over the data.
    """

    def replace(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        output = output.clone()
        for channel, value in values.items():
            output.select(layer.axis, channel).fill_(value)
        return output

    handle = network.get_submodule(layer.name).register_forward_hook(replace)
    try:
        with in_eval(network):
            yield network
    finally:
        handle.remove()


@torch.no_grad()
def logits_without(
    network: nn.Module, video: Float[Tensor, "B C T H W"], layer: Layer, values: Mapping[int, float]
) -> Float[Tensor, "B K"]:
    """Score clips with some channels of a layer at fixed values; see `ablated`."""
    with ablated(network, layer, values):
        scores: Tensor = network(video)
    return scores
