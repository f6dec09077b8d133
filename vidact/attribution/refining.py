"""Explain clips again in float64 whose account does not close in float32."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidact.attribution.account import with_rows
from vidact.attribution.base import Explainer
from vidact.core.explanation import Explanation

ROUNDING = 1e-4  # of the largest number in an account


def refined(
    found: Explanation,
    video: Float[Tensor, "B C T H W"],
    target: Int[Tensor, " B"],
    *,
    in_float64: Callable[[], Explainer],
) -> Explanation:
    """Replace the relevance and the account of clips whose account does not close, beyond ROUNDING.

    It happens where a rule divides by sums near zero and relevance grows large.

    Args:
        found: An explanation with an account.
        video: Its clips.
        target: Their targets.
        in_float64: Builds an explainer with the same settings in float64.
    """
    assert found.account is not None
    rows = torch.nonzero(~(found.account.gap(found.score) <= ROUNDING)).flatten()
    if not len(rows) or video.device.type == "mps":  # which has no float64
        return found
    with in_float64() as explain:
        own = None if found.against is None else found.against[rows]
        again = explain(video[rows], target[rows], against=own)
    assert again.account is not None
    found.relevance[rows] = again.relevance.to(found.relevance)
    found.score[rows] = again.score.to(found.score)
    return replace(found, account=with_rows(found.account, rows, again.account))
