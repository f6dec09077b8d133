"""Composites: which relevance rule goes to which layer, by name or by a mapping of the user's own.

A composite is a list of lines, and the first that fits a layer gives its rule. As YAML (`--relevance.composite
my.yaml`, or the same mapping in a run's config):

    rules:
      - {layer: first, rule: box}                         # the first layer with weights that is called
      - {name: "features.*", rule: gamma, gamma: 0.1}     # modules by their name in the network
      - {layer: convolution, rule: alpha_beta, alpha: 2, beta: 1}
      - {name: "head.*", layer: linear, rule: epsilon, epsilon: 0.001}    # both must fit
    otherwise: epsilon_plus      # the composite for all other layers (the default)
    zero_biases: true            # biases take no part, so that relevance adds up to the score (the default)

`layer` is one of `LAYERS`, `first`, `recurrent` (the maps inside the steps of an LSTM or GRU) or a class of torch.nn;
`rule` is one of `RULES`.

Bach et al., On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance propagation,
2015: ε (eq. 58) and αβ (eq. 60). Montavon et al., Explaining nonlinear classification decisions with deep Taylor
decomposition, 2017: z⁺, w² and box (z^B). Montavon et al., Layer-wise relevance propagation: an overview, 2019: γ.
Lapuschkin et al., Unmasking Clever Hans predictors, 2019: flat.
"""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml
from jaxtyping import Float
from torch import Tensor, nn
from zennit.core import Composite, Hook

from vidact.attribution.graph.canonizers import build_canonizers
from vidact.attribution.graph.unrolling import GRUStep
from vidact.attribution.lrp.book import Book
from vidact.attribution.lrp.first_layer import FirstLayer
from vidact.attribution.lrp.recipes import CLASSES, FIRST, LAYERS, RECURRENT, RULES, TINY, Line, Recipe, has_weights
from vidact.attribution.names import ATTNLRP, CP_LRP, DEFAULT_COMPOSITE
from vidact.core.errors import ConfigError, nearest
from vidact.models.recurrent import LSTMStep

CompositeSpec = str | Mapping[str, Any]


# Layers without weights. Relevance of a normalised voxel is the voxel's; a gate's signal takes all (Arras et al. 2019).
_WEIGHTLESS = (
    Line("pass", "normalisation"),
    Line("even_split", "frame_differences"),  # ε would divide by the difference of two frames that are alike
    Line("pass", "activation"),
    Line("signal_takes_all", "gate"),
    Line("norm", "sum"),
    Line("norm", "average_pooling"),
    Line("norm", "upsampling"),
    Line("affine_plus", "batch_norm"),  # that cannot be merged into a layer
)
# As a gradient: x_t and x_{t-1} each get their own product, so that LRP-0 is gradient × input.
_LINEAR_0 = (
    *(Line("norm", layer, settings={"stabilizer": TINY}) for layer in ("frame_differences", "sum")),
    *(Line("norm", layer, settings={"stabilizer": TINY}) for layer in ("average_pooling", "upsampling")),
    Line("affine", "batch_norm", settings={"stabilizer": TINY}),
)


def _lines(convolution: str, *first: Line) -> tuple[Line, ...]:
    # In an LSTM the signal has either sign, and no ReLU follows: the ε rule, as in Arras et al. 2017.
    return (*first, Line("epsilon", RECURRENT), Line(convolution, "convolution"), Line("epsilon", "linear"))


COMPOSITES: dict[str, tuple[Line, ...]] = {
    "epsilon_plus": _lines("z_plus"),
    "epsilon_alpha2_beta1": _lines("alpha2_beta1"),
    "epsilon_gamma": _lines("gamma"),
    "epsilon": (*_lines("epsilon"), Line("affine", "batch_norm")),
    "lrp_0": (Line("lrp_0", "weighted"), *_LINEAR_0),
    "epsilon_plus_box": _lines("z_plus", Line("box", FIRST)),
    "epsilon_gamma_box": _lines("gamma", Line("box", FIRST)),
    "epsilon_plus_w_square": _lines("z_plus", Line("w_square", FIRST)),
    "epsilon_plus_flat": _lines("z_plus", Line("flat", FIRST)),
}

# In gradient form, for networks with attention and for functional code: biases are counted, as they have to be there.
GRADIENT_FORM: dict[str, tuple[Line, ...]] = {
    name: (Line("gamma", "convolution", settings={"gamma": 0.25}), Line("gamma", "linear", settings={"gamma": 0.05}))
    for name in (CP_LRP, ATTNLRP)
}

GRADIENT_FORM_RULES = ("lrp_0", "gamma", "z_plus", "alpha_beta", "alpha1_beta0", "alpha2_beta1", "epsilon")
FIRST_RULES = ("box", "w_square", "flat")
_WEIGHTED_LAYERS = (None, "weighted", "convolution", "linear")

