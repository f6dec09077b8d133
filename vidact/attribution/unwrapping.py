"""Undo wrappers around a network's code and weights: torch.compile, activation checkpoints, computed weights."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm
from torch.utils import checkpoint


def give_computed_weights(network: nn.Module) -> None:
    """Replace every computed weight of a network by a plain parameter with its current value.

    Covers `torch.nn.utils.parametrize` (parametrizations.weight_norm, spectral_norm, orthogonal, …), the older
    `torch.nn.utils.weight_norm` and `spectral_norm`, and `torch.nn.utils.prune`.
    """
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            _give_parameters(module)
        for hook in list(module._forward_pre_hooks.values()):
            _take_away(module, hook)


def _give_parameters(module: nn.Module) -> None:
    # torch's remove_parametrizations changes a class that the copy shares with the network itself.
    names: list[str] = list(module.parametrizations)  # type: ignore[arg-type]
    values = {name: getattr(module, name).detach().clone() for name in names}
    module.__class__ = type(module).__bases__[0]
    del module.parametrizations
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _take_away(module: nn.Module, hook: object) -> None:
    if isinstance(hook, WeightNorm):
        remove_weight_norm(module, hook.name)
    elif isinstance(hook, SpectralNorm):
        remove_spectral_norm(module, hook.name)
    elif isinstance(hook, prune.BasePruningMethod):
        prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def run_plainly() -> Iterator[None]:
    """Run compiled code uncompiled, and activation checkpoints so that hooks and gradients pass through them.

    Compiled code ignores the hooks that rules are made of. A reentrant checkpoint hides its part of the graph
    and cannot be differentiated by `torch.autograd.grad`; a checkpoint without re-entrance has the same result.
    """
    with _eager(), _not_reentrant():
        yield


@contextlib.contextmanager
def _eager() -> Iterator[None]:
    if "torch._dynamo" not in sys.modules:  # nothing is compiled
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


class _NotReentrant:
    """Replaces the function that makes a reentrant checkpoint."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        return checkpoint.checkpoint(function, *args, use_reentrant=False, preserve_rng_state=preserve_rng_state)


@contextlib.contextmanager
def _not_reentrant() -> Iterator[None]:
    before = checkpoint.CheckpointFunction
    checkpoint.CheckpointFunction = _NotReentrant  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        checkpoint.CheckpointFunction = before  # type: ignore[misc]
