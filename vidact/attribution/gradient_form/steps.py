"""Autograd functions whose forward is a network's own, and whose backward hands on relevance in gradient form."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vidact.attribution.gradient_form.weights import Parts, Product

FLAT = "flat"  # a rule of the first layer
_BLOCK = 2**20  # values that a processor's cache has room for


class Share(torch.autograd.Function):
    """Hand on a share of the relevance: for the factors of a product, and powers."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, share: float, note: Callable[[Tensor], None] | None) -> Tensor:
        """Give the tensor itself."""
        ctx.share, ctx.note = share, note
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Scale the gradient, after it has been noted."""
        if ctx.note is not None:
            ctx.note(gradient)
        return gradient * ctx.share, None, None


def share(values: Tensor, part: float, note: Callable[[Tensor], None] | None = None) -> Tensor:
    """Give a tensor through which only a part of the relevance goes."""
    shared: Tensor = Share.apply(values, part, note)
    return shared


class Pass(torch.autograd.Function):
    """An activation with f(0) = 0 that passes relevance on unchanged: g f(x) / x, and g f'(0) where x is 0.

    Achtibat et al. 2024, eq. 9.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Run the activation."""
        ctx.save_for_backward(values)
        ctx.function = function
        return function(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Multiply by f(x) / x."""
        (values,) = ctx.saved_tensors
        ratio = ctx.function(values) / values
        if int(values.count_nonzero()) < values.numel():
            ratio = torch.where(values == 0, _slope_at_zero(ctx.function, values), ratio)
        return gradient * ratio, None


