"""Audit runs: choose clips and findings, ask, and summarise each run as estimates and verdicts."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from lightning.pytorch import Trainer

from vidact.audit.actors.reading import find_actor
from vidact.audit.factors.objects import Object
from vidact.audit.jobs import ClipAuditor, Task, audit_all
from vidact.audit.relevance.proposals import Proposals, choose_description, merge, propose
from vidact.audit.sections import ACTOR, EXCHANGES, ORDER, PROBE_NEEDS, PROBES, Exchange
from vidact.audit.settings import (
    AUTO,
    DESCRIBED,
    MOVING,
    NONE,
    OBJECTS,
    OVER_TIME,
    REGIONS,
    SECTIONS,
    AuditSettings,
    with_masks_of_actor,
)
from vidact.core.clips import height_and_width
from vidact.core.errors import ConfigError, DataError, VidactError
from vidact.core.folders import claim
from vidact.core.intervals import LEVEL
from vidact.data.loading.masks import MaskFolder
from vidact.data.video.containers import file_sha1
from vidact.runs.clips.choice import Choice
from vidact.runs.clips.chosen import ChosenClips, choose_clips, read_pixels
from vidact.runs.run import Run

NAME, KIND = "audit", "an audit"
PICTURES = ("lean", "cells", "time", "conflict", "tags", "clusters")  # all that an audit may have
MASK_FILES = "<class>/<name>.npz, .mat, or a folder of PNG frames"
WRITTEN = (
    *(f"{NAME}.json", f"{NAME}.csv", f"{NAME}.md", "junit.xml", "gate.txt"),
    *(f"{name}.png" for name in PICTURES),
    *("clips/*", "proposed/*", "examples/*", "virelay/*", "wandb/*"),
)


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

    @property
    def judged(self) -> tuple[str, ...]:
        """The names of the findings that end in a verdict."""
        names = [name for name in self.task.probes if name == ORDER]
        names += [name for name, exchange in self.task.exchanges.items() if exchange.is_judged]
        return (*names, REGIONS) if REGIONS in self.task.settings.sections else tuple(names)


@dataclass(frozen=True)
class Answered:
    """What a network said.

    Attributes:
        records: Of each clip.
        failed: A line for each clip that could not be asked about.
        kept: How many were asked about before.
        exchanges: What was exchanged, by finding.
        proposals: What was asked because of the first answers.
    """

    records: tuple[dict[str, Any], ...]
    failed: tuple[str, ...]
    kept: int
    exchanges: Mapping[str, Exchange]
    proposals: Proposals


def prepare(
    run: Run,
    *,
    folder: Path,
    settings: AuditSettings,
    choice: Choice,
    again: bool,
    factors: Mapping[str, Exchange] | None = None,
    method: str | None = None,
) -> Prepared:
    """Choose a run's clips and what can be asked, before anything expensive starts.

    Args:
        run: The run.
        folder: Where to.
        settings: What is asked for.
        choice: Which clips.
        again: Whether to ask again about clips that are asked about already.
        factors: What else is exchanged, by name.
        method: Which explains clips; None where none can be trusted.

    Raises:
        ConfigError: nothing is left to ask; a folder with files that vidact did not write, or with another audit.
        DataError: no usable clip, or a single class.
    """
    settings, choice = with_masks_of_actor(settings, choice)
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
        raise ConfigError(f"--masks_folder {choice.masks_folder}: has no mask of any of the clips ({MASK_FILES})")
    objects, told_of_objects = _objects(settings, chosen)
    exchanges = {**EXCHANGES, **objects, **(factors or {})}
    sections = (*settings.sections, *(factors or {}), *([OBJECTS] if objects else []))
    asked = [name for name in (*PROBES, *exchanges) if name.partition(".")[0] in sections]
    is_single = run.data_settings["num_frames"] == 1
    lacks = {name: why for name in asked if (why := _lacks(name, exchanges, actor=actor, is_single=is_single))}
    kept = [name for name in asked if name not in lacks]
    if not kept and not set(settings.sections) & {*DESCRIBED, REGIONS}:
        told = "; ".join(f"{name} needs {why}" for name, why in lacks.items()) or "nothing is asked"
        raise ConfigError(f"--sections {list(settings.sections)}: {told}; there are {', '.join(SECTIONS)}")
    notes = [f"{name} is left out: it needs {why}" for name, why in lacks.items()]
    notes += [*told_of_objects, *_told_of_masks(actor, settings, chosen)]
    task = Task(
        settings,
        actor,
        folder,
        method=method,
        describe=choose_description(settings),
        exchanges={name: own for name, own in exchanges.items() if name in kept},
        probes={name: own for name, own in PROBES.items() if name in kept},
        again=again,
    )
    return Prepared(run, chosen, task, choice, (*chosen.notes, *notes))


def _objects(settings: AuditSettings, chosen: ChosenClips) -> tuple[dict[str, Exchange], list[str]]:
    """List what is exchanged for each object, and tell in how many clips each is: in the others it counts as absent.

    Raises:
        ConfigError: none of the clips has a mask of it.
    """
    found, told = {}, []
    for name, place in (settings.objects or {}).items():
        folder = MaskFolder(Path(place))
        count = sum(bool(folder.kinds(window.clip.clip_id)) for window in chosen.windows)
        if not count:
            raise ConfigError(f"--objects {name}: {place} has no mask of any of the clips ({MASK_FILES})")
        says = f"the {name.replace('_', ' ')}"
        found[f"{OBJECTS}.{name}"] = Exchange(OBJECTS, says, {name: Object(name)})
        told.append(f"{says} has masks in {count} of {len(chosen.windows)} clips; in the others it counts as absent")
    return found, told


def _lacks(name: str, exchanges: Mapping[str, Exchange], *, actor: str, is_single: bool) -> str | None:
    """Say what a finding needs that these clips do not have."""
    needs = exchanges[name].needs if name in exchanges else PROBE_NEEDS.get(name, ())
    if actor == NONE and ACTOR in needs:
        return "an actor (--actor)"
    return "more than one frame" if is_single and name.partition(".")[0] in OVER_TIME else None


def _told_of_masks(actor: str, settings: AuditSettings, chosen: ChosenClips) -> list[str]:
    """Tell where there are no masks, or some that are not of the kind that is used."""
    if (actor, settings.actor) == (MOVING, AUTO):
        return ["there are no masks, so what moves stands for the actor"]
    kinds = [chosen.kinds_of(window.clip.clip_id) for window in chosen.windows]
    others = [own for own in kinds if own and actor not in own]
    if actor in (MOVING, NONE) or not any(actor in own for own in kinds) or not others:
        return []
    return [
        f"the masks of {len(others)} clips hold no {actor!r} but {', '.join(others[0])}: they count as without actor"
    ]


def _refuse_another(folder: Path, run: Run, choice: Choice) -> None:
    """Refuse a folder with the audit of another checkpoint or of other clips, which would be overwritten."""
    try:
        other = json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))["settings"]
        there = other["checkpoint_sha1"], other["part"], other.get("root_sha1")
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder / NAME}.json: not what `python -m vidact audit` wrote; replace it with --again, or choose "
            "another --out"
        ) from error
    if there != (file_sha1(run.checkpoint), choice.part, _root_sha1(choice)):
        raise ConfigError(
            f"{folder}: holds the audit of another checkpoint or of other clips; choose another --out, or replace it "
            "with --again"
        )


def _root_sha1(choice: Choice) -> str | None:
    """Tell apart other data sets whose folders bear one name, without writing down where they are."""
    return None if choice.root is None else hashlib.sha1(os.fsencode(Path(choice.root).resolve())).hexdigest()


def _root_name(choice: Choice) -> str | None:
    return None if choice.root is None else Path(choice.root).absolute().name


def ask(prepared: Prepared, *, trainer: Trainer) -> Answered:
    """Ask about all clips of a run, and then about what their answers and relevance propose; see `audit_all`.

    Raises:
        DataError: no clip could be asked about.
    """
    task = prepared.task
    records, failed, kept = audit_all(ClipAuditor(prepared.run, prepared.chosen, task), trainer=trainer)
    if not records:
        raise DataError(f"{prepared.run.name}: no clip could be asked about; the first: {failed[0]}")
    proposals = propose(records, task)
    if proposals.task is not None:
        more, lines, _ = audit_all(ClipAuditor(prepared.run, prepared.chosen, proposals.task), trainer=trainer)
        failed = [*failed, *(line for line in lines if line not in failed)]
        records = merge(records, more)
    return Answered(tuple(records), tuple(failed), kept, {**task.exchanges, **proposals.exchanges}, proposals)


def settings_of(prepared: Prepared) -> dict[str, Any]:
    """List all settings on which a number depends."""
    settings: dict[str, Any] = asdict(prepared.task.settings) | asdict(prepared.choice)
    settings |= {"level": LEVEL, "findings": list(prepared.task.findings)}
    settings["method"] = prepared.task.method  # the one that was chosen
    settings["checkpoint_sha1"] = file_sha1(prepared.run.checkpoint)
    settings |= {"root": _root_name(prepared.choice), "root_sha1": _root_sha1(prepared.choice)}
    settings["masks_folder"] = prepared.chosen.masks.folder.name if prepared.chosen.masks is not None else None
    settings["objects"] = {name: Path(place).name for name, place in (prepared.task.settings.objects or {}).items()}
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
