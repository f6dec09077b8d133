"""Concepts: which channels of a late layer a class hangs on, where each looks, and what happens without it.

Concept relevance and RelMax: Achtibat et al. 2023, "From attribution maps to human-understandable explanations through
concept relevance propagation". A channel is called a concept whether or not there is a word for what it sees.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidact.attribution.base import Explainer
from vidact.audit.asking import CLEAN, Answer, Candidate
from vidact.audit.factors.clips import Clips
from vidact.audit.relevance.channels import Layer, find_layer, follow, logits_without, why_not
from vidact.audit.relevance.clusters import coarse_map
from vidact.audit.settings import CONCEPTS
from vidact.runs.clips.chosen import draw_key

ABLATED = "ablated"
MOST_CHANNELS = 3  # of a clip are followed down to its pixels, and of a class are ablated
NUM_EXAMPLES = 9

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Concepts:
    """Notes each channel's relevance in a clip, and where the clip's strongest channels look.

    Attributes:
        name: Of the layer; None for the last that gives maps or tokens.
        most: How many channels are followed down to the pixels.
    """

    name: str | None = None
    most: int = MOST_CHANNELS

    def __call__(
        self, clip: Clips, candidate: Candidate, *, network: nn.Module, explain: Explainer | None
    ) -> dict[str, Any]:
        """Compute them.

        Returns:
            `concepts`: the `layer`; of each channel `rho` = Σ R / Σ |R|, its mean `activation`, and the `frames` of its
            peaks (None where it cannot be said); `through`, the share of the score that passes the layer; and of the
            strongest channels the coarse `map` of the voxels that they look at, and the share `inside` the actor.
            Nothing without an explainer that follows layers, or where relevance is zero or not finite.
        """
        if explain is None:
            return {}
        explain.prepare(clip.video)
        if why_not(explain.method):
            return {}
        found = follow(explain, clip.video, candidate.label, find_layer(network, clip.video, self.name))
        layer, total = found.layer, found.relevance.double().abs().sum()
        if not bool(total.isfinite()) or not bool(total > 0):
            return {}
        by_channel = layer.sums(found.relevance)
        strongest = by_channel.argsort(descending=True, stable=True)[: self.most].tolist()
        frames = _peak_frames(found.relevance, layer, clip.video.shape[2])
        top = {}
        for channel in (own for own in strongest if by_channel[own] > 0):
            seen = found.conditional(channel).sum(dim=1).clamp_min(0)
            if bool(seen.isfinite().all()) and bool(seen.sum() > 0):
                frames[channel] = int(seen[0].sum(dim=(1, 2)).argmax())
                top[str(channel)] = {"inside": _inside(seen, clip), "map": coarse_map(seen[0]).tolist()}
        noted = {
            "layer": layer.name,
            "rho": _short(by_channel / total),
            "activation": _short(layer.sums(found.output) * layer.channels / found.output.numel()),
            "frames": frames,
            "through": float(by_channel.sum() / found.score) if found.score else None,
            "top": top,
        }
        return {CONCEPTS: noted}


def _inside(seen: Float[Tensor, "1 T H W"], clip: Clips) -> float | None:
    """Compute the share of positive relevance inside the actor; None where nobody knows where it is."""
    if clip.mask is None or not bool(clip.mask.any()):
        return None
    return float((seen * clip.actor(dilation=2)[:, 0]).sum() / seen.sum())


def _short(values: Float[Tensor, " K"]) -> list[float]:
    return [float(f"{value:.6g}") for value in values.tolist()]


def _peak_frames(relevance: Tensor, layer: Layer, num_frames: int) -> list[int | None]:
    """Find the frame at which each channel has most relevance, where the layer's output has a time."""
    if relevance.ndim == 5:
        time = 2 if layer.axis == 1 else 1
    elif relevance.ndim == 4 and len(relevance) > 1:  # time is folded into the batch
        time = 0
    else:
        return [None] * layer.channels
    times = relevance.movedim((layer.axis, time), (0, 1)).flatten(2).sum(dim=2)
    peaks = ((times.argmax(dim=1).double() + 0.5) * num_frames / times.shape[1]).long()
    return list(peaks.clamp_max(num_frames - 1).tolist())


@dataclass(frozen=True)
class Ablate:
    """Asks about a clip once more without some channels; see `choose_ablations`.

    Attributes:
        name: As in `Concepts`.
        sets: Of each class, the channels that are left out at a time.
        values: Of each channel, what stands for it: its mean over the data.
    """

    name: str | None
    sets: Mapping[int, Sequence[tuple[int, ...]]]
    values: Sequence[float]

    def __call__(
        self, clip: Clips, candidate: Candidate, *, network: nn.Module, explain: Explainer | None
    ) -> dict[str, Any]:
        """Ask; gives `ablated`: the predicted class and log p of the clip's own, by channels as `4+17`."""
        del explain
        sets = self.sets.get(candidate.label, ())
        if not sets:
            return {}
        layer = find_layer(network, clip.video, self.name)
        told: dict[str, Answer] = {}
        for channels in sets:
            values = {channel: self.values[channel] for channel in channels}
            scores = logits_without(network, clip.video, layer, values)[0].double()
            told["+".join(map(str, channels))] = int(scores.argmax()), float(scores.log_softmax(dim=0)[candidate.label])
        return {ABLATED: told}


