"""Bring together what a report tells of trained runs; it draws no page and decides nothing about its looks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vidact.attribution.account import in_words, parts_of
from vidact.attribution.names import LRP, PREDICTED, TRUE, unit_of
from vidact.core.clips import ClipBatch, as_float
from vidact.core.errors import ConfigError, DataError
from vidact.core.explanation import Explanation
from vidact.core.intervals import ClusteredMean
from vidact.data.checks.inspection import inspect_clips
from vidact.data.datamodule import VideoDataModule
from vidact.data.loading.windows import Window
from vidact.data.video.reading import read_frames
from vidact.drawing.figure import svg_text
from vidact.drawing.results.confusion import confusion_matrix
from vidact.drawing.results.curves import training_curves
from vidact.explaining.videos import ExplainSettings
from vidact.report.contents import ClipView, Interval, Outcome, Picture, RelevanceView, RunView
from vidact.report.evaluation_view import find_evaluation
from vidact.report.run_facts import config_text, curves, facts, split_facts, without_home
from vidact.report.run_pictures import class_figure
from vidact.report.summary import percent
from vidact.runs.measuring import STAGES, MeasuredPart, choose_clips, measure_part
from vidact.runs.run import Run, open_run
from vidact.runs.splits import read_kept_split

VIEW_HEIGHT_PIXELS = 240
BATCH_SIZE = 8
TOP_CLASSES = 5


@dataclass(frozen=True)
class ReportSettings:
    """What a report shows.

    Attributes:
        part: The clips that are measured.
        methods: Ways of explaining that can be switched between.
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
    """Measure a run, explain some of its clips, and say all of it as a report shows it.

    Where the data is not there, what the run folder holds is told.

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
    try:
        measured = measure_part(run, settings.part, device=device, data=data)
    except DataError as error:
        return _view(run, None, (), settings, left_out=(f"no clip could be measured: {error}",))
    chosen = choose_clips(measured, clips_per_class=settings.clips_per_class, num_mistakes=settings.mistakes)
    clips = _explain(run, measured, chosen, settings, device)
    return _view(run, measured, clips, settings, left_out=measured.left_out)


def _view(
    run: Run,
    measured: MeasuredPart | None,
    clips: Sequence[ClipView],
    settings: ReportSettings,
    *,
    left_out: tuple[str, ...],
) -> RunView:
    record = read_kept_split(run.folder)
    guesses = record.get("leakage", {}).get("guesses", [])
    shares = {guess["feature"]: guess.get(settings.part) for guess in guesses}
    chance = shares.pop("chance", None) or 1 / len(run.class_names)
    accuracy = None if measured is None else measured.accuracy()
    evaluation, problem = find_evaluation(run.folder)
    return RunView(
        name=run.name,
        part=settings.part,
        class_names=run.class_names,
        accuracy=None if accuracy is None else _interval(accuracy),
        chance=chance,
        baselines=tuple((name, share) for name, share in shares.items() if share is not None),
        facts=tuple(facts(run, record).items()),
        split=tuple(split_facts(record, part=settings.part).items()),
        conservation=tuple(score_rows(clips).items()),
        per_class=() if measured is None else _per_class(run, measured),
        outcomes=() if measured is None else _outcomes(measured),
        pictures=tuple(_pictures(run, measured, chance=chance)),
        clips=tuple(clips),
        config=config_text(run),
        left_out=tuple(without_home(line) for line in (*left_out, problem) if line),
        evaluation=evaluation,
    )


def _interval(mean: ClusteredMean) -> Interval:
    return Interval(mean.value, mean.low, mean.high, mean.count)


def _per_class(run: Run, measured: MeasuredPart) -> tuple[tuple[str, Interval], ...]:
    means = ((name, measured.accuracy(label)) for label, name in enumerate(run.class_names))
    return tuple((name, _interval(mean)) for name, mean in means if mean is not None)


def _outcomes(measured: MeasuredPart) -> tuple[Outcome, ...]:
    columns = (measured.label, measured.predicted, measured.probabilities.amax(dim=1))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return tuple(Outcome(measured.window(clip).clip.clip_id, *row) for clip, row in enumerate(rows))


def _explain(
    run: Run, measured: MeasuredPart, chosen: Sequence[int], settings: ReportSettings, device: torch.device
) -> tuple[ClipView, ...]:
    """Explain clips by each method, for the predicted class and, where that is wrong, for the true one."""
    wrong = [clip for clip in chosen if not measured.is_right[clip]]
    found: dict[int, list[RelevanceView]] = {clip: [] for clip in chosen}
    network = run.network.to(device)
    for method in settings.methods:
        with ExplainSettings(method, batch_size=BATCH_SIZE).build_explainer(network) as explain:
            for role, clips, targets in (
                (PREDICTED, chosen, measured.predicted),
                (TRUE, wrong, measured.label),
            ):
                for start in range(0, len(clips), BATCH_SIZE):
                    part = list(clips[start : start + BATCH_SIZE])
                    video = as_float(measured.batch(part).video.to(device))
                    explanation = explain(video, targets[part].to(device))
                    for clip, view in zip(part, _views(run, explanation, role=role), strict=True):
                        found[clip].append(view)
    return tuple(_clip_view(run, measured, clip, tuple(views)) for clip, views in found.items())


def _views(run: Run, explanation: Explanation, *, role: str) -> list[RelevanceView]:
    """Take an explanation of several clips apart."""
    is_handed_down = explanation.method.startswith(LRP)
    return [
        RelevanceView(
            method=explanation.method,
            target=run.class_names[int(explanation.target[row])],
            role=role,
            score=float(explanation.score[row]),
            conservation=float(explanation.conservation[row]) if is_handed_down else None,
            relevance=explanation.relevance[row].sum(dim=0).cpu().numpy(),
            unit=unit_of(explanation.method),
            where="" if explanation.account is None else in_words(parts_of(explanation.account, row), score),
        )
        for row, score in enumerate(explanation.score.tolist())
    ]


def _clip_view(run: Run, measured: MeasuredPart, clip: int, explanations: tuple[RelevanceView, ...]) -> ClipView:
    batch, probabilities = measured.batch([clip]), measured.probabilities[clip]
    best = probabilities.argsort(descending=True)[:TOP_CLASSES].tolist()
    return ClipView(
        clip_id=measured.window(clip).clip.clip_id,
        true_class=run.class_names[int(measured.label[clip])],
        probabilities=tuple((run.class_names[k], float(probabilities[k])) for k in best),
        video=_pixels(measured.window(clip), batch, data=measured.data),
        frame_numbers=batch.frame_numbers[0].numpy(),
        times_seconds=batch.times_seconds[0].numpy(),
        explanations=explanations,
    )


def _pixels(window: Window, batch: ClipBatch, *, data: VideoDataModule) -> UInt8[np.ndarray, "C T H W"]:
    """Read the frames as a person wants to see them: in colour, with their own aspect."""
    path = window.clip.path
    info = inspect_clips([path], root=data.folder, decoder=data.decoder)[path].info
    if info is None:  # it was there a moment ago
        return batch.video[0].numpy()
    height = min(VIEW_HEIGHT_PIXELS, info.height)
    size = (height, max(1, round(height * info.width / info.height)))
    try:
        decoder = window.decoder(data.decoder)
        return read_frames(path, window.frame_numbers, size=size, gray=False, decoder=decoder).numpy()
    except DataError:
        return batch.video[0].numpy()


def score_rows(clips: Sequence[ClipView]) -> dict[str, str]:
    """Say how much of the scores is on voxels, and of the clip with the least, where the rest is."""
    views = [view for clip in clips for view in clip.explanations if view.conservation is not None]
    if not views:
        return {}
    shares = [view.conservation or 0.0 for view in views]
    worst = max(views, key=lambda view: abs((view.conservation or 0.0) - 1))
    return {
        "on voxels, mean": f"{percent(float(np.mean(shares)))} of {len(shares)} explanations",
        "on voxels, worst": worst.where,
    }


def _pictures(run: Run, measured: MeasuredPart | None, *, chance: float) -> Iterator[Picture]:
    """Draw what is known of the whole run."""
    epochs, losses, accuracies = curves(run.folder)
    if len(epochs):
        title = f"Training of {run.name}"
        figure = training_curves(
            epochs, loss=losses, accuracy=accuracies, title=title, best_epoch=run.epoch, chance=chance
        )
        yield Picture(title, _curves_in_words(losses | accuracies), svg_text(figure))
    if measured is None:
        return
    count = len(run.class_names)
    matrix = torch.zeros(count, count, dtype=torch.int64)
    matrix.index_put_((measured.label, measured.predicted), torch.tensor(1), accumulate=True)
    title = f"Confusion of {measured.part} clips"
    right, total = int(matrix.trace()), int(matrix.sum())
    alt = f"{right} of {total} clips on the diagonal; the numbers are in the table below"
    yield Picture(title, alt, svg_text(confusion_matrix(matrix.numpy(), run.class_names, title=title)))
    per_class = _per_class(run, measured)
    alt = ", ".join(f"{name} {100 * interval.value:.0f} %" for name, interval in per_class)
    yield Picture("Accuracy per class", alt, svg_text(class_figure(per_class, chance=chance)))


def _curves_in_words(series: Mapping[str, Float[np.ndarray, " E"]]) -> str:
    ends = (f"{name} {values[np.isfinite(values)][-1]:.3g}" for name, values in series.items())
    return f"curves over the epochs; at the end: {', '.join(ends)}"
