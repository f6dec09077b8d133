"""Define `Explanation`, the relevance of each voxel of a clip, `Account`, how its score is divided up, and hotspots."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from vidact.core.errors import ConfigError

Voxels = TypeVar("Voxels", Tensor, np.ndarray)


def find_hotspots(relevance: Voxels, *, largest: Any, threshold: float) -> Voxels:
    """Mark the voxels whose relevance is at least `threshold` of the largest |R|; none where all relevance is zero.

    Args:
        relevance: Signed, summed over colour; a tensor or an array of any shape.
        largest: max |R| over the clip or video: a number, or something that broadcasts with `relevance`.
        threshold: Share of `largest`.
    """
    found: Voxels = (relevance >= threshold * largest) & (largest > 0)
    return found


def check_threshold(threshold: float, name: str) -> None:
    """Raise ConfigError if a hotspot threshold is no share in (0, 1]; `name` is what the user calls it."""
    if not 0 < threshold <= 1:
        raise ConfigError(f"{name} is a share of the largest |R|, in (0, 1], got {threshold}")


@dataclass(frozen=True)
class Account:
    """How the score of each clip is divided up: voxels + biases + others + stabiliser = score.

    Each part is computed by the formula of the rule that absorbs it, never as the remainder, so that a sum equal to
    the score is evidence that the rules are right. (Only methods that do not propagate the score put a remainder into
    `others`.)

    Attributes:
        voxels: ΣR over the voxels.
        biases: Relevance that constants absorb (biases, a BatchNorm's shift, added numbers), by the name of their
            layer.
        stabiliser: Relevance that the rules' epsilons absorb, which keep them from dividing by zero.
        others: Relevance that anything else absorbs, by its name in words.
    """

    voxels: Float[Tensor, " B"]
    biases: Mapping[str, Float[Tensor, " B"]]
    stabiliser: Float[Tensor, " B"]
    others: Mapping[str, Float[Tensor, " B"]] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, Float[Tensor, " B"]]:
        """Each part by its name in words, as in "95 % on voxels, 5 % on the bias of stem.0"."""
        biases = {f"the bias of {layer}": taken for layer, taken in self.biases.items()}
        return {"voxels": self.voxels, **biases, **self.others, "the stabiliser": self.stabiliser}

    @property
    def total(self) -> Float[Tensor, " B"]:
        """The sum of all parts, in float64."""
        first, *rest = self.parts.values()
        return sum(rest, start=first.double())

    def gap(self, score: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Compute how far the parts are from adding up: |score − total| over the largest absolute part or score."""
        score = score.double()
        largest = score.abs()
        for taken in self.parts.values():
            largest = largest.maximum(taken.abs())
        difference = (score - self.total).abs()
        # Divide by 1 where all is 0: then the parts do add up.
        return difference / largest.where(largest > 0, difference.new_ones(()))


@dataclass(frozen=True)
class Explanation:
    """Why a network gave a target its score, voxel by voxel.

    Attributes:
        relevance: Signed share of each voxel in the score; positive is evidence for the target.
        score: What is explained: the target's logit or, against other classes, a difference of logits.
        target: The class that is explained.
        method: Name of the method.
        against: The class that the target is compared with, -1 for all others (log-odds); None explains the logit
            alone.
        account: How the score is divided up; None for methods that do not propagate it.
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
        """ΣR / score: the share of the score on voxels (meaningless near score 0); `account` has the other shares."""
        return self.relevance_sum / self.score.double()
