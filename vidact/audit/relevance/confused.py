"""Why one class is taken for another: which evidence, taken away, lowers the wrong class's lead over the right one."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vidact.attribution.base import Explainer
from vidact.audit.asking import CLEAN, Candidate
from vidact.audit.factors.clips import Clips
from vidact.runs.clips.chosen import seeded_generator

MOST_PAIRS = 3
LEAST_CLIPS, LEAST_SOURCES = 3, 2
SHARE = 0.05  # of the blocks is taken away
PARTS = 8  # blocks of a frame in each direction
OUTSIDE, INSIDE, CONTROL, ANYWHERE = "outside", "inside", "control", "anywhere"


def confused_pairs(records: Sequence[Mapping[str, Any]], *, most: int = MOST_PAIRS) -> list[tuple[int, int]]:
    """List the classes A that are most often taken for B, (A, B), of three clips from two sources or more."""
    count: Counter[tuple[int, int]] = Counter()
    sources: dict[tuple[int, int], set[str]] = defaultdict(set)
    for record in records:
        label, predicted = record["label"], record["answers"][CLEAN][0][0]
        if label != predicted:
            count[label, predicted] += 1
            sources[label, predicted].add(record["source"])
    usual = [pair for pair, own in count.items() if own >= LEAST_CLIPS and len(sources[pair]) >= LEAST_SOURCES]
    return sorted(usual, key=lambda pair: (-count[pair], pair))[:most]


@dataclass(frozen=True)
class TakeAway:
    """Takes evidence away from confused clips, and asks how far the wrong class then leads.

    Attributes:
        predicted: What each confused clip is taken for, by its name.
        seed: Of the blocks that are taken away for comparison.
    """

    predicted: Mapping[str, int]
    seed: int

    def __call__(
        self, clip: Clips, candidate: Candidate, *, network: nn.Module, explain: Explainer | None
    ) -> dict[str, Any]:
        """Explain why B rather than A, and take the strongest blocks away, outside and inside the actor.

        Returns:
            `confused`: A, B, and by how much f_B − f_A changes; nothing for clips that are not confused.
        """
        if explain is None or candidate.clip_id not in self.predicted:
            return {}
        label, other = candidate.label, self.predicted[candidate.clip_id]
        targets = [torch.tensor([number], device=clip.video.device) for number in (other, label)]
        relevance = explain(clip.video, targets[0], against=targets[1]).relevance.sum(dim=1)[0]
        if not bool(relevance.isfinite().all()):
            return {}
        generator = seeded_generator(self.seed, candidate.clip_id)
        masks = evidence(clip, relevance.clamp_min(0), generator=generator)
        videos = [clip.video, *(without(clip, mask) for mask in masks.values())]
        scores = network(torch.cat(videos)).double()
        lead = scores[:, other] - scores[:, label]
        changes = {name: float(own - lead[0]) for name, own in zip(masks, lead[1:], strict=True)}
        return {"confused": {"label": label, "predicted": other, "lead": float(lead[0]), "changes": changes}}


def evidence(
    clip: Clips, relevance: Float[Tensor, "T H W"], *, generator: torch.Generator
) -> dict[str, Bool[Tensor, "T H W"]]:
    """Choose the blocks that hold most relevance, outside and inside the actor, and for each as many others like them.

    The others lie in the same part and move alike. A part with a single block is left out.

    A block is an eighth of the frame in each direction, in one frame; it is inside where the actor covers half of it.

    Args:
        clip: One clip; without a mask there is one choice, `anywhere`.
        relevance: Not negative.
        generator: Draws the blocks for comparison.
    """
    num_frames, *size = relevance.shape
    amount = F.adaptive_avg_pool2d(relevance[:, None], PARTS)[:, 0].flatten()
    change = (clip.video[0, :, 1:] - clip.video[0, :, :-1]).abs().mean(dim=0)
    change = torch.cat([change[:1], change]) if num_frames > 1 else torch.zeros_like(relevance)
    energy = F.adaptive_avg_pool2d(change[:, None], PARTS)[:, 0].flatten()
    if clip.mask is None:
        places = {ANYWHERE: torch.ones_like(amount, dtype=torch.bool)}
    else:
        covered = F.adaptive_avg_pool2d(clip.mask[0].to(relevance)[:, None], PARTS)[:, 0].flatten() >= 0.5
        places = {OUTSIDE: ~covered, INSIDE: covered}
    count = max(1, round(SHARE * amount.numel()))
    chosen = {}
    for name, place in places.items():
        most = min(count, int(place.sum()) // 2)  # as many others must be left to compare with
        if most:
            order = torch.where(place, amount, -1).argsort(descending=True, stable=True)
            chosen[name] = order[:most]
            chosen[f"{name}, {CONTROL}"] = _like(energy, chosen[name], allowed=place, generator=generator)
    blocks = {}
    for name, numbers in chosen.items():
        flat = torch.zeros_like(amount).index_fill_(0, numbers, 1.0).reshape(num_frames, 1, PARTS, PARTS)
        blocks[name] = F.interpolate(flat, size=size, mode="nearest-exact")[:, 0] > 0.5
    return blocks


def _like(energy: Tensor, chosen: Tensor, *, allowed: Tensor, generator: torch.Generator) -> Tensor:
    """Choose for each block another one of like motion: at random one of the eight nearest that are free."""
    free = allowed.clone()
    free[chosen] = False
    found = []
    for number in chosen.tolist():
        near = torch.where(free, (energy - energy[number]).abs(), torch.inf)
        order = near.argsort(stable=True)[: min(8, int(free.sum()))]
        if not len(order):
            break
        one = order[torch.randint(len(order), (), generator=generator)]
        free[one] = False
        found.append(int(one))
    return torch.tensor(found, dtype=torch.long, device=energy.device)


def without(clip: Clips, mask: Bool[Tensor, "T H W"]) -> Float[Tensor, "1 C T H W"]:
    """Put the still background in the place of voxels; without one, the mean over time."""
    still = clip.video.mean(dim=2) if clip.plate is None else clip.plate
    return torch.where(mask[None, None], still[:, :, None], clip.video)
