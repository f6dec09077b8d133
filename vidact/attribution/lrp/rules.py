"""The rules of LRP, with Zennit's names and arguments; those that record what biases take are in `formulas.py`.

ε, norm and z⁺ run the layer only once: a node at its input multiplies by the input, a node at its output divides by
the layer's sums, and the layer's own backward between them does the rest. Rules that run Zennit's formulas are in
`formulas.py`.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from zennit import rules
from zennit.core import Stabilizer
from zennit.types import Linear

from vidact.attribution.lrp.backward import Forward, Rule, bias_of, handed_down, quotient, times_input, twin_of
from vidact.attribution.lrp.formulas import AlphaBeta, Box, Flat, Formula, Gamma, Term, WSquare, is_positive, names_of

__all__ = [
    "Affine",
    "AffinePlus",
    "AlphaBeta",
    "Box",
    "Epsilon",
    "EvenSplit",
    "Flat",
    "Gamma",
    "Norm",
    "Pass",
    "SignalTakesAll",
    "WSquare",
    "ZPlus",
]


def _weight(module: nn.Module) -> Tensor:
    weight = module._parameters["weight"]
    assert weight is not None
    return weight.detach()


class _Proportional(Formula):
    """Gives every input its share of what the module adds up: R_i = x_i ∂/∂x_i Σ_j z_j · [R_j / (z_j ± ε)]."""

    several_inputs = True

    def _explain(self, module: nn.Module, forward: Forward, *inputs: Any) -> Any:
        bias = module._parameters.get("bias") if "bias" in self.zeroed else None
        if not self.zeroed <= {"bias"} or not (bias is None or isinstance(module, Linear)):
            return super()._explain(module, forward, *inputs)
        marked = [times_input(x, x, self) if isinstance(x, Tensor) and x.requires_grad else x for x in inputs]
        if bias is None:
            z = output = twin_of(module, forward).forward(*marked)
            return quotient(z, output, self, module, self._constant(module, forward, inputs))
        # Added when z is known: z without it would lose digits as a difference.
        z = twin_of(module, forward, bias=None).forward(*marked)
        return quotient(z, z + bias_of(module), self, module, None)

    def _constant(self, module: nn.Module, forward: Forward, inputs: tuple[Any, ...]) -> Tensor | None:
        """Compute the share of z that does not come from the video: the bias, or inputs that are constants."""
        if isinstance(module, Linear):
            return bias_of(module)
        if self.book is None or all(isinstance(x, Tensor) and x.requires_grad for x in inputs):
            return None
        none = [torch.zeros_like(x) if isinstance(x, Tensor) and x.requires_grad else x for x in inputs]
        with torch.no_grad():
            constant: Tensor = twin_of(module, forward).forward(*none)
        return constant


class Epsilon(_Proportional, rules.Epsilon):  # type: ignore[misc]
    """ε rule: R_i = x_i Σ_j w_ij R_j / (z_j + ε sign z_j) (Bach et al. 2015, eq. 58); LRP-0 where ε is next to 0.

    Args:
        epsilon: ε, or a function from z to the denominator.
        zero_params: Names of parameters that are set to zero, such as `bias`.
    """

    def __init__(
        self, epsilon: float | Callable[[Tensor], Tensor] = 1e-6, zero_params: str | Collection[str] | None = None
    ) -> None:
        rules.Epsilon.__init__(self, epsilon, zero_params)  # not Formula's, which has another name for ε
        self.stabilizer, self.zeroed = Stabilizer.ensure(epsilon), names_of(zero_params)


class Norm(_Proportional, rules.Norm):  # type: ignore[misc]
    """The ε rule for modules without weights, of one input or several: poolings, additions.

    Args:
        stabilizer: A small number, or a function from z to the denominator.
    """

    def __init__(self, stabilizer: float | Callable[[Tensor], Tensor] = 1e-6) -> None:
        rules.Norm.__init__(self, stabilizer)  # not Formula's: there are no parameters to set to zero
        self.stabilizer, self.zeroed = Stabilizer.ensure(stabilizer), frozenset()


class ZPlus(Formula, rules.ZPlus):  # type: ignore[misc]
    """z⁺ rule: R_i = Σ_j (x_i w_ij)⁺ R_j / Σ_i' (x_i' w_i'j)⁺ (Montavon et al. 2017, eq. 16; Bach et al. 2015, α1β0).

    A positive bias takes part in the sum, unless `zero_params` names it.
    """

    def _explain(self, module: nn.Module, forward: Forward, *inputs: Any) -> Any:
        if not isinstance(module, Linear) or not self.zeroed <= {"bias"}:
            return super()._explain(module, forward, *inputs)
        (x,) = inputs
        bias = None if "bias" in self.zeroed else module._parameters["bias"]
        bias = None if bias is None else bias.detach().clamp(min=0)
        taken = None if bias is None else bias.reshape(-1, *[1] * (_weight(module).ndim - 2))
        if x.detach().amin() >= 0:  # no negative input meets a negative weight
            z = self._part(module, forward, x, x, bias=bias, min=0.0)
        else:
            z = self._part(module, forward, x, x.clamp(min=0), bias=bias, min=0.0)
            z = z + self._part(module, forward, x, x.clamp(max=0), bias=None, max=0.0)
        return quotient(z, twin_of(module, forward).forward(x), self, module, taken)

    def makes_output(self, bias: Tensor) -> Tensor:
        """Only a positive bias can make an output to which no input contributes."""
        return bias > 0

    def terms(self, outputs: Sequence[Tensor], bias: Tensor | None) -> list[Term]:
        """Add up the positive terms."""
        return [Term(outputs[0] + outputs[1], 1.0, None if bias is None else bias.clamp(min=0), is_positive)]

    def _part(
        self, module: nn.Module, forward: Forward, x: Tensor, part: Tensor, bias: Tensor | None, **limit: float
    ) -> Tensor:
        """Add up inputs and weights of one sign; the clamped weight is recomputed for backward, not stored."""
        weight = _weight(module)
        twin = twin_of(module, forward, weight=weight.clamp(**limit), bias=bias)
        address = _weight(twin).untyped_storage().data_ptr()

        def pack(saved: Tensor) -> Any:  # the graph holds on to these functions: they must not know the twin
            is_clamped = saved.untyped_storage().data_ptr() == address
            return (saved.shape, saved.stride(), saved.storage_offset()) if is_clamped else saved

        def unpack(packed: Any) -> Tensor:
            return packed if isinstance(packed, Tensor) else weight.clamp(**limit).as_strided(*packed)

        with saved_tensors_hooks(pack, unpack):
            z: Tensor = twin.forward(times_input(x, part, self))
        return z


class Pass(Rule, rules.Pass):  # type: ignore[misc]
    """Passes relevance on unchanged: for activations, normalisation, and whatever scales each number by itself."""

    changes_parameters = False

    def propagate(self, relevance: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Compute the relevance of the (first) input from that of the output."""
        return relevance

    def _explain(self, module: nn.Module, forward: Forward, *inputs: Any) -> Any:
        return handed_down(inputs[0], twin_of(module, forward).forward(*inputs), self, module)


