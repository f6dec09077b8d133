"""What the first answers and relevance propose to ask next: regions that half of the sources point to, for the others.

Relevance only proposes where to intervene; an exchange, asked again, decides. What one half of the sources proposes is
asked of the other half, so that no clip is judged by a region that it has chosen itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidact.attribution.base import Explainer
from vidact.audit.asking import Candidate
from vidact.audit.factors.clips import Clips
from vidact.audit.jobs import Describe, Task
from vidact.audit.sections import Exchange
from vidact.audit.settings import CLUSTERS, CONFUSED, REGIONS

PLACES = 10  # cells in each direction of a coarse map
BY_RELEVANCE = (REGIONS, CONFUSED, CLUSTERS)


@dataclass(frozen=True)
class Proposals:
    """What is asked next.

    Attributes:
        task: Asks it; None where there is nothing to ask.
        exchanges: By finding, as the results have them.
        reasons: Why a section has nothing to ask, by section.
    """

    task: Task | None = None
    exchanges: Mapping[str, Exchange] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


def describe_clip(
    clip: Clips, candidate: Candidate, *, network: nn.Module, explain: Explainer | None
) -> dict[str, Any]:
    """Describe a clip coarsely: where it moves, how bright it is, and where its relevance lies.

    Returns:
        `energy`: mean change between frames [10][10]; `brightness`: mean of the pixels; and with an explainer `map`:
        positive relevance [4][10][10] that sums to 1, and `outside`: the same [10][10] without the actor.
    """
    del network
    change = (clip.video[:, :, 1:] - clip.video[:, :, :-1]).abs().mean(dim=(1, 2))
    found: dict[str, Any] = {
        "energy": _places(change if clip.video.shape[2] > 1 else torch.zeros_like(clip.video[:, 0, 0])),
        "brightness": float(clip.video.mean()),
    }
    if explain is None:
        return found
    relevance = explain(clip.video, torch.tensor([candidate.label], device=clip.video.device)).relevance.sum(dim=1)
    if not bool(relevance.isfinite().all()):
        return found
    positive = relevance.clamp_min(0)
    outside = positive if clip.mask is None else positive * ~clip.actor(dilation=2)[:, 0]
    return found | {
        "map": F.adaptive_avg_pool3d(positive[None], (4, PLACES, PLACES))[0, 0].double().tolist(),
        "outside": _places(outside.sum(dim=1) / positive.sum()),
    }


def _places(plane: Tensor) -> list[list[float]]:
    found: list[list[float]] = F.adaptive_avg_pool2d(plane[:, None], PLACES)[0, 0].double().tolist()
    return found


def choose_description(sections: Sequence[str]) -> Describe | None:
    """Choose what is noted of each clip besides answers."""
    return describe_clip if set(sections) & set(BY_RELEVANCE) else None


def merge(records: Sequence[dict[str, Any]], more: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put what was asked first and next of each clip into one record."""
    by_clip = {record["clip"]: record for record in more}
    together = []
    for record in records:
        other = by_clip.get(record["clip"], {})
        both = {key: {**record.get(key, {}), **other.get(key, {})} for key in ("answers", "random", "donors")}
        together.append({**other, **record, **both})
    return together


def propose(records: Sequence[Mapping[str, Any]], task: Task, *, class_names: Sequence[str]) -> Proposals:
    """Propose what to ask next."""
    return Proposals()
