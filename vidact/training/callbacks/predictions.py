"""Write the class probabilities that `predict` computes to `predictions.csv`."""

import csv
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from vidact.core.clips import ClipSource
from vidact.core.devices import gather
from vidact.core.terminal import escape_cell
from vidact.runs.folder import RunFolder


class PredictionWriter(BasePredictionWriter):
    """Writes `predictions.csv` into the run folder: a row per window, a column per class.

    With `--data.datapoint_names` a column `datapoint` names the windows as the 2020 report did.

    With several processes, each predicts its share and rank zero writes; a window that two of them had is
    written once.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Gather all rows and write them in the order of the windows."""
        rows = {row[0]: row for row in gather([row for batch in predictions for row in _rows(batch)])}
        path = RunFolder.of(trainer).predictions
        source = getattr(trainer, "datamodule", None)
        names = source.class_names if isinstance(source, ClipSource) else ()
        if trainer.is_global_zero:
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                extra = ["datapoint"] * any(batch["datapoint"] for batch in predictions)
                writer.writerow(["window", "clip", "first_frame", *extra, *map(escape_cell, names)])
                writer.writerows(map(escape_cell, rows[index]) for index in sorted(rows))


def _rows(batch: dict[str, Any]) -> list[tuple[Any, ...]]:
    columns = zip(
        batch["window_index"].tolist(),
        batch["clip_id"],
        batch["first_frame"].tolist(),
        [[name] for name in batch["datapoint"]] or [[]] * len(batch["clip_id"]),
        batch["probabilities"].tolist(),
        strict=True,
    )
    return [
        (window, clip, frame, *name, *(f"{value:.6f}" for value in values))
        for window, clip, frame, name, values in columns
    ]
