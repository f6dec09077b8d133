"""Define `Obstacle`, and judge each module and operation of a network for `checks.find_obstacles`."""

import inspect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from zennit import types

from vidact.attribution.copies import (
    why_in_place,
)
from vidact.attribution.graph.operations import HARMLESS, POOLING_BY_WINNER, WEIGHTED_OPERATIONS, remedy_for
from vidact.attribution.graph.pairs import Weighted
from vidact.attribution.graph.tracing import Operation, Trace
from vidact.attribution.graph.unrolling import GatedBias
from vidact.attribution.lrp.recipes import LAYERS
from vidact.models import layers

Kind = Literal[
    "functional",  # an operation that is no module
    "no_rule",  # a module without a rule
    "in_place",  # a module that overwrites what another one reads
    "not_merged",  # a BatchNorm that normalises a layer's output, and cannot be merged with it
    "output_changed",  # canonizers change the network's scores
    "called_twice",
    "never_called",
    "unseen_frames",  # frames without gradient
    "batch_statistics",  # BatchNorm without running statistics
]


@dataclass(frozen=True)
class Obstacle:
    """Something in a network that relevance rules cannot follow, or that is worth knowing.

    Attributes:
        kind: One of `Kind`.
        module: Name of the module, or the network's class.
        why: What happens there and, where it is known, in which line.
        remedy: What to do.
        hides_relevance: Whether relevance would be wrong; if not, it is a note.
    """

    kind: Kind
    module: str
    why: str
    remedy: str
    hides_relevance: bool

    def __str__(self) -> str:
        return f"{self.module}: {self.why}; {self.remedy}"


def _in_place(network: nn.Module, module: str) -> Obstacle:
    return Obstacle("in_place", module or type(network).__name__, *why_in_place(network, module), hides_relevance=True)


def _output_changed(network: nn.Module) -> Obstacle:
    why = "its scores change where BatchNorm is merged and blocks are given modules that add"
    remedy = "a parameter or a module is used in two ways; use each in one place only"
    return Obstacle("output_changed", type(network).__name__, why, remedy, hides_relevance=True)


def _not_merged(layer: str, batch_norm: str) -> Obstacle:
    why = (
        f"it normalises the output of {layer} and cannot be merged with it, as that is also used elsewhere or reshaped "
        "in between: rules would take the layer's weights without the BatchNorm's signs"
    )
    remedy = f"call it right after {layer}, directly on its output, and use that output nowhere else"
    return Obstacle("not_merged", batch_norm, why, remedy, hides_relevance=True)


# Torch's files of modules that only move or drop numbers.
_FILES_WITHOUT_NEED = ("dropout", "padding", "flatten", "pixelshuffle", "channelshuffle")


_WITHOUT_RULES: dict[tuple[type[nn.Module], ...], str] = {
    (nn.MultiheadAttention,): "use nn.Linear for queries, keys and values, and Gate(values, weights) with SumOver",
    (nn.LSTM, nn.GRU): "only without projections is it unrolled; leave out proj_size",
    (nn.RNNBase, nn.RNNCellBase): "use nn.LSTM or nn.GRU, which are unrolled for the explanation",
    (
        nn.Softmax,
        nn.Softmax2d,
        nn.Softmin,
    ): "weights of attention go into Gate as its second argument; scores are logits",
    (nn.LogSoftmax,): "give logits as scores",
    (nn.GLU, nn.Bilinear): "use nn.Linear, nn.Sigmoid and Gate",
    (nn.LPPool1d, nn.LPPool2d, nn.LPPool3d): "use nn.AvgPool3d or its like",
}


_RULED = (nn.Identity, types.MaxPool, *(kind for kinds in LAYERS.values() for kind in kinds))


_OWN = ("torch.nn.modules", layers.__name__)


_NORMALISATION = "use nn.BatchNorm in its place, whose statistics are fixed when the network is explained"


def _is_leaf(module: nn.Module) -> bool:
    """Say whether a module is torch's or vidact's and has no modules inside; all others are looked into."""
    no_children = not module._modules or isinstance(module, nn.MultiheadAttention)
    return no_children and _home(module).startswith(_OWN) and not _is_altered(module)


def _is_altered(module: nn.Module) -> bool:
    """Say whether a subclass, or code at run time, has replaced what a layer's `forward` calls or takes."""
    kinds = type(module).__mro__
    theirs = [kind for kind in kinds[: kinds.index(nn.Module)] if not kind.__module__.startswith(_OWN)]
    names = {"forward", *inspect.unwrap(type(module).forward).__code__.co_names}
    replaced = {*vars(module)} | {name for kind in theirs for name, value in vars(kind).items() if callable(value)}
    return any(name in replaced and callable(getattr(module, name, None)) for name in names if "check" not in name)


def _home(module: nn.Module) -> str:
    """Name the file that a module's forward comes from."""
    return getattr(type(module).forward, "__module__", "")


