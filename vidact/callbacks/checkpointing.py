"""Which checkpoints a training keeps: its best epoch, and the last moment that it can go on from."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

LOSS = "val/loss"


class BestCheckpoint(ModelCheckpoint):
    """Keeps the weights of the epoch with the greatest `monitor`, if its validation loss is finite.

    Scores that are no numbers still have a first largest one, and so an accuracy.

    Args:
        monitor: What is to be large.
    """

    def __init__(self, monitor: str) -> None:
        super().__init__(
            filename="best", monitor=monitor, mode="max", save_weights_only=True, enable_version_counter=False
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know the best epoch of a run that goes on in its own folder, whatever that was called then."""
        folder: Any = self.dirpath
        here = Path(folder) / f"best{self.FILE_EXTENSION}"
        if here.is_file() and state_dict["best_k_models"]:
            score = next(iter(state_dict["best_k_models"].values()))
            paths = {
                "best_model_path": str(here),
                "kth_best_model_path": str(here),
                "best_k_models": {str(here): score},
            }
            state_dict = {**state_dict, "dirpath": folder, **paths}
        super().load_state_dict(state_dict)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Say whether an epoch is better than the best one so far."""
        values = {self.monitor or "": current, LOSS: trainer.callback_metrics.get(LOSS)}
        for name, value in values.items():
            if value is not None and not bool(torch.as_tensor(value).isfinite().all()):
                rank_zero_warn(f"{name} of epoch {trainer.current_epoch} is {float(value)}: it is not kept as the best")
                return False
        return super().check_monitor_top_k(trainer, current)


class LastCheckpoint(ModelCheckpoint):
    """Keeps `last.ckpt`: from before the first step on, after each epoch, and when SIGTERM ends the run.

    The first shows early that the folder can be written, and lets a run be resumed that was killed in its first epoch.
    """

    def __init__(self) -> None:
        super().__init__(filename="last", enable_version_counter=False, save_on_train_epoch_end=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save before the first step, unless this goes on from a checkpoint."""
        super().on_train_start(trainer, pl_module)
        if trainer.global_step == 0 and not _is_trial(trainer):
            trainer.save_checkpoint(self._path(trainer))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write down what the loggers have of the epoch before."""
        for logger in trainer.loggers:
            logger.save()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where SIGTERM has stopped the run between two steps."""
        if isinstance(exception, SIGTERMException) and trainer.state.fn == "fit" and not _is_trial(trainer):
            trainer.save_checkpoint(self._path(trainer))

    def _path(self, trainer: Trainer) -> Path:
        folder: Any = self.dirpath
        return Path(folder) / f"last{self.FILE_EXTENSION}"


def _is_trial(trainer: Trainer) -> bool:
    return bool(getattr(trainer, "fast_dev_run", False))