def _slope_at_zero(function: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Differentiate at 0; 0 where the slope is infinite, as of a square root."""
    with torch.enable_grad():
        zero = torch.zeros_like(like).requires_grad_()
        (slope,) = torch.autograd.grad(function(zero).sum(), zero)
    return slope.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


class LayerNorm(torch.autograd.Function):
    """Layer normalisation whose deviation is a constant (Achtibat et al. 2024, section 3.4); centring is linear."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        """Normalise over the last dimensions."""
        normalised, _, inverse_deviation = torch.native_layer_norm(values, shape, weight, bias, eps)
        ctx.save_for_backward(inverse_deviation, weight)
        ctx.dims = tuple(range(-len(shape), 0))
        return normalised

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Scale, and centre."""
        inverse_deviation, weight = ctx.saved_tensors
        gradient = gradient if weight is None else gradient * weight
        centred = gradient - gradient.mean(ctx.dims, keepdim=True)
        return centred.mul_(inverse_deviation), None, None, None, None


class Softmax(torch.autograd.Function):
    """Softmax with its own gradient, s (g − Σ g s), which notes what does not go through: Σ g s − Σ x s (g − Σ g s).

    Achtibat et al. 2024, section 3.1. For x it takes log s, which differs from it by a constant that cancels.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, function: Callable[[Tensor], Tensor], dim: int, note: Callable[[Tensor], None]
    ) -> Tensor:
        """Run the network's own softmax."""
        weights = function(values)
        ctx.save_for_backward(weights)
        ctx.dim, ctx.note, ctx.dtype = dim, note, values.dtype
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Compute the gradient block by block: attention has the largest tensors, and no room for another one."""
        (weights,) = ctx.saved_tensors
        is_whole = ctx.dim in (0, -weights.dim())
        rows = max(1, len(weights) if is_whole else _BLOCK * len(weights) // max(1, weights.numel()))
        tiny = torch.finfo(weights.dtype).tiny  # where a weight is 0, nothing leaves
        leaving, taken = torch.empty_like(weights), []
        for given, own, part in zip(*(tensor.split(rows) for tensor in (gradient, weights, leaving)), strict=True):
            arriving = torch.mul(given, own, out=part).sum(ctx.dim, keepdim=True)
            part.addcmul_(own, arriving, value=-1)
            taken.append(arriving - own.clamp_min(tiny).log_().mul_(part).sum(ctx.dim, keepdim=True))
        ctx.note(torch.cat(taken))
        return leaving.to(ctx.dtype), None, None, None


@dataclass(frozen=True)
class FirstLayer:
    """The layer that sees the pixels, and how it divides relevance R, not R / x.

    `box`: R_i = Σ_j (x_i w_ij − l_i w⁺_ij − h_i w⁻_ij) s_j for pixels between l and h; biases cancel (Montavon et al.
    2017, eq. 14). `w_square`: R_i = Σ_j w_ij² s_j (eq. 12 there). `flat`: R_i = Σ_j s_j (Lapuschkin et al. 2019). Each
    s_j is R_j, divided by the sum of the terms.

    Attributes:
        rule: Which.
        product: The layer's product with its weights.
        weight: Its weights.
        squared_bias: What takes part of the sum beside the inputs; None for nothing.
        bounds: l and h, or 1 for each pixel.
        stabiliser: Added to the sums.
    """

    rule: str | None
    product: Product
    weight: Tensor
    squared_bias: Tensor | None
    bounds: list[Tensor]
    stabiliser: float = 1e-6

    def terms(self, values: Tensor) -> list[tuple[Tensor, Tensor]]:
        """List what is multiplied with what, with its sign: (inputs, weights)."""
        weight = self.weight
        if self.rule == "box":
            low, high = self.bounds
            return [(values, weight), (-low, weight.clamp(min=0)), (-high, weight.clamp(max=0))]
        return [(self.bounds[0], torch.ones_like(weight) if self.rule == FLAT else weight**2)]

    def divide(self, values: Tensor, relevance: Tensor) -> tuple[Tensor, Parts]:
        """Divide the relevance of the outputs among the inputs."""
        terms = self.terms(values)
        total = sum(self.product.forward(given, weight) for given, weight in terms)
        total = total if self.squared_bias is None else total + self.squared_bias
        scaled = relevance / (total + self.stabiliser)
        found = sum(given * self.product.backward(scaled, given, weight) for given, weight in terms)
        of_bias = None if self.squared_bias is None else scaled * self.squared_bias
        assert isinstance(found, Tensor)
        return found, Parts(scaled, None, of_bias, scaled * self.stabiliser)


class FirstStep(torch.autograd.Function):
    """Runs the layer that sees the pixels; backward gives R."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, bias: Tensor | None, layer: FirstLayer, note: Callable[[Parts], None]
    ) -> Tensor:
        """Run it; `bias` has a shape that broadcasts to the output."""
        result = layer.product.forward(values, layer.weight)
        result = result if bias is None else result + bias
        ctx.save_for_backward(values)
        ctx.layer, ctx.note, ctx.result = layer, note, result.detach().clone()  # it may be overwritten
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Turn g to R = g y, divide it, and note what does not go to pixels."""
        (values,) = ctx.saved_tensors
        found, parts = ctx.layer.divide(values, gradient * ctx.result)
        ctx.note(parts)
        return found, None, None, None


OWN_NODES: tuple[Any, ...] = tuple(step._backward_cls for step in (Share, Pass, LayerNorm, Softmax))

_NUM_VALUES = 64


def let_activations_pass(network: nn.Module) -> list[str]:
    """Let relevance pass each module without weights that works element by element, with f(0) = 0, and is not torch's.

    Args:
        network: A copy; the modules get another `forward`.

    Returns:
        Names of the modules.
    """
    found = []
    for name, module in network.named_modules():
        own = not type(module).__module__.startswith("torch.nn") and not list(module.children())
        if own and not list(module.parameters()) and not list(module.buffers()) and _is_activation(module):
            module.forward = _passing(module.forward)
            found.append(name)
    return found


def _passing(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def forward(*args: Any, **kwargs: Any) -> Tensor:
        name, values = next(iter(kwargs.items())) if not args else ("", args[0])

        def run(given: Tensor) -> Tensor:
            given = given.clone()  # it may work in place
            return function(**{**kwargs, name: given}) if name else function(given, *args[1:], **kwargs)

        result: Tensor = Pass.apply(values, run)
        return result

    return forward


@torch.no_grad()
def _is_activation(module: nn.Module) -> bool:
    """Say whether a module is an element-wise function that is not linear, and 0 at 0."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(_NUM_VALUES, generator=generator, dtype=torch.float64)
    order = torch.randperm(_NUM_VALUES, generator=generator)
    try:
        whole, part, zero = module(values.clone()), module(values[order[:9]].clone()), module(torch.zeros_like(values))
        twice = module(2 * values)
    except Exception:  # it takes something else than numbers, and so is none
        return False
    given = (whole, part, zero, twice)
    if not all(isinstance(one, Tensor) and one.dtype == values.dtype for one in given) or whole.shape != values.shape:
        return False
    is_each = torch.allclose(part, whole[order[:9]], rtol=1e-12, atol=0)
    return is_each and not bool(zero.any()) and not torch.allclose(twice, 2 * whole)
