"""The rule of each function that needs one, by the function's name.

A new rule is a function here and an entry of `HANDLERS`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vidact.attribution.gradient_form import normalising, weights
from vidact.attribution.gradient_form.attention import fused, multi_head, softmax
from vidact.attribution.gradient_form.calls import Call, carries
from vidact.attribution.gradient_form.functions import PASSES, SCALES, is_reversed
from vidact.attribution.gradient_form.ledger import BIAS, STABILISER
from vidact.attribution.gradient_form.steps import FirstStep, Pass, share
from vidact.attribution.gradient_form.walk import Handler, Walk
from vidact.attribution.lrp.book import Layout


def _passes(walk: Walk, call: Call) -> Any:
    """Run an activation that passes relevance on."""
    rest, own = call.args[1:], call.kwargs

    def function(values: Tensor) -> Tensor:
        result: Tensor = call.func(values, *rest, **own)
        return result

    if any(map(carries, rest)):  # a slope that is computed from the video
        walk.refuse(call)
    if call.name == "hardtanh" and not _spans_zero(call.get("min_val", 1, -1.0), call.get("max_val", 2, 1.0)):
        return _bounded(walk, call)
    return Pass.apply(call.args[0], function)


def _scales(walk: Walk, call: Call) -> Tensor:
    """Run a gate or the inverse of a deviation: a constant."""
    result: Tensor = call.run()
    return result.detach()


def _products(walk: Walk, call: Call) -> Any:
    """Run a product; each factor from the video takes an equal share (Achtibat et al. 2024, section 3.3)."""
    args = [list(value) if isinstance(value, tuple) else value for value in call.args]
    flat = [value for arg in args for value in (arg if isinstance(arg, list) else [arg])]
    factors = sum(map(carries, flat)) + sum(map(carries, call.kwargs.values()))
    if factors == 1 and call.name in ("matmul", "mm") and not is_reversed(call.func) and carries(flat[0]):
        weight = call.get("other", 1, call.kwargs.get("mat2"))
        if weight.dim() == 2 and walk.is_owned(weight):  # x @ self.weight is a linear layer
            return _weighted(walk, weights.LINEAR, flat[0], weight.t(), None, "linear")
    if factors == 1:
        return call.run()

    if torch.is_grad_enabled() and len(flat) == 2 and all(map(carries, flat)) and _is_small(call.name, *flat):
        product = call.run()
        product.register_hook(lambda gradient: gradient / factors)  # at once for both; it may be overwritten later
        return product

    def part(value: Any) -> Any:
        if isinstance(value, list):
            return [part(one) for one in value]
        return share(value, 1 / factors) if carries(value) else value

    kwargs = {name: part(value) for name, value in call.kwargs.items()}
    return call.func(*map(part, args), **kwargs)


def _is_small(name: str, first: Tensor, second: Tensor) -> bool:
    """Say whether the product of two tensors has not more values than the first of them."""
    if name == "mul":
        return first.shape == second.shape
    return name in ("matmul", "bmm", "mm") and first.dim() == second.dim() and second.shape[-1] <= first.shape[-1]


def _quotient(walk: Walk, call: Call) -> Any:
    """Run a quotient: the numerator takes all; a number over the video's data is a scale, and constant."""
    first, second = call.args[0], call.get("other", 1, None)
    numerator, divisor = (second, first) if is_reversed(call.func) else (first, second)
    if not carries(numerator):
        result: Tensor = call.run()
        return result.detach()
    divisor = divisor.detach() if isinstance(divisor, Tensor) else divisor
    mode = {"rounding_mode": call.kwargs["rounding_mode"]} if call.kwargs.get("rounding_mode") else {}
    if mode:
        walk.refuse(call)
    return torch.div(numerator, divisor)


def _power(walk: Walk, call: Call) -> Any:
    """Run a power: passes relevance on where its exponent is above zero, else it is a scale."""
    exponent = call.get("exponent", 1, None)
    if is_reversed(call.func) or carries(exponent) or (isinstance(exponent, Tensor) and exponent.numel() > 1):
        walk.refuse(call)
        return call.run()
    return _passes(walk, call) if float(exponent) > 0 else _scales(walk, call)


