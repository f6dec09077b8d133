"""What the first answers and relevance propose to ask next: regions that half of the sources point to, for the others.

Relevance only proposes where to intervene; an exchange, asked again, decides. What one half of the sources proposes is
asked of the other half, so that no clip is judged by a region that it has chosen itself.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidact.attribution.base import Explainer
from vidact.audit.asking import CLEAN, OTHER, SAME, Candidate
from vidact.audit.factors.clips import Clips
from vidact.audit.factors.places import GRID
from vidact.audit.factors.tube import Tube
from vidact.audit.jobs import Describe, Task
from vidact.audit.relevance.channels import why_not
from vidact.audit.relevance.clusters import Strategies, coarse_map, find_strategies
from vidact.audit.relevance.concepts import Ablate, Concepts, choose_ablations, table_of
from vidact.audit.relevance.confused import TakeAway, confused_pairs
from vidact.audit.relevance.describing import together
from vidact.audit.relevance.regions import halves, mean_maps, random_regions, tensor_of, top_region
from vidact.audit.relevance.trusted import UNTRUSTED
from vidact.audit.sections import Exchange
from vidact.audit.settings import CELLS, CLUSTERS, CONCEPTS, CONFUSED, REGIONS, AuditSettings

REGION_SAYS = "the region that other clips of the class point to"
PLACES = 10  # cells in each direction of a coarse map
RANDOM, PEAKS = f"{REGIONS}.random", f"{CLUSTERS}.peaks"
BY_RELEVANCE = (REGIONS, CONFUSED, CLUSTERS)


@dataclass(frozen=True)
class Proposals:
    """What is asked next.

    Attributes:
        task: Asks it; None where there is nothing to ask.
        exchanges: By finding, as the results have them.
        reasons: Why a section has nothing to ask, by section.
        regions: What is proposed for each half of the sources and each class.
        strategies: Groups of the clips of each class.
        pairs: Classes that are confused: the right one, and what it is taken for.
        ablations: Channels that each class is asked without.
    """

    task: Task | None = None
    exchanges: Mapping[str, Exchange] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    regions: Mapping[str, Mapping[int, np.ndarray]] = field(default_factory=dict)
    strategies: Mapping[int, Strategies] = field(default_factory=dict)
    pairs: tuple[tuple[int, int], ...] = ()
    ablations: Mapping[int, Sequence[tuple[int, ...]]] = field(default_factory=dict)


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
        "map": coarse_map(positive[0]).tolist(),
        "outside": _places(outside.sum(dim=1) / positive.sum().clamp_min(1e-30)),
    }


def _places(plane: Tensor) -> list[list[float]]:
    found: list[list[float]] = F.adaptive_avg_pool2d(plane[:, None], PLACES)[0, 0].double().tolist()
    return found


def choose_description(settings: AuditSettings) -> Describe | None:
    """Choose what is noted of each clip besides answers."""
    parts: list[Describe] = [describe_clip] if set(settings.sections) & set(BY_RELEVANCE) else []
    return together([*parts, Concepts(settings.layer)] if CONCEPTS in settings.sections else parts)


def merge(records: Sequence[dict[str, Any]], more: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put what was asked first and next of each clip into one record."""
    by_clip = {record["clip"]: record for record in more}
    together = []
    for record in records:
        other = by_clip.get(record["clip"], {})
        both = {key: {**record.get(key, {}), **other.get(key, {})} for key in ("answers", "random", "donors")}
        together.append({**other, **record, **both})
    return together


def propose(records: Sequence[Mapping[str, Any]], task: Task) -> Proposals:
    """Propose what to ask next: regions, the peaks of groups of clips, and why classes are confused.

    Args:
        records: The first answers.
        task: How they were asked.
    """
    asked = task.settings.sections
    why: dict[str, str] = {}
    proposed: dict[str, dict[str, Exchange]] = {record["clip"]: {} for record in records}
    reasons: dict[str, list[Any]] = {record["clip"]: [] for record in records}
    regions = _propose_regions(records, task, proposed, reasons) if REGIONS in asked else {}
    if REGIONS in asked and not any(regions.values()):
        why[REGIONS] = "neither relevance nor cells point to any region"
    strategies: Mapping[int, Strategies] = {}
    pairs: Sequence[tuple[int, int]] = ()
    if not any("map" in record for record in records):
        why |= {name: UNTRUSTED for name in (CLUSTERS, CONFUSED) if name in asked}
    else:
        strategies = _propose_peaks(records, task, proposed, reasons) if CLUSTERS in asked else {}
        pairs = confused_pairs(records) if CONFUSED in asked else ()
    predicted = {record["clip"]: _said(record) for record in records if (record["label"], _said(record)) in pairs}
    for clip_id, other in predicted.items():
        reasons[clip_id].append(other)
    describe: list[Describe] = [TakeAway(predicted, task.settings.seed)] if predicted else []
    ablate = _ablate(records, task, reasons) if CONCEPTS in asked else None
    if ablate is not None:
        describe.append(ablate)
    elif CONCEPTS in asked:
        why[CONCEPTS] = why_not(task.method) or "no clip's relevance could be followed to a layer"
    ablations = {} if ablate is None else ablate.sets
    if not any(reasons.values()):
        return Proposals(reasons=why, strategies=strategies, pairs=tuple(pairs))
    next_task = replace(
        task,
        exchanges={},
        probes={},
        describe=together(describe),
        proposed=proposed,
        reasons=reasons,
        place="proposed",
    )
    exchanges = {name: exchange for own in proposed.values() for name, exchange in own.items()}
    return Proposals(next_task, exchanges, why, regions, strategies, tuple(pairs), ablations)


