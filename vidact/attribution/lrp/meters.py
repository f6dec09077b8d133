"""Record the relevance that enters and leaves each layer; `conservation.py` makes its table of it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from zennit import types

from vidact.models.layers import FrameDifferences, Gate, Sum, SumOver

# Layers that add, multiply or have weights; all others pass relevance on unchanged.
FOLLOWED = (types.Linear, types.AvgPool, nn.Upsample, Sum, SumOver, Gate, FrameDifferences)


class Meter:
    """Adds up the relevance of one clip at one layer, over the layer's calls.

    Attributes:
        arriving: ΣR at its outputs.
        leaving: ΣR at its inputs.
        largest: max|R| at either.
    """

    def __init__(self) -> None:
        self.arriving = self.leaving = self.largest = 0.0

    def _read_output(self, relevance: Tensor | None) -> None:
        self.arriving += self._sum(relevance)

    def _read_input(self, relevance: Tensor | None) -> None:
        self.leaving += self._sum(relevance)

    def _sum(self, relevance: Tensor | None) -> float:
        if relevance is None:  # autograd's way to say that nothing arrives here
            return 0.0
        self.largest = max(self.largest, float(relevance.abs().max().nan_to_num(nan=torch.inf)))
        return float(relevance.double().sum())

    def before(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Replace the inputs of a call by tensors whose relevance is read."""
        return tuple(map(self._own, inputs)), {name: self._own(value) for name, value in named.items()}

    def _own(self, value: Any) -> Any:
        """Make a view for this call alone: the tensor itself may go to other modules as well."""
        if not _carries(value):
            return value
        own = value.view_as(value)
        own.register_hook(self._read_input)
        return own

    def after(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Read the relevance of a call's output."""
        if _carries(output):
            output.register_hook(self._read_output)


@contextlib.contextmanager
def meters(network: nn.Module) -> Iterator[dict[tuple[str, str], Meter]]:
    """Attach meters to the layers of a network; gives those of the layers that were called, in the order of calls.

    A layer is identified by its name in the network and its class.
    """
    found: dict[tuple[str, str], Meter] = {}
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, FOLLOWED):
            handles += _attach(module, (name, type(module).__name__), found)
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _attach(module: nn.Module, key: tuple[str, str], meters: dict[tuple[str, str], Meter]) -> list[Any]:
    meter = Meter()

    def before(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        meters.setdefault(key, meter)
        return meter.before(inputs, named)

    return [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(meter.after)]


def _carries(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad
