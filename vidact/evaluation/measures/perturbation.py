"""Perturbation curves: replace the most or the least relevant units first, and follow the score.

Samek et al. 2017 and Petsiuk et al. 2018. Removing the least relevant units first (LeRF) and reading the curve
backwards is insertion: at each step the most relevant units are left in the filled clip. So `area` of the
probabilities is RISE's deletion on the MoRF curve and its insertion on the LeRF curve.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidact.core.errors import ConfigError, ExplanationError
from vidact.evaluation.measures.fill_ins import Fill
from vidact.evaluation.measures.units import COLUMN_SIZE, TUBE_SIZE, Units, check_clip, columns, frames, tubes
from vidact.evaluation.names import COLUMNS, FRAMES

Score = Callable[[Tensor], Tensor]
Order = Literal["morf", "lerf"]

NUM_STEPS = 20
CLIPS_PER_CALL, ON_CPU = 64, 8  # on a CPU more at once are slower: they do not fit into its caches


def build_units(name: str, video: Float[Tensor, "B C T H W"]) -> Units:
    """Divide clips into tubes, frames or columns; a unit is no larger than the clip."""
    clip = (video.shape[2], video.shape[3], video.shape[4])
    if name == FRAMES:
        return frames(clip)
    if name == COLUMNS:
        return columns(clip, size=(min(COLUMN_SIZE[0], clip[1]), min(COLUMN_SIZE[1], clip[2])))
    size = (min(TUBE_SIZE[0], clip[0]), min(TUBE_SIZE[1], clip[1]), min(TUBE_SIZE[2], clip[2]))
    return tubes(clip, size=size)


def perturbation_curves(
    score: Score,
    video: Float[Tensor, "B C T H W"],
    *,
    units: Units,
    relevance: Float[Tensor, "*orders B U"],
    fill: Fill,
    order: Order = "morf",
    num_steps: int = NUM_STEPS,
    clips_per_call: int | None = None,
) -> Float[Tensor, "*curves"]:
    """Follow the score while units are replaced, x^(k) = where(rank < k, fill, x), along any number of orders at once.

    The original and the fully replaced clip are the same for all orders, and scored once. No gradients are recorded.

    Args:
        score: Scores clips [N, C, T, H, W]: [N], or any number of values each [N, K]. The network itself works: from
            its logits' curves come the target's (`of_class`) and, by a softmax, its probability's. Row n of a call
            belongs to clip n mod B.
        video: The clips.
        units: Their division.
        relevance: Each unit's relevance R_u (`sum_by_unit`), with methods or random orders in front: any shape that
            ends in [B, U].
        fill: What replaces the clips' units (`build_fill`); the same for all orders and calls.
        order: `morf` replaces the unit of most relevance first, `lerf` that of least. Of equal units the one with the
            lower number goes first in both, so `lerf` of R is `morf` of −R.
        num_steps: S, the most points after the start; fewer units than that are replaced one by one. See
            `removal_steps`.
        clips_per_call: At most how many clips one call of `score` gets, but never less than the B clips once; None
            for 8 on a CPU and 64 elsewhere.

    Returns:
        The score at the P points of `removal_steps`: of the clip, …, of the clip with every unit replaced. The shape
        is that of relevance without U, then P, then K if the score has several values: [*orders, B, P(, K)].

    Raises:
        ConfigError: units of another size than the clips, relevance of another number of units or clips, less than one
            step or clip, an unknown order, or scores of another shape.
        ExplanationError: relevance that is not finite.
    """
    if clips_per_call is None:
        clips_per_call = ON_CPU if video.device.type == "cpu" else CLIPS_PER_CALL
    _check(video, units, relevance, order, clips_per_call)
    steps = removal_steps(units.count, num_steps)
    num_orders = math.prod(relevance.shape[:-2])
    rank = rank_units(relevance, order=order).reshape(num_orders, *relevance.shape[-2:])  # [O, B, U]
    # Versions of the clips: the first and the last point of the first order stand for those of all.
    middle = torch.cartesian_prod(torch.arange(num_orders), steps[1:-1]).reshape(-1, 2)
    versions = torch.cat([torch.tensor([[0, 0]]), middle, torch.tensor([[0, units.count]])])  # [V, 2]
    scores = _score_versions(score, video, units, rank, fill, versions, max(1, clips_per_call // max(1, len(video))))
    ends = scores[[0, -1]].expand(num_orders, *[-1] * scores.dim())  # [O, 2, B, …]
    between = scores[1:-1].reshape(num_orders, len(steps) - 2, *scores.shape[1:])  # [O, P − 2, B, …]
    curves = torch.cat([ends[:, :1], between, ends[:, 1:]], dim=1).transpose(1, 2)
    return curves.reshape(*relevance.shape[:-1], *curves.shape[2:])


def rank_units(relevance: Float[Tensor, "*orders U"], *, order: Order = "morf") -> Int[Tensor, "*orders U"]:
    """Rank units, from 0, in the order in which `perturbation_curves` replaces them."""
    key = -relevance if order == "morf" else relevance
    return key.argsort(dim=-1, stable=True).argsort(dim=-1)


def removal_steps(count: int, num_steps: int = NUM_STEPS) -> Int[Tensor, " P"]:
    """Spread up to `num_steps` points evenly over the units: how many are replaced at each, 0 first and all last.

    Raises:
        ConfigError: less than one step.
    """
    if num_steps < 1:
        raise ConfigError(f"a perturbation curve has one step or more, got {num_steps = }")
    num_steps = min(num_steps, count)
    return (torch.arange(num_steps + 1) * count + num_steps // 2) // num_steps


def random_orders(
    number: int, num_clips: int, units: Units, *, generator: torch.Generator
) -> Float[Tensor, "number B U"]:
    """Draw random relevance, whose orders serve as a control."""
    return torch.rand(number, num_clips, units.count, generator=generator, device=generator.device)


def of_class(curves: Float[Tensor, "*orders B P K"], target: Int[Tensor, " B"]) -> Float[Tensor, "*orders B P"]:
    """Pick each clip's target from curves of all classes, logits or probabilities."""
    index = target.to(curves.device)[:, None, None].expand(*curves.shape[:-1], 1)
    return curves.gather(-1, index).squeeze(-1)


def aopc(morf: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch"]:
    """Compute the area over a curve: 1/(L+1) Σ_{k=0..L} [f(x) − f(x^(k))] (Samek et al. 2017, eq. 12), L = P − 1."""
    return (morf[..., :1] - morf).mean(dim=-1)


def abpc(lerf: Float[Tensor, "*batch P"], morf: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch"]:
    """Compute the area between the curves: 1/(L+1) Σ_{k=0..L} [f(x_LeRF^(k)) − f(x_MoRF^(k))]."""
    return (lerf - morf).mean(dim=-1)


def area(curve: Float[Tensor, "*batch P"], *, steps: Int[Tensor, " P"] | None = None) -> Float[Tensor, "*batch"]:
    """Compute the area under a curve over the share of replaced units, by trapezoids (Petsiuk et al. 2018).

    Of probabilities: deletion from MoRF (less is better), insertion from LeRF (more is better).

    Args:
        curve: Values at P points.
        steps: Units that are replaced at each point (`removal_steps`); evenly spread if None.
    """
    place = torch.arange(curve.shape[-1]) if steps is None else steps
    share = (place - place[0]).to(curve) / (place[-1] - place[0])
    return torch.trapezoid(curve, share, dim=-1)


def _score_versions(
    score: Score,
    video: Float[Tensor, "B C T H W"],
    units: Units,
    rank: Int[Tensor, "O B U"],
    fill: Fill,
    versions: Int[Tensor, "V 2"],
    versions_per_call: int,
) -> Float[Tensor, "V B *values"]:
    """Score versions of the clips; each is the number of an order and how many units are replaced."""
    number = units.number.flatten().to(video.device).expand(len(video), -1)
    rank = rank.to(video.device, torch.int32)

    @lru_cache(maxsize=1)  # versions come order by order
    def turns(order: int) -> Int[Tensor, "B T H W"]:
        return rank[order].gather(1, number).reshape(-1, *units.clip)

    scores = []
    with torch.no_grad():
        for chunk in torch.split(versions, versions_per_call):
            removed = torch.stack([turns(order) < gone for order, gone in chunk.tolist()])  # [N, B, T, H, W]
            changed = torch.where(removed[:, :, None], fill(removed), video)
            values = score(changed.flatten(0, 1))
            if values.dim() not in (1, 2) or len(values) != len(chunk) * len(video):
                raise ConfigError(
                    f"a score of {len(chunk) * len(video)} clips has as many rows, of one value or several; "
                    f"got {tuple(values.shape)}"
                )
            scores.append(values.reshape(len(chunk), len(video), *values.shape[1:]))
    return torch.cat(scores)


def _check(video: Tensor, units: Units, relevance: Tensor, order: str, clips_per_call: int) -> None:
    check_clip(units, video)
    if relevance.shape[-2:] != (len(video), units.count):
        raise ConfigError(
            f"expected relevance of {len(video)} clips and {units.count} {units.name}, got {tuple(relevance.shape)}"
        )
    if order not in ("morf", "lerf"):
        raise ConfigError(f"an order is 'morf' or 'lerf', got {order!r}")
    if clips_per_call < 1:
        raise ConfigError(f"a call scores one clip or more, got {clips_per_call = }")
    if not torch.isfinite(relevance).all():
        raise ExplanationError(f"relevance of {units.name} holds values that are not finite; they cannot be ranked")
