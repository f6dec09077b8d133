"""The LightningModule: train a network to recognise actions, and measure it per window and per clip."""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float, Int, UInt8
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

from vidact.core.clips import ClipBatch, as_float
from vidact.core.errors import ConfigError, DataError
from vidact.core.networks import (
    OneClipError,
    Regularised,
    class_path,
    require_built,
    require_logits,
    reword_network_errors,
    unwrapped,
)
from vidact.runs.accuracy.predictions import Predictions, WindowPredictions, mean_scores
from vidact.runs.checkpoints import require_same_network
from vidact.training.losses import Loss, check_loss
from vidact.training.mixing import Mixing
from vidact.training.schedules import Interval, build_schedule, check_resumed_schedule


class ActionClassifier(LightningModule):
    """Any network from [B, C, T, H, W] in [0, 1] to logits [B, K], with its loss, optimizer and schedule.

    Logs `train/loss` with the terms of a `Regularised` network (`train/penalty/<name>`), and for validation and test
    (`val/…`, `test/…`): `loss`, `window_accuracy`, `clip_accuracy` (a clip's scores are the mean of its windows'
    probabilities), `clip_accuracy_macro` (mean of the classes' accuracies), `clip_top<k>_accuracy` (of more than k
    classes) and `class_accuracy/<class>`.

    Args:
        network: The network to train.
        class_names: The classes in the order of their numbers; the command line fills them in from the data.
        loss: Gives a number for logits and labels; cross-entropy if None.
        optimizer: Built with the network's parameters; Adam with learning rate 1e-3 by default.
        lr_scheduler: Built with the optimizer; the rate is constant if None. WarmupCosine and OneCycleLR are as long as
            training, unless their settings say how long. ReduceLROnPlateau monitors `val/loss`, after each validation.
        lr_scheduler_interval: When the schedule is stepped: each epoch, or each step of the optimizer. `auto` is each
            step for OneCycleLR and CyclicLR, whose settings count steps, and each epoch for all others.
        top_k: The k of `clip_top<k>_accuracy`: a clip counts if its class is among the k most probable.
        mixup_alpha: MixUp mixes training clips in pairs, by shares drawn from Beta(α, α); 0 for never. The loss then
            gets probabilities [B, K] in place of labels.
        cutmix_alpha: CutMix puts a box of one clip, in all its frames, into another; 0 for never. With both, each batch
            is mixed by one of them, at even odds.
        mirror_at_test: In validation, test and prediction, average a window's probabilities with those of its mirror
            image. Wrong if a class is a direction.
    """

    confusion: dict[str, Int[Tensor, "K K"]]

    def __init__(
        self,
        network: nn.Module,
        class_names: Sequence[str],
        loss: nn.Module | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Interval = "auto",
        top_k: int = 3,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        mirror_at_test: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.class_names = tuple(class_names)
        self.loss: Loss = loss or nn.CrossEntropyLoss()
        self.make_optimizer, self.make_lr_scheduler = optimizer, lr_scheduler
        self.lr_scheduler_interval: Interval = lr_scheduler_interval
        self._schedule_before: dict[str, Any] | None = None  # of the checkpoint that training is resumed from
        if top_k < 1:
            raise ConfigError(f"--model.top_k must be at least 1, got {top_k}")
        self.top_k = top_k
        self.mixing = Mixing(mixup_alpha, cutmix_alpha, num_classes=len(self.class_names))
        self.mirror_at_test = mirror_at_test
        # A ModuleDict, so that they move to the network's device.
        self.predictions = nn.ModuleDict({"val": WindowPredictions(), "test": WindowPredictions()})
        self.confusion = {}
        self.left_out: set[str] = set()
        self.run_config = ""  # every setting as YAML, from the callback that saves it
        self._trained = self._has_skipped = False
        require_built(network)
        check_loss(self.loss, len(self.class_names), takes_probabilities=self.mixing.mix is not None)
        self.configure_optimizers()  # refuses wrong settings before clips are decoded

    def forward(self, video: UInt8[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class (logits)."""
        return self._scores(as_float(video))[0]

    def _scores(
        self, video: Float[Tensor, "B C T H W"], *, penalised: bool = False
    ) -> tuple[Float[Tensor, "B K"], dict[str, Tensor]]:
        """Run the network; gives the logits and, if `penalised`, the terms that its training adds to the loss."""
        penalties: dict[str, Tensor] = {}
        with reword_network_errors(self.network, video):
            if penalised:
                scores, penalties = unwrapped(self.network).scores_and_penalties(video)  # type: ignore[operator]
            else:
                scores = self.network(video)
        return require_logits(scores, self.network, video, num_classes=len(self.class_names)), penalties

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build what the config asks for."""
        try:
            optimizer = self.make_optimizer(self.network.parameters())
        except (TypeError, ValueError) as error:
            raise ConfigError(f"--model.optimizer: {error}") from error
        trainer = self._trainer
        if trainer is not None and trainer.gradient_clip_val:
            # Scaled gradients are clipped once they are unscaled, which a fused optimizer would do only in its step.
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        if self.make_lr_scheduler is None:
            return optimizer
        schedule = build_schedule(
            self.make_lr_scheduler, optimizer, interval=self.lr_scheduler_interval, trainer=trainer
        )
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_fit_start(self) -> None:
        """Refuse to resume with a schedule of another length, or say so."""
        check_resumed_schedule(self.lr_schedulers(), self._schedule_before)

    def metric_names(self) -> list[str]:
        """List the metrics that are logged in training and validation, which callbacks may monitor."""
        names = ["loss", "window_accuracy", "clip_accuracy", "clip_accuracy_macro"]
        names += [f"clip_top{self.top_k}_accuracy"] if self.top_k < len(self.class_names) else []
        names += [f"class_accuracy/{name}" for name in self.class_names]
        return ["train/loss", "train/loss_epoch", *(f"val/{name}" for name in names)]

    def training_step(self, batch: ClipBatch) -> Tensor:
        """Compute the loss of one batch."""
        self._note_left_out(batch)
        if not len(batch):  # all of its clips failed
            return self._zero_loss()
        try:
            loss = self._training_loss(batch)
        except OneClipError as error:
            self._skip_batch(error)
            return self._zero_loss()
        self._trained = True
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=False, batch_size=len(batch))
        self.log("train/loss_epoch", loss, on_step=False, on_epoch=True, batch_size=len(batch), sync_dist=True)
        return loss

    def _zero_loss(self) -> Tensor:
        """Give a loss with zero gradient, so that several processes stay in step."""
        loss = torch.stack([parameter.sum() * 0 for parameter in self.network.parameters()]).sum()
        self.log("train/loss_epoch", loss, on_step=False, on_epoch=True, batch_size=0, sync_dist=True)
        return loss

    def _skip_batch(self, error: OneClipError) -> None:
        """Warn once that a last batch of one clip is skipped; raise if every batch has one clip."""
        if self.trainer.num_training_batches == 1 or self._clips_per_batch() == 1:
            raise error
        if not self._has_skipped:
            rank_zero_warn(f"batches of one clip are skipped, such as the last of an epoch: {error}")
        self._has_skipped = True

    def _clips_per_batch(self) -> int | None:
        size: int | None = getattr(self.trainer.train_dataloader, "batch_size", None)
        return size

    def _training_loss(self, batch: ClipBatch) -> Tensor:
        video, label = self.mixing(as_float(batch.video), batch.label)
        scores, penalties = self._scores(video, penalised=isinstance(unwrapped(self.network), Regularised))
        loss = self.loss(scores, label)
        self.log_dict({f"train/penalty/{name}": term for name, term in penalties.items()}, batch_size=len(batch))
        return torch.stack([loss, *penalties.values()]).sum() if penalties else loss

    def on_train_epoch_start(self) -> None:
        """Start to note whether this epoch has something to train on."""
        self._trained = False

    def on_train_epoch_end(self) -> None:
        """Refuse an epoch without a readable clip.

        Raises:
            DataError: not one clip of the epoch could be read.
        """
        if not self._trained:
            raise DataError(
                f"no training clip of this epoch could be read; the first: {min(self.left_out, default='')}"
            )

    def validation_step(self, batch: ClipBatch) -> None:
        """Collect the predictions of one batch."""
        self._predictions("val").update(batch, self._collect(batch))

    def test_step(self, batch: ClipBatch) -> None:
        """Collect the predictions of one batch."""
        self._predictions("test").update(batch, self._collect(batch))

    def predict_step(self, batch: ClipBatch) -> dict[str, Any]:
        """Give each window's number, clip id, first frame and class probabilities [B, K]."""
        return {
            "window_index": batch.window_index,
            "clip_id": batch.clip_id,
            "datapoint": batch.datapoint,
            "first_frame": batch.frame_numbers[:, 0],
            "probabilities": self._collect(batch).float().softmax(dim=1),
        }

    def on_validation_epoch_end(self) -> None:
        """Log the accuracies."""
        self._log_measures("val")

    def on_test_epoch_end(self) -> None:
        """Log the accuracies."""
        self._log_measures("test")

    def _predictions(self, part: str) -> "WindowPredictions":
        return cast(WindowPredictions, self.predictions[part])

    def _collect(self, batch: ClipBatch) -> Float[Tensor, "B K"]:
        """Score a batch, also an empty one, so that every process has something to gather."""
        self._note_left_out(batch)
        if len(batch):
            scores: Tensor = self(batch.video)
            return mean_scores(scores, self(batch.video.flip(-1))) if self.mirror_at_test else scores
        return torch.empty(0, len(self.class_names), device=batch.label.device)

    def _note_left_out(self, batch: ClipBatch) -> None:
        for line in set(batch.left_out) - self.left_out:
            warnings.warn(f"clip skipped; it is tried again every epoch: {line}", stacklevel=2)
        self.left_out.update(batch.left_out)

    def _log_measures(self, part: str) -> None:
        metric = self._predictions(part)
        predictions: Predictions | None = metric.compute()  # from all processes, the same on each
        metric.reset()
        if predictions is None:
            return
        measures = self._measures(part, predictions)
        self.log(f"{part}/clip_accuracy", measures.pop("clip_accuracy"), prog_bar=True, sync_dist=True)
        self.log_dict({f"{part}/{name}": value for name, value in measures.items()}, sync_dist=True)

    def _measures(self, part: str, predictions: Predictions) -> dict[str, Tensor]:
        num_classes = len(self.class_names)
        probabilities, label = predictions.per_clip()
        confusion = multiclass_confusion_matrix(probabilities, label, num_classes=num_classes)
        self.confusion[part] = confusion.cpu()
        # Only classes that have clips: torchmetrics counts an absent class that is predicted as 0.
        present = confusion.sum(dim=1).nonzero().flatten().tolist()
        classes = {self.class_names[k]: confusion[k, k] / confusion[k].sum() for k in present}
        accuracy = partial(multiclass_accuracy, num_classes=num_classes, average="micro")
        is_told = self.top_k < num_classes  # else every guess is right
        top = {f"clip_top{self.top_k}_accuracy": accuracy(probabilities, label, top_k=self.top_k)} if is_told else {}
        return {
            "loss": self.loss(predictions.scores, predictions.label),
            "window_accuracy": accuracy(predictions.scores, predictions.label),
            "clip_accuracy": accuracy(probabilities, label),
            "clip_accuracy_macro": torch.stack(list(classes.values())).mean(),
            **top,
            **{f"class_accuracy/{name}": value for name, value in classes.items()},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the classes, the network's name and the config into the checkpoint, as plain values."""
        checkpoint["vidact_config"] = self.run_config
        checkpoint["vidact"] = {
            "class_names": list(self.class_names),
            "network": class_path(self.network),
            "reopening_settings": dict(getattr(unwrapped(self.network), "reopening_settings", {})),
            "trained": self._trained,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another network or other classes.

        Raises:
            CheckpointError: says which layers differ.
        """
        require_same_network(checkpoint, self.state_dict(), self.class_names)
        self._trained = bool(checkpoint.get("vidact", {}).get("trained"))  # of an epoch that is resumed
        self._schedule_before = next(iter(checkpoint.get("lr_schedulers") or ()), None)
