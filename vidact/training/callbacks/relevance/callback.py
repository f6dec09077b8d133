"""The callback that explains a few clips every few epochs: it writes pictures and videos, and logs them to wandb."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from vidact.attribution.account import warning_of
from vidact.attribution.base import Explainer
from vidact.attribution.lrp.composites import CompositeSpec
from vidact.attribution.names import AUTO, HOTSPOT_THRESHOLD, LRP, PREDICTED
from vidact.attribution.registry import build_explainer, check_composite, check_method
from vidact.core.clips import ClipBatch, as_float
from vidact.core.devices import gather
from vidact.core.errors import ConfigError, ExplanationError, NetworkError
from vidact.core.explanation import check_threshold
from vidact.runs.folder import RunFolder, epoch_name
from vidact.runs.loggers.media import log_bars, log_pictures, log_table, log_videos
from vidact.training.callbacks.relevance.drawing import PICTURES, VIDEO, draw_finding, frame_charts
from vidact.training.callbacks.relevance.findings import (
    TABLE_COLUMNS,
    Finding,
    explain_clips,
    most_lost,
    table_rows,
    title_of,
)
from vidact.training.callbacks.schedule import ScheduledCallback


class RelevanceCallback(ScheduledCallback):
    """Explains the same few validation clips every few epochs, by layer-wise relevance propagation or another method.

    For each clip, for its predicted and its true class, it writes under `<run folder>/explanations/` and logs to wandb:
    the frames with their hotspots as a picture and as a video, the signed heatmap, relevance per frame, hotspots per
    frame, and a table with a row per clip; wandb also gets relevance and hotspots per frame as charts. It works in fit,
    validate and test, and never changes training. With several processes, each explains its share of the clips and rank
    zero writes. A network that the method cannot explain is refused before training starts; `validate` and `test` only
    warn.

    Args:
        every_n_epochs: Explain after every n-th epoch of training (at the first validation from then on), and
            after the last; 0 for never. `validate` and `test` always explain.
        clips_per_class: Number of clips of each class.
        method: A method of `attribution.registry.METHODS`.
        composite: Relevance rules for `lrp`: a name of `attribution.lrp.composites.COMPOSITES`, a .yaml file, or a
            mapping as in such a file; `auto` for epsilon_plus where rules on modules can follow the network, else
            cp_lrp.
        threshold: A voxel is a hotspot from this share of the clip's largest |R| on.
    """

    def __init__(
        self,
        every_n_epochs: int = 10,
        clips_per_class: int = 1,
        method: str = LRP,
        composite: CompositeSpec = AUTO,
        threshold: float = HOTSPOT_THRESHOLD,
    ) -> None:
        check_threshold(threshold, "--relevance.threshold")
        if every_n_epochs < 0 or clips_per_class < 1:
            raise ConfigError(
                f"expected --relevance.every_n_epochs ≥ 0 and --relevance.clips_per_class ≥ 1, got {every_n_epochs} "
                f"and {clips_per_class}"
            )
        check_method(method)
        check_composite(composite)
        super().__init__(every_n_epochs, clips_per_class)
        self.method, self.composite = method, composite
        self.threshold = threshold
        self._has_warned = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a network that cannot be explained, before training starts.

        Raises:
            ExplanationError: it cannot be explained, with what to do.
        """
        if not self.every_n_epochs:
            return
        clips = self.example_clips(trainer)
        try:
            self._prepare(pl_module, clips)
        except NetworkError:  # which cannot be trained, either
            raise
        except ExplanationError as error:
            raise ExplanationError(
                f"{error}. Or train without pictures, --relevance.every_n_epochs 0, or with those of another method, "
                "--relevance.method gradient"
            ) from error

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain validation clips, in fit only in the epochs that are due."""
        if trainer.state.fn != "fit":
            self._explain(trainer, pl_module, stage="validate")
        super().on_validation_epoch_end(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain test clips."""
        self._explain(trainer, pl_module, stage="test")

    def work(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain validation clips."""
        self._explain(trainer, pl_module, stage="validate")

    def _explainer(self, pl_module: LightningModule, **settings: Any) -> Explainer:
        if self.method.startswith(LRP):
            settings = {"composite": self.composite, "check_network": False, **settings}
        return build_explainer(self.method, pl_module.network, **settings)  # type: ignore[arg-type]

    def _prepare(self, pl_module: LightningModule, clips: ClipBatch) -> None:
        if len(clips):
            settings = {"check_network": True} if self.method.startswith(LRP) else {}
            with self._explainer(pl_module, **settings) as explain:
                explain.prepare(as_float(clips.video[:1].to(pl_module.device)))

    def _warn_of_obstacles(self, pl_module: LightningModule, clips: ClipBatch) -> None:
        try:
            self._prepare(pl_module, clips)
        except ExplanationError as error:
            rank_zero_warn(str(error))

    def _explain(self, trainer: Trainer, pl_module: LightningModule, *, stage: str) -> None:
        clips = self.example_clips(trainer, stage)
        if trainer.state.fn != "fit":
            self._warn_of_obstacles(pl_module, clips)
        name = epoch_name(self.epoch) if trainer.state.fn == "fit" else stage
        folder = RunFolder.of(trainer).explanations / name
        shard = range(trainer.global_rank, len(clips), trainer.world_size)
        findings = gather(self._findings(pl_module, clips, shard))
        findings.sort(key=lambda finding: (finding.position, finding.kind))
        if trainer.is_global_zero and findings:
            self._warn_of_lost_relevance(clips, findings)
            failed = self._write(trainer, folder, clips, findings, trainer.datamodule.class_names)  # type: ignore[attr-defined]
            if failed:  # a full disk or a network that has diverged: training goes on
                rank_zero_warn(f"explanations of {name} are not complete, {len(failed)} files are missing: {failed[0]}")

    def _warn_of_lost_relevance(self, clips: ClipBatch, findings: Sequence[Finding]) -> None:
        """Warn once, for the worst clip, if the relevance of its voxels does not add up to its score."""
        is_followed = self.method.partition(":")[0] == LRP
        lost = most_lost(findings) if is_followed and not self._has_warned else None
        if lost is None or lost.parts is None:
            return
        told = warning_of(lost.parts, lost.score, method=lost.method, largest_logit=lost.largest_logit)
        if told is not None:
            self._has_warned = True
            rank_zero_warn(f"{clips.clip_id[lost.position]}: {told}; python -m vidact inspect says more")

    def _findings(self, pl_module: LightningModule, clips: ClipBatch, positions: Sequence[int]) -> list[Finding]:
        try:
            return explain_clips(self._explainer(pl_module), clips, positions=positions, device=pl_module.device)
        except ExplanationError as error:  # such as too little memory: training goes on
            warnings.warn(f"no explanations: {error}", stacklevel=2)
            return []

    def _write(
        self,
        trainer: Trainer,
        folder: Path,
        clips: ClipBatch,
        findings: Sequence[Finding],
        class_names: Sequence[str],
    ) -> list[str]:
        """Write and log all files that can be written; gives the reasons for those that cannot."""
        drawn: list[dict[str, Path]] = []
        failed: list[str] = []
        captions = [title_of(clips, finding, class_names=class_names) for finding in findings]
        for finding, title in zip(findings, captions, strict=True):
            paths, missing = draw_finding(folder, clips, finding, title=title, threshold=self.threshold)
            drawn.append(paths)
            failed += missing
        for name in (*PICTURES, VIDEO):
            log = log_videos if name == VIDEO else log_pictures
            known = [(paths[name], title) for paths, title in zip(drawn, captions, strict=True) if name in paths]
            log(trainer, f"explanation/{name}", [path for path, _ in known], [title for _, title in known])
        log_bars(trainer, frame_charts(clips, findings, threshold=self.threshold))
        by_clip = {one.position: paths for one, paths in zip(findings, drawn, strict=True) if one.kind == PREDICTED}
        media = [(paths.get("overlay"), paths.get(VIDEO)) for _, paths in sorted(by_clip.items())]
        rows = table_rows(clips, findings, class_names=class_names)
        columns = (*TABLE_COLUMNS, "overlay", "overlay video")
        log_table(trainer, "explanation/clips", columns, [row + own for row, own in zip(rows, media, strict=True)])
        return failed
