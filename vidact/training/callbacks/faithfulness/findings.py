"""Measure explanations of a few clips: perturbation curves and the share of relevance in masks.

The results are plain values per clip and method, which can be gathered from several processes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vidact.attribution.base import Explainer
from vidact.core.clips import ClipBatch, as_float
from vidact.evaluation.measures.fill_ins import build_fill, fill_ins_for
from vidact.evaluation.measures.localisation import chance, relevance_mass
from vidact.evaluation.measures.perturbation import Order, abpc, build_units, perturbation_curves, removal_steps
from vidact.evaluation.measures.units import Units, sum_by_unit
from vidact.evaluation.names import TUBES

BATCH_SIZE = 8
FILL, OTHER_FILL = "temporal_mean", "blur"  # the second for tubes of a single frame


@dataclass(frozen=True)
class Faithfulness:
    """How faithful one explanation of one clip is.

    Attributes:
        position: The clip's place among those that are measured.
        method: Name of the method or control.
        abpc: Area between the perturbation curves, in logits.
        rma: Share of positive relevance in the mask; NaN without a mask, or where it is undefined.
        chance: The mask's share of the clip; NaN where `rma` is.
        most_first: The true class's logit while the most relevant tubes are replaced first.
        least_first: The same, the least relevant first.
    """

    position: int
    method: str
    abpc: float
    rma: float
    chance: float
    most_first: Float[np.ndarray, " P"] = field(repr=False)
    least_first: Float[np.ndarray, " P"] = field(repr=False)


def fill_for(units: Units) -> str:
    """Name the fill-in: the tube's mean over time or, where that changes nothing, a blur."""
    return FILL if FILL in fill_ins_for(units) else OTHER_FILL


def shares_replaced(units: Units, *, num_steps: int) -> Float[np.ndarray, " P"]:
    """Give the share of tubes that are replaced at each point of a curve."""
    return (removal_steps(units.count, num_steps) / units.count).numpy().astype(np.float64)


def measure_clips(
    explainer: Explainer, clips: ClipBatch, *, positions: Sequence[int], device: torch.device, num_steps: int
) -> list[Faithfulness]:
    """Explain the true class of some of the clips, and measure how good each explanation is.

    Args:
        explainer: Not yet entered; its copy of the network scores the clips.
        clips: All clips that are measured.
        positions: Which of them.
        device: The network's.
        num_steps: Points of a perturbation curve.

    Raises:
        ExplanationError: a clip cannot be explained, or its relevance is not finite.
    """
    found: list[Faithfulness] = []
    with explainer as explain:
        for start in range(0, len(positions), BATCH_SIZE):
            part = list(positions[start : start + BATCH_SIZE])
            video, target = as_float(clips.video[part].to(device)), clips.label[part].to(device)
            explanation = explain(video, target)
            maps = explanation.relevance.sum(dim=1)
            curves = _curves(explain, video, target, maps, num_steps=num_steps)
            mask = None if clips.mask is None else clips.mask[part].to(device)
            found += _values(part, explanation.method, curves, maps, mask)
    return found


def _curves(
    explain: Explainer,
    video: Float[Tensor, "B C T H W"],
    target: Tensor,
    maps: Float[Tensor, "B T H W"],
    *,
    num_steps: int,
) -> list[Float[Tensor, "B P"]]:
    """Compute the target's logit while the most relevant tubes are replaced first, and while the least relevant are."""
    units = build_units(TUBES, video)
    fill = build_fill(fill_for(units), video, units=units)

    def score(changed: Tensor) -> Tensor:
        wanted = target.repeat(len(changed) // len(target))[:, None]  # row n of a call is of clip n mod B
        return explain.scores(changed).gather(1, wanted).squeeze(1)

    relevance = sum_by_unit(maps, units)
    orders: tuple[Order, Order] = ("morf", "lerf")
    return [
        perturbation_curves(
            score, video, units=units, relevance=relevance, fill=fill, order=order, num_steps=num_steps
        ).double()
        for order in orders
    ]


def _values(
    positions: Sequence[int],
    method: str,
    curves: Sequence[Float[Tensor, "B P"]],
    maps: Float[Tensor, "B T H W"],
    mask: Bool[Tensor, "B T H W"] | None,
) -> Iterator[Faithfulness]:
    morf, lerf = (curve.cpu().numpy() for curve in curves)
    areas = abpc(curves[1], curves[0]).tolist()
    shares = [math.nan] * len(positions) if mask is None else relevance_mass(maps, mask).tolist()
    levels = [math.nan] * len(positions) if mask is None else chance(mask).tolist()
    for row, position in enumerate(positions):
        level = levels[row] if math.isfinite(shares[row]) else math.nan
        yield Faithfulness(position, method, areas[row], shares[row], level, morf[row], lerf[row])
