"""Audit runs: choose clips and findings, ask, and summarise each run as estimates and verdicts."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch import Trainer

from vidact.audit.actors.reading import find_actor
from vidact.audit.jobs import ClipAuditor, Task, audit_all
from vidact.audit.results.findings import Measured, accuracy, claim_level, measure
from vidact.audit.results.resampling import Estimate, Resamples
from vidact.audit.results.verdict import Verdict, decide, sentence
from vidact.audit.sections import EXCHANGES, ORDER
from vidact.audit.settings import AUTO, MOVING, NONE, AuditSettings
from vidact.core import __version__
from vidact.core.clips import height_and_width
from vidact.core.errors import ConfigError, DataError, VidactError
from vidact.core.folders import claim
from vidact.core.intervals import LEVEL
from vidact.core.jobs import installed_versions
from vidact.data.video.containers import file_sha1
from vidact.runs.clips.choice import Choice
from vidact.runs.clips.chosen import ChosenClips, choose_clips, read_pixels
from vidact.runs.run import Run

NAME, KIND = "audit", "an audit"
WRITTEN = (f"{NAME}.json", f"{NAME}.csv", f"{NAME}.md", "lean.png", "cells.png", "junit.xml", "gate.txt", "clips/*")
LIBRARIES = ("torch", "lightning", "numpy", "scipy", "decord")


@dataclass(frozen=True)
class Prepared:
    """A run, its clips, and what is asked about them.

    Attributes:
        run: The run.
        chosen: Its clips.
        task: What is asked.
        choice: How the clips were chosen.
        notes: Remarks for the user.
    """

    run: Run
    chosen: ChosenClips
    task: Task
    choice: Choice
    notes: tuple[str, ...]


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
        sentence: The same in one sentence.
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
    sentence: str
    clips: int
    sources: int
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def prepare(run: Run, *, folder: Path, settings: AuditSettings, choice: Choice, again: bool) -> Prepared:
    """Choose a run's clips and what can be asked, before anything expensive starts.

    Args:
        run: The run.
        folder: Where to.
        settings: What is asked for.
        choice: Which clips.
        again: Whether to ask again about clips that are asked about already.

    Raises:
        ConfigError: nothing is left to ask; a folder with files that vidact did not write, or with another audit.
        DataError: no usable clip, or a single class.
    """
    claim(folder, WRITTEN, kind=KIND)
    if not again:
        _refuse_another(folder, run, choice)
    chosen = choose_clips(run, choice, seed=settings.seed)
    if len(chosen.class_names) < 2:
        raise DataError(
            f"{chosen.folder}: an audit needs clips of two classes or more, got {chosen.class_names[0]} alone"
        )
    actor = find_actor(chosen, settings.actor)
    if choice.masks_folder is not None and settings.actor == AUTO and not chosen.mask_kinds:
        raise ConfigError(
            f"--masks_folder {choice.masks_folder}: has no mask of any of the clips (<class>/<name>.npz, .mat)"
        )
    names = [ORDER, *EXCHANGES]
    asked = [name for name in names if name.partition(".")[0] in settings.sections]
    kept = [name for name in asked if name not in EXCHANGES or actor != NONE or not EXCHANGES[name].needs_actor]
    if run.data_settings["num_frames"] == 1:
        kept = [name for name in kept if not name.startswith("time.")]
    if not kept:
        raise ConfigError(
            f"--sections {list(settings.sections)}: nothing can be asked without an actor or with single frames"
        )
    notes = (
        ["there are no masks, so what moves stands for the actor"] if (actor, settings.actor) == (MOVING, AUTO) else []
    )
    notes += [f"{name} is left out: it needs an actor, or more than a frame" for name in asked if name not in kept]
    return Prepared(run, chosen, Task(settings, tuple(kept), actor, folder, again), choice, (*chosen.notes, *notes))


def _refuse_another(folder: Path, run: Run, choice: Choice) -> None:
    """Refuse a folder with the audit of another checkpoint or of other clips, which would be overwritten."""
    try:
        other = json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))["settings"]
        there = other["checkpoint_sha1"], other["part"], other["root"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder / NAME}.json: not what `python -m vidact audit` wrote; replace it with --again, or choose "
            "another --out"
        ) from error
    if there != (file_sha1(run.checkpoint), choice.part, _root_name(choice)):
        raise ConfigError(
            f"{folder}: holds the audit of another checkpoint or of other clips; choose another --out, or replace it "
            "with --again"
        )


def _root_name(choice: Choice) -> str | None:
    return None if choice.root is None else Path(choice.root).absolute().name


def ask(prepared: Prepared, *, trainer: Trainer) -> tuple[list[dict[str, Any]], list[str], int]:
    """Ask about all clips of a run; see `audit_all`.

    Raises:
        DataError: no clip could be asked about.
    """
    records, failed, kept = audit_all(ClipAuditor(prepared.run, prepared.chosen, prepared.task), trainer=trainer)
    if not records:
        raise DataError(f"{prepared.run.name}: no clip could be asked about; the first: {failed[0]}")
    return records, failed, kept


def summarise(prepared: Prepared, records: Sequence[Mapping[str, Any]], failed: Sequence[str]) -> Audit:
    """Estimate everything, and decide."""
    task, settings = prepared.task, prepared.task.settings
    by_clip = {record["clip"]: record["source"] for record in records}
    whole = _complete(records, by_clip)
    generator = torch.Generator().manual_seed(settings.seed)
    resamples = Resamples(list(by_clip.values()), generator=generator)
    count = len(task.findings)
    known = len(prepared.run.class_names)
    findings = {
        name: measure(name, whole, resamples=resamples, num_findings=count, num_classes=known) for name in task.findings
    }
    clean = accuracy(whole, resamples=resamples, level=claim_level(num_findings=count, num_parts=1))
    covered = [record["coverage"] or 0.0 for record in records] if task.actor != NONE else []
    coverage = sum(covered) / len(covered) if covered else None
    verdicts = {
        name: decide(
            found,
            clean=clean,
            margin=settings.margin,
            num_findings=count,
            coverage=coverage if name in EXCHANGES and EXCHANGES[name].needs_actor else None,
        )
        for name, found in findings.items()
    }
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
        sentence=sentence(prepared.run.name, list(verdicts.items()), margin=settings.margin),
        clips=len(records),
        sources=len(set(by_clip.values())),
        settings=_settings(prepared),
        versions={"vidact": __version__} | installed_versions(LIBRARIES),
        left_out=(*prepared.chosen.left_out, *failed),
        notes=prepared.notes,
    )


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


def _settings(prepared: Prepared) -> dict[str, Any]:
    settings: dict[str, Any] = asdict(prepared.task.settings) | asdict(prepared.choice)
    settings |= {"level": LEVEL, "findings": list(prepared.task.findings)}
    settings["checkpoint_sha1"] = file_sha1(prepared.run.checkpoint)
    settings["root"] = _root_name(prepared.choice)
    settings["masks_folder"] = prepared.chosen.masks.folder.name if prepared.chosen.masks is not None else None
    settings.pop("batch_size")
    return settings


def mean_frame(prepared: Prepared, *, most: int = 64) -> Float[np.ndarray, "H W"]:
    """Average the frames of some clips, to draw cells over; gray where none can be read."""
    windows = prepared.chosen.windows
    frames = []
    for window in windows[:: max(1, len(windows) // most)]:
        with contextlib.suppress(VidactError):  # it is listed among those that are left out
            frames.append(read_pixels(prepared.run, window).mean(dim=(0, 1)).double().numpy())
    size = height_and_width(prepared.run.data_settings["size"])
    mean: Float[np.ndarray, "H W"] = np.mean(frames, axis=0) if frames else np.full(size, 0.5)
    return mean
