"""Audit a run clip by clip, a JSON file each, on one or many devices; clips that are asked about already are kept."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Trainer
from torch import nn

from vidact.attribution.base import Explainer
from vidact.attribution.methods.random_weights import randomised
from vidact.attribution.registry import build_explainer
from vidact.audit.actors.reading import ClipReader
from vidact.audit.asking import Candidate, Plan, ask_clip, plan
from vidact.audit.factors.clips import Clips
from vidact.audit.sections import ACTOR, EXCHANGES, Exchange, Probe
from vidact.audit.settings import CONCEPTS, MOVING, NONE, AuditSettings
from vidact.core.errors import DataError, EnvironmentProblem, VidactError
from vidact.core.files import write_json
from vidact.core.jobs import JobRunner, Outcome, make_request, read_record, sort_outcomes
from vidact.data.loading.masks import MaskFolder
from vidact.data.loading.windows import Window
from vidact.data.video.containers import file_sha1
from vidact.runs.clips.chosen import ChosenClips
from vidact.runs.run import Run

AUDIT_VERSION = 3  # raise it whenever an answer would be another, so that no older ones are kept


@runtime_checkable
class Describe(Protocol):
    """Adds plain values to a clip's record, such as a coarse map of its relevance."""

    def __call__(
        self, clip: Clips, candidate: Candidate, *, network: nn.Module, explain: Explainer | None
    ) -> dict[str, Any]:
        """Compute them; `clip` is one, and the network is in eval mode on its device."""
        ...


@dataclass(frozen=True)
class Task:
    """What is asked about a run.

    Attributes:
        settings: As asked for.
        actor: Where the actor comes from: a kind of mask, `moving` or `none`.
        folder: Where to.
        exchanges: What is exchanged, by finding.
        probes: What is asked without a donor, by finding.
        method: Which explains clips; None where none is wanted, or none can be trusted.
        describe: Adds plain values to a clip's record.
        proposed: What is exchanged in some clips only, by clip and finding.
        reasons: Plain values that say what was proposed, by clip; they are part of what a record depends on.
        place: Folder of the records.
        again: Whether to ask again about clips that are asked about already.
    """

    settings: AuditSettings
    actor: str
    folder: Path
    exchanges: Mapping[str, Exchange]
    probes: Mapping[str, Probe]
    method: str | None = None
    describe: Describe | None = None
    proposed: Mapping[str, Mapping[str, Exchange]] = field(default_factory=dict)
    reasons: Mapping[str, Any] = field(default_factory=dict)
    place: str = "clips"
    again: bool = False

    @property
    def objects(self) -> dict[str, MaskFolder]:
        """The masks of objects, by name."""
        return {name: MaskFolder(Path(folder)) for name, folder in (self.settings.objects or {}).items()}

    @property
    def findings(self) -> tuple[str, ...]:
        """The names of all that is asked."""
        return (*self.probes, *self.exchanges)

    def path_of(self, clip_id: str) -> Path:
        """Name a clip's file."""
        return self.folder / self.place / f"{clip_id}.json"


