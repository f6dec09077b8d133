"""Gather what a report tells of a trained run: what its folder holds, what it recognises, and some clips explained.

`python -m vidact report` and the end of `fit` call `view_run`, and hand the view to `page`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vidact.attribution.names import AUTO, LRP
from vidact.audit.results.first_leans import first_leans
from vidact.core.errors import ConfigError, DataError
from vidact.core.intervals import ClusteredMean
from vidact.data.datamodule import VideoDataModule
from vidact.explaining.settings import ExplainSettings
from vidact.report.clip_views import explain_clips
from vidact.report.contents import ClipView, Interval, Outcome, RunView
from vidact.report.findings.audit_view import find_audit
from vidact.report.findings.evaluation_view import find_evaluation
from vidact.report.run_facts import config_text, facts, read_curves, split_facts, without_home
from vidact.report.run_pictures import draw_pictures
from vidact.report.summary import percent
from vidact.runs.accuracy.parts import STAGES, MeasuredPart, choose_clips, measure_part
from vidact.runs.run import Run, open_run
from vidact.runs.splits import read_kept_split


@dataclass(frozen=True)
class ReportSettings:
    """What a report shows.

    Attributes:
        part: The clips that are measured.
        methods: Ways of explaining that can be switched between; `lrp` is by the composite that the run names.
        clips_per_class: Clips of each class that are drawn at random.
        mistakes: Further clips, those that are most surely taken for another class.
    """

    part: str = "validation"
    methods: tuple[str, ...] = (LRP, "gradient_x_input")
    clips_per_class: int = 2
    mistakes: int = 8

    def __post_init__(self) -> None:
        if self.part not in STAGES:
            raise ConfigError(f"part is one of {', '.join(STAGES)}, got {self.part!r}")
        if not self.methods or self.clips_per_class < 0 or self.mistakes < 0:
            raise ConfigError(f"expected methods, and numbers of clips of 0 or more, got {self}")
        for method in self.methods:
            ExplainSettings(method)


def view_run(
    path: str | Path,
    *,
    settings: ReportSettings,
    device: torch.device,
    data: VideoDataModule | None = None,
    trust: Sequence[str] = (),
) -> RunView:
    """Measure a run, explain some of its clips, and draw its pictures.

    If the data is not there, the view shows only what the run folder holds.

    Args:
        path: A run folder or a checkpoint.
        settings: What is shown.
        device: Where to measure and explain.
        data: The run's data module, where it is at hand; built anew if None.
        trust: See `open_run`.

    Raises:
        CheckpointError: no run, or its checkpoint is damaged.
        ConfigError: its config cannot be built.
        ExplanationError: its network cannot be explained by one of the methods.
    """
    run = open_run(path, trust=trust)
    view = _folder_view(run, part=settings.part)
    try:
        measured = measure_part(run, settings.part, device=device, data=data)
    except DataError as error:
        view = _with_skipped(view, [f"no clip could be measured: {error}"])
    else:
        view = _with_skipped(_measured_view(view, measured), measured.left_out)
        chosen = choose_clips(measured, clips_per_class=settings.clips_per_class, num_mistakes=settings.mistakes)
        clips = explain_clips(run, measured, chosen, methods=_of_run(run, settings.methods), device=device)
        view = replace(view, clips=clips, conservation=tuple(score_rows(clips).items()))
    return replace(view, pictures=tuple(draw_pictures(view)))


def _of_run(run: Run, methods: Sequence[str]) -> tuple[str, ...]:
    """Let `lrp` be by the composite that a run was trained with, where that has a name."""
    relevance = run.config.get("relevance") or {}
    method, composite = relevance.get("method", LRP), relevance.get("composite", AUTO)
    if method == LRP and composite != AUTO and isinstance(composite, str) and not Path(composite).suffix:
        method = f"{LRP}:{composite}"
    own = method if method.startswith(LRP) else LRP
    return tuple(own if name == LRP else name for name in methods)


def _folder_view(run: Run, *, part: str) -> RunView:
    """Show what the run folder holds: settings, split, training curves and an evaluation."""
    record = read_kept_split(run.folder)
    guesses = record.get("leakage", {}).get("guesses", [])
    shares = {guess["feature"]: guess.get(part) for guess in guesses}
    chance = shares.pop("chance", None) or 1 / len(run.class_names)
    evaluation, problem = find_evaluation(run.folder)
    audit, of_audit = find_audit(run.folder)
    return RunView(
        name=run.name,
        part=part,
        class_names=run.class_names,
        accuracy=None,
        chance=chance,
        baselines=tuple((name, share) for name, share in shares.items() if share is not None),
        facts=(*facts(run, record).items(), *_while_training(run)),
        split=tuple(split_facts(record, part=part).items()),
        conservation=(),
        per_class=(),
        outcomes=(),
        pictures=(),
        clips=(),
        config=config_text(run),
        left_out=tuple(without_home(told) for told in (problem, of_audit) if told),
        evaluation=evaluation,
        audit=audit,
        curves=read_curves(run.folder, best_epoch=run.epoch),
    )


def _while_training(run: Run) -> Iterator[tuple[str, str]]:
    """Name what the network began to lean on while it was trained, if `fit` was asked to look; few clips, a hint."""
    try:
        for lean in first_leans(run.folder) if run.folder is not None else ():
            yield "a hint from training", lean.sentence()
    except DataError as error:
        yield "a hint from training", without_home(str(error))


def _with_skipped(view: RunView, lines: Sequence[str]) -> RunView:
    return replace(view, left_out=(*map(without_home, lines), *view.left_out))


def _measured_view(view: RunView, measured: MeasuredPart) -> RunView:
    """Add how well the network does: on all clips, on those of each class, and on each clip."""
    means = [(name, measured.accuracy(label)) for label, name in enumerate(view.class_names)]
    columns = (measured.label, measured.predicted, measured.probabilities.amax(dim=1))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    accuracy = measured.accuracy()
    return replace(
        view,
        accuracy=None if accuracy is None else _interval(accuracy),
        per_class=tuple((name, _interval(mean)) for name, mean in means if mean is not None),
        outcomes=tuple(Outcome(measured.window(clip).clip.clip_id, *row) for clip, row in enumerate(rows)),
    )


def _interval(mean: ClusteredMean) -> Interval:
    return Interval(mean.value, mean.low, mean.high, mean.count)


def score_rows(clips: Sequence[ClipView]) -> dict[str, str]:
    """Say what share of the scores is on voxels, and of the explanation with the least, where the rest is."""
    views = [view for clip in clips for view in clip.explanations if view.conservation is not None]
    if not views:
        return {}
    shares = [view.conservation or 0.0 for view in views]
    worst = max(views, key=lambda view: abs((view.conservation or 0.0) - 1))
    return {
        "on voxels, mean": f"{percent(float(np.mean(shares)))} of {len(shares)} explanations",
        "on voxels, worst": worst.where,
    }
