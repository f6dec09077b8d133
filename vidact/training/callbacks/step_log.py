"""Log the learning rate, and choose how often numbers of a training step are logged."""

import math
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

POINTS_PER_EPOCH = 10
MAX_STEPS_BETWEEN = 50  # Lightning's own
KEY = "train/learning_rate"


class StepLog(Callback):
    """Logs `train/learning_rate` of each logged step, in the row of its `train/loss`.

    With several parameter groups, that of the second one is `train/learning_rate/2`, and so on.

    Args:
        chooses_rate: Whether the trainer logs about POINTS_PER_EPOCH steps of an epoch, at least every
            MAX_STEPS_BETWEEN; else as often as `--trainer.log_every_n_steps` says.
    """

    def __init__(self, *, chooses_rate: bool) -> None:
        self.chooses_rate = chooses_rate

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the interval, now that the number of steps of an epoch is known."""
        if self.chooses_rate and math.isfinite(trainer.num_training_batches):
            steps = trainer.num_training_batches // trainer.accumulate_grad_batches
            trainer.log_every_n_steps = max(1, min(MAX_STEPS_BETWEEN, steps // POINTS_PER_EPOCH))  # type: ignore[attr-defined]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Log the rate of this step."""
        for number, rate in enumerate(_learning_rates(trainer.optimizers), 1):
            name = KEY if number == 1 else f"{KEY}/{number}"
            pl_module.log(name, rate, on_step=True, on_epoch=False, batch_size=1)


def _learning_rates(optimizers: Sequence[Optimizer]) -> list[float]:
    return [float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups if "lr" in group]
