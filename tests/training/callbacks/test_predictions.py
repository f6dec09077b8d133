from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from vidact.training.callbacks.predictions import PredictionWriter


def _batch(window: int, datapoint: tuple[str, ...]) -> dict[str, Any]:
    return {
        "window_index": torch.tensor([window]),
        "clip_id": (f"run/{window}",),
        "datapoint": datapoint,
        "first_frame": torch.tensor([3]),
        "probabilities": torch.tensor([[0.25, 0.75]]),
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([(), ()], ["window,clip,first_frame", "0,run/0,3,0.250000,0.750000", "1,run/1,3,0.250000,0.750000"]),
        (
            [("vcR0001_3",), ("vcR0002_3",)],
            [
                "window,clip,first_frame,datapoint",
                "0,run/0,3,vcR0001_3,0.250000,0.750000",
                "1,run/1,3,vcR0002_3,0.250000,0.750000",
            ],
        ),
    ],
)
def test_a_row_has_its_windows_datapoint_name_where_the_data_have_one(
    names: list[tuple[str, ...]], expected: list[str], tmp_path: Path
) -> None:
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", default_root_dir=tmp_path, **quiet)
    batches = [_batch(window, names[window]) for window in (1, 0)]
    PredictionWriter().write_on_epoch_end(trainer, LightningModule(), batches, [])
    assert (tmp_path / "predictions.csv").read_text().splitlines() == expected
