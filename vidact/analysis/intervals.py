"""How sure a share is that was measured on clips which come in groups; it does not know what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LEVEL = 0.95
NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class ClusteredMean:
    """A mean with its interval.

    Attributes:
        value: Mean over clips.
        low: Lower end of the interval.
        high: Upper end.
        count: How many clips.
        num_groups: How many groups they come from.
    """

    value: float
    low: float
    high: float
    count: int
    num_groups: int


def clustered_mean(
    values: Float[Tensor, " N"],
    groups: Sequence[str],
    *,
    generator: torch.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> ClusteredMean:
    """Give a mean and its 95 % interval, where clips of one group (a source video) resemble each other.

    Groups are drawn with replacement, with all their clips, and the mean is taken anew: the percentile bootstrap of
    clusters (Efron & Tibshirani 1993, ch. 13; Field & Welsh 2007). For shares of 0 or 1 it sees no spread: there the
    interval is the exact binomial one of as many draws as there are groups (Clopper & Pearson 1934).

    Args:
        values: One per clip, in [0, 1] (right or wrong).
        groups: The group of each clip.
        generator: Draws the groups.
        num_resamples: How often.

    Raises:
        ValueError: no clips, or not one group each.
    """
    if len(values) == 0 or len(values) != len(groups):
        raise ValueError(f"expected values and as many groups, got {len(values)} and {len(groups)}")
    names = sorted(set(groups))
    rows = _rows(groups, names)
    total = torch.zeros(len(names), dtype=torch.float64).index_add_(0, rows, values.double().cpu())
    count = torch.bincount(rows, minlength=len(names)).double()
    value = float(values.double().mean())
    low, high = _ends(value, total, count, num_resamples=num_resamples, generator=generator)
    return ClusteredMean(value, low, high, len(values), len(names))


def _rows(groups: Sequence[str], names: Sequence[str]) -> Tensor:
    numbers = {name: number for number, name in enumerate(names)}
    return torch.tensor([numbers[group] for group in groups])


def _ends(
    value: float, total: Tensor, count: Tensor, *, num_resamples: int, generator: torch.Generator
) -> tuple[float, float]:
    outside = (1 - LEVEL) / 2
    if value in (0.0, 1.0):
        far = float(outside ** (1 / len(total)))
        return (far, 1.0) if value else (0.0, 1 - far)
    drawn = torch.randint(len(total), (num_resamples, len(total)), generator=generator)
    means = total[drawn].sum(dim=1) / count[drawn].sum(dim=1)
    low, high = torch.quantile(means, torch.tensor([outside, 1 - outside], dtype=torch.float64)).tolist()
    return low, high