def _remedy_without_rule(module: nn.Module) -> str | None:
    """Say what to use instead of a leaf module without a rule; None where there is a rule, or none is needed."""
    for kinds, remedy in _WITHOUT_RULES.items():
        if isinstance(module, kinds):
            return remedy
    if isinstance(module, types.Linear) and "weight" not in module._parameters:
        return (
            "its weight is no parameter: make it one, or compute it with torch.nn.utils.parametrize, which is followed"
        )
    if getattr(module, "value", 0) and isinstance(module, nn.modules.padding._ConstantPadNd):
        return "pad with zeros: what relevance other numbers have has nowhere to go"
    if isinstance(module, nn.Upsample) and module.mode == "bicubic":
        return "use nn.Upsample with mode='bilinear', whose weights are not negative"
    home = _home(module)
    needs_none = home == layers.__name__ or home.rpartition(".")[2] in _FILES_WITHOUT_NEED
    if needs_none or isinstance(module, _RULED):
        return None
    return _NORMALISATION if "norm" in home else "build it of modules that have a rule: nn.Linear, nn.Conv3d, …"


def _judge_modules(network: nn.Module, found: Trace) -> Iterator[Obstacle]:
    inside: list[str] = []  # modules inside a leaf are not called as modules
    for name, module in network.named_modules():
        if name.startswith(tuple(inside)):
            continue
        label, is_leaf = name or type(network).__name__, _is_leaf(module)
        inside += [f"{name}."] if is_leaf else []
        is_judged = name in found.reaching and (is_leaf or isinstance(module, Weighted))
        if is_judged and (remedy := _remedy_without_rule(module)) is not None:
            why = f"there is no relevance rule for {type(module).__name__}"
            yield Obstacle("no_rule", label, why, remedy, hides_relevance=True)
        elif is_judged and any(_has_other_weight(operation, module, name) for operation in found.operations):
            why, remedy = (
                "its forward uses a weight that is not its own",
                "store the weight that it should use as its `weight`",
            )
            yield Obstacle("no_rule", label, why, remedy, hides_relevance=True)
        yield from _notes(label, module, found.num_calls.get(name, 0))


def _has_other_weight(operation: Operation, module: nn.Module, name: str) -> bool:
    """Say whether a subclass of a layer computes with a weight that rules would not change."""
    is_its_work = operation.module == name and operation.counts and operation.name in WEIGHTED_OPERATIONS
    return is_its_work and isinstance(module, Weighted) and operation.weight is not module.weight


def _notes(label: str, module: nn.Module, num_calls: int) -> Iterator[Obstacle]:
    """List what does not hide relevance, but is worth knowing."""
    kind = type(module).__name__
    has_weights = any(True for _ in module.parameters(recurse=False))
    if has_weights and num_calls > 1:
        remedy = "vidact's rules keep the calls apart; Zennit's own do not: fold time into the batch"
        yield Obstacle("called_twice", label, f"{kind} is called {num_calls} times", remedy, hides_relevance=False)
    if has_weights and not num_calls:
        why, remedy = f"{kind} has weights and is never called", "it does not affect the scores: remove it"
        yield Obstacle("never_called", label, why, remedy, hides_relevance=False)
    if isinstance(module, _BatchNorm) and module.running_mean is None and num_calls:
        why = f"{kind} has no running statistics: a clip's scores depend on the other clips of its batch"
        remedy = "remove track_running_stats=False"
        yield Obstacle("batch_statistics", label, why, remedy, hides_relevance=False)


def _judge_operations(network: nn.Module, found: Trace) -> Iterator[Obstacle]:
    modules = dict(network.named_modules())
    counting = Counter(
        (operation.module, operation.name, operation.place, _remedy(operation))
        for operation in found.operations
        if operation.counts and (_is_mishandled(operation) or not _is_harmless(operation, modules[operation.module]))
    )
    for (module, name, place, remedy), count in counting.items():
        where = f" in {place}" if place else ""
        why = f"`{name}`{where} " + ("lacks a gradient" if remedy and "let gradients" in remedy else "is no module")
        why += f" ({count} times)" if count > 1 else ""
        told = "relevance passes it unchanged" if remedy is None else f"instead: {remedy}"
        yield Obstacle("functional", module or type(network).__name__, why, told, hides_relevance=remedy is not None)


def _is_mishandled(operation: Operation) -> bool:
    """Say whether an operation hides relevance whatever it computes."""
    return operation.is_detached or operation.is_in_place


def _is_harmless(operation: Operation, module: nn.Module) -> bool:
    """Say whether an operation only moves numbers, or is the computation of a subclassed layer."""
    is_its_work = isinstance(module, Weighted) and operation.name in WEIGHTED_OPERATIONS
    return operation.name in HARMLESS or is_its_work or type(module) is GatedBias


def _remedy(operation: Operation) -> str | None:
    """Say what to use instead of an operation; None where its gradient passes relevance on as a rule would."""
    if operation.is_detached:
        return "let gradients through to its inputs (no detach, .data or no_grad)"
    with_constant = sum(operation.from_video) == 1
    adds = operation.name in {"add", "iadd", "radd"} or (operation.name in {"sub", "isub"} and operation.from_video[0])
    if operation.is_in_place:
        name = operation.name.removeprefix("i") if adds else operation.name
        return f"{remedy_for(name, with_constant=False)}; and not in place, as it writes into the output of a module"
    if adds and with_constant:  # passed on unchanged, its relevance would end on voxels
        return f"{layers.__name__}.Sum(values, constant): the constant takes its share (for pixels: Normalisation)"
    return None if operation.name in POOLING_BY_WINNER else remedy_for(operation.name, with_constant=with_constant)
