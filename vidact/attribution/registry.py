"""Build explainers by the name of their method.

An explainer is a context manager and a function `(video, target, *, against) -> Explanation`.
"""

import inspect
from typing import Any

from torch import nn

from vidact.attribution.base import Explainer
from vidact.attribution.gradient_form.explainer import GradientForm
from vidact.attribution.lrp.composites import CompositeSpec, read_recipe
from vidact.attribution.lrp.explainer import LayerwiseRelevance
from vidact.attribution.methods.attention import AttentionRollout, GradientTimesAttention
from vidact.attribution.methods.automatic import AutomaticRelevance
from vidact.attribution.methods.controls import Attention, Centre, Intensity, MotionEnergy, Random
from vidact.attribution.methods.extremal import Extremal
from vidact.attribution.methods.gradcam import GradCam
from vidact.attribution.methods.gradients import (
    Gradient,
    GradientTimesInput,
    GuidedBackpropagation,
    IntegratedGradients,
    SmoothGrad,
)
from vidact.attribution.methods.occlusion import Occlusion
from vidact.attribution.names import AUTO, LRP
from vidact.core.errors import ConfigError, nearest

METHODS: dict[str, type[Explainer]] = {
    LRP: AutomaticRelevance,
    "gradient": Gradient,
    "gradient_x_input": GradientTimesInput,
    "smoothgrad": SmoothGrad,
    "integrated_gradients": IntegratedGradients,
    "guided_backpropagation": GuidedBackpropagation,
    "occlusion": Occlusion,
    "extremal": Extremal,
    "grad_cam": GradCam,
    "gradient_x_attention": GradientTimesAttention,
    "attention_rollout": AttentionRollout,
    "attention": Attention,
    "random": Random,
    "centre": Centre,
    "motion_energy": MotionEnergy,
    "intensity": Intensity,
}


def build_explainer(method: str, network: nn.Module, **settings: Any) -> Explainer:
    """Build an explainer by the name of its method.

    Args:
        method: One of `METHODS`; `lrp:epsilon_plus` names the composite as well, `grad_cam:layer4` the layer.
        network: From [B, C, T, H, W] in [0, 1] to logits [B, K]; stays as it is.
        settings: Of the method's class.

    Raises:
        ConfigError: no such method, or a setting that it does not have.
    """
    name, _, detail = method.partition(":")
    check_method(method)
    if detail:
        settings = {**settings, _DETAILS[name]: detail}
    kind = METHODS[name]
    if name == LRP and settings.get("composite", AUTO) == AUTO:
        settings.pop("composite", None)
    elif name == LRP:
        kind = GradientForm if is_in_gradient_form(settings["composite"]) else LayerwiseRelevance
    if strange := sorted(set(settings) - _settings_of(kind)):
        there = ", ".join(sorted(_settings_of(kind)))
        raise ConfigError(f"{method} has no setting {', '.join(strange)}; there are {there}")
    return kind(network, **settings)


def _settings_of(method: type[Explainer]) -> set[str]:
    """Name the settings that a method and what it inherits take."""
    kinds = [kind for kind in method.__mro__ if issubclass(kind, Explainer) and "__init__" in vars(kind)]
    parameters = [item for kind in kinds for item in inspect.signature(vars(kind)["__init__"]).parameters.values()]
    return {item.name for item in parameters if item.kind is item.KEYWORD_ONLY}


def check_method(method: str) -> None:
    """Make sure that a method of this name exists.

    Raises:
        ConfigError: there is none.
    """
    name, colon, _ = method.partition(":")
    if name not in METHODS:
        near = nearest(name, METHODS, at_most=1)
        hint = f"nearest: {near[0]}; " if near else ""
        raise ConfigError(f"method {name!r} is unknown; {hint}there are {', '.join(METHODS)}")
    if colon and name not in _DETAILS:
        raise ConfigError(f"method {method!r}: only {' and '.join(_DETAILS)} take a name after the colon")


def check_composite(spec: CompositeSpec) -> None:
    """Make sure that a composite can be read: a name, `auto`, a YAML file, or a mapping as in one.

    Raises:
        ConfigError: no such composite or file; an unknown rule, layer or setting.
    """
    if spec != AUTO:
        read_recipe(spec)


def is_in_gradient_form(spec: CompositeSpec) -> bool:
    """Say whether relevance by this composite travels in gradient form, which needs no modules."""
    return spec != AUTO and read_recipe(spec).attention is not None


_DETAILS = {LRP: "composite", "grad_cam": "layer"}
