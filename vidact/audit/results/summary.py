"""Summarise what a network answered as estimates and verdicts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from vidact.audit.relevance.proposals import REGION_SAYS
from vidact.audit.results.by_channel import concepts
from vidact.audit.results.extras import Extra, conflict, darkness, region, tags
from vidact.audit.results.findings import Measured, Record, accuracy, claim_level, measure
from vidact.audit.results.looked_at import confusions, groups
from vidact.audit.results.resampling import Estimate, Resamples
from vidact.audit.results.verdict import CANNOT_SAY, Verdict, decide, sentence
from vidact.audit.runs import Answered, Prepared, settings_of
from vidact.audit.sections import ACTOR, ORDER
from vidact.audit.settings import CLUSTERS, CONCEPTS, CONFUSED, DARKNESS, NONE, REGIONS, TAGS
from vidact.core import __version__
from vidact.core.jobs import installed_versions

LIBRARIES = ("torch", "lightning", "numpy", "scipy", "decord")
SAYS = {ORDER: "the order of frames", REGIONS: REGION_SAYS}  # of what is asked without an exchange, or in vain


@dataclass(frozen=True)
class Audit:
    """What a run leans on.

    Attributes:
        run: Its name.
        part: The clips: validation, test or other data.
        data: Name of the data set.
        class_names: Its classes.
        accuracy: Of the clips as they are.
        actor: Where the actor came from: a kind of mask, `moving` or `none`.
        coverage: Share of the frames that have an actor; None where none is needed.
        findings: What was measured, by name; None where no clip has donors.
        verdicts: What is said of each.
        says: What each finding is about, in words.
        sentence: The verdicts in one sentence.
        extras: What sections show beside the verdicts, by name.
        clips: How many were asked about.
        sources: How many sources they come from.
        settings: All settings on which a number depends.
        versions: Of libraries.
        left_out: A line for each clip that could not be asked about.
        notes: Remarks.
    """

    run: str
    part: str
    data: str
    class_names: tuple[str, ...]
    accuracy: Estimate
    actor: str
    coverage: float | None
    findings: Mapping[str, Measured | None]
    verdicts: Mapping[str, Verdict]
    says: Mapping[str, str]
    sentence: str
    extras: Mapping[str, Extra]
    clips: int
    sources: int
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def summarise(prepared: Prepared, answered: Answered) -> Audit:
    """Estimate everything, and decide."""
    task, settings, records = prepared.task, prepared.task.settings, answered.records
    by_clip = {record["clip"]: record["source"] for record in records}
    whole = _complete(records, by_clip)
    generator = torch.Generator().manual_seed(settings.seed)
    resamples = Resamples(list(by_clip.values()), generator=generator)
    known = len(prepared.run.class_names)
    judged = prepared.judged
    count = max(1, len(judged))
    findings: dict[str, Measured | None] = {
        name: measure(
            name,
            whole,
            exchange=answered.exchanges.get(name),
            resamples=resamples,
            num_findings=count,
            num_classes=known,
        )
        if name == ORDER or name in answered.exchanges
        else None
        for name in judged
    }
    clean = accuracy(whole, resamples=resamples, level=claim_level(num_findings=count, num_parts=1))
    coverage = None if task.actor == NONE else sum(one["coverage"] or 0.0 for one in records) / len(records)
    says = {name: answered.exchanges[name].says if name in answered.exchanges else SAYS[name] for name in judged}
    verdicts = _judge(prepared, answered, findings, clean=clean, coverage=coverage)
    told = [(says[name], verdict) for name, verdict in verdicts.items()]
    return Audit(
        run=prepared.run.name,
        part=prepared.choice.part if prepared.choice.root is None else "other data",
        data=prepared.chosen.folder.name,
        class_names=prepared.chosen.class_names,
        accuracy=clean,
        actor=task.actor,
        coverage=coverage,
        findings=findings,
        verdicts=verdicts,
        says=says,
        sentence=sentence(prepared.run.name, told, margin=settings.margin),
        extras=_extras(prepared, answered, whole, resamples, findings.get(REGIONS)),
        clips=len(records),
        sources=len(set(by_clip.values())),
        settings=settings_of(prepared),
        versions={"vidact": __version__} | installed_versions(LIBRARIES),
        left_out=(*prepared.chosen.left_out, *answered.failed),
        notes=(*prepared.notes, *_remarks(records, prepared.run.class_names)),
    )


def _remarks(records: Sequence[Record], class_names: Sequence[str]) -> list[str]:
    """Tell of clips that neither get nor lend anything."""
    sources: dict[int, set[str]] = defaultdict(set)
    for record in records:
        sources[record["label"]].add(record["source"])
    alone = [class_names[label] for label, own in sorted(sources.items()) if len(own) == 1]
    filled = sum(bool(record.get("fills_frame")) for record in records)
    told = (
        [f"clips of {', '.join(alone)} are of a single source each, and have no donors of their class"] if alone else []
    )
    if filled:
        told.append(f"the actor takes more than 60 % of the frames in {filled} clips; there no background is exchanged")
    return told


def _judge(
    prepared: Prepared,
    answered: Answered,
    findings: Mapping[str, Measured | None],
    *,
    clean: Estimate,
    coverage: float | None,
) -> dict[str, Verdict]:
    """Decide about each finding; one that nothing was proposed for has that reason."""
    verdicts = {}
    for name, found in findings.items():
        needs = answered.exchanges[name].needs if name in answered.exchanges else ()
        verdicts[name] = decide(
            found,
            clean=clean,
            margin=prepared.task.settings.margin,
            num_findings=len(findings),
            coverage=coverage if ACTOR in needs else None,
            needs=needs,
        )
        if reason := answered.proposals.reasons.get(name):
            verdicts[name] = Verdict(CANNOT_SAY, reason, works=False)
    return verdicts


def _extras(
    prepared: Prepared,
    answered: Answered,
    records: Sequence[Record],
    resamples: Resamples,
    regions: Measured | None,
) -> dict[str, Extra]:
    """Describe what no verdict hangs on."""
    names, proposals, seed = prepared.run.class_names, answered.proposals, prepared.task.settings.seed
    asked = prepared.task.settings.sections
    tagged = {
        window.clip.clip_id: {name: str(value) for name, value in asdict(window.clip.tags).items()}
        for window in prepared.chosen.windows
        if window.clip.tags is not None
    }
    found = {
        "conflict": conflict(records, resamples),
        DARKNESS: darkness(records, resamples),
        REGIONS: region(records, proposals, names, measured=regions),
        TAGS: tags(records, tagged, resamples, seed=seed) if TAGS in asked else None,
        CONFUSED: confusions(records, proposals, resamples, class_names=names) if CONFUSED in asked else None,
        CLUSTERS: groups(records, proposals, resamples, class_names=names, tags_of=tagged, seed=seed)
        if CLUSTERS in asked
        else None,
        CONCEPTS: concepts(records, proposals, resamples, class_names=names, seed=seed) if CONCEPTS in asked else None,
    }
    return {name: extra for name, extra in found.items() if extra is not None}


def _complete(records: Sequence[Mapping[str, Any]], sources: Mapping[str, str]) -> list[dict[str, Any]]:
    """Leave out pairs whose donor could not be asked about itself, as its source and its answer are unknown."""
    whole = []
    for record in records:
        answers, control, donors = dict(record["answers"]), dict(record.get("random") or {}), {}
        for name, arms in record["donors"].items():
            donors[name] = {arm: [one for one in own if one in sources] for arm, own in arms.items()}
            for kept in (answers, control):
                for key in [key for key in kept if key.partition("|")[0] == name and key.rpartition("|")[2] in arms]:
                    pairs = zip(kept[key], arms[key.rpartition("|")[2]], strict=False)  # the control has fewer donors
                    kept[key] = [answer for answer, donor in pairs if donor in sources]
        whole.append({**record, "answers": answers, "random": control, "donors": donors})
    return whole
