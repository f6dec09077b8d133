"""Rules that run Zennit's formulas (γ, αβ, w², flat, box), with a record of what biases take.

They note what biases and the stabiliser take, for the account.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from zennit import rules
from zennit.core import Stabilizer

from vidact.attribution.lrp.backward import Rule, added, bias_of


def names_of(zero_params: str | Collection[str] | None) -> frozenset[str]:
    """Read which parameters are set to zero."""
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
    """A quotient c R / (z + ε) in one of Zennit's formulas.

    Attributes:
        z: The sum over inputs.
        factor: c.
        constant: The bias's part in z.
        makes_output: Which biases can make an output to which no input contributes.
    """

    z: Tensor
    factor: float | Tensor = 1.0
    constant: Tensor | None = None
    makes_output: Callable[[Tensor], Tensor] = is_not_zero


class Formula(Rule):
    """A rule that runs Zennit's formula, and notes what that does not give to the inputs.

    Args:
        stabilizer: A small number, or a function from z to the denominator.
        zero_params: Names of parameters that are set to zero, such as `bias`.
        settings: Of Zennit's rule.
    """

    def __init__(
        self,
        stabilizer: float | Callable[[Tensor], Tensor] = 1e-6,
        zero_params: str | Collection[str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(stabilizer=stabilizer, zero_params=zero_params, **settings)
        self.stabilizer: Callable[[Tensor], Tensor] = Stabilizer.ensure(stabilizer)
        self.zeroed = names_of(zero_params)

    def terms(self, outputs: Sequence[Tensor], bias: Tensor | None) -> list[Term]:
        """Write the rule as a sum of quotients.

        Args:
            outputs: Zennit's sums, with changed inputs and weights.
            bias: The bias that takes part, in a shape that broadcasts to the output.
        """
        return [Term(outputs[0], constant=bias)]

    def note_formula(
        self, twin: nn.Module, module: nn.Module, relevance: Tensor, outputs: Sequence[Tensor]
    ) -> Tensor | Sequence[Tensor]:
        """Divide as Zennit does, and note what biases and the stabiliser take and what is lost.

        Args:
            twin: The layer without a rule.
            module: The layer.
            relevance: Relevance of the output.
            outputs: Zennit's sums.
        """
        detached = [output.detach() for output in outputs]
        for term in self.terms(detached, None if "bias" in self.zeroed else bias_of(twin)):
            epsilon = added(term.z, self.stabilizer)
            part = term.factor * relevance.detach() / (term.z + epsilon)
            self.note(module, term.z, epsilon, part, constant=term.constant, makes_output=term.makes_output)
        gradients: Tensor | Sequence[Tensor] = self.gradient_mapper(relevance, outputs)
        return gradients


class Gamma(Formula, rules.Gamma):  # type: ignore[misc]
    """γ rule: positive weights count 1 + γ times (Montavon et al. 2019; of mixed signs: Andéol et al. 2021).

    Args:
        gamma: γ.
        stabilizer: A small number, or a function from z to the denominator.
        zero_params: Names of parameters that are set to zero, such as `bias`.
    """

    def __init__(
        self,
        gamma: float | int = 0.25,
        stabilizer: float | Callable[[Tensor], Tensor] = 1e-6,
        zero_params: str | Collection[str] | None = None,
    ) -> None:
        super().__init__(stabilizer, zero_params, gamma=gamma)
        self.gamma = gamma

    def terms(self, outputs: Sequence[Tensor], bias: Tensor | None) -> list[Term]:
        """Separate outputs above and below zero; those that are zero propagate nothing."""
        more, less = (None if bias is None else bias + self.gamma * bias.clamp(**{side: 0}) for side in ("min", "max"))
        output = outputs[4]
        return [
            Term(outputs[0] + outputs[1], (output > 0).to(output), more, is_positive),
            Term(outputs[2] + outputs[3], (output < 0).to(output), less, is_negative),
            Term(torch.zeros_like(output), (output == 0).to(output), makes_output=torch.zeros_like),
        ]


class AlphaBeta(Formula, rules.AlphaBeta):  # type: ignore[misc]
    """αβ rule: positive terms get α, negative ones −β (Bach et al. 2015, eq. 60).

    Args:
        alpha: α.
        beta: β = α − 1.
        stabilizer: A small number, or a function from z to the denominator.
        zero_params: Names of parameters that are set to zero, such as `bias`.
    """

    def __init__(
        self,
        alpha: float | int = 2.0,
        beta: float | int = 1.0,
        stabilizer: float | Callable[[Tensor], Tensor] = 1e-6,
        zero_params: str | Collection[str] | None = None,
    ) -> None:
        super().__init__(stabilizer, zero_params, alpha=alpha, beta=beta)
        self.alpha, self.beta = alpha, beta

    def terms(self, outputs: Sequence[Tensor], bias: Tensor | None) -> list[Term]:
        """Separate the positive and the negative terms."""
        above, below = (None if bias is None else bias.clamp(**{side: 0}) for side in ("min", "max"))
        return [
            Term(outputs[0] + outputs[1], self.alpha, above, is_positive),
            Term(outputs[2] + outputs[3], -self.beta, below, is_negative),
        ]


class WSquare(Formula, rules.WSquare):  # type: ignore[misc]
    """w² rule: R_i = Σ_j w_ij² R_j / Σ_i' w_i'j² (Montavon et al. 2017, eq. 12), whatever the input."""

    def terms(self, outputs: Sequence[Tensor], bias: Tensor | None) -> list[Term]:
        """Square the bias, as the weights are squared."""
        return [Term(outputs[0], constant=None if bias is None else bias**2)]


class Flat(Formula, rules.Flat):  # type: ignore[misc]
    """Flat rule: every input of a unit gets the same share (Lapuschkin et al. 2019); a bias gets none."""

    def terms(self, outputs: Sequence[Tensor], bias: Tensor | None) -> list[Term]:
        """Leave the bias out: Zennit's formula gives it nothing."""
        return [Term(outputs[0])]


class Box(Formula, rules.ZBox):  # type: ignore[misc]
    """Box rule (zᴮ): inputs are bounded by `low` and `high` (Montavon et al. 2017, eq. 14); a bias cancels in it.

    Args:
        low: Least value of the inputs.
        high: Greatest value of the inputs.
        stabilizer: A small number, or a function from z to the denominator.
        zero_params: Names of parameters that are set to zero, such as `bias`.
    """

    def __init__(
        self,
        low: float | Tensor,
        high: float | Tensor,
        stabilizer: float | Callable[[Tensor], Tensor] = 1e-6,
        zero_params: str | Collection[str] | None = None,
    ) -> None:
        super().__init__(stabilizer, zero_params, low=low, high=high)

    def terms(self, outputs: Sequence[Tensor], bias: Tensor | None) -> list[Term]:
        """Subtract the bounds from the output: b − b⁺ − b⁻ = 0."""
        return [Term(outputs[0] - outputs[1] - outputs[2])]
