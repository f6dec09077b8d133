"""Rules of linear layers and convolutions in gradient form: ε (their own gradient) and generalised γ.

With P and N the sums of the positive and the negative terms of an output y = Σ_i w_i x_i + b, P + N = Σ_i w_i x_i,
γ divides relevance R = g y by z' = y + γ (P + b⁺) where y > 0 and by z' = y + γ (N + b⁻) where y < 0 (Montavon et al.
2019; for inputs of both signs Andéol et al. 2021). Two identities make it cheap: P = (Σ_i w_i x_i + Σ_i |w_i x_i|) / 2
needs one product more, and what goes to an input of either sign is

    g_i = (1 + γ/2) Σ_j w_ij s_j + (γ/2) sign(x_i) Σ_j |w_ij| s_j sign(y_j),   s_j = g_j y_j / z'_j.

|z'| ≥ |y|, so that nothing is divided by numbers near zero, and no stabiliser is needed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


@dataclass(frozen=True)
class Product:
    """A product with weights, without its bias.

    Attributes:
        forward: From (input, weight) to the output.
        backward: From (gradient, input, weight) to the input's gradient.
        channel_dim: Of the output's channels.
    """

    forward: Callable[[Tensor, Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]
    channel_dim: int


LINEAR = Product(F.linear, lambda gradient, _, weight: gradient @ weight, -1)


def convolution(num_dims: int, *, transposed: bool, **settings: Any) -> Product:
    """Describe a convolution.

    Args:
        num_dims: Over how many dimensions it goes.
        transposed: Whether it is a transposed convolution.
        settings: stride, padding, dilation, groups, output_padding.
    """

    def each(name: str, default: int) -> list[int]:
        value = settings.get(name, default)
        values = [value] if isinstance(value, int) else list(value)
        return values * num_dims if len(values) == 1 else values

    shape: tuple[Any, ...] = (each("stride", 1), each("padding", 0), each("dilation", 1), transposed)
    shape += (each("output_padding", 0), settings.get("groups", 1))

    def forward(values: Tensor, weight: Tensor) -> Tensor:
        return torch.convolution(values, weight, None, *shape)

    def backward(gradient: Tensor, values: Tensor, weight: Tensor) -> Tensor:
        found: Tensor = torch.ops.aten.convolution_backward(
            gradient, values, weight, None, *shape, [True, False, False]
        )[0]
        return found

    return Product(forward, backward, -1 - num_dims)


class Gamma(torch.autograd.Function):
    """A product with weights, whose relevance is divided by the generalised γ rule."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        product: Product,
        gamma: float,
        note: Callable[[Tensor], None] | None,
    ) -> Tensor:
        """Run the layer; `bias` has a shape that broadcasts to the output."""
        result = product.forward(values, weight)
        result = result if bias is None else result + bias
        ctx.save_for_backward(values, weight, bias, result)
        ctx.product, ctx.gamma, ctx.note = product, gamma, note
        return result

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        """Divide by z', and hand on to the inputs; the bias's part is noted."""
        values, weight, bias, result = ctx.saved_tensors
        product, half = ctx.product, ctx.gamma / 2
        absolute, sign = weight.abs(), result.sign()
        terms = product.forward(values.abs(), absolute)  # P − N
        plain = result if bias is None else result - bias  # P + N
        changed = result + half * (plain + sign * terms)
        if bias is not None:
            own = torch.where(sign > 0, bias.clamp(min=0), bias.clamp(max=0))
            changed = changed + ctx.gamma * own
        scaled = gradient * result / changed.where(sign != 0, 1)
        if bias is not None and ctx.note is not None:
            ctx.note(scaled * (bias + ctx.gamma * own))
        found = product.backward(scaled, values, weight).mul_(1 + half)
        found += values.sign().mul_(half) * product.backward(scaled * sign, values, absolute)
        return found, None, None, None, None, None
