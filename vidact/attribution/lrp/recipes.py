"""The rules and kinds of layers that a composite may name, and `Line`, which gives a kind of layer its rule.

A new rule is a class in `rules.py` and an entry of `RULES`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from inspect import getmembers, isclass
from typing import Any

from torch import nn
from zennit import types
from zennit.core import Hook

from vidact.attribution.lrp import rules
from vidact.attribution.lrp.first_layer import FirstLayer
from vidact.core.errors import ConfigError, nearest
from vidact.models import layers
from vidact.models.layers import FrameDifferences, Gate, Normalisation, Sum, SumOver

FIRST, RECURRENT = "first", "recurrent"
TINY = 1e-30  # keeps LRP-0 from dividing by zero


@dataclass(frozen=True)
class RuleEntry:
    """A rule that a line of a composite may name.

    Attributes:
        build: Builds the hook from the settings (and `zero_params`, if it is weighted).
        settings: The settings that a line may give.
        weighted: Whether it is for layers with weights.
    """

    build: Callable[..., Hook]
    settings: tuple[str, ...] = ()
    weighted: bool = True


RULES: dict[str, RuleEntry] = {
    "lrp_0": RuleEntry(partial(rules.Epsilon, epsilon=TINY)),
    "epsilon": RuleEntry(rules.Epsilon, ("epsilon",)),
    "gamma": RuleEntry(rules.Gamma, ("gamma", "stabilizer")),
    "z_plus": RuleEntry(rules.ZPlus, ("stabilizer",)),
    "alpha_beta": RuleEntry(rules.AlphaBeta, ("alpha", "beta", "stabilizer")),
    "alpha1_beta0": RuleEntry(partial(rules.AlphaBeta, alpha=1.0, beta=0.0), ("stabilizer",)),
    "alpha2_beta1": RuleEntry(partial(rules.AlphaBeta, alpha=2.0, beta=1.0), ("stabilizer",)),
    "w_square": RuleEntry(rules.WSquare, ("stabilizer",)),
    "flat": RuleEntry(rules.Flat, ("stabilizer",)),
    "box": RuleEntry(rules.Box, ("stabilizer",)),
    "norm": RuleEntry(rules.Norm, ("stabilizer",), weighted=False),
    "pass": RuleEntry(rules.Pass, weighted=False),
    "signal_takes_all": RuleEntry(rules.SignalTakesAll, weighted=False),
    "even_split": RuleEntry(rules.EvenSplit, weighted=False),
    "affine": RuleEntry(rules.Affine, ("stabilizer",), weighted=False),
    "affine_plus": RuleEntry(rules.AffinePlus, ("stabilizer",), weighted=False),
}

CLASSES: dict[str, type[nn.Module]] = {
    name: kind for place in (nn, layers) for name, kind in getmembers(place, isclass) if issubclass(kind, nn.Module)
}

# Zennit's types match kinds of layers that Python has no base class for, such as all convolutions.
LAYERS: dict[str, tuple[Any, ...]] = {
    "weighted": (types.Linear,),
    "convolution": (types.Convolution,),
    "linear": (nn.Linear,),
    "activation": (types.Activation, nn.Mish),
    "average_pooling": (types.AvgPool,),
    "upsampling": (nn.Upsample,),
    "batch_norm": (types.BatchNorm,),
    "normalisation": (Normalisation,),
    "frame_differences": (FrameDifferences,),
    "sum": (Sum, SumOver),
    "gate": (Gate,),
}


def has_weights(layer: str) -> bool | None:
    """Say whether all layers of a kind have weights (True), none has (False), or some have (None).

    Args:
        layer: One of `LAYERS`, `first`, `recurrent`, or a class of torch.nn or vidact's layers.
    """
    if layer in (FIRST, RECURRENT):
        return True
    if layer == nn.Module.__name__:
        return None
    return all(issubclass(kind, types.Linear) for kind in LAYERS.get(layer) or (CLASSES[layer],))


@dataclass(frozen=True)
class Line:
    """One line of a composite: which layers get which rule.

    Attributes:
        rule: One of `RULES`.
        layer: One of `LAYERS`, `first`, `recurrent`, or a class's name; None for any.
        name: Pattern of module names, as of files (`*`, `?`, `[ab]`); None for any.
        settings: Of the rule.
    """

    rule: str
    layer: str | None = None
    name: str | None = None
    settings: Mapping[str, float] = field(default_factory=dict)

    def fits(self, name: str, module: nn.Module, *, is_first: bool = True, is_recurrent: bool = True) -> bool:
        """Say whether the line applies to a module.

        Args:
            name: Of the module in the network.
            module: The module.
            is_first: Whether it is the first layer with weights.
            is_recurrent: Whether it is a map inside a step of an LSTM or GRU.
        """
        if self.name is not None and not fnmatchcase(name, self.name):
            return False
        if RULES[self.rule].weighted != isinstance(module, types.Linear):
            return False
        if self.layer in (FIRST, RECURRENT):
            return is_first if self.layer == FIRST else is_recurrent
        if self.layer in LAYERS:
            return isinstance(module, LAYERS[self.layer])
        return self.layer is None or self.layer in {kind.__name__ for kind in type(module).__mro__}

    def build(self, *, zero_biases: bool, first: FirstLayer | None) -> Hook:
        """Build the hook."""
        settings: dict[str, Any] = dict(self.settings)
        if RULES[self.rule].weighted and zero_biases:
            settings["zero_params"] = "bias"  # no list: type checkers draw random numbers to check lists
        if self.rule == "box":
            assert first is not None
            settings |= {"low": first.low, "high": first.high}
        return RULES[self.rule].build(**settings)


@dataclass(frozen=True)
class Recipe:
    """A composite as it was read, before it is built for a network.

    Attributes:
        name: For people.
        lines: The first that fits a layer gives its rule.
        zero_biases: Whether rules ignore biases.
        own_lines: The lines of a user's mapping; each pattern of names must fit some module.
        attention: What softmax does in gradient form (`attnlrp` or `cp_lrp`); None where rules are put on modules.
    """

    name: str
    lines: Collection[Line]
    zero_biases: bool = True
    own_lines: Collection[Line] = ()
    attention: str | None = None

    @property
    def needs_first(self) -> bool:
        """Whether the first layer is treated apart, so that a clip is needed to find it."""
        return any(line.layer == FIRST for line in self.lines)


def check_names(recipe: Recipe, network: nn.Module) -> None:
    """Make sure that every pattern of names that was given fits a module of the network.

    Args:
        recipe: As it was read.
        network: With its canonizers applied, or without.

    Raises:
        ConfigError: a pattern that fits none.
    """
    modules = {name: module for name, module in network.named_modules() if name}
    for line in recipe.own_lines:
        if line.name is None or any(line.fits(*item) for item in modules.items()):
            continue
        told = f"{{name: {line.name}, rule: {line.rule}}}"
        if named := [name for name in modules if fnmatchcase(name, line.name)]:
            fitting = f"{named[0]} ({type(modules[named[0]]).__name__})" + (" and others" if named[1:] else "")
            what = "with" if RULES[line.rule].weighted else "without"
            which = f" of layer {line.layer}" if line.layer else ""
            raise ConfigError(
                f"{recipe.name}: {told} names {fitting}, but {line.rule} is for layers {what} weights, and none there "
                f"is one{which}"
            )
        near = nearest(line.name, modules) or list(modules)[:8]
        raise ConfigError(f"{recipe.name}: no module fits {told}; nearest names: {', '.join(near)}")
