"""Resumable jobs on one or many devices, as `explain` has one per video and `evaluate` one per clip.

A job writes a JSON record that holds its *request*: everything its result depends on. A job whose record holds the
same request is done, and is not done again.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from vidact.core import __version__
from vidact.core.devices import gather


def make_request(**parts: Any) -> dict[str, Any]:
    """Describe what a job depends on, with the version of vidact, as the values that JSON gives back."""
    request: dict[str, Any] = json.loads(json.dumps({"vidact": __version__, **parts}))
    return request


def read_record(path: Path) -> dict[str, Any] | None:
    """Read the record of a job; None where there is none, or the file is something else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("request"), dict) else None


def installed_versions(libraries: Sequence[str]) -> dict[str, str]:
    """Look up the versions of libraries; those that are not installed are skipped."""
    found = {}
    for name in libraries:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@dataclass(frozen=True)
class Outcome:
    """What became of a clip that was not measured in this run: why it failed, or None where it was measured before."""

    clip_id: str
    failure: str | None = None


def sort_outcomes(outcomes: Sequence[Outcome], clip_ids: Sequence[str]) -> tuple[list[str], list[str], int]:
    """Divide clips by what became of them.

    Args:
        outcomes: Of all processes.
        clip_ids: All clips.

    Returns:
        The clips that are measured, and a line for each that failed, both in the order of the clips; how many were
        measured before.
    """
    failures = {outcome.clip_id: outcome.failure for outcome in outcomes if outcome.failure is not None}
    measured = [clip_id for clip_id in clip_ids if clip_id not in failures]
    lines = [f"{clip_id}: {failures[clip_id]}" for clip_id in clip_ids if clip_id in failures]
    return measured, lines, sum(outcome.failure is None for outcome in outcomes)


class JobRunner(LightningModule):
    """Works through numbered jobs, which `Trainer.predict` shares out among processes.

    A subclass opens what it needs in `open`, does some jobs at once in `work`, and appends plain values to `results`.
    It is a LightningModule so that its networks move to the device of each process.

    Args:
        num_jobs: How many jobs there are.
    """

    def __init__(self, num_jobs: int) -> None:
        super().__init__()
        self.num_jobs, self.results = num_jobs, list[Any]()

    def open(self, stack: contextlib.ExitStack) -> None:
        """Get ready, with the networks on their device by now; the stack is closed when all jobs are done."""

    def work(self, numbers: Sequence[int]) -> None:
        """Do the jobs of these numbers."""
        raise NotImplementedError

    def run_all(self, *, trainer: Trainer, at_once: int = 1) -> list[Any]:
        """Do all jobs, `at_once` of them together; gives the results of all processes, the same on each."""
        # Each process gets at least one number: one without any would leave the others waiting for it.
        count = max(self.num_jobs, trainer.world_size)
        loader: DataLoader[int] = DataLoader(range(count), batch_size=at_once, collate_fn=list)  # type: ignore[arg-type]
        trainer.predict(self, loader, return_predictions=False)
        return gather(self.results)

    def on_predict_start(self) -> None:
        """Open what the subclass needs."""
        self._stack = contextlib.ExitStack()
        self.open(self._stack)

    def on_predict_end(self) -> None:
        """Close it."""
        self._stack.close()

    def predict_step(self, batch: list[int]) -> int:
        """Do the jobs of a batch; gives how many numbers it had."""
        self.work([number for number in batch if number < self.num_jobs])
        return len(batch)
