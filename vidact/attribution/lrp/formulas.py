"""Rules of layer-wise relevance propagation that run Zennit's formulas call by call, and say what these give to whom.

It does not know which layer of a network gets which rule.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from zennit import rules
from zennit.core import Stabilizer

from vidact.attribution.lrp.backward import Rule, added, bias_of


def names_of(zero_params: str | Collection[str] | None) -> frozenset[str]:
    """Give the names of the parameters that take no part."""
    return frozenset([zero_params] if isinstance(zero_params, str) else zero_params or ())


def is_not_zero(bias: Tensor) -> Tensor:
    """Say which biases are above or below zero."""
    return bias != 0


def is_positive(bias: Tensor) -> Tensor:
    """Say which biases are above zero."""
    return bias > 0


def is_negative(bias: Tensor) -> Tensor:
    """Say which biases are below zero."""
    return bias < 0


@dataclass(frozen=True)
class Term:
    """A part c R / (z + ε) of what a formula of Zennit's divides.

    Attributes:
        z: What is added up.
        factor: c.
        constant: The bias's part in z.
        speaks: Which biases make an output that no input speaks for.
    """

    z: Tensor
    factor: float | Tensor = 1.0
    constant: Tensor | None = None
    speaks: Callable[[Tensor], Tensor] = is_not_zero


class Formula(Rule):
    """A rule that runs Zennit's formula, and notes what that does not hand to the inputs."""

    stabilizer: Callable[[Tensor], Tensor]
    zeroed: frozenset[str] = frozenset()

    def terms(self, outputs: Sequence[Tensor], bias: Tensor | None) -> list[Term]:
        """Take the rule apart.

        Args:
            outputs: What Zennit adds up, with inputs and weights changed.
            bias: That takes part; in a shape that broadcasts to the output.
        """
        return [Term(outputs[0], constant=bias)]

    def note_formula(
        self, twin: nn.Module, module: nn.Module, relevance: Tensor, outputs: Sequence[Tensor]
    ) -> Tensor | Sequence[Tensor]:
        """Divide as Zennit does, and note what biases, the stabiliser and nobody gets.

        Args:
            twin: The layer without a rule.
            module: The layer.
            relevance: What arrives.
            outputs: What Zennit adds up.
        """
        detached = [output.detach() for output in outputs]
        for term in self.terms(detached, None if "bias" in self.zeroed else bias_of(twin)):
            epsilon = added(term.z, self.stabilizer)
            part = term.factor * relevance.detach() / (term.z + epsilon)
            self.note(module, term.z, epsilon, part, constant=term.constant, speaks=term.speaks)
        gradients: Tensor | Sequence[Tensor] = self.gradient_mapper(relevance, outputs)
        return gradients


class Gamma(Formula, rules.Gamma):  # type: ignore[misc]
    """γ rule: positive weights count 1 + γ times (Montavon et al. 2019; of mixed signs: Andéol et al. 2021).

    Args:
        gamma: γ.
        stabilizer: A small number, or a function from z to the denominator.
        zero_params: Names of parameters that take no part, such as `bias`.
    """

    def __init__(
        self,
        gamma: float | int = 0.25,
        stabilizer: float | Callable[[Tensor], Tensor] = 1e-6,
        zero_params: str | Collection[str] | None = None,
    ) -> None:
        super().__init__(gamma=gamma, stabilizer=stabilizer, zero_params=zero_params)
        self.gamma, self.stabilizer, self.zeroed = gamma, Stabilizer.ensure(stabilizer), names_of(zero_params)

    def terms(self, outputs: Sequence[Tensor], bias: Tensor | None) -> list[Term]:
        """Take outputs above and below zero apart; those that are zero hand nothing down."""
        more, less = (None if bias is None else bias + self.gamma * bias.clamp(**{side: 0}) for side in ("min", "max"))
        output = outputs[4]
        return [
            Term(outputs[0] + outputs[1], (output > 0).to(output), more, is_positive),
            Term(outputs[2] + outputs[3], (output < 0).to(output), less, is_negative),
            Term(torch.zeros_like(output), (output == 0).to(output), speaks=torch.zeros_like),
        ]


