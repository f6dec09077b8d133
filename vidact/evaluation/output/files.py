"""Write an evaluation as CSV, Markdown and JSON, and read it back.

Each file appears under its name only when it is complete.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vidact.core.errors import DataError
from vidact.core.files import atomic_writer, write_json
from vidact.core.folders import claim
from vidact.core.terminal import escape_row
from vidact.evaluation.names import COMPARED_WITH
from vidact.evaluation.output.markdown import comparison_markdown, evaluation_markdown
from vidact.evaluation.results.comparison import Comparison
from vidact.evaluation.results.tables import Curve, Difference, Evaluation, Row, Verdict

NAME = "evaluation"
COMPARISON = "comparison"
KIND = "an evaluation"
WRITTEN = (  # patterns of the files that are written into a folder
    *(f"{NAME}.json", f"{NAME}.csv", f"{NAME}.md", f"{COMPARISON}.json", f"{COMPARISON}.md"),
    *("ranks.png", "curves_*.png", "ranks_over_runs.png", "dose_response.png", "clips/*"),
)
_COLUMNS = ("run", "method", "measure", "detail", "subset", "mean", "low", "high", "clips", "sources", "undefined")
_ARRAYS = ("removed", "mean", "low", "high")


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write `evaluation.json`, `evaluation.csv` and `evaluation.md` into a folder.

    Raises:
        EnvironmentProblem: it cannot be written.
    """
    write_json(folder / f"{NAME}.json", asdict(evaluation))
    with atomic_writer(folder / f"{NAME}.csv") as file:
        table = csv.DictWriter(file, _header(), lineterminator="\n")
        table.writeheader()
        table.writerows(escape_row(_cells(row)) for row in evaluation.rows)
    with atomic_writer(folder / f"{NAME}.md") as file:
        file.write(evaluation_markdown(evaluation))


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write `comparison.json` and `comparison.md` into a folder.

    Raises:
        EnvironmentProblem: it cannot be written.
    """
    runs = {evaluation.run: asdict(evaluation.verdict) for evaluation in comparison.evaluations}
    agreements = [asdict(agreement) for agreement in comparison.agreements]
    responses = [asdict(response) for response in comparison.dose_responses]
    write_json(folder / f"{COMPARISON}.json", {"runs": runs, "agreements": agreements, "dose_responses": responses})
    with atomic_writer(folder / f"{COMPARISON}.md") as file:
        file.write(comparison_markdown(comparison))


def read_evaluation(path: Path) -> Evaluation:
    """Read what `write_evaluation` wrote.

    Args:
        path: `evaluation.json`, or its folder.

    Raises:
        DataError: the file is missing, or is something else.
    """
    path = path / f"{NAME}.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(_read_row(row) for row in content.pop("rows"))
        curves = tuple(_read_curve(curve) for curve in content.pop("curves"))
        verdict = Verdict(**_tuples(content.pop("verdict")))
        return Evaluation(rows=rows, curves=curves, verdict=verdict, **_tuples(content))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(
            f"{path}: not what `python -m vidact evaluate` wrote ({reason}); evaluate again, with --again"
        ) from error


def claim_folder(folder: Path) -> None:
    """Make sure that writing into a folder replaces nothing but an older evaluation.

    Raises:
        ConfigError: files of these names are there, and are no evaluation.
        EnvironmentProblem: it cannot be written.
    """
    try:
        is_ours = bool(read_evaluation(folder))
    except DataError:
        is_ours = False
    claim(folder, WRITTEN, kind=KIND, is_ours=is_ours)


def _read_row(row: Mapping[str, Any]) -> Row:
    differences = {name: Difference(**values) for name, values in row["differences"].items()}
    return Row(**{**row, "differences": differences})


def _read_curve(curve: Mapping[str, Any]) -> Curve:
    arrays = {name: np.asarray(curve[name], dtype=np.float64) for name in _ARRAYS}
    return Curve(**{**curve, **arrays})


def _tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}


def _header() -> list[str]:
    return [*_COLUMNS, *(f"minus_{control}{end}" for control in COMPARED_WITH for end in ("", "_low", "_high"))]


def _cells(row: Row) -> dict[str, Any]:
    cells: dict[str, Any] = {name: getattr(row, name) for name in _COLUMNS}
    for control, difference in row.differences.items():
        ends: Iterator[tuple[str, float | None]] = zip(
            ("", "_low", "_high"), (difference.mean, difference.low, difference.high), strict=True
        )
        cells |= {f"minus_{control}{end}": value for end, value in ends}
    return cells
