"""What sections show beside the verdicts: numbers that describe, and on which no verdict hangs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from vidact.audit.asking import CLEAN, OTHER, SAME
from vidact.audit.relevance.proposals import RANDOM, Proposals
from vidact.audit.relevance.regions import NUM_RANDOM, p_value, where
from vidact.audit.results.findings import Measured, Record
from vidact.audit.results.resampling import Estimate, Resamples
from vidact.audit.results.tags import TaggedClip, measure_tags, rows_of, sentence_of
from vidact.audit.sections import LIFTED
from vidact.audit.settings import BACKGROUND, REGIONS
from vidact.core.intervals import LEVEL


@dataclass(frozen=True)
class Extra:
    """What one section shows beside the verdicts, or why it cannot.

    Attributes:
        title: A heading.
        sentence: What it says.
        columns: Headings of the table; none where there is no table.
        rows: Of the table.
        content: The same as plain values, for `audit.json`.
    """

    title: str
    sentence: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str | float | int | None, ...], ...] = ()
    content: Mapping[str, Any] = field(default_factory=dict)


def conflict(records: Sequence[Record], resamples: Resamples) -> Extra | None:
    """Say which class a network sees where the actor is of one class, and the background of another.

    As Xiao et al. 2021 ("Noise or signal") ask of pictures. None where no background was exchanged.
    """
    labels = {record["clip"]: record["label"] for record in records}
    sources = {record["clip"]: record["source"] for record in records}
    pairs = [
        (record, donor, answer[0])
        for record in records
        for donor, answer in zip(
            record["donors"].get(BACKGROUND, {}).get(OTHER, ()),
            record["answers"].get(f"{BACKGROUND}|{BACKGROUND}|{OTHER}", ()),
            strict=True,
        )
    ]
    if not pairs:
        return None

    def share(values: Sequence[bool]) -> Estimate:
        lent = [record["clip"] for record, *_ in pairs], [sources[donor] for _, donor, _ in pairs]
        own = [record["source"] for record, *_ in pairs]
        drawn = resamples.mean(torch.tensor(values, dtype=torch.float64), own, lent)
        return resamples.estimate(drawn, level=LEVEL)

    of_actor = share([predicted == record["label"] for record, _, predicted in pairs])
    of_background = share([predicted == labels[donor] for _, donor, predicted in pairs])
    sentence = (
        f"with an actor of one class before the background of another, the network says the actor's class in "
        f"{percent(of_actor)} and the background's in {percent(of_background)} of {len(pairs)} cases"
    )
    rows = tuple(
        (name, one.mean, one.low, one.high) for name, one in (("actor's", of_actor), ("background's", of_background))
    )
    content = {name: {"mean": mean, "low": low, "high": high} for name, mean, low, high in rows}
    return Extra("Actor against background", sentence, ("class that it says", "share", "low", "high"), rows, content)


def darkness(records: Sequence[Record], resamples: Resamples) -> Extra | None:
    """Compare what lifting the darkest fifth of the background changes with the same changes elsewhere in it.

    Mean |Δ log p| of the clip's class. None where nothing was lifted.
    """
    lifted, shifted, sources = [], [], []
    for record in records:
        answers = record["answers"]
        if f"{LIFTED}|lifted" in answers:
            clean = answers[CLEAN][0][1]
            lifted.append(abs(answers[f"{LIFTED}|lifted"][0][1] - clean))
            shifted.append(abs(answers[f"{LIFTED}|shifted"][0][1] - clean))
            sources.append(record["source"])
    if not lifted:
        return None
    by_lift, by_shift = (resamples.mean(torch.tensor(own, dtype=torch.float64), sources) for own in (lifted, shifted))
    there, elsewhere, more = (
        resamples.estimate(drawn, level=LEVEL) for drawn in (by_lift, by_shift, by_lift - by_shift)
    )
    sentence = (
        f"lifting the darkest fifth of the background changes log p by {number(there)}, the same changes elsewhere in "
        f"it by {number(elsewhere)}: {number(more)} more; this speaks of dark areas and of where they lie, and no "
        "verdict hangs on it"
    )
    named = (("darkest fifth", there), ("elsewhere", elsewhere), ("difference", more))
    rows = tuple((name, one.mean, one.low, one.high) for name, one in named)
    content = {name: {"mean": mean, "low": low, "high": high} for name, mean, low, high in rows}
    return Extra("Dark areas", sentence, ("lifted", "abs. change of log p", "low", "high"), rows, content)


def region(
    records: Sequence[Record], proposals: Proposals, class_names: Sequence[str], *, measured: Measured | None
) -> Extra | None:
    """Say where proposed regions lie, and how often random ones show as large a gap. None where none was asked."""
    if reason := proposals.reasons.get(REGIONS):
        return Extra("Regions", reason)
    if not proposals.regions or measured is None:
        return None
    found = measured.parts[REGIONS].gap.mean
    parts = (f"{RANDOM}|random {number + 1}" for number in range(NUM_RANDOM))
    gaps = [gap for part in parts if (gap := _gap(records, part)) is not None]
    assert found is not None
    p = p_value(found, gaps)
    rows = tuple(
        (class_names[label], *(where(one[label]) if label in one else None for one in proposals.regions.values()))
        for label in sorted({label for one in proposals.regions.values() for label in one})
    )
    sentence = (
        f"exchanging the region that the other half of the sources points to changes accuracy by {found:.3f}; "
        f"{len(gaps)} random regions of the same shape change it by {max(gaps):.3f} at most (p = {p:.3f})"
    )
    columns = ("class", "proposed by the first half", "by the second half")
    content = {
        "p": p,
        "random_gaps": gaps,
        "regions": {
            name: {class_names[label]: own.astype(int).tolist() for label, own in one.items()}
            for name, one in proposals.regions.items()
        },
    }
    return Extra("Regions", sentence, columns, rows, content)


def tags(
    records: Sequence[Record], tags_of: Mapping[str, Mapping[str, str]], resamples: Resamples, *, seed: int
) -> Extra:
    """Say which tags of clips predictions go with."""
    clips = [
        TaggedClip(record["label"], record["answers"][CLEAN][0][0], record["source"], tags_of[record["clip"]])
        for record in records
        if record["clip"] in tags_of
    ]
    if not clips:
        return Extra("Tags", "these clips have no tags in their names, as HMDB51's have")
    found, guessed = measure_tags(clips, resamples=resamples, seed=seed)
    if not found:
        return Extra("Tags", "all clips have the same tags")
    columns = ("tag", "value", "right", "low", "high", "clips", "sources")
    content = {
        "tags_alone": guessed,
        "tags": {
            name: {"p": one.p, "q": one.q, "bits": one.information, "matched": one.matched and asdict(one.matched)}
            for name, one in found.items()
        },
        "rows": [dict(zip(columns, row, strict=True)) for row in rows_of(found)],
    }
    return Extra("Tags", sentence_of(found, guessed), columns, tuple(rows_of(found)), content)


def _gap(records: Sequence[Record], key: str) -> float | None:
    """Compute accuracy with donors of the same class, less that with donors of others, without an interval."""
    right = {
        arm: [one[0] == record["label"] for record in records for one in record["answers"].get(f"{key}|{arm}", ())]
        for arm in (SAME, OTHER)
    }
    if not all(right.values()):
        return None
    same, other = (sum(map(float, own)) / len(own) for own in right.values())
    return same - other


def number(one: Estimate) -> str:
    """Write a number with its interval."""
    if one.mean is None:
        return "undefined"
    ends = "" if one.low is None or one.high is None else f" ({one.low:.2f} to {one.high:.2f})"
    return f"{one.mean:.2f}{ends}".replace("-", "−")


def percent(one: Estimate) -> str:
    """Write a share with its interval."""
    if one.mean is None:
        return "–"
    if one.low is None or one.high is None:
        return f"{100 * one.mean:.1f} %"
    return f"{100 * one.mean:.1f} % ({100 * max(0.0, one.low):.1f} to {100 * min(1.0, one.high):.1f})"