def _variance(walk: Walk, call: Call) -> Any:
    """Run a variance, which is of degree two: half of its own gradient."""
    return call.run(share(call.args[0], 0.5), *call.args[1:])


def _clamp(walk: Walk, call: Call) -> Any:
    """Run a clamp: where its bounds span 0 it is an activation with f(0) = 0, as hardtanh and ReLU6 are."""
    low = call.kwargs.get("min", call.args[1] if len(call.args) > 1 and call.name != "clamp_max" else None)
    high = call.kwargs.get("max", call.args[-1] if len(call.args) > 2 or call.name == "clamp_max" else None)
    return _passes(walk, call) if call.name != "threshold" and _spans_zero(low, high) else _bounded(walk, call)


def _spans_zero(low: Any, high: Any) -> bool:
    return not any(isinstance(bound, Tensor) for bound in (low, high)) and (low or 0) <= 0 <= (high or 0)


def _bounded(walk: Walk, call: Call) -> Tensor:
    """Run a function that bounds its input: a bound that is reached takes what is its, the video's data the rest."""
    result: Tensor = call.run()
    given = call.args[0].detach()
    kept = result.detach()
    walk.ledger.constant("the bounds in", walk.module, result, torch.where(kept == given, 0, kept))
    return result


def _extremes(walk: Walk, call: Call) -> Any:
    """Run a maximum or a minimum: the winner takes all, and a constant that wins takes what is its."""
    first, second = call.args[0], call.get("other", 1, None)
    result = call.run()
    if not isinstance(second, Tensor) or (carries(first) and carries(second)):  # over a dimension, or of two videos
        return result
    kept, video, constant = result.detach(), first if carries(first) else second, second if carries(first) else first
    share_of_constant = (kept == constant) / (1.0 + (kept == video.detach()))  # torch halves ties
    walk.ledger.constant("what is larger in", walk.module, result, share_of_constant * kept)
    return result


def _gated(walk: Walk, call: Call) -> Any:
    """Run `F.glu`, a σ(b): the gate is a constant."""
    signal, gate = call.args[0].chunk(2, dim=call.get("dim", 1, -1))
    return signal * gate.detach().sigmoid()


def _linear(walk: Walk, call: Call) -> Any:
    values, weight, bias = (call.get(name, number, None) for number, name in enumerate(("input", "weight", "bias")))
    if weight.dim() == 1:
        result = walk.dispatch(torch.matmul, values, weight)
        return result if bias is None else walk.dispatch(torch.add, result, bias)
    return _weighted(walk, weights.LINEAR, values, weight, bias, "linear")


def _convolution(num_dims: int, *, transposed: bool = False) -> Handler:
    names = ["input", "weight", "bias", "stride", "padding"]
    names += ["output_padding", "groups", "dilation"] if transposed else ["dilation", "groups"]

    def run(walk: Walk, call: Call) -> Tensor:
        given = {**dict(zip(names, call.args, strict=False)), **call.kwargs}
        values, weight, bias = given.pop("input"), given.pop("weight"), given.pop("bias", None)
        if isinstance(given.get("padding"), str):
            values = _padded(values, weight, given)
        product = weights.convolution(num_dims, transposed=transposed, **given)
        if values.dim() == num_dims + 1:  # without a batch
            return _weighted(walk, product, values[None], weight, bias, "convolution")[0]
        return _weighted(walk, product, values, weight, bias, "convolution")

    return run


