"""Keep the rows of `metrics.csv` when a run is resumed: none is lost, and none is there twice."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from vidact.core.errors import DataError
from vidact.core.files import write_whole


class KeptRows(ExperimentWriter):
    """Lightning's writer of `metrics.csv`, but it keeps the rows that are there, which Lightning's removes."""

    @override
    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        self.metrics_keys = read_rows(path)[0] if path.is_file() else []

    @override
    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        _write_rows(path, fieldnames, read_rows(path)[1])  # whole, whenever the process is killed


class KeepingCSVLogger(CSVLogger):
    """Lightning's logger, but it appends to the rows of a resumed run."""

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer of rows and settings."""
        if self._experiment is None:
            self._experiment = KeptRows(self.log_dir)
        return self._experiment  # type: ignore[return-value]


def trim_rows(path: Path, *, epoch: int, step: int) -> None:
    """Drop the rows that were logged after a checkpoint, and a row that was cut off; warns where more may be lost.

    Args:
        path: A `metrics.csv`; nothing happens where there is none.
        epoch: The first epoch that the checkpoint has not finished; all rows of earlier ones stay.
        step: The first step that the checkpoint has not made.

    Raises:
        DataError: it holds something else; it is left as it is.
    """
    if not path.exists():
        return
    try:
        content = path.read_bytes()
        if not content:
            if epoch:
                rank_zero_warn(f"{path} is empty: the numbers of the first {epoch} epochs are lost; training goes on")
            return
        names, rows = read_rows(path)
        if missing := sorted({"epoch", "step"} - set(names)):
            raise ValueError(f"no column {' and no column '.join(missing)}")
        if not content.endswith(b"\n") and rows:
            rows = rows[:-1]
            cut = content.splitlines()[-1].decode()
            rank_zero_warn(f"{path}: its last row was cut off and is dropped: {cut!r}; training goes on")
        for number, row in enumerate(rows, 2):
            if None in row or None in row.values():  # as DictReader marks cells too many, and too few
                raise ValueError(f"line {number} has not {len(names)} cells")
        # A row without an epoch, as LearningRateMonitor logs it, is judged by its step.
        kept = [row for row in rows if float(row["epoch"] or math.inf) < epoch or float(row["step"] or 0) < step]
        _write_rows(path, names, kept)
    except (ValueError, IsADirectoryError, csv.Error) as error:
        raise DataError(
            f"{path}: expected a table with the columns epoch and step, as training wrote it, got something else "
            f"({type(error).__name__}: {error}); move it away, and training goes on with a new one"
        ) from error


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read the columns' names and the rows."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        return list(reader.fieldnames or ()), rows


def _write_rows(path: Path, names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=names)
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
