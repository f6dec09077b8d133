"""Run a callback's work every few epochs of training, on the same few clips; explaining and measuring build on it."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from vidact.core.clips import ClipBatch, ClipSource
from vidact.core.errors import ConfigError


class ScheduledCallback(Callback):
    """Works after every n-th epoch, at the first validation from then on, and after the last epoch.

    Args:
        every_n_epochs: 0 for never.
        clips_per_class: How many clips of each class.
    """

    other_sources = False  # whether no two clips of a class may come from one source

    def __init__(self, every_n_epochs: int, clips_per_class: int) -> None:
        self.every_n_epochs, self.clips_per_class = every_n_epochs, clips_per_class
        self.epoch = self.done = -1
        self._clips: dict[str, ClipBatch] = {}

    def work(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do the work of an epoch, on validation clips."""
        raise NotImplementedError

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the epoch, also when training is resumed within one."""
        self.epoch = trainer.current_epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the epoch, as the trainer counts one more when training ends."""
        self.epoch = trainer.current_epoch

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Work if an n-th epoch has passed since the last time."""
        n = self.every_n_epochs
        is_due = n > 0 and (self.epoch + 1) // n > (self.done + 1) // n
        if trainer.state.fn == "fit" and not trainer.sanity_checking and is_due:
            self._work(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Work after the last epoch, however training has ended."""
        if self.every_n_epochs > 0 and self.done < self.epoch:
            self._work(trainer, pl_module)

    def _work(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.done = self.epoch
        self.work(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Save which epoch is done, for resuming."""
        return {"done": self.done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore which epoch is done."""
        self.done = int(state_dict["done"])

    def example_clips(self, trainer: Trainer, stage: str = "validate") -> ClipBatch:
        """Read the clips, the same ones every time; `stage` is 'validate' or 'test'."""
        source = getattr(trainer, "datamodule", None)
        if not isinstance(source, ClipSource):
            raise ConfigError(f"{type(self).__name__} needs a data module that gives example clips, got {source}")
        if stage not in self._clips:
            self._clips[stage] = source.example_clips(stage, self.clips_per_class, other_sources=self.other_sources)
            if left_out := self._clips[stage].left_out:
                rank_zero_warn(f"{len(left_out)} clips cannot be read and are not explained: {left_out[0]}")
        return self._clips[stage]
