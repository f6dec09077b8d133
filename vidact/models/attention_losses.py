"""Losses that make attention readable: smooth masks, clear masks, one peak in time; they know no network.

Meng et al., Interpretable spatio-temporal attention for video action recognition, ICCV workshops 2019. As there, a
clip's terms are added up; the result is the mean over the clips.
"""

from jaxtyping import Float
from torch import Tensor


def total_variation(masks: Float[Tensor, "B T H W"]) -> Float[Tensor, ""]:
    """Give how much neighbouring places of a mask differ: Σ |M[y+1, x] − M[y, x]| + Σ |M[y, x+1] − M[y, x]|.

    Zero for a mask that is the same everywhere.
    """
    return (masks.diff(dim=2).abs().sum() + masks.diff(dim=3).abs().sum()) / len(masks)


def contrast(masks: Float[Tensor, "B T H W"]) -> Float[Tensor, ""]:
    """Give −½ Σ M·B + ½ Σ M·(1 − B), where B = 1 for M > 0.5 and else 0: it draws a mask to 0 and 1.

    From 0 (empty) down to −½ per place (full); it is largest where a mask is undecided, just below 0.5.
    """
    salient = masks > 0.5
    return (masks * (~salient) - masks * salient).sum() / (2 * len(masks))


def unimodality(weights: Float[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Give Σ_t max(0, w[t−1]·w[t+1] − w[t]²), zero for a log-concave and therefore single-peaked course.

    A clip of less than three frames has one peak.
    """
    before, here, after = weights[:, :-2], weights[:, 1:-1], weights[:, 2:]
    return (before * after - here**2).clamp(min=0).sum() / len(weights)