def _ablate(records: Sequence[Mapping[str, Any]], task: Task, reasons: dict[str, list[Any]]) -> Ablate | None:
    """Propose to ask each class without its strongest channels; None where no clip could be followed to a layer."""
    table = table_of(records)
    if table is None:
        return None
    sets = choose_ablations(table, seed=task.settings.seed)
    values = [float(f"{value:.6g}") for value in table.mean_activation]
    for record in records:
        if sets.get(record["label"]):
            asked = [list(channels) for channels in sets[record["label"]]]
            reasons[record["clip"]].append([task.settings.layer, asked, values])
    return Ablate(task.settings.layer, sets, values)


def _said(record: Mapping[str, Any]) -> int:
    said: int = record["answers"][CLEAN][0][0]
    return said


def _propose_regions(
    records: Sequence[Mapping[str, Any]],
    task: Task,
    proposed: dict[str, dict[str, Exchange]],
    reasons: dict[str, list[Any]],
) -> dict[str, dict[int, np.ndarray]]:
    """Propose of each clip the region that its class has in the other half of the sources, and random ones."""
    seed = task.settings.seed
    half = _halves(records, seed)
    found = {number: _regions([record for record in records if half[record["source"]] != number]) for number in (0, 1)}
    exchanges = {
        (number, label): _exchanges(
            region, random_regions(region, energy=energy, seed=seed, words=(str(number), str(label)))
        )
        for number, one in found.items()
        for label, (region, energy) in one.items()
    }
    for record in records:
        number, label = half[record["source"]], record["label"]
        if (number, label) in exchanges:
            proposed[record["clip"]] |= exchanges[number, label]
            reasons[record["clip"]].append(found[number][label][0].astype(int).tolist())
    return {str(number): {label: own for label, (own, _) in one.items()} for number, one in found.items()}


def _halves(records: Sequence[Mapping[str, Any]], seed: int) -> dict[str, int]:
    """Divide the sources, those of each class evenly."""
    classes: dict[str, Counter[int]] = defaultdict(Counter)
    for record in records:
        classes[record["source"]][record["label"]] += 1
    return halves({source: own.most_common(1)[0][0] for source, own in classes.items()}, seed=seed)


def _propose_peaks(
    records: Sequence[Mapping[str, Any]],
    task: Task,
    proposed: dict[str, dict[str, Exchange]],
    reasons: dict[str, list[Any]],
) -> dict[int, Strategies]:
    """Group each class's clips by their relevance, and propose what each group looks at.

    What the clips of one half of the sources look at is asked of those of the other half.
    """
    strategies = {}
    labels = sorted({record["label"] for record in records})
    half = _halves(records, task.settings.seed)
    for label in labels:
        own = clips_of(records, label)
        if own:
            maps = np.stack([np.asarray(record["map"]) for record in own])
            sources = [record["source"] for record in own]
            found = find_strategies(maps, sources, half, num_classes=len(labels), seed=task.settings.seed)
            strategies[label] = found
            for record in own if found.count > 1 else ():
                peaks = found.proposed[half[record["source"]]]
                parts = {
                    f"group {number + 1}": Tube(tensor_of(peak)) for number, peak in enumerate(peaks) if peak.any()
                }
                if parts:
                    exchange = Exchange(CLUSTERS, "what a group looks at", parts, share=1 / 2, is_judged=False)
                    proposed[record["clip"]][PEAKS] = exchange
                    reasons[record["clip"]].append(peaks.astype(int).tolist())
    return strategies


def clips_of(records: Sequence[Mapping[str, Any]], label: int) -> list[Mapping[str, Any]]:
    """List the clips of a class that have maps, by their names."""
    own = [record for record in records if record["label"] == label and "map" in record]
    return sorted(own, key=lambda record: str(record["clip"]))


def _regions(records: Sequence[Mapping[str, Any]]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Find each class's region and motion energy: from relevance outside the actor, else from cells."""
    evidence = mean_maps(records, "outside") or _lean_of_cells(records)
    energy = mean_maps(records, "energy")
    found = {}
    for label, own in evidence.items():
        region = top_region(own)
        if region is not None:
            found[label] = region, _like(energy[label], own.shape)
    return found


def _lean_of_cells(records: Sequence[Mapping[str, Any]]) -> dict[int, np.ndarray]:
    """Compute for each class how much its accuracy falls where a cell comes from another class."""
    found: dict[int, list[np.ndarray]] = {}
    for record in records:

        def right(row: int, column: int, arm: str, record: Mapping[str, Any] = record) -> float:
            answers = record["answers"].get(f"{CELLS}|{row},{column}|{arm}", ())
            return float(np.mean([predicted == record["label"] for predicted, _ in answers])) if answers else 0.0

        falls = [
            [right(row, column, SAME) - right(row, column, OTHER) for column in range(GRID)] for row in range(GRID)
        ]
        found.setdefault(record["label"], []).append(np.array(falls))
    return {label: np.mean(own, axis=0) for label, own in found.items()}


def _like(energy: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    pooled: np.ndarray = F.adaptive_avg_pool2d(torch.from_numpy(energy)[None], shape)[0].numpy()  # type: ignore[arg-type]
    return pooled


def _exchanges(region: np.ndarray, others: Sequence[np.ndarray]) -> dict[str, Exchange]:
    parts = {f"random {number + 1}": Tube(tensor_of(other)) for number, other in enumerate(others)}
    return {
        REGIONS: Exchange(REGIONS, REGION_SAYS, {REGIONS: Tube(tensor_of(region))}),
        RANDOM: Exchange(REGIONS, "random regions", parts, share=1 / 8, is_judged=False),
    }
