"""Save the run's full config beside its checkpoints, inside them, and in the loggers."""

from enum import Enum
from pathlib import Path

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

# Enums, such as the interval of a Timer, as their text, which Lightning reads; YAML has no enums.
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, value: dumper.represent_data(value.value))


class RunConfig(SaveConfigCallback):
    """Lightning's callback that writes `config.yaml`, and hands the config to the loggers and to checkpoints, too.

    Each run has a folder of its own, so the file never collides (with Lightning's callback and only a
    `WandbLogger`, the second run in a folder dies).
    """

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand the config to every logger (rank zero only)."""
        for logger in trainer.loggers:
            logger.log_hyperparams(yaml.safe_load(self._text()))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the config, and hand it to the model, which writes it into its checkpoints."""
        own = (trainer.log_dir, self.config.get("ckpt_path"))  # the first asks all processes
        if all(own) and Path(own[1]).absolute().is_relative_to(Path(str(own[0])).absolute()):
            self.config = self.config.clone()  # a resumed run: where it was stopped is no setting of it
            self.config["ckpt_path"] = None
        super().setup(trainer, pl_module, stage)
        pl_module.run_config = self._text()  # type: ignore[assignment]

    def _text(self) -> str:
        text: str = self.parser.dump(self.config, skip_unset=False)
        return text
