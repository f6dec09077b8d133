"""`RunFolder` has the names of all files in a run folder; all code that reads or writes them takes them from here."""

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_only

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

CONFIG = "config.yaml"
EVALUATION = "evaluation"
BEST, LAST = "best.ckpt", "last.ckpt"
_CHECKPOINTS = "checkpoints"
_VERSION = "version_"


def relative(path: str | Path) -> str:
    """Write a path as seen from the current folder."""
    return os.path.relpath(path)


class _Name:
    """The name of a file; read from a RunFolder, it gives the file's path."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: "RunFolder", kind: type) -> Path:
        return folder.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """The folder that a training writes, `runs/version_<n>`, and the files in it.

    Attributes:
        path: The folder; it need not exist.
    """

    path: Path

    config = _Name(CONFIG)  # every setting of the run
    split = _Name("split.json")  # which clips trained, validated and tested, and what leaks; `--data.split` reads it
    metrics = _Name("metrics.csv")  # losses and accuracies, a row per logged step or epoch
    predictions = _Name("predictions.csv")  # class probabilities of each window, from `predict`
    skipped_clips = _Name("left_out.txt")  # clips that could not be read, one per line with the reason
    report = _Name("report.html")  # written at the end of `fit`
    checkpoints = _Name(_CHECKPOINTS)
    best_checkpoint = _Name(f"{_CHECKPOINTS}/{BEST}")  # weights of the epoch with the best validation accuracy
    last_checkpoint = _Name(f"{_CHECKPOINTS}/{LAST}")  # full state after the last epoch, to resume from
    explanations = _Name("explanations")  # pictures and videos of explained clips, a folder per epoch
    evaluation = _Name(EVALUATION)  # what `evaluate` measured on the validation clips
    wandb_id = _Name("wandb_id.txt")  # the id of the run in wandb, which a resumed training continues
    lock = _Name(".training.lock")  # locked while a process trains here

    @classmethod
    def of(cls, trainer: "Trainer") -> "RunFolder":
        """Give the folder of a trainer's run; call it on every process, as Lightning asks all of them."""
        return cls(Path(trainer.log_dir or trainer.default_root_dir))

    @classmethod
    def of_checkpoint(cls, checkpoint: str | Path) -> "RunFolder":
        """Give the folder in whose `checkpoints` folder a checkpoint is."""
        return cls(Path(checkpoint).absolute().parent.parent)

    def picture(self, name: str, part: str) -> Path:
        """Name a picture of a whole part: `confusion`, `accuracy` or `class_accuracy` of `val` or `test`."""
        return self.path / f"{name}_{part}.png"

    def faithfulness_picture(self, epoch: int) -> Path:
        """Name the picture of an epoch's perturbation curves."""
        return self.path / "faithfulness" / f"{epoch_name(epoch)}.png"


def epoch_name(epoch: int) -> str:
    """Name an epoch, counted from 0, so that names sort as numbers do."""
    return f"epoch_{epoch:03d}"


def new_run_folder(runs: Path) -> Path:
    """Make the next free `version_<n>`; two runs that start at once get two folders.

    Only the first process makes it; the others get a name, and Lightning tells them the first one's folder later.
    """
    ends = [path.name.removeprefix(_VERSION) for path in runs.glob(f"{_VERSION}*")]
    taken = [int(end) for end in ends if end.isdigit()]
    for number in itertools.count(max(taken, default=-1) + 1):
        folder = runs / f"{_VERSION}{number}"
        if getattr(rank_zero_only, "rank", 0) != 0:
            return folder
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("count does not end")


def newest_last_checkpoint(runs: Path) -> Path | None:
    """Find the `last.ckpt` that was written last in a folder of runs; None if there is none."""
    found = runs.glob(f"{_VERSION}*/{_CHECKPOINTS}/{LAST}")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
