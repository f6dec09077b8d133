"""Read what a run folder tells without measuring: what was trained on what, how clips were divided, training curves."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jaxtyping import Float

from vidact.core import __version__
from vidact.core.clips import height_and_width
from vidact.report.contents import Curves
from vidact.runs.folder import RunFolder
from vidact.runs.run import Run

SERIES = {"train/loss_epoch": "training", "val/loss": "validation"}
ACCURACIES = {"val/clip_accuracy": "validation, per clip"}


def facts(run: Run, record: Mapping[str, Any]) -> dict[str, str]:
    """Say what was trained on what.

    Args:
        run: The run.
        record: Its split, from `read_kept_split`.
    """
    data, weights = run.data_settings, sum(parameter.numel() for parameter in run.network.parameters())
    name, colour = type(run.network).__name__, "gray" if data["gray"] else "RGB"
    rates = f", of {run.frame_rates}" if run.frame_rates else ""
    window = f"{data['num_frames']} {colour} frames, stride {data['stride']}, {_size(data['size'])} pixels{rates}"
    told = {"network": f"{name}, {weights:,} weights", "a window": window}
    told |= _adopted_facts(run) if run.adopted_from else _training_facts(run, record)
    return told | {"versions": f"vidact {__version__}, torch {torch.__version__}"}


def _adopted_facts(run: Run) -> dict[str, str]:
    return {"adopted": f"{run.adopted_from}, {len(run.class_names)} classes; it was trained elsewhere"}


def _training_facts(run: Run, record: Mapping[str, Any]) -> dict[str, str]:
    data, model, trainer = run.data_settings, run.config["model"], run.config.get("trainer", {})
    sizes = record.get("leakage", {}).get("sizes", {})
    optimizer = model.get("optimizer") or {}
    rate = optimizer.get("init_args", {}).get("lr")
    name = str(optimizer.get("class_path", "Adam")).rpartition(".")[2]
    step = f"{name} with learning rate {rate:g}" if isinstance(rate, float | int) else name
    root = Path(data["root"]).name if data["root"] else "the synthetic set"
    epochs = trainer.get("max_epochs")
    return {
        "trained on": f"{root}, {len(run.class_names)} classes",
        "clips": ", ".join(f"{count:,} {side}" for side, count in sizes.items()),
        "training": f"{epochs} epoch{'' if epochs == 1 else 's'}, batches of {data['batch_size']}, {step}",
        "checkpoint": f"{run.checkpoint.name}, after epoch {run.epoch}",
    }


def _size(size: Any) -> str:
    height, width = height_and_width(size)
    return f"{height}×{width}"


def split_facts(record: Mapping[str, Any], *, part: str) -> dict[str, str]:
    """Say how clips were divided, and how many clips of a part share a source with training.

    Args:
        record: From `read_kept_split`.
        part: `validation` or `test`.
    """
    if not record:
        return {}
    leakage = record.get("leakage", {})
    told = {"divided by": f"{record['scheme']}, fold {record['fold']} of {record['num_folds']}"}
    for row in leakage.get("shared", []):
        if row["side"] == part and row["other"] == "training":
            name = f"clips whose {row['kind']} is in training"
            told[name] = f"{row['either']} of {row['num_clips']} ({row['same_class']} in their own class)"
    copies = [*(leakage.get("duplicates") or ()), *(leakage.get("near_duplicates") or ())]
    told["clips that look alike on two sides"] = f"{len(copies)} pairs"
    return told


def read_curves(folder: Path | None, *, best_epoch: int) -> Curves | None:
    """Read the training curves of a run folder; None if `metrics.csv` has no epoch."""
    path = RunFolder(folder).metrics if folder else None
    rows = []
    if path and path.is_file():
        with path.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    epochs = sorted({_epoch(row) for row in rows if row.get("epoch")})
    if not epochs:
        return None
    # A metric may be logged in some epochs only, as validation every second one.
    found = {name: _series(rows, column, epochs) for column, name in (SERIES | ACCURACIES).items()}
    known = {name: values for name, values in found.items() if np.isfinite(values).any()}
    losses, accuracies = (
        {name: known[name] for name in names.values() if name in known} for names in (SERIES, ACCURACIES)
    )
    return Curves(np.asarray(epochs, dtype=np.int64), losses, accuracies, best_epoch)


def _epoch(row: Mapping[str, str]) -> int:
    return int(float(row["epoch"]))  # callbacks that log numbers of their own write 3.0


def _series(rows: list[dict[str, str]], column: str, epochs: list[int]) -> Float[np.ndarray, " E"]:
    values: Float[np.ndarray, " E"] = np.full(len(epochs), np.nan)
    for row in rows:
        if row.get("epoch") and row.get(column):
            values[epochs.index(_epoch(row))] = float(row[column])
    return values


def config_text(run: Run) -> str:
    """Write the run's config as YAML, without the name of the user's home folder."""
    return without_home(yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True))


def without_home(text: str) -> str:
    """Write `~` for the user's home folder: reports are sent around."""
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text
