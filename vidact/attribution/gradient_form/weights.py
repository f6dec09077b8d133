"""Rules of linear layers and convolutions in gradient form: ε, generalised γ, z⁺ and αβ.

An output is y = Σ_i w_i x_i + b, and P and N are the sums of its positive and of its negative terms w_i x_i. Each rule
divides relevance R = g y into parts that go to inputs by w_i x_i and by |w_i x_i|, with two factors s and a per output:

    R_i = Σ_j (w_ij x_i s_j + |w_ij x_i| a_j),   g_i = R_i / x_i = Σ_j w_ij s_j + sign(x_i) Σ_j |w_ij| a_j.

So no input is divided by, whatever its sign, and P = (Σ_i w_i x_i + Σ_i |w_i x_i|) / 2 costs one product beside the
layer's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vidact.attribution.lrp.recipes import FIRST, Recipe
from vidact.attribution.names import CP_LRP


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


@dataclass(frozen=True)
class Parts:
    """How a rule divides the relevance of a layer's outputs.

    Attributes:
        by_term: s, what goes to the inputs by w x; by w⁺ x where inputs and weights were all positive.
        by_size: a, what goes to them by |w x|; None for nothing.
        of_bias: What the bias takes.
        of_stabiliser: What the stabiliser takes; None for nothing.
    """

    by_term: Tensor
    by_size: Tensor | None
    of_bias: Tensor | None = None
    of_stabiliser: Tensor | None = None


@dataclass(frozen=True)
class Sums:
    """What a rule needs of a layer's outputs.

    Attributes:
        relevance: R = g y.
        output: y.
        terms: Σ_i w_i x_i.
        sizes: Σ_i |w_i x_i|; None for rules that do not need it.
        bias: b, in a shape that broadcasts to y.
    """

    relevance: Tensor
    output: Tensor
    terms: Tensor
    sizes: Tensor | None
    bias: Tensor | None


@dataclass(frozen=True)
class Rule:
    """A rule of LRP.

    Attributes:
        divide: Divides the relevance of outputs.
        needs_sizes: Whether it needs Σ_i |w_i x_i|.
        is_positive: Whether only positive terms take relevance: inputs that are all 0 or above, as after ReLU, then
            need the positive weights alone.
    """

    divide: Callable[[Sums], Parts]
    needs_sizes: bool = True
    is_positive: bool = False


def epsilon_rule(epsilon: float = 1e-6) -> Rule:
    """Build the ε rule: R / (y + ε sign y) (Bach et al. 2015, eq. 58)."""

    def divide(sums: Sums) -> Parts:
        y = sums.output
        scaled = sums.relevance / (y + epsilon * torch.where(y < 0, -1.0, 1.0).to(y))
        taken = sums.relevance - scaled * y
        return Parts(scaled, None, None if sums.bias is None else scaled * sums.bias, taken)

    return Rule(divide, needs_sizes=False)


def gamma_rule(gamma: float = 0.25, stabilizer: float = 0.0) -> Rule:
    """Build the generalised γ rule (Montavon et al. 2019; for inputs of both signs Andéol et al. 2021).

    Terms and biases of the output's own sign count 1 + γ times: R is divided by z' = y + γ (P + b⁺) where y > 0, and
    by z' = y + γ (N + b⁻) where y < 0. |z'| ≥ |y|, so that no stabiliser is needed.
    """

    def divide(sums: Sums) -> Parts:
        assert sums.sizes is not None
        sign = sums.output.sign()
        changed = sums.output + gamma / 2 * (sums.terms + sign * sums.sizes)
        more = None
        if sums.bias is not None:
            more = gamma * torch.where(sign > 0, sums.bias.clamp(min=0), sums.bias.clamp(max=0))
            changed = changed + more
        scaled = sums.relevance / (changed + sign * stabilizer).where(sign != 0, 1)
        of_bias = None if more is None or sums.bias is None else scaled * (sums.bias + more)
        taken = scaled * sign * stabilizer if stabilizer else None
        return Parts((1 + gamma / 2) * scaled, gamma / 2 * sign * scaled, of_bias, taken)

    return Rule(divide)


def z_plus_rule(stabilizer: float = 1e-6) -> Rule:
    """Build the z⁺ rule (Montavon et al. 2017): only positive terms and biases take relevance, R / (P + b⁺)."""

    def divide(sums: Sums) -> Parts:
        is_positive = sums.terms is sums.sizes
        total = sums.terms if is_positive or sums.sizes is None else (sums.terms + sums.sizes) / 2
        own = None if sums.bias is None else sums.bias.clamp(min=0)
        scaled = sums.relevance / ((total if own is None else total + own) + stabilizer)
        of_bias, taken = None if own is None else scaled * own, scaled * stabilizer
        return Parts(scaled, None, of_bias, taken) if is_positive else Parts(scaled / 2, scaled / 2, of_bias, taken)

    return Rule(divide, is_positive=True)


def alpha_beta_rule(alpha: float = 2.0, beta: float = 1.0, stabilizer: float = 1e-6) -> Rule:
    """Build the αβ rule (Bach et al. 2015, eq. 60)."""

    def divide(sums: Sums) -> Parts:
        assert sums.sizes is not None
        above, below = (sums.terms + sums.sizes) / 2, (sums.terms - sums.sizes) / 2
        shares = []
        for terms, sign, factor in ((above, 1, alpha), (below, -1, -beta)):
            own = None if sums.bias is None else sums.bias.clamp(**{"min" if sign > 0 else "max": 0})
            total = terms if own is None else terms + own
            scaled = factor * sums.relevance / (total + sign * stabilizer)
            shares.append((scaled, None if own is None else scaled * own, scaled * sign * stabilizer))
        (up, bias_up, eps_up), (down, bias_down, eps_down) = shares
        of_bias = None if bias_up is None or bias_down is None else bias_up + bias_down
        return Parts((up + down) / 2, (up - down) / 2, of_bias, eps_up + eps_down)

    return Rule(divide)


class Weighted(torch.autograd.Function):
    """A product with weights whose relevance is divided by a rule."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        product: Product,
        rule: Rule,
        note: Callable[[Parts], None],
    ) -> Tensor:
        """Run the layer; `bias` has a shape that broadcasts to the output."""
        result = product.forward(values, weight)
        result = result if bias is None else result + bias
        ctx.save_for_backward(values, weight, bias)
        ctx.result, ctx.version = result.detach(), result._version  # it may be overwritten, as by ReLU in place
        ctx.product, ctx.rule, ctx.note = product, rule, note
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        """Divide relevance, note what does not go to inputs, and hand on the rest."""
        values, weight, bias = ctx.saved_tensors
        product, result = ctx.product, ctx.result
        if result._version != ctx.version:
            result = product.forward(values, weight)
            result = result if bias is None else result + bias
        if ctx.rule.is_positive and bool((values >= 0).all()):
            weight = weight.clamp(min=0)
            terms = sizes = product.forward(values, weight)
        else:
            terms = result if bias is None else result - bias
            sizes = product.forward(values.abs(), weight.abs()) if ctx.rule.needs_sizes else None
        parts = ctx.rule.divide(Sums(gradient * result, result, terms, sizes, bias))
        ctx.note(parts)
        if parts.by_size is None:
            return product.backward(parts.by_term, values, weight), None, None, None, None, None
        found = product.backward(parts.by_size, values, weight.abs()).mul_(values.sign())
        found += product.backward(parts.by_term, values, weight)
        return found, None, None, None, None, None


