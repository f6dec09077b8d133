"""Find which BatchNorm normalises the output of which layer, by watching one forward pass."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from vidact.attribution.copies import keep_rng
from vidact.attribution.graph.operations import HARMLESS, name_of_node

Weighted = _ConvNd | nn.Linear


@dataclass(frozen=True)
class Pair:
    """A BatchNorm and the layer whose output it normalises.

    Attributes:
        linear: A convolution, transposed convolution or linear layer.
        batch_norm: In eval mode, with running statistics.
        places: The modules that hold the BatchNorm, and its names there.
    """

    linear: Weighted
    batch_norm: _BatchNorm
    places: tuple[tuple[nn.Module, str], ...]


def batch_norm_pairs(root: nn.Module, clip: Float[Tensor, "..."]) -> list[Pair]:
    """Find each BatchNorm that takes the whole output of a layer, and is alone in using it.

    Pairs that cannot be merged are skipped: different channel numbers, a BatchNorm in training mode or without running
    statistics, a parametrised weight.

    Args:
        root: The network; stays as it is.
        clip: What it is run on.
    """
    watch = _run(root, clip)
    return [
        Pair(linear, norm, _places(root, norm))
        for norm, nodes in watch.inputs.items()
        for linear in [watch.source(nodes)]
        if linear is not None and _fit(linear, norm) and watch.is_alone(linear, norm)
    ]


def unmergeable_pairs(root: nn.Module, clip: Float[Tensor, "..."]) -> list[tuple[str, str]]:
    """Find each BatchNorm that normalises a layer's output (reshaped at most), and cannot be merged with it.

    Args:
        root: The network, with all pairs merged that can be; stays as it is.
        clip: What it is run on.

    Returns:
        The names of the layer and of the BatchNorm.
    """
    watch = _run(root, clip)
    names = {module: name for name, module in root.named_modules()}
    sources = [
        (watch.source({watch.before_moving(node) for node in nodes}, alone=False), norm)
        for norm, nodes in watch.inputs.items()
        if norm.running_mean is not None
    ]
    return [(names[linear], names[norm]) for linear, norm in sources if linear is not None]


class _Watch:
    """Records which nodes of the autograd graph layers and BatchNorms make, and which they are given."""

    def __init__(self) -> None:
        self.outputs: dict[nn.Module, set[Any]] = defaultdict(set)  # of layers and of BatchNorms
        self.inputs: dict[_BatchNorm, set[Any]] = defaultdict(set)
        self.strange: set[nn.Module] = set()  # linear maps of more than one vector: a BatchNorm takes other channels
        self.consumers: dict[Any, set[Any]] = defaultdict(set)

    def note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        self.outputs[module].add(output.grad_fn)
        if isinstance(module, nn.Linear) and output.ndim != 2:
            self.strange.add(module)
        if isinstance(module, _BatchNorm):
            (given,) = (*args, *kwargs.values())
            self.inputs[module].add(given.grad_fn)

    def follow(self, scores: Tensor) -> None:
        """Record which nodes use the output of each node."""
        waiting, seen = [scores.grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            for below, _ in node.next_functions:
                self.consumers[below].add(node)
                waiting.append(below)

    def source(self, nodes: set[Any], *, alone: bool = True) -> Weighted | None:
        """Find the layer that made these nodes; None if others contributed and it has to be alone."""
        makers = (module for module, made in self.outputs.items() if isinstance(module, Weighted))
        for module in makers:
            made = self.outputs[module]
            if None not in made and (nodes == made if alone else nodes & made):
                return module
        return None

    def before_moving(self, node: Any) -> Any:
        """Go back to a layer, past operations that only move numbers."""
        made: set[Any] = set().union(*self.outputs.values())
        while node is not None and node not in made and name_of_node(node.name()) in HARMLESS:
            below = [one for one, _ in node.next_functions if one is not None]
            if len(below) != 1:
                break
            (node,) = below
        return node

    def is_alone(self, linear: Weighted, norm: _BatchNorm) -> bool:
        """Say whether a layer's output goes to the BatchNorm and nowhere else, as far as gradients tell."""
        takers: set[Any] = set().union(*(self.consumers[node] for node in self.outputs[linear]))
        return linear not in self.strange and takers == self.outputs[norm]


def _run(root: nn.Module, clip: Tensor) -> _Watch:
    watch = _Watch()
    with _hooks(root, watch), torch.inference_mode(mode=False), torch.enable_grad(), keep_rng(clip.device):
        scores = root(clip.detach().clone().requires_grad_().clone())
    watch.follow(scores)
    return watch


@contextlib.contextmanager
def _hooks(root: nn.Module, watch: _Watch) -> Iterator[None]:
    modules = [module for module in root.modules() if isinstance(module, Weighted | _BatchNorm)]
    handles = [module.register_forward_hook(watch.note, with_kwargs=True, prepend=True) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _places(root: nn.Module, module: nn.Module) -> tuple[tuple[nn.Module, str], ...]:
    return tuple(
        (parent, name) for parent in root.modules() for name, child in parent._modules.items() if child is module
    )


def _fit(linear: Weighted, norm: _BatchNorm) -> bool:
    num_channels = linear.out_features if isinstance(linear, nn.Linear) else linear.out_channels
    is_constant = norm.running_mean is not None and not norm.training
    return is_constant and norm.num_features == num_channels and "weight" in linear._parameters