# Beside `epsilon_plus`, which suits all. Flat, w² and box look at the first layer's weights more than at the clip:
# where a filter spans all frames, they give each frame nearly the same relevance. α2β1 does not conserve where a sum
# has parts of one sign only, and γ grows large, where few features reach a recurrence, or where layers are many and
# narrow: on the demo's trained network ΣR / score fell to -1.2e6. `epsilon` in every layer divides by sums near zero:
# in networks with many layers, and with biases left out, max|R| grows beyond all measure.
_FIRST = ("epsilon_plus_box", "epsilon_plus_w_square", "epsilon_plus_flat")
_CONVOLUTIONS = ("epsilon_alpha2_beta1", "epsilon_gamma")
SUITED: dict[str, tuple[str, ...]] = {
    "StackedFramesCNN": ("epsilon", *_CONVOLUTIONS),
    "SingleFrame": (*_CONVOLUTIONS, *_FIRST),
    "EarlyFusion": _CONVOLUTIONS,
    "LateFusion": (*_CONVOLUTIONS, *_FIRST),
    "SlowFusion": (*_CONVOLUTIONS, *_FIRST),
    "SlimResNet3D": ("epsilon_alpha2_beta1", *_FIRST),
    "TorchvisionVideoNet": (*_CONVOLUTIONS, *_FIRST),
    "CNNLSTM": _FIRST,
    "SpatioTemporalAttention": _FIRST,
}


def suited_composites(network: nn.Module) -> tuple[str, ...]:
    """Name the composites that suit a network, the usual one first; for networks other than vidact's only that one."""
    return (DEFAULT_COMPOSITE, *SUITED.get(type(network).__name__, ()))


def build_composite(
    spec: CompositeSpec,
    *,
    clip: Float[Tensor, "..."],
    first: FirstLayer | None = None,
    zero_biases: bool | None = None,
    book: Book | None = None,
) -> Composite:
    """Build Zennit's composite of a name, a YAML file or a mapping.

    Args:
        spec: One of `COMPOSITES`, a path to a .yaml file, or what such a file holds.
        clip: What the network takes; shows which BatchNorm belongs to which layer.
        first: The network's first layer, where the composite treats it apart.
        zero_biases: Whether rules ignore biases; None for what the composite says.
        book: Where rules note what they do not give to inputs.

    Raises:
        ConfigError: no such composite, or one that contradicts itself.
    """
    recipe = read_recipe(spec)
    if recipe.needs_first and first is None:
        raise ConfigError(f"the composite {recipe.name} treats the first layer apart, and it was not given")
    zero = recipe.zero_biases if zero_biases is None else zero_biases
    hooks = [line.build(zero_biases=zero, first=first) for line in recipe.lines]
    for hook in hooks:
        hook.book = book

    def choose(context: dict[str, Any], name: str, module: nn.Module) -> Hook | None:
        steps = context.setdefault("steps", [])  # names of modules come before those of their parts
        if isinstance(module, LSTMStep | GRUStep):
            steps.append(f"{name}.")
        place = {"is_first": first is not None and module is first.module, "is_recurrent": name.startswith((*steps,))}
        fitting = (hook for line, hook in zip(recipe.lines, hooks, strict=True) if line.fits(name, module, **place))
        return next(fitting, None)

    return Composite(module_map=choose, canonizers=build_canonizers(clip))


