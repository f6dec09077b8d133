"""Normalisations in gradient form: the deviation is a constant (Achtibat et al. 2024), and centring is linear."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vidact.attribution.gradient_form.calls import Call, carries
from vidact.attribution.gradient_form.steps import LayerNorm
from vidact.attribution.gradient_form.walk import Walk


def layer_norm(walk: Walk, call: Call) -> Tensor:
    """Normalise the last dimensions; the deviation is a constant."""
    values, shape = call.get("input", 0, None), call.get("normalized_shape", 1, None)
    weight, bias = call.get("weight", 2, None), call.get("bias", 3, None)
    eps = call.get("eps", 4, 1e-5)
    if carries(weight) or carries(bias):  # computed from the video, as in adaptive normalisation
        return _scaled(walk, LayerNorm.apply(values, list(shape), None, None, eps), weight, bias)
    result: Tensor = LayerNorm.apply(values, list(shape), weight, bias, eps)
    if bias is not None:
        walk.bias(result, bias.detach())
    return result


def rms_norm(walk: Walk, call: Call) -> Tensor:
    """Divide by the root mean square, which is a constant."""
    values, shape = call.get("input", 0, None), call.get("normalized_shape", 1, None)
    weight, eps = call.get("weight", 2, None), call.get("eps", 3, None)
    eps = torch.finfo(values.dtype).eps if eps is None else eps
    dims = tuple(range(-len(shape), 0))
    result: Tensor = values * (values.detach().square().mean(dims, keepdim=True) + eps).rsqrt()
    return _scaled(walk, result, weight, None)


def group_norm(walk: Walk, call: Call) -> Tensor:
    """Normalise groups of channels; the deviation is a constant."""
    values, num_groups = call.get("input", 0, None), call.get("num_groups", 1, None)
    weight, bias = call.get("weight", 2, None), call.get("bias", 3, None)
    return _by_groups(walk, values, num_groups, weight, bias, call.get("eps", 4, 1e-5))


def _refused(walk: Walk, call: Call) -> Tensor:
    walk.refuse(call, f"call torch.nn.functional.{call.name}")
    unchanged: Tensor = call.run()
    return unchanged


def instance_norm(walk: Walk, call: Call) -> Tensor:
    """Normalise each channel; the deviation is a constant."""
    if call.func is not F.instance_norm:
        return _refused(walk, call)
    given = call.bound(F.instance_norm)
    values, weight, bias, eps = given["input"], given.get("weight"), given.get("bias"), given.get("eps", 1e-5)
    if given.get("use_input_stats", True):
        return _by_groups(walk, values, values.shape[1], weight, bias, eps)
    return _affine(walk, call, given)


def batch_norm(walk: Walk, call: Call) -> Tensor:
    """Normalise by running statistics: an affine map."""
    if call.func is not F.batch_norm:
        return _refused(walk, call)
    given = call.bound(F.batch_norm)
    if given.get("training") or given.get("running_mean") is None:
        walk.refuse(call, "use BatchNorm with running statistics, in eval mode")
        unchanged: Tensor = call.run()
        return unchanged
    return _affine(walk, call, given)


def _affine(walk: Walk, call: Call, given: dict[str, Any]) -> Tensor:
    """Run a normalisation by running statistics: an affine map, whose shift takes relevance."""
    result: Tensor = call.run()
    weight, bias = given.get("weight"), given.get("bias")
    if carries(weight) or carries(bias):
        walk.refuse(call, "compute no weights of a BatchNorm from the video")
        return result
    scale = (given["running_var"] + given.get("eps", 1e-5)).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -given["running_mean"] * scale if bias is None else bias - given["running_mean"] * scale
    walk.bias(result, shift.reshape(-1, *[1] * (result.dim() - 2)))
    return result


def _by_groups(
    walk: Walk, values: Tensor, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Normalise groups of channels: centring is linear, the deviation is a constant."""
    groups = values.reshape(len(values), num_groups, -1, *values.shape[2:])
    dims = tuple(range(2, groups.dim()))
    deviation = (groups.detach().var(dims, correction=0, keepdim=True) + eps).rsqrt()
    result = ((groups - groups.mean(dims, keepdim=True)) * deviation).flatten(1, 2)
    weight, bias = (None if each is None else each.reshape(-1, *[1] * (values.dim() - 2)) for each in (weight, bias))
    return _scaled(walk, result, weight, bias)


def _scaled(walk: Walk, result: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Multiply by a weight and add a bias, which may be computed from the video."""
    if weight is not None:
        result = walk.dispatch(torch.mul, result, weight)
    if carries(bias):
        result = walk.dispatch(torch.add, result, bias)
    elif bias is not None:
        result = result + bias
        walk.bias(result, bias.detach())
    return result


def normalize(walk: Walk, call: Call) -> Tensor:
    """Run `F.normalize`: the norm is a constant."""
    given = call.bound(F.normalize)
    values, dim = given["input"], given.get("dim", 1)
    norm = values.detach().norm(given.get("p", 2.0), dim, keepdim=True).clamp_min(given.get("eps", 1e-12))
    result: Tensor = values / norm
    return result
