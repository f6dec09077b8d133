"""Keep with each run how its clips were divided, and what leaks; it does not know how that is measured.

It lets no network be trained on with other clips, nor be measured on those that it was trained on.
"""

import json
import os
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from vidact.core.clips import SplitSource
from vidact.runs.loggers.media import run_folder
from vidact.runs.splits import (
    FILE_NAME,
    TEST,
    VALIDATION,
    keeps_contents,
    read_kept_split,
    require_same_clips,
    require_unseen,
)

MEASURED = {"validate": VALIDATION, "test": TEST}


class SplitRecord(Callback):
    """Writes `split.json` into the run folder, and hands the report on leaks to every logger.

    The file is one that `--data.split` takes, so a run's split can be used again and published.

    Args:
        checkpoint: What the run begins with, if anything; in the folder above lies the split that it was trained with.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        self._trained = None if checkpoint is None else Path(os.path.relpath(Path(checkpoint).absolute().parent.parent))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write before the first batch, so that a run that is stopped early has it too.

        Raises:
            ConfigError: the clips are not divided as they were when the checkpoint was trained.
        """
        folder = run_folder(trainer)  # asks all processes
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, SplitSource):
            return
        record = data.split_record
        if self._trained is not None:
            kept = read_kept_split(self._trained)
            if stage == "fit":
                if kept and not keeps_contents(kept):
                    path = self._trained / FILE_NAME
                    rank_zero_info(
                        f"{path}: an older vidact wrote it; whether clips have changed, names alone can tell"
                    )
                require_same_clips(kept, record, folder=self._trained)
            elif (part := MEASURED.get(stage)) is not None:
                require_unseen(kept, record[part], part=part, folder=self._trained, can_divide=True)
        if not trainer.is_global_zero:
            return
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE_NAME).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        for logger in trainer.loggers:
            logger.log_hyperparams({"leakage": record["leakage"]})