class AlphaBeta(Formula, rules.AlphaBeta):  # type: ignore[misc]
    """αβ rule: positive terms get α, negative ones −β (Bach et al. 2015, eq. 60).

    Args:
        alpha: α.
        beta: β = α − 1.
        stabilizer: A small number, or a function from z to the denominator.
        zero_params: Names of parameters that take no part, such as `bias`.
    """

    def __init__(
        self,
        alpha: float | int = 2.0,
        beta: float | int = 1.0,
        stabilizer: float | Callable[[Tensor], Tensor] = 1e-6,
        zero_params: str | Collection[str] | None = None,
    ) -> None:
        super().__init__(alpha=alpha, beta=beta, stabilizer=stabilizer, zero_params=zero_params)
        self.alpha, self.beta = alpha, beta
        self.stabilizer, self.zeroed = Stabilizer.ensure(stabilizer), names_of(zero_params)

    def terms(self, outputs: Sequence[Tensor], bias: Tensor | None) -> list[Term]:
        """Take the terms of either sign apart."""
        above, below = (None if bias is None else bias.clamp(**{side: 0}) for side in ("min", "max"))
        return [
            Term(outputs[0] + outputs[1], self.alpha, above, is_positive),
            Term(outputs[2] + outputs[3], -self.beta, below, is_negative),
        ]


class WSquare(Formula, rules.WSquare):  # type: ignore[misc]
    """w² rule: R_i = Σ_j w_ij² R_j / Σ_i' w_i'j² (Montavon et al. 2017, eq. 12), whatever the input.

    Args:
        stabilizer: A small number, or a function from z to the denominator.
        zero_params: Names of parameters that take no part, such as `bias`.
    """

    def __init__(
        self, stabilizer: float | Callable[[Tensor], Tensor] = 1e-6, zero_params: str | Collection[str] | None = None
    ) -> None:
        super().__init__(stabilizer=stabilizer, zero_params=zero_params)
        self.stabilizer, self.zeroed = Stabilizer.ensure(stabilizer), names_of(zero_params)

    def terms(self, outputs: Sequence[Tensor], bias: Tensor | None) -> list[Term]:
        """Square the bias as the weights."""
        return [Term(outputs[0], constant=None if bias is None else bias**2)]


class Flat(Formula, rules.Flat):  # type: ignore[misc]
    """Flat rule: every input of a unit gets the same share (Lapuschkin et al. 2019); a bias gets none.

    Args:
        stabilizer: A small number, or a function from z to the denominator.
        zero_params: Names of parameters that take no part, such as `bias`.
    """

    def __init__(
        self, stabilizer: float | Callable[[Tensor], Tensor] = 1e-6, zero_params: str | Collection[str] | None = None
    ) -> None:
        super().__init__(stabilizer=stabilizer, zero_params=zero_params)
        self.stabilizer, self.zeroed = Stabilizer.ensure(stabilizer), frozenset({"bias"})


class Box(Formula, rules.ZBox):  # type: ignore[misc]
    """Box rule (zᴮ): inputs are bounded by `low` and `high` (Montavon et al. 2017, eq. 14); a bias cancels in it.

    Args:
        low: The least that comes in.
        high: The most.
        stabilizer: A small number, or a function from z to the denominator.
        zero_params: Names of parameters that take no part, such as `bias`.
    """

    def __init__(
        self,
        low: float | Tensor,
        high: float | Tensor,
        stabilizer: float | Callable[[Tensor], Tensor] = 1e-6,
        zero_params: str | Collection[str] | None = None,
    ) -> None:
        super().__init__(low, high, stabilizer=stabilizer, zero_params=zero_params)
        self.stabilizer = Stabilizer.ensure(stabilizer)

    def terms(self, outputs: Sequence[Tensor], bias: Tensor | None) -> list[Term]:
        """Take the bounds from the output: b − b⁺ − b⁻ = 0."""
        return [Term(outputs[0] - outputs[1] - outputs[2])]
