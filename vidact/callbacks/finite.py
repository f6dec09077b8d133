"""Stop a training whose loss is no number; it does not know how a loss is made."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from vidact.callbacks.processes import gather
from vidact.core import ClipBatch, TrainingError

MAX_LISTED = 3


@dataclass(frozen=True)
class _Step:
    """A training step that is not looked at yet."""

    first_rank: Tensor  # the first process whose loss is no number, or how many there are; on the host, once `copied`
    copied: torch.cuda.Event | None
    loss: Tensor
    where: str
    clip_ids: tuple[str, ...]


class FiniteLoss(Callback):
    """Ends training when a loss is NaN or infinite: before the next epoch is saved, on all processes at once.

    Each step's loss is looked at one step later, so that the device never waits. Weights that it may have spoiled are
    not saved: before each validation and at the end of each epoch no step is left to look at.
    """

    def __init__(self) -> None:
        self._pending: _Step | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ClipBatch, batch_idx: int
    ) -> None:
        """Look at the step before, and note this one."""
        self._check(trainer)
        loss: Tensor = outputs["loss"].detach()
        first = torch.where(loss.isfinite(), trainer.world_size, trainer.global_rank)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(first, op=dist.ReduceOp.MIN)
        copied = None
        if first.is_cuda:
            first = first.to("cpu", non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
        where = f"epoch {trainer.current_epoch}, batch {batch_idx}, step {trainer.global_step}"
        self._pending = _Step(first, copied, loss, where, batch.clip_id)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last step before a validation."""
        self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last step of an epoch, before it is saved."""
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        step, self._pending = self._pending, None
        if step is None:
            return
        if step.copied is not None:
            step.copied.synchronize()
        rank = int(step.first_rank)
        if rank < trainer.world_size:  # known to all processes, so all of them ask
            (line,) = gather([_describe(step, rank)] if rank == trainer.global_rank else [])
            raise TrainingError(line)


def _describe(step: _Step, rank: int) -> str:
    clips = ", ".join(step.clip_ids[:MAX_LISTED])
    more = len(step.clip_ids) - MAX_LISTED
    return (
        f"the training loss is {step.loss.item()} in {step.where}, rank {rank}; its {len(step.clip_ids)} clips: {clips}"
        f"{f' and {more} more' if more > 0 else ''}; last.ckpt is that of the epoch before; try a smaller "
        "--model.optimizer.init_args.lr, --trainer.gradient_clip_val 1 or --trainer.precision 32-true"
    )
