"""Stop a training whose loss or weights are no numbers; it does not know how a loss is made."""

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

    Each step's loss is looked at one step later, so that the device never waits; before each validation and at the end
    of each epoch no step is left to look at. Then the weights are looked at, too: a gradient that is no number spoils
    them although the loss is one.
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
        """Look at the last step of an epoch and what it has made of the weights, before they are saved."""
        self._check(trainer)
        if name := first_not_finite(pl_module):
            raise TrainingError(
                f"the weights of {name} are no numbers after epoch {trainer.current_epoch}, step "
                f"{trainer.global_step}, though each loss was one: a gradient was not; {_REMEDY}"
            )

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
        f"{f' and {more} more' if more > 0 else ''}; {_REMEDY}"
    )


def first_not_finite(network: nn.Module) -> str | None:
    """Name the first parameter with a value that is NaN or infinite; None if there is none.

    Buffers may hold what they like, such as a mask of −∞.
    """
    named = list(network.named_parameters())
    if not named:
        return None
    finite = torch.stack([parameter.detach().isfinite().all() for _, parameter in named]).tolist()  # one wait
    return next((name for (name, _), good in zip(named, finite, strict=True) if not good), None)
