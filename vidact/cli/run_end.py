"""Print a summary at the end of a run, and write its report and the list of skipped clips."""

import atexit
import re
import shutil
import tempfile
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn

from vidact.core.clips import SplitSource
from vidact.core.errors import VidactError
from vidact.data.splits.leakage import LeakageReport
from vidact.report.run_report import write_run_report
from vidact.runs.folder import RunFolder, relative
from vidact.runs.loggers.media import log_file, log_pictures
from vidact.training.callbacks.best_checkpoint import MONITOR

REPORTED = tuple(
    f"{part}/{name}" for part in ("val", "test") for name in ("clip_accuracy", "clip_accuracy_macro", "window_accuracy")
)


def temporary_folder() -> str:
    """Make a temporary folder for a trial run; it is removed when this process ends."""
    folder = tempfile.mkdtemp(prefix="vidact-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def summary(trainer: Trainer, folder: RunFolder, left_out: list[str]) -> dict[str, str]:
    """Summarise a run: its best accuracies, and where its files are."""
    lines = {name: f"{float(value):.3f}" for name, value in trainer.callback_metrics.items() if name in REPORTED}
    if trainer.fast_dev_run:  # type: ignore[attr-defined]  # Lightning sets it by name
        return lines | {"run folder": "none, as fast_dev_run keeps nothing"}
    best = next((found for found in trainer.checkpoint_callbacks if getattr(found, "monitor", None) == MONITOR), None)
    if isinstance(best, ModelCheckpoint) and best.best_model_score is not None:
        lines[f"best {MONITOR}"] = f"{float(best.best_model_score):.3f}, {relative(Path(best.best_model_path))}"
    if left_out := one_line_a_clip(left_out, getattr(trainer, "datamodule", None)):
        text = "\n".join(left_out) + "\n"
        folder.skipped_clips.write_text(text, encoding="utf-8", errors="backslashreplace")
        lines["skipped"] = f"{len(left_out)} clips, listed in {relative(folder.skipped_clips)}"
    lines["run folder"] = relative(folder.path)
    if folder.predictions.is_file():
        lines["predictions"] = relative(folder.predictions)
    if folder.explanations.is_dir():
        lines["pictures"] = f"{relative(folder.explanations)}, {relative(folder.picture('confusion', '*'))}"
    return lines


def one_line_a_clip(lines: list[str], data: object) -> list[str]:
    """Keep one line per clip, as several of its windows may have one.

    Args:
        lines: As `id: reason`; an id may hold a colon itself.
        data: The data module, which knows the ids; if it does not, every line is kept.
    """
    record = data.split_record if isinstance(data, SplitSource) else {}
    known = {clip_id for side in ("training", "validation", "test", "unused") for clip_id in record.get(side, ())}
    found: dict[str, str] = {}
    for line in sorted(lines):
        ids = (line[: colon.start()] for colon in reversed([*re.finditer(": ", line)]))
        found.setdefault(next((clip_id for clip_id in ids if clip_id in known), line), line)
    return list(found.values())


def report_run(trainer: Trainer, folder: RunFolder) -> str:
    """Write the run's report and hand it to wandb; says where it is, or why there is none."""
    try:
        report = write_run_report(
            folder,
            data=trainer.datamodule,  # type: ignore[attr-defined]
            device=trainer.strategy.root_device,
        )
    except VidactError as error:  # a report that cannot be written must not end a finished training with an error
        return f"none: {error}"
    for problem in report.problems:
        rank_zero_warn(problem)
    for name, picture in report.pictures.items():
        log_pictures(trainer, f"val/{name}", [picture], [name])
    log_file(trainer, report.page, name=f"report-{folder.path.name}", kind="report")
    return relative(report.page)


def guesses_without_pixels(leakage: LeakageReport, verb: str | None) -> dict[str, str]:
    """Say how well rules without a pixel guess the class, on the clips that the verb measures."""
    side = "validation" if verb in {"fit", "validate"} else "test"
    shares = {guess.feature: getattr(guess, side) for guess in leakage.guesses}
    told = ", ".join(f"{feature} {100 * share:.1f} %" for feature, share in shares.items() if share is not None)
    return {"guessed without a pixel": f"{told} ({side} clips)"} if told else {}
