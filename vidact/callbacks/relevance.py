"""Explain a few validation clips while a network trains, and show what it looks at.

It connects Lightning with attribution, analysis and report; it knows no rule and draws nothing itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from vidact.analysis.frames import (
    HOTSPOT_THRESHOLD,
    frame_relevance,
    hotspots,
    hotspots_per_frame,
    voxel_relevance,
)
from vidact.attribution.composites import DEFAULT, build_composite
from vidact.attribution.explainers import LayerwiseRelevance
from vidact.callbacks.pictures import log_pictures, log_table, run_folder
from vidact.callbacks.processes import gather
from vidact.core import ClipBatch, ClipSource, ConfigError, Explanation, VidactError, as_float
from vidact.report.charts import frame_relevance_bars, hotspots_per_frame_bars
from vidact.report.images import hotspot_overlay, relevance_heatmap, save_png

BATCH_SIZE = 8
TOLERANCE = 0.05  # of ΣR / score
NEGLIGIBLE_SCORE = 0.05  # relative relevance of a logit near zero means nothing
PREDICTED, TRUE = "predicted", "true"
TABLE_COLUMNS = (
    *("clip", "true class", "predicted class"),
    *("score", "relevance sum", "relevance sum / score"),
    *("true class score", "true class relevance sum", "true class relevance sum / score"),
)


@dataclass(frozen=True)
class Finding:
    """One clip explained for one class, as plain arrays that travel between processes.

    Attributes:
        position: The clip's place among the clips that are explained.
        kind: PREDICTED or TRUE.
        target: The class number that is explained.
        score: Its logit.
        relevance_sum: ΣR.
        relevance: Per voxel, summed over colour.
    """

    position: int
    kind: str
    target: int
    score: float
    relevance_sum: float
    relevance: Float[np.ndarray, "T H W"] = field(repr=False)

    @property
    def conservation(self) -> float:
        """ΣR / score, as in `core.Explanation`; not a number where the score is 0."""
        return self.relevance_sum / self.score if self.score else float("nan")


class RelevanceCallback(Callback):
    """Runs layer-wise relevance propagation on the same few validation clips every few epochs.

    For each clip, for its predicted and its true class, it writes under `<run folder>/explanations/` and logs to
    wandb: the frames with their hotspots, the signed heatmap, relevance per frame, hotspots per frame; and a
    table with a row per clip. It works in fit, validate and test, and never changes training. With several
    processes, each explains its share of the clips and rank zero writes.

    Args:
        every_n_epochs: Explain after every n-th epoch of training (at the first validation from then on), and
            after the last; 0 for never. `validate` and `test` always explain.
        clips_per_class: How many clips of each class.
        composite: Which relevance rules: `epsilon_plus`, `epsilon_alpha2_beta1`, `epsilon` or `lrp_0`.
        threshold: A voxel is a hotspot from this share of the clip's largest |R| on.
    """

    def __init__(
        self,
        every_n_epochs: int = 5,
        clips_per_class: int = 1,
        composite: str = DEFAULT,
        threshold: float = HOTSPOT_THRESHOLD,
    ) -> None:
        if not 0 < threshold <= 1:
            raise ConfigError(f"--relevance.threshold is a share of the largest |R|, in (0, 1], got {threshold}")
        if every_n_epochs < 0 or clips_per_class < 1:
            raise ConfigError(
                f"expected --relevance.every_n_epochs ≥ 0 and --relevance.clips_per_class ≥ 1, got {every_n_epochs} "
                f"and {clips_per_class}"
            )
        build_composite(composite)
        self.every_n_epochs = every_n_epochs
        self.clips_per_class = clips_per_class
        self.composite = composite
        self.threshold = threshold
        self._clips: dict[str, ClipBatch] = {}
        self._epoch = self._explained_epoch = -1

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain validation clips, in fit only in the epochs that are due."""
        if trainer.state.fn != "fit":
            self._explain(trainer, pl_module, stage="validate")
        elif not trainer.sanity_checking and self._is_due():
            self._explain_epoch(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note which epoch it is: when training ends, the trainer counts one more."""
        self._epoch = trainer.current_epoch

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain the last epoch, however training came to its end."""
        if self.every_n_epochs and self._explained_epoch < self._epoch:
            self._explain_epoch(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain test clips."""
        self._explain(trainer, pl_module, stage="test")

    def _is_due(self) -> bool:
        n = self.every_n_epochs
        return n > 0 and (self._epoch + 1) // n > (self._explained_epoch + 1) // n

    def _explain_epoch(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._explained_epoch = self._epoch
        self._explain(trainer, pl_module, stage="validate")

    def _explain(self, trainer: Trainer, pl_module: LightningModule, *, stage: str) -> None:
        source = getattr(trainer, "datamodule", None)
        if not isinstance(source, ClipSource):
            raise ConfigError(f"the relevance callback needs a data module that gives example clips, got {source}")
        if stage not in self._clips:
            self._clips[stage] = source.example_clips(stage, self.clips_per_class)
            if left_out := self._clips[stage].left_out:
                rank_zero_warn(f"{len(left_out)} clips that were to be explained cannot be read: {left_out[0]}")
        clips = self._clips[stage]
        name = f"epoch_{self._epoch:03d}" if trainer.state.fn == "fit" else stage
        folder = run_folder(trainer) / "explanations" / name
        shard = range(trainer.global_rank, len(clips), trainer.world_size)
        findings = gather(explain_clips(pl_module, clips, shard, composite=self.composite))
        findings.sort(key=lambda finding: (finding.position, finding.kind))
        if trainer.is_global_zero and findings:
            _warn_of_lost_relevance(findings)
            try:
                self._write(trainer, folder, clips, findings, source.class_names)
            except VidactError as error:  # a full disk or a network that has diverged: training goes on
                rank_zero_warn(f"explanations of {name} are not complete: {error}")

    def _write(
        self,
        trainer: Trainer,
        folder: Path,
        clips: ClipBatch,
        findings: Sequence[Finding],
        class_names: Sequence[str],
    ) -> None:
        pictures: dict[str, list[Path]] = {}
        captions = []
        for finding in findings:
            title = _title(clips, finding, class_names)
            captions.append(title)
            for name, path in self._draw(folder, clips, finding, title=title).items():
                pictures.setdefault(name, []).append(path)
        for name, paths in pictures.items():
            log_pictures(trainer, f"explanation/{name}", paths, captions)
        log_table(trainer, "explanation/clips", TABLE_COLUMNS, table_rows(clips, findings, class_names))

    def _draw(self, folder: Path, clips: ClipBatch, finding: Finding, *, title: str) -> dict[str, Path]:
        """Write the four pictures of one finding."""
        relevance = torch.from_numpy(finding.relevance)[None, None]  # [B, C, T, H, W]
        spots = hotspots(relevance, threshold=self.threshold)
        positive, negative = (part[0].numpy() for part in frame_relevance(relevance))
        numbers, times = clips.frame_numbers[finding.position].numpy(), clips.times_seconds[finding.position].numpy()
        video = clips.video[finding.position].numpy()
        counts = hotspots_per_frame(spots)[0].numpy()
        figures = {
            "overlay": hotspot_overlay(video, spots[0].numpy(), numbers, times, title=title),
            "heatmap": relevance_heatmap(finding.relevance, numbers, times, title=title),
            "frame_relevance": frame_relevance_bars(positive, negative, numbers, times, title=title),
            "hotspots": hotspots_per_frame_bars(counts, numbers, times, title=title, threshold=self.threshold),
        }
        stem = folder / f"{clips.clip_id[finding.position]}.{finding.kind}"
        paths = {name: stem.with_name(f"{stem.name}.{name}.png") for name in figures}
        for name, figure in figures.items():
            save_png(figure, paths[name])
        return paths


def explain_clips(
    pl_module: LightningModule, clips: ClipBatch, positions: Sequence[int], *, composite: str
) -> list[Finding]:
    """Explain some of the clips for the class that the network predicts and, where it is wrong, for the true one.

    Args:
        pl_module: Has the `network`; it stays as it is.
        clips: All clips that are explained.
        positions: Which of them.
        composite: Which relevance rules.
    """
    findings: list[Finding] = []
    with LayerwiseRelevance(pl_module.network, composite=composite) as explain:  # type: ignore[arg-type]
        for start in range(0, len(positions), BATCH_SIZE):
            part = list(positions[start : start + BATCH_SIZE])
            video = as_float(clips.video[part].to(pl_module.device))
            label = clips.label[part].to(pl_module.device)
            predicted = explain.scores(video).argmax(dim=1)
            findings += _findings(explain(video, predicted), part, PREDICTED)
            wrong = predicted != label
            if wrong.any():
                rest = [position for position, is_wrong in zip(part, wrong.tolist(), strict=True) if is_wrong]
                findings += _findings(explain(video[wrong], label[wrong]), rest, TRUE)
    return findings


def _findings(explanation: Explanation, positions: Sequence[int], kind: str) -> list[Finding]:
    relevance = voxel_relevance(explanation.relevance).cpu().numpy()
    columns = (explanation.target, explanation.score, explanation.relevance_sum)
    rows = zip(positions, *(column.tolist() for column in columns), relevance, strict=True)
    return [Finding(position, kind, *rest) for position, *rest in rows]


def _warn_of_lost_relevance(findings: Sequence[Finding]) -> None:
    """Say when relevance does not add up to the score: the rules then do not suit the network."""
    ratios = [finding.conservation for finding in findings if abs(finding.score) > NEGLIGIBLE_SCORE]
    worst = max(ratios, key=lambda ratio: abs(ratio - 1), default=1.0)
    if not abs(worst - 1) <= TOLERANCE:
        rank_zero_warn(
            f"the relevance of a clip adds up to {worst:.4g} times its score instead of 1: do not believe these "
            "explanations. The network does what the rules cannot follow: a module that is called twice, or an "
            "addition or average that is no module"
        )


def _title(clips: ClipBatch, finding: Finding, class_names: Sequence[str]) -> str:
    label = int(clips.label[finding.position])
    if finding.target == label:
        verdict = f"true class {class_names[label]}" + (", as predicted" if finding.kind == PREDICTED else "")
    else:
        verdict = f"predicted class {class_names[finding.target]}, true class {class_names[label]}"
    return f"{verdict}, logit {finding.score:.2f} · {clips.clip_id[finding.position]}"


def table_rows(
    clips: ClipBatch, findings: Sequence[Finding], class_names: Sequence[str]
) -> list[tuple[str | float, ...]]:
    """Make the table's rows, one per clip, as TABLE_COLUMNS says."""
    by_clip: dict[int, dict[str, Finding]] = {}
    for finding in findings:
        by_clip.setdefault(finding.position, {})[finding.kind] = finding
    rows: list[tuple[str | float, ...]] = []
    for position, found in sorted(by_clip.items()):
        predicted, true = found[PREDICTED], found.get(TRUE, found[PREDICTED])
        names = clips.clip_id[position], class_names[int(clips.label[position])], class_names[predicted.target]
        rows.append((*names, *_sums(predicted), *_sums(true)))
    return rows


def _sums(finding: Finding) -> tuple[float, float, float]:
    return finding.score, finding.relevance_sum, finding.conservation
