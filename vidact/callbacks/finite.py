"""Stop a training whose loss is no number; it does not know how a loss is made."""

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from vidact.callbacks.processes import Agreement, gather
from vidact.core import ClipBatch, TrainingError

MAX_LISTED = 3


@dataclass(frozen=True)
class _Step:
    """The last training step."""

    loss: Tensor
    where: str
    clip_ids: tuple[str, ...]


class FiniteLoss(Callback):
    """Ends training when a loss is NaN or infinite: before the next epoch is saved, on all processes at once.

    Each step's loss is looked at one step later, so that the device never waits. Weights that it may have spoiled are
    not saved: before each validation and at the end of each epoch no step is left to look at.
    """

    def __init__(self) -> None:
        self._step: _Step | None = None
        self._first_rank = Agreement()  # whose loss is no number; the number of processes if there is none

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ClipBatch, batch_idx: int
    ) -> None:
        """Look at the step before, and note this one."""
        self._check(trainer)
        loss: Tensor = outputs["loss"].detach()
        self._first_rank.tell(torch.where(loss.isfinite(), trainer.world_size, trainer.global_rank))
        where = f"epoch {trainer.current_epoch}, batch {batch_idx}, step {trainer.global_step}"
        self._step = _Step(loss, where, batch.clip_id)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last step before a validation."""
        self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last step of an epoch, before it is saved."""
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        rank = self._first_rank.least()
        if self._step is None or rank is None or rank == trainer.world_size:
            return
        # Known to all processes, so all of them ask.
        (line,) = gather([_describe(self._step, rank)] if rank == trainer.global_rank else [])
        raise TrainingError(line)


def _describe(step: _Step, rank: int) -> str:
    clips = ", ".join(step.clip_ids[:MAX_LISTED])
    more = len(step.clip_ids) - MAX_LISTED
    return (
        f"the training loss is {step.loss.item()} in {step.where}, rank {rank}; its {len(step.clip_ids)} clips: {clips}"
        f"{f' and {more} more' if more > 0 else ''}; last.ckpt is that of the epoch before; start anew with a smaller "
        "--model.optimizer.init_args.lr, --trainer.gradient_clip_val 1 or --trainer.precision 32-true"
    )