class SignalTakesAll(Pass):
    """Gives all relevance of a product to the signal, its first input; the gate gets none (Arras et al. 2019)."""

    several_inputs = True


class EvenSplit(Pass):
    """Gives half of the relevance of a difference of frames to each of the two.

    This is the w² rule for y_t = x_t − x_{t−1}, y_0 = y_1. ε would divide by differences next to zero.
    """

    def propagate(self, relevance: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        """Split each difference's relevance evenly between its frame and the frame before."""
        half = relevance[:, :, 1:] / 2
        half = torch.cat([half[:, :, :1] + relevance[:, :, :1] / 2, half[:, :, 1:]], dim=2)
        none = torch.zeros_like(half[:, :, :1])
        return torch.cat([none, half], dim=2) + torch.cat([half, none], dim=2)


class Affine(Rule):
    """ε rule of y = s x + t, as BatchNorm in eval mode computes it: R_x = s x R / (y ± ε), the rest is the shift's.

    With γ, β, μ and σ of a BatchNorm, s = γ / σ and t = β − γ μ / σ. A BatchNorm after
    a layer is merged into it and gets no rule; this one is for the others, as after a ReLU. To pass all relevance on
    would give x what the shift alone has made.

    Args:
        stabilizer: A small number, or a function from y to the denominator.
    """

    changes_parameters = False

    def __init__(self, stabilizer: float | Callable[[Tensor], Tensor] = 1e-6) -> None:
        super().__init__()
        self.stabilizer = Stabilizer.ensure(stabilizer)

    def _explain(self, module: nn.Module, forward: Forward, *inputs: Any) -> Any:
        (x,) = inputs
        scale, shift = _scale_and_shift(module, x.detach())
        output = twin_of(module, forward).forward(x).detach()
        own, constant = self._parts(x.detach(), scale, shift.expand_as(output), output)
        z = times_input(x, own, self) * scale + constant
        return quotient(z, output, self, module, constant)

    def _parts(self, x: Tensor, scale: Tensor, shift: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """Choose the parts of s x and of the shift that take relevance."""
        return x, shift


class AffinePlus(Affine):
    """As Affine, but all relevance goes to whichever of s x and t has the sign of y.

    If both have it, they share in proportion. No share is above 1 or below 0, so that nothing grows where s x and t
    nearly cancel, as in the generalised γ rule (Andéol et al. 2021) with γ → ∞.
    """

    def _parts(self, x: Tensor, scale: Tensor, shift: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        return x * (x * scale * output > 0), shift * (shift * output > 0)


@torch.no_grad()
def _scale_and_shift(batch_norm: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute s and t of a BatchNorm, in a shape that broadcasts to its input; batch statistics count as constants."""
    shape = [1, -1, *[1] * (x.ndim - 2)]
    mean, variance = batch_norm.running_mean, batch_norm.running_var
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        dims = [dim for dim in range(x.ndim) if dim != 1]
        variance, mean = torch.var_mean(x, dim=dims, correction=0)
    scale = (variance + batch_norm.eps).rsqrt()
    scale = scale if batch_norm.weight is None else scale * batch_norm.weight
    shift = -mean * scale if batch_norm.bias is None else batch_norm.bias - mean * scale
    return scale.detach().reshape(shape), shift.detach().reshape(shape)