@dataclass(frozen=True)
class Rules:
    """How relevance is divided in gradient form.

    Attributes:
        recipe: A composite's lines, and what softmax does.
    """

    recipe: Recipe

    @property
    def weights_are_constant(self) -> bool:
        """Whether attention weights are constants, so that all relevance goes to the values (CP-LRP)."""
        return self.recipe.attention == CP_LRP

    def of_first_layer(self) -> str | None:
        """Name the rule of the layer that sees the pixels; None if it has that of its kind."""
        return next((line.rule for line in self.recipe.lines if line.layer == FIRST), None)

    def of(self, module: str, kind: str) -> Rule | None:
        """Choose the rule of a layer with weights; None for its own gradient.

        Args:
            module: Name of the module that calls it.
            kind: `linear` or `convolution`.
        """
        for line in self.recipe.lines:
            if line.layer in (None, "weighted", kind) and (line.name is None or fnmatchcase(module, line.name)):
                return _RULES[line.rule](**line.settings)
        return None


_RULES: dict[str, Callable[..., Rule | None]] = {
    "lrp_0": lambda: None,
    "epsilon": epsilon_rule,
    "gamma": gamma_rule,
    "z_plus": z_plus_rule,
    "alpha1_beta0": partial(alpha_beta_rule, alpha=1.0, beta=0.0),
    "alpha2_beta1": alpha_beta_rule,
    "alpha_beta": alpha_beta_rule,
}
