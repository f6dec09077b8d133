"""Stop a training whose loss is no number any more, and say which clips it was of."""

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from vidact.callbacks.processes import gather
from vidact.core import ClipBatch, TrainingError

MAX_LISTED = 5


class FiniteLoss(Callback):
    """Ends `fit` with an error that names epoch, step, process and clips; all processes end together.

    On a GPU a step's loss is looked at after the next step, so that nothing waits for it.
    """

    def __init__(self) -> None:
        self._pending: tuple[Tensor, Tensor, int, int, tuple[str, ...]] | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ClipBatch, batch_idx: int
    ) -> None:
        """Note whether the loss is finite, and look at the note on the step before."""
        self._check(trainer)
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        own = torch.isfinite(loss.detach()).all().to(torch.int32)
        everywhere = own.clone()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(everywhere, op=dist.ReduceOp.MIN)
        self._pending = (everywhere, own, trainer.current_epoch, batch_idx, batch.clip_id)
        if own.device.type == "cpu":
            self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last step before its network is measured."""
        self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last step before its network is saved."""
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        if self._pending is None:
            return
        (everywhere, own, epoch, step, clips), self._pending = self._pending, None
        if everywhere.item():
            return
        found = gather([] if own.item() else [(trainer.global_rank, clips)])
        several = trainer.world_size > 1
        told = "; ".join(f"process {rank}: {_list(ids)}" if several else _list(ids) for rank, ids in found)
        raise TrainingError(
            f"the loss is not finite in epoch {epoch}, step {step} of it ({told}); last.ckpt is from before it: look "
            "at these clips, or try a smaller --model.optimizer.init_args.lr, --trainer.gradient_clip_val 1, or "
            "--trainer.precision 32-true"
        )


def _list(ids: tuple[str, ...]) -> str:
    rest = f" and {len(ids) - MAX_LISTED} more" if len(ids) > MAX_LISTED else ""
    return f"{len(ids)} clips: {', '.join(ids[:MAX_LISTED])}{rest}"