def _padded(values: Tensor, weight: Tensor, given: dict[str, Any]) -> Tensor:
    """Pad as `padding="same"` does, on the right by the odd one."""
    if given.pop("padding") == "valid":
        return values
    dilation = given.get("dilation", 1)
    kernel = weight.shape[2:]
    steps = (
        [dilation] * len(kernel)
        if isinstance(dilation, int)
        else list(dilation) * (1 if len(dilation) > 1 else len(kernel))
    )
    sides: list[int] = []
    for size, step in zip(reversed(kernel), reversed(steps), strict=True):
        total = step * (size - 1)
        sides += [total // 2, total - total // 2]
    return F.pad(values, sides)


def _weighted(
    walk: Walk, product: weights.Product, values: Tensor, weight: Tensor, bias: Tensor | None, kind: str
) -> Tensor:
    """Run a layer with weights by its rule, and note what its bias takes."""
    shift = None if bias is None else bias.reshape(-1, *[1] * (-product.channel_dim - 1))
    if walk.pixels.first_rule and walk.pixels.are(values):
        layer = walk.pixels.first_layer(values, weight, shift, product)
        return _by_rule(walk, weight, lambda note: FirstStep.apply(values, shift, layer, note))
    if carries(weight) or carries(shift):
        values, weight = _shared(values, weight)
        result = product.forward(values, weight)
        return result if shift is None else walk.dispatch(torch.add, result, shift)
    owner = walk.owner_of(weight)
    rule = walk.rules.of(owner, kind)
    if rule is not None:
        return _by_rule(walk, weight, lambda note: weights.Weighted.apply(values, weight, shift, product, rule, note))
    result = product.forward(values, weight)
    if shift is None:
        return result
    result = result + shift
    walk.bias(result, shift, owner=owner)
    return result


def _shared(*factors: Tensor) -> list[Tensor]:
    count = sum(map(carries, factors))
    return [share(factor, 1 / count) if carries(factor) else factor for factor in factors]


def _by_rule(walk: Walk, weight: Tensor, run: Callable[[Callable[[weights.Parts], None]], Any]) -> Tensor:
    """Run a layer that notes how it has divided relevance."""
    module, ledger = walk.owner_of(weight), walk.ledger
    layouts: list[Layout | None] = []

    def note(parts: weights.Parts) -> None:
        for kind, taken in ((BIAS, parts.of_bias), (STABILISER, parts.of_stabiliser)):
            if taken is not None:
                ledger.add(kind, module, ledger.per_clip(taken, layouts[0]))

    result: Tensor = run(note)
    layouts.append(ledger.layout(result))
    return result


def _with_product(*names: str, product: Callable[..., Tensor]) -> Handler:
    """Build a handler of `β input + α product(first, second)`."""

    def run(walk: Walk, call: Call) -> Tensor:
        base, first, second = (call.get(name, number, None) for number, name in enumerate(names))
        beta, alpha = call.kwargs.get("beta", 1), call.kwargs.get("alpha", call.kwargs.get("value", 1))
        result = walk.dispatch(product, first, second)
        result = result if alpha == 1 else result * alpha
        if beta == 0:
            return result  # type: ignore[no-any-return]
        base = base if beta == 1 else base * beta
        summed: Tensor = walk.dispatch(torch.add, result, base)
        return summed

    return run


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(sorted(PASSES), _passes),
    **dict.fromkeys(sorted(SCALES), _scales),
    **dict.fromkeys(
        ["mul", "matmul", "bmm", "mm", "mv", "dot", "inner", "outer", "einsum", "tensordot", "vdot", "kron"],
        _products,
    ),
    **dict.fromkeys(["var"], _variance),
    **dict.fromkeys(["clamp", "clip", "clamp_min", "clamp_max", "threshold"], _clamp),
    **dict.fromkeys(["max", "min", "maximum", "minimum", "fmax", "fmin"], _extremes),
    "glu": _gated,
    "div": _quotient,
    "pow": _power,
    "float_power": _power,
    "linear": _linear,
    **{f"conv{n}d": _convolution(n) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": _convolution(n, transposed=True) for n in (1, 2, 3)},
    "softmax": softmax,
    "scaled_dot_product_attention": fused,
    "multi_head_attention_forward": multi_head,
    "layer_norm": normalising.layer_norm,
    "rms_norm": normalising.rms_norm,
    "group_norm": normalising.group_norm,
    "instance_norm": normalising.instance_norm,
    "batch_norm": normalising.batch_norm,
    "normalize": normalising.normalize,
    "addcmul": _with_product("input", "tensor1", "tensor2", product=torch.mul),
    "addmm": _with_product("input", "mat1", "mat2", product=torch.matmul),
    "addmv": _with_product("input", "mat", "vec", product=torch.matmul),
    "baddbmm": _with_product("input", "batch1", "batch2", product=torch.matmul),
}
