"""The callback that measures the faithfulness of explanations every few epochs, logs it and draws its curves."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from vidact.attribution.base import Explainer
from vidact.attribution.lrp.composites import CompositeSpec
from vidact.attribution.names import AUTO, LRP
from vidact.attribution.registry import build_explainer, check_composite, check_method
from vidact.core.clips import ClipBatch, as_float
from vidact.core.devices import gather
from vidact.core.errors import ConfigError, ExplanationError, NetworkError, VidactError
from vidact.drawing.evaluation.perturbation import Band, FillPanel, MethodCurves, perturbation_curves
from vidact.drawing.figure import save_png
from vidact.evaluation.measures.perturbation import build_units
from vidact.evaluation.names import MOTION_ENERGY, RANDOM, TUBES
from vidact.runs.folder import RunFolder
from vidact.runs.loggers.media import log_pictures
from vidact.training.callbacks.faithfulness.findings import Faithfulness, fill_for, measure_clips, shares_replaced
from vidact.training.callbacks.schedule import ScheduledCallback

CONTROLS = (RANDOM, MOTION_ENERGY)
KEY = "val/faithfulness"


class FaithfulnessCallback(ScheduledCallback):
    """Measures explanations of the same few validation clips every few epochs, beside two controls; off by default.

    Logged for the method, for `random` and for `motion_energy`: `val/faithfulness/<method>/abpc`, the area between the
    perturbation curves of the true class's logit (tubes replaced by their mean over time), and, where batches bring
    masks (`--data.masks true`), `val/faithfulness/<method>/rma`, the share of positive relevance in them, with chance
    beside it. The curves are drawn into `<run folder>/faithfulness/`. It never changes training. With several
    processes, each measures its share of the clips. A method that is no better than the controls explains nothing.

    Args:
        every_n_epochs: Measure after every n-th epoch of training (at the first validation from then on), and after
            the last; 0 for never.
        clips_per_class: Number of clips of each class.
        num_steps: Points of a perturbation curve after its start; each takes a pass of the clips through the network.
        method: A method of `attribution.registry.METHODS`.
        composite: Relevance rules for `lrp`: a name of `attribution.lrp.composites.COMPOSITES`, a .yaml file, or a
            mapping as in such a file; `auto` for epsilon_plus where rules on modules can follow the network, else
            cp_lrp.
    """

    def __init__(
        self,
        every_n_epochs: int = 0,
        clips_per_class: int = 2,
        num_steps: int = 8,
        method: str = LRP,
        composite: CompositeSpec = AUTO,
    ) -> None:
        if every_n_epochs < 0 or clips_per_class < 1 or num_steps < 1:
            raise ConfigError(
                "expected --faithfulness.every_n_epochs ≥ 0, --faithfulness.clips_per_class ≥ 1 and "
                f"--faithfulness.num_steps ≥ 1, got {every_n_epochs}, {clips_per_class} and {num_steps}"
            )
        check_method(method)
        check_composite(composite)
        super().__init__(every_n_epochs, clips_per_class)
        self.num_steps = num_steps
        self.method, self.composite = method, composite

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a network that cannot be explained, before training starts.

        Raises:
            ExplanationError: it cannot be explained, with what to do.
        """
        if not self.every_n_epochs:
            return
        clips = self.example_clips(trainer)
        try:
            with self._explainer(self.method, pl_module, check_network=True) as explain:
                explain.prepare(as_float(clips.video[:1].to(pl_module.device)))
        except NetworkError:  # which cannot be trained, either
            raise
        except ExplanationError as error:
            raise ExplanationError(
                f"{error}. Or train without measuring explanations, --faithfulness.every_n_epochs 0, or with those of "
                "another method, --relevance.method gradient"
            ) from error

    def _explainer(self, method: str, pl_module: LightningModule, *, check_network: bool = False) -> Explainer:
        settings = {"composite": self.composite, "check_network": check_network} if method.startswith(LRP) else {}
        return build_explainer(method, pl_module.network, **settings)  # type: ignore[arg-type]

    def work(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure explanations of the validation clips, log the means and draw the curves."""
        clips = self.example_clips(trainer)
        path = RunFolder.of(trainer).faithfulness_picture(self.epoch)  # asks all processes
        shard = range(trainer.global_rank, len(clips), trainer.world_size)
        found = gather(self._findings(pl_module, clips, shard))
        found.sort(key=lambda one: one.position)
        if not (trainer.is_global_zero and found):
            return
        values = summary(found) | {"epoch": float(self.epoch)}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
            logger.save()
        try:
            title = f"Score while tubes are replaced, {len({one.position for one in found})} validation clips"
            panel = curves_panel(found, clips, num_steps=self.num_steps)
            save_png(perturbation_curves([panel], controls=CONTROLS, unit_name="tubes", title=title), path)
        except VidactError as error:  # a full disk or a network that has diverged: training goes on
            rank_zero_warn(f"faithfulness of epoch {self.epoch} is not drawn: {error}")
        else:
            log_pictures(trainer, "faithfulness/curves", [path], [title])

    def _findings(self, pl_module: LightningModule, clips: ClipBatch, positions: Sequence[int]) -> list[Faithfulness]:
        found: list[Faithfulness] = []
        for method in dict.fromkeys((self.method, *CONTROLS)):
            try:
                explainer = self._explainer(method, pl_module)
                found += measure_clips(
                    explainer, clips, positions=positions, device=pl_module.device, num_steps=self.num_steps
                )
            except ExplanationError as error:  # a network that has diverged, for one: training goes on
                warnings.warn(f"faithfulness of {method} is not measured: {error}", stacklevel=2)
        return found


def summary(found: Sequence[Faithfulness]) -> dict[str, float]:
    """Average over clips, by the name to log; what is undefined for all clips is skipped."""
    values: dict[str, float] = {}
    for method in dict.fromkeys(one.method for one in found):
        own = [one for one in found if one.method == method]
        values |= {f"{KEY}/{method}/abpc": _mean([one.abpc for one in own])}
        values |= {f"{KEY}/{method}/rma": _mean([one.rma for one in own])}
    chances = {one.position: one.chance for one in found if math.isfinite(one.chance)}
    values[f"{KEY}/chance/rma"] = _mean(list(chances.values()))
    return {name: value for name, value in values.items() if math.isfinite(value)}


def curves_panel(found: Sequence[Faithfulness], clips: ClipBatch, *, num_steps: int) -> FillPanel:
    """Average the curves of the method and of motion energy over clips, and those of random order, both ways."""
    units = build_units(TUBES, as_float(clips.video[:1]))
    curves = [
        MethodCurves(
            method,
            _band([one.most_first for one in found if one.method == method]),
            _band([one.least_first for one in found if one.method == method]),
        )
        for method in dict.fromkeys(one.method for one in found)
        if method != RANDOM
    ]
    random = [curve for one in found if one.method == RANDOM for curve in (one.most_first, one.least_first)]
    shares = shares_replaced(units, num_steps=num_steps)
    return FillPanel(f"replaced by: {fill_for(units)}", shares, tuple(curves), _band(random) if random else None)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def _band(curves: Sequence[Float[np.ndarray, " P"]]) -> Band:
    """Average curves; few clips give no interval."""
    mean = np.mean(np.stack(list(curves)), axis=0)
    return Band(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
