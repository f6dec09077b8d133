"""Ask how far a network's answers hang on one part of clips that are given as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vidact.attribution.copies import in_eval, keep_rng
from vidact.audit.actors.moving import fills_frame
from vidact.audit.asking import Candidate, ask_clip, plan
from vidact.audit.factors.clips import Clips, with_plate
from vidact.audit.factors.own import wrap
from vidact.audit.factors.places import Factor
from vidact.audit.results.findings import Part, accuracy, claim_level, measure
from vidact.audit.results.resampling import Resamples
from vidact.audit.results.verdict import Verdict, decide
from vidact.audit.sections import ACTOR, Exchange
from vidact.audit.settings import AuditSettings
from vidact.core.errors import ConfigError

_PART = "part"


@dataclass(frozen=True)
class SwapGap:
    """What exchanging one part of some clips showed.

    Attributes:
        numbers: Lean, steer, gap, and the controls.
        verdict: What they say.
        clips: How many were asked about.
        sources: How many sources they come from.
    """

    numbers: Part
    verdict: Verdict
    clips: int
    sources: int


def swap_gap(
    network: nn.Module,
    clips: Float[Tensor, "N C T H W"],
    labels: Int[Tensor, " L"] | Sequence[int],
    sources: Sequence[Any] | Tensor,
    *,
    factor: Factor,
    masks: Bool[Tensor, "N T H W"] | None = None,
    donors: int = 8,
    margin: float = 0.1,
    batch_size: int = 32,
    seed: int = 0,
) -> SwapGap:
    """Exchange one part of clips, and say how far a network's answers hang on it.

    Args:
        network: From clips to logits [N, K]; it is left as it is, in eval or training mode.
        clips: In [0, 1], on the network's device.
        labels: The class of each.
        sources: The video that each was cut from: names or numbers.
        factor: What is exchanged.
        masks: True on the actor; wanted by factors as `Background`. A clip without one, or whose actor takes more than
            60 % of the frames, neither gets nor lends anything.
        donors: How many other clips lend each part.
        margin: δ.
        batch_size: Clips at once.
        seed: Of the draws.

    Raises:
        ConfigError: lengths or shapes differ, a label is no class of the network's, the factor gives back no such
            clips, or no clip (with an actor, where there are masks) has donors.
    """
    classes, names = _plain(labels), [str(source) for source in _plain(sources)]
    _check_arrays(clips, classes, names, masks)
    AuditSettings(donors=donors, margin=margin, batch_size=batch_size, seed=seed)  # refuses what makes no sense
    exchange = Exchange(_PART, "the part", {_PART: wrap(factor, "factor")}, needs=() if masks is None else (ACTOR,))
    shown = [True] * len(clips) if masks is None else [bool(own.any()) and not fills_frame(own) for own in masks]
    candidates = [
        Candidate(str(number), label, source, frozenset({ACTOR} if has_actor else ()))
        for number, (label, source, has_actor) in enumerate(zip(classes, names, shown, strict=True))
    ]
    given = Clips(clips) if masks is None else with_plate(clips, masks)
    records, num_classes = _ask(network, given, candidates, exchange, donors=donors, batch_size=batch_size, seed=seed)
    resamples = Resamples(names, generator=torch.Generator().manual_seed(seed))
    found = measure(_PART, records, exchange=exchange, resamples=resamples, num_findings=1, num_classes=num_classes)
    if found is None:
        raise ConfigError("no clip has donors of its class and of another one, from other sources")
    clean = accuracy(records, resamples=resamples, level=claim_level(num_findings=1, num_parts=1))
    coverage = None if masks is None else float(masks.flatten(2).any(dim=2).float().mean())
    verdict = decide(found, clean=clean, margin=margin, num_findings=1, coverage=coverage, needs=exchange.needs)
    return SwapGap(found.parts[_PART], verdict, found.clips, found.sources)


def _plain(values: Any) -> list[Any]:
    """Turn a tensor, an array or a sequence into a list of plain values."""
    return values.tolist() if hasattr(values, "tolist") else [_plain_value(value) for value in values]


def _plain_value(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _check_arrays(clips: Tensor, labels: Sequence[Any], sources: Sequence[str], masks: Tensor | None) -> None:
    if clips.ndim != 5 or not clips.is_floating_point() or not len(clips):
        raise ConfigError(f"expected clips [N, C, T, H, W] of floats, got {clips.dtype} {tuple(clips.shape)}")
    if not all(isinstance(label, int) for label in labels):
        raise ConfigError("expected a whole number for each label: that of its class, from 0")
    if not len(clips) == len(labels) == len(sources):
        counts = f"{len(clips)}, {len(labels)} and {len(sources)}"
        raise ConfigError(f"expected as many labels and sources as clips, got {counts}")
    expected = len(clips), *clips.shape[2:]
    if masks is not None and (tuple(masks.shape) != expected or masks.dtype != torch.bool):
        raise ConfigError(f"expected masks of bool {expected}, got {masks.dtype} {tuple(masks.shape)}")


def _ask(
    network: nn.Module,
    given: Clips,
    candidates: Sequence[Candidate],
    exchange: Exchange,
    *,
    donors: int,
    batch_size: int,
    seed: int,
) -> tuple[list[dict[str, Any]], int]:
    """Ask about each clip; gives a record of each, and how many classes the network knows."""
    records = []
    with torch.inference_mode(), keep_rng(given.video.device), in_eval(network):
        num_classes = network(given.video[:1].clone()).shape[1]
        if wrong := sorted({one.label for one in candidates if not 0 <= one.label < num_classes}):
            raise ConfigError(f"the network knows {num_classes} classes, from 0; got the label {wrong[0]}")
        for number, candidate in enumerate(candidates):
            planned = plan(candidate, candidates, exchanges={_PART: exchange}, donors=donors, seed=seed)
            answers = ask_clip(
                network,
                None,
                given[[number]],
                planned,
                read=lambda name: given[[int(name)]],
                exchanges={_PART: exchange},
                probes={},
                batch_size=batch_size,
                seed=seed,
            )
            about = {"clip": candidate.clip_id, "label": candidate.label, "source": candidate.source}
            records.append({**about, "donors": planned.donors, **answers})
    return records, num_classes