def read_recipe(spec: CompositeSpec) -> Recipe:
    """Read a composite, without a network.

    Raises:
        ConfigError: no such composite or file; an unknown rule, layer or setting.
    """
    if isinstance(spec, str) and spec in COMPOSITES:
        return Recipe(spec, COMPOSITES[spec] + _WEIGHTLESS)
    if isinstance(spec, str) and spec in GRADIENT_FORM:
        return Recipe(spec, GRADIENT_FORM[spec], zero_biases=False, attention=spec)
    if not isinstance(spec, str):
        return _read_mapping(spec, "the composite")
    path = Path(spec)
    if path.suffix not in {".yaml", ".yml"}:
        known = ", ".join([*COMPOSITES, *GRADIENT_FORM])
        raise ConfigError(f"composite {spec!r} is unknown; there are {known}, or give a .yaml file")
    try:
        return _read_mapping(_load(path), str(path))
    except OSError as error:
        raise ConfigError(f"composite {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"composite {path} is no YAML: {' '.join(str(error).split())}") from error


def _load(path: Path) -> object:
    loader = _Loader(path.read_text(encoding="utf-8"))
    loader.name = str(path)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses a key that is given twice; YAML's own loader takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise ConfigError(f"{self.name}, line {key.start_mark.line + 1}: {key.value} is given twice")
            seen.add(key.value)
        content: dict[Any, Any] = super().construct_mapping(node, deep)
        return content


def _read_mapping(content: object, name: str) -> Recipe:
    if not isinstance(content, Mapping) or not isinstance(content.get("rules"), list):
        raise ConfigError(f"{name}: expected a mapping with a list of rules, got {str(content)[:60]!r}")
    _check_keys(content, {"rules", "otherwise", "zero_biases"}, name)
    otherwise, zero_biases = content.get("otherwise", DEFAULT_COMPOSITE), content.get("zero_biases", True)
    _check_choice(otherwise, {**COMPOSITES, **GRADIENT_FORM}, f"{name}: otherwise")
    if not isinstance(zero_biases, bool):
        raise ConfigError(f"{name}: zero_biases is true or false, got {zero_biases!r}")
    own = tuple(_read_line(line, f"{name}, rule {number}") for number, line in enumerate(content["rules"], start=1))
    if otherwise in GRADIENT_FORM:
        return _in_gradient_form(content, name, own)
    return Recipe(name, own + COMPOSITES[otherwise] + _WEIGHTLESS, zero_biases, own_lines=own)


def _in_gradient_form(content: Mapping[Any, Any], name: str, own: tuple[Line, ...]) -> Recipe:
    """Read a mapping that leaves all other layers to a composite in gradient form.

    Raises:
        ConfigError: a rule, a layer or a setting that gradient form does not have.
    """
    if content.get("zero_biases"):
        raise ConfigError(f"{name}: in gradient form biases are counted; leave out zero_biases")
    for number, line in enumerate(own, start=1):
        layers, rules = ((FIRST,), FIRST_RULES) if line.layer == FIRST else (_WEIGHTED_LAYERS, GRADIENT_FORM_RULES)
        if line.rule not in rules or line.layer not in layers or (line.layer == FIRST and line.name):
            raise ConfigError(
                f"{name}, rule {number}: in gradient form there are the rules {', '.join(GRADIENT_FORM_RULES)} for "
                f"layer: convolution, linear or weighted, and {', '.join(FIRST_RULES)} for layer: first alone; got "
                f"{line.rule} for {line.layer or 'any layer'}{f' by the name {line.name}' if line.name else ''}"
            )
    otherwise = content["otherwise"]
    return Recipe(name, own + GRADIENT_FORM[otherwise], zero_biases=False, own_lines=own, attention=otherwise)


def _read_line(content: object, place: str) -> Line:
    if not isinstance(content, Mapping) or "rule" not in content or not _is_placed(content):
        raise ConfigError(f"{place}: expected rule, and layer or name or both, got {content!r}")
    rule, layer, pattern = content["rule"], content.get("layer"), content.get("name")
    _check_choice(rule, RULES, f"{place}: rule")
    if layer is not None:
        _check_choice(layer, {*LAYERS, FIRST, RECURRENT, *CLASSES}, f"{place}: layer")
    _check_place(rule, layer, place)
    if pattern is not None and not isinstance(pattern, str):
        raise ConfigError(f"{place}: name is a pattern as of files, got {pattern!r}")
    _check_keys(content, {"rule", "layer", "name", *RULES[rule].settings}, place)
    settings = {key: _number(content[key], f"{place}: {key}") for key in RULES[rule].settings if key in content}
    line = Line(rule, layer, pattern, settings)
    try:
        if rule != "box":
            line.build(zero_biases=True, first=None)
    except ValueError as error:  # α − β = 1, for one
        raise ConfigError(f"{place}: {error}") from error
    return line


def _check_choice(value: object, known: Collection[str], place: str) -> None:
    if not isinstance(value, str) or value not in known:
        near = nearest(str(value), known)
        raise ConfigError(f"{place} {value!r} is unknown; nearest: {', '.join(near or sorted(known)[:14])}")


def _check_keys(content: Mapping[Any, Any], known: set[str], place: str) -> None:
    if strange := [str(key) for key in content if key not in known]:
        raise ConfigError(f"{place}: {', '.join(strange)} is unknown; there are {', '.join(sorted(known))}")


def _number(value: object, place: str) -> float:
    """Read a number of 0 or more; YAML reads 1e-6 as text."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    may_be_zero = place.endswith((": beta", ": gamma"))
    if not math.isfinite(number) or number < 0 or (number == 0 and not may_be_zero):
        raise ConfigError(f"{place} is a number {'of 0 or more' if may_be_zero else 'above 0'}, got {value!r}")
    return number


def _is_placed(content: Mapping[Any, Any]) -> bool:
    return content.get("layer") is not None or content.get("name") is not None


def _check_place(rule: str, layer: str | None, place: str) -> None:
    """Make sure that a rule suits such layers."""
    if rule == "box" and layer != FIRST:
        raise ConfigError(f"{place}: box is for the layer that sees the pixels; expected layer: first, got {layer!r}")
    if layer is None:
        return
    if issubclass(CLASSES.get(layer, nn.Module), nn.RNNBase):
        raise ConfigError(f"{place}: {layer} is unrolled before it is explained; its maps are layer: {RECURRENT}")
    weighted = has_weights(layer)
    if weighted is True and not RULES[rule].weighted:
        raise ConfigError(f"{place}: {rule} is for layers without weights, got layer: {layer}; try epsilon or z_plus")
    if weighted is False and RULES[rule].weighted:
        usual = next((line.rule for line in _WEIGHTLESS if line.layer == layer), "norm or pass")
        raise ConfigError(f"{place}: {rule} is for layers with weights, got layer: {layer}; try {usual}")
