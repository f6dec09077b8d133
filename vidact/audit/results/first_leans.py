"""Find in the numbers of a training when a network began to lean on something."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from vidact.audit.results.summary import SAYS
from vidact.audit.sections import EXCHANGES, ORDER
from vidact.core.errors import DataError
from vidact.runs.folder import RunFolder
from vidact.runs.loggers.metrics_csv import read_rows

PREFIX, LEAN = "val/audit/", "/lean"  # around a finding's name
MARGIN = 0.1  # as of `audit`


@dataclass(frozen=True)
class FirstLean:
    """The first measurement in which a lean is above the margin.

    Attributes:
        finding: `background`, `time.when`.
        epoch: Of training, from 0.
        lean: What was measured; it is of a few clips, and no verdict.
        margin: That it passed.
    """

    finding: str
    epoch: int
    lean: float
    margin: float

    def sentence(self) -> str:
        """Say it in words."""
        says = SAYS[ORDER] if self.finding == ORDER else EXCHANGES[self.finding].says
        return f"lean on {says} passed {self.margin:.2f} in epoch {self.epoch}"


def first_leans(folder: Path, *, margin: float = MARGIN) -> tuple[FirstLean, ...]:
    """Find the first epoch in which each lean that training has logged is above the margin.

    Args:
        folder: Of a run.
        margin: The share of right answers that may hang on a part.

    Returns:
        One for each finding that has ever passed it, the earliest first; none where `--audit` was off.

    Raises:
        DataError: `metrics.csv` is no table of numbers.
    """
    path = RunFolder(folder).metrics
    if not path.is_file():
        return ()
    found: dict[str, FirstLean] = {}
    try:
        names, rows = read_rows(path)
        for name in names:
            finding = name.removeprefix(PREFIX).removesuffix(LEAN)
            if name != f"{PREFIX}{finding}{LEAN}" or not (finding == ORDER or finding in EXCHANGES):
                continue
            measured = [(int(float(row["epoch"])), float(row[name])) for row in rows if row.get(name)]
            passed = [(epoch, lean) for epoch, lean in measured if math.isfinite(lean) and lean > margin]
            if passed:
                found[finding] = FirstLean(finding, *min(passed), margin)
    except (ValueError, KeyError, csv.Error) as error:
        raise DataError(f"{path}: expected a table of numbers by epoch, as training wrote it, got {error}") from error
    return tuple(sorted(found.values(), key=lambda one: (one.epoch, one.finding)))
