"""Save the run's full config beside its checkpoints, inside them, and in the loggers."""

from typing import Any

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback


class RunConfig(SaveConfigCallback):
    """Lightning's callback, which writes `config.yaml` into the run folder, and two more places.

    Each run has a folder of its own, so the file never collides (with Lightning's callback and only a
    `WandbLogger`, the second run in a folder dies).
    """

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand the config to every logger (rank zero only)."""
        for logger in trainer.loggers:
            logger.log_hyperparams(yaml.safe_load(self._text()))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write the config into the checkpoint as text, so that one file says everything."""
        checkpoint["vidact_config"] = self._text()

    def _text(self) -> str:
        text: str = self.parser.dump(self.config, skip_none=False)
        return text
