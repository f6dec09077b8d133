"""What relevance shows beside the verdicts: groups of clips, and why classes are confused."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from vidact.audit.asking import CLEAN, OTHER, SAME
from vidact.audit.relevance.clusters import Strategies
from vidact.audit.relevance.confused import ANYWHERE, CONTROL, INSIDE, OUTSIDE
from vidact.audit.relevance.proposals import PEAKS, Proposals, clips_of
from vidact.audit.relevance.regions import where
from vidact.audit.results.extras import Extra, number
from vidact.audit.results.findings import Record
from vidact.audit.results.resampling import Estimate, Resamples
from vidact.audit.results.tags import FALSE_DISCOVERIES, TaggedClip, measure_tags
from vidact.audit.settings import CLUSTERS, CONFUSED
from vidact.core.intervals import LEVEL, least_sources

_PER_CLASS = (
    "class",
    "group",
    "clips",
    "sources",
    "right",
    "looks at",
    "gap within",
    "gap outside",
    "goes with",
    "confirmed",
)


def groups(
    records: Sequence[Record],
    proposals: Proposals,
    resamples: Resamples,
    *,
    class_names: Sequence[str],
    tags_of: Mapping[str, Mapping[str, str]],
    seed: int,
) -> Extra:
    """Say which classes have groups of clips that the network recognises by other places, and whether it does so.

    A group is confirmed where exchanging what it looks at changes its clips more than those of the other groups.
    """
    if reason := proposals.reasons.get(CLUSTERS):
        return Extra("Groups of clips", reason)
    rows: list[tuple[str | float | int | None, ...]] = []
    content: dict[str, Any] = {}
    several: list[str] = []
    confirmed: list[str] = []
    for label, found in proposals.strategies.items():
        name = class_names[label]
        content[name] = {"p": found.p, "stability": found.stability, "groups": found.count, "reason": found.reason}
        if found.count == 1:
            continue
        own = clips_of(records, label)
        with_what = _goes_with(own, found, resamples, tags_of, seed=seed)
        own_rows = list(_rows(name, own, found, resamples, with_what))
        confirmed += [f"{name} {row[1]}" for row in own_rows if row[-1]]
        several.append(f"{name} ({found.count}, p = {found.p:.3f}, stability {found.stability:.2f})")
        content[name]["rows"] = [dict(zip(_PER_CLASS, row, strict=True)) for row in own_rows]
        content[name]["means"] = found.means.round(5).tolist()
        content[name]["peaks"] = found.peaks.astype(int).tolist()
        rows += own_rows
    if not several:
        few = [f"{name} ({one['reason']})" for name, one in content.items() if one["reason"].endswith("are needed")]
        told = f"; not tested: {', '.join(few)}" if few else ""
        sentence = f"in no class that could be tested does relevance show more than one strategy{told}"
        return Extra("Groups of clips", sentence, content=content)
    which = ", ".join(confirmed) or "none"
    sentence = (
        f"relevance shows groups of clips in {', '.join(several)}; confirmed, since exchanging what a group looks at "
        f"changes its own clips more than the others: {which}"
    )
    return Extra("Groups of clips", sentence, _PER_CLASS, tuple(rows), content)


def _rows(
    name: str, own: Sequence[Record], found: Strategies, resamples: Resamples, with_what: str
) -> Iterator[tuple[str | float | int | None, ...]]:
    """List a class's groups."""
    for group in range(found.count):
        members = [record for record, number in zip(own, found.group, strict=True) if number == group]
        others = [record for record, number in zip(own, found.group, strict=True) if number != group]
        sources = {record["source"] for record in members}
        right = sum(record["answers"][CLEAN][0][0] == record["label"] for record in members) / len(members)
        key = f"{PEAKS}|group {group + 1}"
        within, outside = (_gap(part, key, resamples) for part in (members, others))
        is_confirmed = (
            len(sources) >= least_sources(LEVEL)
            and within.low is not None
            and outside.high is not None
            and within.low > outside.high
        )
        about = with_what if len(sources) > 1 else f"one source: {next(iter(sources))}"
        place = where(found.peaks[group])
        yield (
            name,
            group + 1,
            len(members),
            len(sources),
            right,
            place,
            number(within),
            number(outside),
            about,
            is_confirmed,
        )


