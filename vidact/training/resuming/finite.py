"""Stop a training whose loss or weights are NaN or infinite."""

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from vidact.core.clips import ClipBatch
from vidact.core.devices import gather
from vidact.core.errors import TrainingError
from vidact.training.resuming.processes import Agreement

MAX_LISTED = 3
_REMEDY = (
    "last.ckpt is that of the epoch before; start anew with a smaller --model.optimizer.init_args.lr, "
    "--trainer.gradient_clip_val 1 or --trainer.precision 32-true"
)


@dataclass(frozen=True)
class _Step:
    """The last training step."""

    loss: Tensor
    where: str
    clip_ids: tuple[str, ...]


class FiniteLoss(Callback):
    """Ends training when a loss or a weight is NaN or infinite: before it is saved, on all processes at once.

    Each step's loss is checked one step later, so that the device never waits, and before each validation and at the
    end of each epoch at once. At the end of an epoch the weights are checked, too: a NaN gradient spoils them even if
    the loss is finite.
    """

    def __init__(self) -> None:
        self._step: _Step | None = None
        self._first_rank = Agreement()  # whose loss is not finite; the number of processes if there is none

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ClipBatch, batch_idx: int
    ) -> None:
        """Check the step before, and note this one."""
        self._check(trainer)
        loss: Tensor = outputs["loss"].detach()
        self._first_rank.tell(torch.where(loss.isfinite(), trainer.world_size, trainer.global_rank))
        where = f"epoch {trainer.current_epoch}, batch {batch_idx}, step {trainer.global_step}"
        self._step = _Step(loss, where, batch.clip_id)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the last step before a validation."""
        self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the last step of an epoch and the weights, before they are saved."""
        self._check(trainer)
        if name := first_not_finite(pl_module):
            raise TrainingError(
                f"the weights of {name} are not finite after epoch {trainer.current_epoch}, step "
                f"{trainer.global_step}, although every loss was: a gradient was not; {_REMEDY}"
            )

    def _check(self, trainer: Trainer) -> None:
        rank = self._first_rank.least()
        if self._step is None or rank is None or rank == trainer.world_size:
            return
        # All processes know the rank, so all of them gather.
        (line,) = gather([_describe(self._step, rank)] if rank == trainer.global_rank else [])
        raise TrainingError(line)


def _describe(step: _Step, rank: int) -> str:
    clips = ", ".join(step.clip_ids[:MAX_LISTED])
    more = len(step.clip_ids) - MAX_LISTED
    return (
        f"the training loss is {step.loss.item()} in {step.where}, rank {rank}; its {len(step.clip_ids)} clips: {clips}"
        f"{f' and {more} more' if more > 0 else ''}; {_REMEDY}"
    )


def first_not_finite(network: nn.Module) -> str | None:
    """Name the first parameter with a value that is NaN or infinite; None if there is none.

    Buffers are not checked; they may hold −∞, as masks do.
    """
    named = list(network.named_parameters())
    if not named:
        return None
    finite = torch.stack([parameter.detach().isfinite().all() for _, parameter in named]).tolist()  # one transfer
    return next((name for (name, _), good in zip(named, finite, strict=True) if not good), None)
