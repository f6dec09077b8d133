"""Save the split with each run, and refuse to resume training on other clips, or to measure on training clips."""

import json
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from vidact.core.clips import SplitSource
from vidact.runs.folder import RunFolder, relative
from vidact.runs.splits import (
    TEST,
    VALIDATION,
    keeps_contents,
    read_kept_split,
    require_same_clips,
    require_unseen,
)

MEASURED = {"validate": VALIDATION, "test": TEST}


class SplitRecord(Callback):
    """Writes `split.json` into the run folder, and logs what leaks between the sides of the split.

    The file is one that `--data.split` takes, so a run's split can be used again and published.

    Args:
        checkpoint: Checkpoint that the run starts from, if any; its run folder has the split that it was trained with.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        trained = None if checkpoint is None else RunFolder.of_checkpoint(checkpoint).path
        self._trained = None if trained is None else Path(relative(trained))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check and write the split before the first batch, so that a run that is stopped early has it, too.

        Raises:
            ConfigError: the clips are not divided as they were when the checkpoint was trained.
        """
        folder = RunFolder.of(trainer)  # asks all processes
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, SplitSource):
            return
        record = data.split_record
        if self._trained is not None:
            kept = read_kept_split(self._trained)
            if stage == "fit":
                if kept and not keeps_contents(kept):
                    path = RunFolder(self._trained).split
                    rank_zero_info(
                        f"{path}: written by an older vidact without hashes, so clips are compared by their names only"
                    )
                require_same_clips(kept, record, folder=self._trained)
            elif (part := MEASURED.get(stage)) is not None:
                require_unseen(kept, record[part], part=part, folder=self._trained, can_divide=True)
        if not trainer.is_global_zero:
            return
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.split.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        for logger in trainer.loggers:
            logger.log_hyperparams({"leakage": record["leakage"]})