def _gap(records: Sequence[Record], key: str, resamples: Resamples) -> Estimate:
    """Estimate accuracy with the class's own donors, less that with donors of another, over some clips."""
    drawn = []
    for arm in (SAME, OTHER):
        pairs = [(record, one[0]) for record in records for one in record["answers"].get(f"{key}|{arm}", ())]
        if not pairs:
            return Estimate(None)
        right = torch.tensor([float(said == record["label"]) for record, said in pairs])
        drawn.append(resamples.mean(right, [record["source"] for record, _ in pairs]))
    return resamples.estimate(drawn[0] - drawn[1], level=LEVEL)


def _goes_with(
    own: Sequence[Record],
    found: Strategies,
    resamples: Resamples,
    tags_of: Mapping[str, Mapping[str, str]],
    *,
    seed: int,
) -> str:
    """Name what groups go with: tags, brightness, whether the network is right."""
    bright = torch.tensor([record["brightness"] for record in own]).argsort().argsort() * 4 // len(own)
    clips = [
        TaggedClip(
            0,
            int(group),
            record["source"],
            {
                "brightness": str(int(quarter)),
                "correctness": str(record["answers"][CLEAN][0][0] == record["label"]),
                **tags_of.get(record["clip"], {}),
            },
        )
        for record, group, quarter in zip(own, found.group, bright, strict=True)
    ]
    known = set.intersection(*(set(clip.tags) for clip in clips))
    clips = [replace(clip, tags={name: clip.tags[name] for name in sorted(known)}) for clip in clips]
    tested, _ = measure_tags(clips, resamples=resamples, seed=seed)
    named = [f"{name} (q = {one.q:.3f})" for name, one in tested.items() if one.q <= FALSE_DISCOVERIES]
    return ", ".join(named) or "nothing that is known"


def confusions(
    records: Sequence[Record], proposals: Proposals, resamples: Resamples, *, class_names: Sequence[str]
) -> Extra:
    """Say by how much evidence that is taken away lowers the lead of the wrong class over the right one."""
    if reason := proposals.reasons.get(CONFUSED):
        return Extra("Confused classes", reason)
    columns = ("right class", "taken for", "taken away", "change of the lead", "low", "high", "clips")
    rows: list[tuple[str | float | int | None, ...]] = []
    told = []
    for label, other in proposals.pairs:
        own = [
            record
            for record in records
            if (found := record.get("confused")) and (found["label"], found["predicted"]) == (label, other)
        ]
        if not own:
            continue
        pair = class_names[label], class_names[other]
        for name in (OUTSIDE, INSIDE, ANYWHERE):
            members = [record for record in own if name in record["confused"]["changes"]]
            if not members:
                continue
            sources = [record["source"] for record in members]
            taken, control = (
                torch.tensor([record["confused"]["changes"][key] for record in members], dtype=torch.float64)
                for key in (name, f"{name}, {CONTROL}")
            )
            for key, values in ((name, taken), (f"{name}, {CONTROL}", control)):
                one = resamples.estimate(resamples.mean(values, sources), level=LEVEL)
                rows.append((*pair, key, one.mean, one.low, one.high, len(members)))
            less = resamples.estimate(resamples.mean(taken - control, sources), level=LEVEL)
            if len(set(sources)) >= least_sources(LEVEL) and less.high is not None and less.high < 0:
                place = "in the frame" if name == ANYWHERE else f"{name} the actor"
                told.append(
                    f"{pair[0]} is taken for {pair[1]} because of what lies {place}: taking it away changes the lead "
                    f"by {number(less)} more than taking away as much elsewhere there"
                )
    if not rows:
        return Extra("Confused classes", "no pair of classes is confused in three clips of two sources")
    sentence = "; ".join(told) or "of no pair can it be said which evidence confuses it"
    content = {"rows": [dict(zip(columns, row, strict=True)) for row in rows]}
    return Extra("Confused classes", sentence, columns, tuple(rows), content)
