"""Log an audit to wandb: verdicts as numbers, one table, pictures, and the files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from vidact.runs.loggers.media import log_files, log_pictures, log_table
from vidact.runs.loggers.wandb import finish_wandb

COLUMNS = ("finding", "verdict", "lean", "low", "high", "reason", "clips", "sources")
TEXTS = ("audit.json", "audit.csv", "audit.md", "junit.xml", "gate.txt")


def log_audit(trainer: Trainer, content: Mapping[str, Any], *, folder: Path, pictures: Mapping[str, Path]) -> str:
    """Log everything, and finish wandb's run.

    Args:
        trainer: Has wandb's logger (`runs.loggers.wandb.build_wandb_logger`), if it is used.
        content: Of `audit.json`.
        folder: Where the files are.
        pictures: PNG files, by name.

    Returns:
        Where wandb keeps its run; empty if it is not used.
    """
    sections = content["sections"]
    for logger in trainer.loggers:
        logger.log_hyperparams({"run": content["run"], "part": content["part"], **content["settings"]})
        logger.log_metrics(_scalars(sections))
    log_table(trainer, "audit/table", COLUMNS, [_row(name, own) for name, own in sections.items()])
    for name, path in pictures.items():
        log_pictures(trainer, f"audit/{name}", [path], [name])
    files = {name: folder / name for name in TEXTS if (folder / name).is_file()}
    files |= {path.name: path for path in pictures.values()}
    log_files(trainer, files, name=f"audit-{content['run']}", kind="audit")
    return finish_wandb(trainer) or ""


def _scalars(sections: Mapping[str, Any]) -> dict[str, float]:
    """List leans with their intervals as `audit/<finding>/lean`, `/low` and `/high`, where they are known."""
    ends = {"lean": "mean", "low": "low", "high": "high"}
    return {
        f"audit/{name}/{key}": own["lean"][end]
        for name, own in sections.items()
        if own.get("lean") is not None
        for key, end in ends.items()
        if own["lean"][end] is not None
    }


def _row(name: str, own: Mapping[str, Any]) -> tuple[str | float | int | None, ...]:
    lean = own.get("lean") or {}
    ends = (lean.get("mean"), lean.get("low"), lean.get("high"))
    return name, own["verdict"], *ends, own["reason"], own.get("clips"), own.get("sources")
