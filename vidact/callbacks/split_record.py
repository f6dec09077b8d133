"""Keep with each run how its clips were divided, and what leaks; it does not know how that is measured."""

import json

from lightning.pytorch import Callback, LightningModule, Trainer

from vidact.callbacks.pictures import run_folder
from vidact.core import DividedData

FILE_NAME = "split.json"


class SplitRecord(Callback):
    """Writes `split.json` into the run folder, and hands the report on leaks to every logger.

    The file is one that `--data.split` takes, so a run's split can be used again and published.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write before the first batch, so that a run that is stopped early has it too."""
        folder = run_folder(trainer)  # asks all processes
        data = getattr(trainer, "datamodule", None)
        if not (trainer.is_global_zero and isinstance(data, DividedData)):
            return
        folder.mkdir(parents=True, exist_ok=True)
        record = data.split_record
        (folder / FILE_NAME).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        for logger in trainer.loggers:
            logger.log_hyperparams({"leakage": record["leakage"]})
