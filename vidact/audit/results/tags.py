"""What a network's errors go with: the tags of clips, which nobody has changed, so nothing is said of causes."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from scipy.stats import false_discovery_control
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from threadpoolctl import threadpool_limits

from vidact.audit.results.resampling import Estimate, Resamples
from vidact.core.intervals import LEVEL, least_sources

NUM_PERMUTATIONS = 999
FALSE_DISCOVERIES = 0.05  # the share of tags that are named wrongly
_FOLDS = 5


@dataclass(frozen=True)
class TaggedClip:
    """A clip, its tags, and what a network takes it for.

    Attributes:
        label: Its class.
        predicted: The class that the network says.
        source: The video that it was cut from.
        tags: By name: `camera` is `cm`.
    """

    label: int
    predicted: int
    source: str
    tags: Mapping[str, str]

    @property
    def is_right(self) -> bool:
        """Whether the network is right."""
        return self.predicted == self.label


@dataclass(frozen=True)
class TagFound:
    """How predictions go with one tag.

    Attributes:
        values: Accuracy of the clips with each value, and how many clips and sources they are.
        matched: Accuracy if each class had the same mix of values; None where no value is in all classes.
        information: What the tag says of the prediction beyond the class, in bits.
        p: How often tags that are dealt anew among the sources of each class say as much.
        q: The same, corrected for the number of tags (Benjamini-Hochberg).
    """

    values: Mapping[str, tuple[Estimate, int, int]]
    matched: Estimate | None
    information: float
    p: float
    q: float = math.nan


def measure_tags(
    clips: Sequence[TaggedClip], *, resamples: Resamples, seed: int
) -> tuple[dict[str, TagFound], float | None]:
    """Find out which tags predictions go with, and how far tags alone go.

    Args:
        clips: Tags that one of them lacks are left out.
        resamples: Of their sources.
        seed: Of the permutations.

    Returns:
        What was found by tag, without tags that have one value; the accuracy that tags reach without a pixel,
        cross-validated by source, None with too few sources or classes.
    """
    common = [name for name in clips[0].tags if all(name in clip.tags for clip in clips)]
    names = [name for name in common if len({clip.tags[name] for clip in clips}) > 1]
    found = {
        name: _measure(name, clips, resamples, np.random.default_rng([seed, place])) for place, name in enumerate(names)
    }
    if found:
        corrected = false_discovery_control([one.p for one in found.values()])
        found = {
            name: TagFound(one.values, one.matched, one.information, one.p, float(q))
            for (name, one), q in zip(found.items(), corrected, strict=True)
        }
    return found, _guess_by_tags(clips, names)


def _measure(name: str, clips: Sequence[TaggedClip], resamples: Resamples, draw: np.random.Generator) -> TagFound:
    values = {}
    for value in sorted({clip.tags[name] for clip in clips}):
        own = [clip for clip in clips if clip.tags[name] == value]
        right = torch.tensor([float(clip.is_right) for clip in own])
        sources = [clip.source for clip in own]
        estimate = resamples.estimate(resamples.mean(right, sources), level=LEVEL)
        if len(set(sources)) < least_sources(LEVEL):  # their spread is that of chance
            estimate = Estimate(estimate.mean)
        values[value] = estimate, len(own), len(set(sources))
    labels, predicted = (np.array([getattr(clip, key) for clip in clips]) for key in ("label", "predicted"))
    own_values = [clip.tags[name] for clip in clips]
    observed = information(labels, predicted, own_values)
    at_least = sum(
        information(labels, predicted, dealt) >= observed - 1e-12
        for dealt in (_deal(clips, own_values, draw) for _ in range(NUM_PERMUTATIONS))
    )
    p = (1 + at_least) / (1 + NUM_PERMUTATIONS)
    return TagFound(values, _matched(clips, own_values, resamples), observed, p)


def information(labels: Int[np.ndarray, " N"], predicted: Int[np.ndarray, " N"], values: Sequence[str]) -> float:
    """Compute the mutual information of prediction and tag, given the class, in bits.

    I(ŷ; t | y) = Σ p(y, ŷ, t) log₂ (p(y, ŷ, t) p(y) / (p(y, ŷ) p(y, t))).
    """
    rows = list(zip(labels.tolist(), predicted.tolist(), values, strict=True))
    whole, of_label = Counter(rows), Counter(label for label, *_ in rows)
    of_prediction = Counter((label, own) for label, own, _ in rows)
    of_tag = Counter((label, value) for label, _, value in rows)
    return sum(
        count / len(rows) * math.log2(count * of_label[label] / (of_prediction[label, own] * of_tag[label, value]))
        for (label, own, value), count in whole.items()
    )


def _deal(clips: Sequence[TaggedClip], values: Sequence[str], draw: np.random.Generator) -> list[str]:
    """Deal the tags of each class's sources anew, source by source, so that clips of one source keep like tags.

    A source with more clips than the one whose tags it gets has each of these more often, in their order.
    """
    groups: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, clip in enumerate(clips):
        groups[clip.label][clip.source].append(number)
    dealt = list(values)
    for sources in groups.values():
        blocks = list(sources.values())
        for own, place in zip(blocks, draw.permutation(len(blocks)), strict=True):
            other = blocks[place]
            for rank, number in enumerate(own):
                dealt[number] = values[other[rank * len(other) // len(own)]]
    return dealt


def _matched(clips: Sequence[TaggedClip], values: Sequence[str], resamples: Resamples) -> Estimate | None:
    """Weigh clips so that each class has the mix of values that all clips have; values that a class lacks drop out."""
    counts = Counter((clip.label, value) for clip, value in zip(clips, values, strict=True))
    labels = {clip.label for clip in clips}
    common = [value for value in sorted(set(values)) if all(counts[label, value] for label in labels)]
    if not common:
        return None
    share = {value: sum(counts[label, value] for label in labels) for value in common}
    weights = [
        share[value] / counts[clip.label, value] if value in share else 0.0
        for clip, value in zip(clips, values, strict=True)
    ]
    weight = torch.tensor(weights, dtype=torch.float64)
    right = torch.tensor([float(clip.is_right) for clip in clips], dtype=torch.float64)
    sources = [clip.source for clip in clips]
    drawn = resamples.mean(weight * right, sources).combine(resamples.mean(weight, sources), torch.div)
    return resamples.estimate(drawn, level=LEVEL)


def _guess_by_tags(clips: Sequence[TaggedClip], names: Sequence[str]) -> float | None:
    """Guess classes from tags by logistic regression, cross-validated by source."""
    labels, sources = [clip.label for clip in clips], [clip.source for clip in clips]
    if not names or len(set(sources)) < _FOLDS or len(set(labels)) < 2:
        return None
    folds = list(GroupKFold(_FOLDS).split(labels, groups=sources))
    if any(len({labels[number] for number in learned}) < 2 for learned, _ in folds):
        return None
    rows = [[clip.tags[name] for name in names] for clip in clips]
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=1000))
    with threadpool_limits(1):  # more threads are slower on so small a problem
        guessed = cross_val_predict(model, rows, labels, cv=folds)
    return float(np.mean(guessed == np.array(labels)))


def sentence_of(found: Mapping[str, TagFound], guessed: float | None) -> str:
    """Say what predictions go with, and what tags reach alone."""
    told = [f"{name} (q = {one.q:.3f}: {_extremes(one)})" for name, one in found.items() if one.q <= FALSE_DISCOVERIES]
    first = (
        f"what the network says of a class goes with {', '.join(told)}"
        if told
        else (f"what the network says of a class goes with none of its tags ({', '.join(found)})")
    )
    alone = "" if guessed is None else f"; tags alone, without a pixel, name {100 * guessed:.1f} % of the classes"
    return first + alone


def _extremes(one: TagFound) -> str:
    enough = least_sources(LEVEL)
    known = [
        (value, own.mean)
        for value, (own, _, sources) in one.values.items()
        if own.mean is not None and sources >= enough
    ]
    if len(known) < 2:
        return f"no two of its values come from {enough} sources or more"
    most, least = max(known, key=lambda pair: pair[1]), min(known, key=lambda pair: pair[1])
    return f"{100 * most[1]:.1f} % right where it is {most[0]}, {100 * least[1]:.1f} % where it is {least[0]}"


def rows_of(found: Mapping[str, TagFound]) -> Iterable[tuple[str | float | int | None, ...]]:
    """List accuracies: tag, value, accuracy, low, high, clips, sources."""
    for name, one in found.items():
        for value, (own, clips, sources) in one.values.items():
            yield name, value, own.mean, own.low, own.high, clips, sources
