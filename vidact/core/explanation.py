"""An explanation of a clip's score, and the account of where the score has gone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Account:
    """Where the score of each clip has gone: voxels + biases + others + stabiliser = score.

    Each part is computed by the formula of the rule that takes it, none as what is left over: that they add up to the
    score shows that the rules are right. (Only `others` of a method that hands no score down holds what is left.)

    Attributes:
        voxels: ΣR over the voxels.
        biases: What constants take, by the name of their layer: biases, the shift of a BatchNorm, numbers that are
            added.
        stabiliser: What the small numbers take that keep rules from dividing by zero.
        others: What else takes a share, by its name in words.
    """

    voxels: Float[Tensor, " B"]
    biases: Mapping[str, Float[Tensor, " B"]]
    stabiliser: Float[Tensor, " B"]
    others: Mapping[str, Float[Tensor, " B"]] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, Float[Tensor, " B"]]:
        """Each part under its name in words, as in "95 % on voxels, 5 % on the bias of stem.0"."""
        biases = {f"the bias of {layer}": taken for layer, taken in self.biases.items()}
        return {"voxels": self.voxels, **biases, **self.others, "the stabiliser": self.stabiliser}

    @property
    def total(self) -> Float[Tensor, " B"]:
        """All parts together, in float64."""
        first, *rest = self.parts.values()
        return sum(rest, start=first.double())

    def gap(self, score: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Say how far the account is from closing: |score − total|, as a share of the largest number in it."""
        score = score.double()
        largest = score.abs()
        for taken in self.parts.values():
            largest = largest.maximum(taken.abs())
        difference = (score - self.total).abs()
        return difference / largest.where(largest > 0, difference.new_ones(()))


@dataclass(frozen=True)
class Explanation:
    """Why a network gave a target its score, voxel by voxel.

    Attributes:
        relevance: Signed share of each voxel in the score; positive speaks for the target.
        score: What is explained: the target's logit or, against other classes, a difference of logits.
        target: The class that is spoken for.
        method: Name of the method.
        against: The class that is spoken against, -1 for all others (log-odds); None explains the logit alone.
        account: Where the score has gone; None for methods that hand none down.
    """

    relevance: Float[Tensor, "B C T H W"]
    score: Float[Tensor, " B"]
    target: Int[Tensor, " B"]
    method: str
    against: Int[Tensor, " B"] | None = None
    account: Account | None = None

    @property
    def relevance_sum(self) -> Float[Tensor, " B"]:
        """ΣR over colour, time, height and width, summed in float64."""
        return self.relevance.double().sum(dim=(1, 2, 3, 4))

    @property
    def conservation(self) -> Float[Tensor, " B"]:
        """ΣR / score: the share of the score that is on voxels (meaningless near score 0); `account` has the rest."""
        return self.relevance_sum / self.score.double()