@dataclass(frozen=True)
class ConceptTable:
    """The channels' relevance in all clips that have it, by the names of the clips.

    Attributes:
        clips: Names.
        sources: The videos that they were cut from.
        labels: Their classes.
        predicted: What the network says.
        rho: Σ R / Σ |R| of each channel.
        activation: Mean of each channel.
        frames: Where each channel peaks; −1 where it cannot be said.
    """

    clips: tuple[str, ...]
    sources: tuple[str, ...]
    labels: Int[np.ndarray, " N"]
    predicted: Int[np.ndarray, " N"]
    rho: Float[np.ndarray, "N K"]
    activation: Float[np.ndarray, "N K"]
    frames: Int[np.ndarray, "N K"]

    def of(self, label: int) -> "ConceptTable":
        """Keep the clips of one class."""
        rows = np.flatnonzero(self.labels == label)
        clips, sources = (tuple(own[row] for row in rows) for own in (self.clips, self.sources))
        arrays = (self.labels, self.predicted, self.rho, self.activation, self.frames)
        return ConceptTable(clips, sources, *(own[rows] for own in arrays))

    @property
    def mean_activation(self) -> list[float]:
        """Each channel's mean over the data, every clip counting alike: what `Ablate` puts in its place."""
        return [float(mean) for mean in self.activation.mean(axis=0)]


def table_of(records: Sequence[Record]) -> ConceptTable | None:
    """Gather what `Concepts` noted; None where it noted nothing."""
    own = sorted((record for record in records if CONCEPTS in record), key=lambda record: str(record["clip"]))
    if not own:
        return None
    noted = [record[CONCEPTS] for record in own]
    return ConceptTable(
        tuple(str(record["clip"]) for record in own),
        tuple(str(record["source"]) for record in own),
        np.array([record["label"] for record in own]),
        np.array([record["answers"][CLEAN][0][0] for record in own]),
        np.array([one["rho"] for one in noted], dtype=float),
        np.array([one["activation"] for one in noted], dtype=float),
        np.array([[-1 if frame is None else frame for frame in one["frames"]] for one in noted]),
    )


def top_channels(table: ConceptTable, *, most: int = MOST_CHANNELS) -> dict[int, tuple[int, ...]]:
    """Name for each class the channels with the highest mean relevance, as far as it speaks for the class."""
    found = {}
    for label in np.unique(table.labels).tolist():
        mean = table.of(label).rho.mean(axis=0)
        found[label] = tuple(int(own) for own in np.argsort(-mean, kind="stable")[:most] if mean[own] > 0)
    return found


def choose_ablations(table: ConceptTable, *, seed: int, most: int = MOST_CHANNELS) -> dict[int, list[tuple[int, ...]]]:
    """Choose what each class is asked without: its top channels, one at a time and together, and as many others.

    A class's evidence is often spread over channels, so that it misses none of them alone. The last set is drawn from
    all other channels, to compare with.

    Args:
        table: The relevance of concepts in all clips.
        seed: Of the others.
        most: How many channels at most.
    """
    found = {}
    for label, top in top_channels(table, most=most).items():
        rest = sorted(set(range(table.rho.shape[1])) - set(top))
        sets = [(channel,) for channel in top] + ([top] if len(top) > 1 else [])
        draw = random.Random(draw_key(seed, CONCEPTS, str(label)))
        found[label] = [*sets, tuple(draw.sample(rest, len(top)))] if 0 < len(top) <= len(rest) else sets
    return found


@dataclass(frozen=True)
class Example:
    """A clip that shows a concept.

    Attributes:
        clip: Its name.
        source: The video that it was cut from.
        rho: The channel's share of relevance.
        frame: Where it peaks; None where it cannot be said.
    """

    clip: str
    source: str
    rho: float
    frame: int | None


def most_relevant(table: ConceptTable, channel: int, *, count: int = NUM_EXAMPLES) -> list[Example]:
    """List the clips of distinct sources in which a channel has most relevance, above 0 (RelMax)."""
    found: dict[str, Example] = {}
    for row in np.argsort(-table.rho[:, channel], kind="stable"):
        rho, frame = float(table.rho[row, channel]), int(table.frames[row, channel])
        if rho > 0:
            one = Example(table.clips[row], table.sources[row], rho, None if frame < 0 else frame)
            found.setdefault(one.source, one)
    return list(found.values())[:count]


def mean_inside(records: Sequence[Record], channel: int) -> float | None:
    """Average the share inside the actor of what a channel looks at, over the clips of which it is known."""
    tops = [record[CONCEPTS]["top"].get(str(channel)) for record in records if CONCEPTS in record]
    shares = [top["inside"] for top in tops if top is not None and top["inside"] is not None]
    return float(np.mean(shares)) if shares else None


@dataclass(frozen=True)
class Changes:
    """What changes for clips.

    Attributes:
        right: Whether each is right, less whether it was: −1, 0 or 1.
        log_p: The change of log p of its class.
        sources: The videos that the clips were cut from.
    """

    right: list[float] = field(default_factory=list)
    log_p: list[float] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


def ablation_changes(records: Sequence[Record]) -> dict[tuple[int, str], Changes]:
    """Gather what happens without some channels.

    Args:
        records: With the clean answers and what `Ablate` noted.

    Returns:
        By class and channels, as `4+17`.
    """
    found: dict[tuple[int, str], Changes] = defaultdict(Changes)
    for record in sorted(records, key=lambda record: str(record["clip"])):
        before, label = record["answers"][CLEAN][0], record["label"]
        for channels, after in record.get(ABLATED, {}).items():
            own = found[label, channels]
            own.right.append(float(after[0] == label) - float(before[0] == label))
            own.log_p.append(after[1] - before[1])
            own.sources.append(record["source"])
    return dict(found)
