"""Write the pictures of an evaluation beside its files, and log everything to wandb."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch import Trainer

from vidact.drawing.figure import save_figures
from vidact.evaluation.names import ALL
from vidact.evaluation.output.pictures import all_methods, comparison_figures, evaluation_figures, main_keys
from vidact.evaluation.results.comparison import Comparison
from vidact.evaluation.results.tables import Evaluation
from vidact.runs.loggers.media import log_files, log_pictures, log_table
from vidact.runs.loggers.wandb import finish_wandb

COLUMNS = ("run", "method", "measure", "detail", "subset", "mean", "low", "high", "clips", "sources")
TEXTS = ("evaluation.json", "evaluation.csv", "evaluation.md", "comparison.json", "comparison.md")


def draw_evaluation(folder: Path, evaluation: Evaluation) -> dict[str, Path]:
    """Write the pictures of one run, `curves_<units>.png` and `ranks.png`; gives their files by name.

    Raises:
        EnvironmentProblem: a file cannot be written.
    """
    return save_figures(folder, evaluation_figures(evaluation))


def draw_comparison(folder: Path, comparison: Comparison) -> dict[str, Path]:
    """Write the pictures of several runs, `ranks_over_runs.png` and `dose_response.png`; gives their files by name.

    Raises:
        EnvironmentProblem: a file cannot be written.
    """
    return save_figures(folder, comparison_figures(comparison))


def written_files(folder: Path, *, prefix: str = "") -> dict[str, Path]:
    """List the written files of a run, or of several, by their names in the artifact."""
    paths = [*(folder / name for name in TEXTS), *sorted(folder.glob("*.png"))]
    return {f"{prefix}{path.name}": path for path in paths if path.is_file()}


def log_evaluations(
    trainer: Trainer, evaluations: Sequence[Evaluation], *, pictures: Mapping[str, Path], files: Mapping[str, Path]
) -> str:
    """Log everything to wandb, and finish its run: settings, means, one table, pictures, and the files as an artifact.

    Args:
        trainer: Has wandb's logger (`runs.loggers.wandb.build_wandb_logger`), if it is used.
        evaluations: One for each run.
        pictures: PNG files, by their names in wandb.
        files: All files, by their names in the artifact.

    Returns:
        Where wandb keeps its run; empty if it is not used.
    """
    for logger in trainer.loggers:
        logger.log_hyperparams({one.run: {"part": one.part, **one.settings} for one in evaluations})
        logger.log_metrics(_scalars(evaluations))
    log_table(trainer, "evaluation/table", COLUMNS, [row for one in evaluations for row in _rows(one)])
    for name, path in pictures.items():
        log_pictures(trainer, f"evaluation/{name}", [path], [name])
    log_files(trainer, files, name="-".join(["evaluation", *(one.run for one in evaluations)]), kind="evaluation")
    return finish_wandb(trainer) or ""


def _scalars(evaluations: Sequence[Evaluation]) -> dict[str, float]:
    """List the means of the main measures as `evaluation/<method>/<measure>`, with the run in front if several."""
    return {
        f"evaluation/{f'{one.run}/' if len(evaluations) > 1 else ''}{method}/{key}": row.mean
        for one in evaluations
        for key in main_keys(one)
        for method in all_methods(one)
        if (row := one.row(method, key)) is not None and math.isfinite(row.mean)
    }


def _rows(evaluation: Evaluation) -> list[tuple[str | float | int | None, ...]]:
    return [tuple(getattr(row, name) for name in COLUMNS) for row in evaluation.rows if row.subset == ALL]
