"""Name each file of a run folder once; whoever writes or reads one of them asks here.

`runs/version_0` holds config.yaml, split.json, metrics.csv, predictions.csv, left_out.txt, report.html, pictures as
confusion_val.png, checkpoints/best.ckpt and last.ckpt, explanations/epoch_009/, faithfulness/epoch_009.png,
evaluation/, wandb_id.txt and .training.lock.
"""

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.pytorch.utilities import rank_zero_only

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

CONFIG = "config.yaml"
METRICS = "metrics.csv"
SPLIT = "split.json"
EVALUATION = "evaluation"
BEST, LAST = "best.ckpt", "last.ckpt"
_CHECKPOINTS = "checkpoints"
_VERSION = "version_"


def relative(path: str | Path) -> str:
    """Write a path as seen from the current folder."""
    return os.path.relpath(path)


@dataclass(frozen=True)
class RunFolder:
    """The folder that a training writes, `runs/version_<n>`, and the files in it.

    Attributes:
        path: The folder; it need not exist.
    """

    path: Path

    @classmethod
    def of(cls, trainer: "Trainer") -> "RunFolder":
        """Give the folder of a trainer's run; call it on every process, as Lightning asks all of them."""
        return cls(Path(trainer.log_dir or trainer.default_root_dir))

    @classmethod
    def of_checkpoint(cls, checkpoint: str | Path) -> "RunFolder":
        """Give the folder in whose `checkpoints` folder a checkpoint is."""
        return cls(Path(checkpoint).absolute().parent.parent)

    @property
    def config(self) -> Path:
        """Every setting of the run, as YAML."""
        return self.path / CONFIG

    @property
    def split(self) -> Path:
        """Which clips trained, validated and tested, and what leaks; `--data.split` reads it."""
        return self.path / SPLIT

    @property
    def metrics(self) -> Path:
        """Losses and accuracies, a row per logged step or epoch."""
        return self.path / METRICS

    @property
    def predictions(self) -> Path:
        """What `predict` writes: class probabilities of each window."""
        return self.path / "predictions.csv"

    @property
    def skipped_clips(self) -> Path:
        """The clips that could not be read, one per line with the reason."""
        return self.path / "left_out.txt"

    @property
    def report(self) -> Path:
        """The report that `fit` writes at its end."""
        return self.path / "report.html"

    @property
    def checkpoints(self) -> Path:
        """The folder of all checkpoints."""
        return self.path / _CHECKPOINTS

    @property
    def best_checkpoint(self) -> Path:
        """The weights of the epoch with the best validation accuracy."""
        return self.checkpoints / BEST

    @property
    def last_checkpoint(self) -> Path:
        """The full state after the last epoch, from which training resumes."""
        return self.checkpoints / LAST

    @property
    def explanations(self) -> Path:
        """Pictures and videos of explained clips, a folder per epoch."""
        return self.path / "explanations"

    @property
    def evaluation(self) -> Path:
        """Where `evaluate` writes what it measured on the validation clips."""
        return self.path / EVALUATION

    @property
    def wandb_id(self) -> Path:
        """The id of the run in wandb, so that a resumed training logs to the same one."""
        return self.path / "wandb_id.txt"

    @property
    def lock(self) -> Path:
        """Locked while a process trains here."""
        return self.path / ".training.lock"

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
