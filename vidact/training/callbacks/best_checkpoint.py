"""Save the epoch with the best validation accuracy as `best.ckpt`."""

from pathlib import Path

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from vidact.runs.folder import BEST

MONITOR, LOSS = "val/clip_accuracy", "val/loss"


class BestCheckpoint(ModelCheckpoint):
    """Keeps the weights of the epoch with the greatest validation accuracy per clip, if its validation loss is finite.

    The loss is checked because NaN scores still have an argmax, and so an accuracy.
    """

    def __init__(self) -> None:
        super().__init__(
            filename=Path(BEST).stem, monitor=MONITOR, mode="max", save_weights_only=True, enable_version_counter=False
        )

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Say whether an epoch is better than the best one so far."""
        values = {self.monitor or "": current, LOSS: trainer.callback_metrics.get(LOSS)}
        for name, value in values.items():
            if value is not None and not bool(torch.as_tensor(value).isfinite().all()):
                rank_zero_warn(f"{name} of epoch {trainer.current_epoch} is {float(value)}: not saved as the best")
                return False
        return super().check_monitor_top_k(trainer, current)