class ClipAuditor(JobRunner):
    """Asks about clips; a broken clip is reported, and the others are asked about.

    Args:
        run: The network and its settings.
        chosen: The clips.
        task: What is asked.
    """

    def __init__(self, run: Run, chosen: ChosenClips, task: Task) -> None:
        super().__init__(len(chosen.windows))
        self.network, self.run, self.chosen, self.task = run.network, run, chosen, task
        self.results: list[Outcome] = []
        self._windows = {window.clip.clip_id: window for window in chosen.windows}
        self.reader = ClipReader(run, chosen, actor=task.actor, objects=task.objects)
        self._candidates: list[Candidate] = []
        self._files: dict[str, tuple[str | None, ...]] = {}
        self._random: nn.Module | None = None
        self._explain: Explainer | None = None

    @cached_property
    def _checkpoint_sha1(self) -> str:
        return file_sha1(self.run.checkpoint)

    def open(self, stack: contextlib.ExitStack) -> None:
        """Make the network with random weights, and find out what each clip has."""
        self.reader.device = self.device
        needs = {own for exchange in self.task.exchanges.values() for own in exchange.needs}
        self._candidates = [
            Candidate(window.clip.clip_id, window.clip.label, window.clip.source, self.reader.traits(window, needs))
            for window in self.chosen.windows
        ]
        if self.task.describe is not None and self.task.method is not None:
            self._explain = stack.enter_context(build_explainer(self.task.method, self.network))
        generator = torch.Generator().manual_seed(self.task.settings.seed)
        self._random = randomised(self.network, generator=generator).to(self.device).eval()

    def work(self, numbers: Sequence[int]) -> None:
        """Ask about the clips that are not asked about yet."""
        for number in numbers:
            window = self.chosen.windows[number]
            try:
                self._ask(window, self._candidates[number])
            except EnvironmentProblem:
                raise
            except VidactError as error:
                self.results.append(Outcome(window.clip.clip_id, str(error).removeprefix(f"{window.clip.path}: ")))

    def _ask(self, window: Window, candidate: Candidate) -> None:
        settings, path = self.task.settings, self.task.path_of(window.clip.clip_id)
        exchanges = {**self.task.exchanges, **self.task.proposed.get(window.clip.clip_id, {})}
        planned = plan(candidate, self._candidates, exchanges=exchanges, donors=settings.donors, seed=settings.seed)
        request = self._request(window, planned)
        kept = None if self.task.again else read_record(path)
        if kept is not None and kept["request"] == request:
            self.results.append(Outcome(window.clip.clip_id))
            return
        clip = self.reader.read(window.clip.clip_id)
        planned = self._readable(planned)
        found = ask_clip(
            self.network,
            self._random,
            clip,
            planned,
            read=self.reader.read,
            exchanges=exchanges,
            probes=self.task.probes,
            batch_size=settings.batch_size,
            seed=settings.seed,
        )
        content = {
            "request": request,
            "clip": candidate.clip_id,
            "label": candidate.label,
            "source": candidate.source,
            "coverage": None if clip.mask is None else float(clip.mask.flatten(2).any(dim=2).float().mean()),
            "fills_frame": clip.mask is not None and bool(clip.mask.any()) and not candidate.has((ACTOR,)),
            "donors": planned.donors,
            **found,
        }
        if self.task.describe is not None:
            content |= self.task.describe(clip, candidate, network=self.network, explain=self._explain)
        write_json(path, content)

    def _readable(self, planned: Plan) -> Plan:
        """Leave out donors that cannot be read: they are told as clips of their own."""

        def can_be_read(clip_id: str) -> bool:
            try:
                self.reader.read(clip_id)
            except EnvironmentProblem:
                raise
            except VidactError:
                return False
            return True

        donors = {
            name: {arm: [one for one in own if can_be_read(one)] for arm, own in arms.items()}
            for name, arms in planned.donors.items()
        }
        return Plan(planned.clip, donors)

    def _request(self, window: Window, planned: Plan) -> dict[str, Any]:
        settings, data = asdict(self.task.settings), self.run.data_settings
        # On the first two no answer depends; the others are listed below.
        has_concepts = CONCEPTS in settings["sections"]
        for name in ("batch_size", "margin", "sections", "actor", "method", "objects", "layer"):
            settings.pop(name)
        donors = {
            name: {arm: [self._files_of(one) for one in own] for arm, own in arms.items()}
            for name, arms in planned.donors.items()
        }
        return make_request(
            audit_version=AUDIT_VERSION,
            clip=self._files_of(window.clip.clip_id),
            checkpoint_sha1=self._checkpoint_sha1,
            label=window.clip.class_name,
            source=window.clip.source,
            frame_numbers=window.frame_numbers,
            input={name: data[name] for name in ("size", "gray")},
            settings=settings,
            findings=self.task.findings,
            actor=self._actor_of(window),
            method=self.task.method if self.task.describe is not None else "not described",
            factors={name: repr(own.parts) for name, own in self.task.exchanges.items() if name not in EXCHANGES},
            concepts=[self.task.settings.layer] if has_concepts else None,
            proposed=self.task.reasons.get(window.clip.clip_id),
            donors=donors,
        )

    def _actor_of(self, window: Window) -> str:
        """Name where the actor comes from; in a single frame, movement is seen in the frames around it."""
        is_around = self.task.actor == MOVING and len(window.frame_numbers) == 1
        return f"{MOVING} around" if is_around else self.task.actor

    def _files_of(self, clip_id: str) -> tuple[str | None, ...]:
        """Name the content of a clip and of its masks, by their SHA-1, and how it is decoded."""
        if clip_id not in self._files:
            window, masks = self._windows[clip_id], self.chosen.masks
            is_masked = self.task.actor not in (MOVING, NONE)
            mask = masks.digest(clip_id) if is_masked and masks is not None else None
            decoder = window.decoder(self.run.data_settings.get("decoder", "decord"))
            objects = [folder.digest(clip_id) for folder in self.task.objects.values()]
            self._files[clip_id] = window.sha1, mask, decoder, *objects
        return self._files[clip_id]


def audit_all(model: ClipAuditor, *, trainer: Trainer) -> tuple[list[dict[str, Any]], list[str], int]:
    """Ask about all clips, each on one of the devices; the same on every process.

    Returns:
        The record of each clip; a line for each clip that failed; how many were kept.
    """
    outcomes = model.run_all(trainer=trainer)
    asked, lines, kept = sort_outcomes(outcomes, [window.clip.clip_id for window in model.chosen.windows])
    records = [read_record(model.task.path_of(clip_id)) for clip_id in asked]
    if any(record is None for record in records):
        raise DataError(f"{model.task.folder}: a clip's file is gone; run the same command again")
    return [record for record in records if record is not None], lines, kept
