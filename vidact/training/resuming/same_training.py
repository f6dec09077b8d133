"""Decide whether and where training can be resumed from a checkpoint, and tell the user how."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vidact.core.errors import ConfigError, EnvironmentProblem
from vidact.runs.config import describe_differences, differences, with_current_class_paths
from vidact.runs.folder import RunFolder, relative
from vidact.runs.loggers.metrics_csv import trim_rows

# Callbacks that change the training, so they must be the same when it is resumed.
TRAINING_CALLBACKS = (
    *("MeanWeights", "WeightAveraging", "EMAWeightAveraging", "StochasticWeightAveraging"),
    *("GradientAccumulationScheduler", "BackboneFinetuning"),
)


def run_folder_of(checkpoint: Path) -> Path | None:
    """Name the run folder that a `checkpoints/last.ckpt` is in; None for any other checkpoint."""
    folder = RunFolder.of_checkpoint(checkpoint)
    return folder.path if checkpoint.absolute() == folder.last_checkpoint else None


def how_to_resume(verb: str, folder: Path | None) -> str:
    """Say in one line that a run was stopped and how to resume it."""
    if verb == "fit" and folder is not None and (path := RunFolder(folder).last_checkpoint).is_file():
        return f"stopped; the same command with --ckpt_path last resumes from {relative(path)}"
    return "stopped; the same command starts anew"


def remove_if_nothing_written(folder: Path | None) -> None:
    """Remove the folder of a run that was refused before it wrote anything."""
    if folder is None or not folder.is_dir():
        return
    first = (RunFolder(folder).lock, RunFolder(folder).wandb_id)  # written before anything can be refused
    if set(folder.iterdir()) <= set(first):
        with contextlib.suppress(OSError):
            for path in first:
                path.unlink(missing_ok=True)
            folder.rmdir()


def trim_metrics(folder: Path, checkpoint: Mapping[str, Any]) -> None:
    """Remove the rows of metrics.csv that were logged after the checkpoint.

    Raises:
        EnvironmentProblem: they cannot be written.
    """
    epoch, step = first_unfinished(checkpoint)
    metrics = RunFolder(folder).metrics
    try:
        trim_rows(metrics, epoch=epoch, step=step)
    except OSError as error:
        raise EnvironmentProblem(f"{metrics} cannot be written ({error.strerror})") from error


def first_unfinished(checkpoint: Mapping[str, Any]) -> tuple[int, int]:
    """Give the epoch and the logged step with which training resumes."""
    state = checkpoint["loops"]["fit_loop"]
    batches = state["epoch_loop.batch_progress"]["total"]["completed"]
    steps = state["epoch_loop.state_dict"]["_batches_that_stepped"]
    optimizer_steps = checkpoint["global_step"]
    # Stopped in validation, the step of the last batch is made and not yet counted.
    return int(state["epoch_progress"]["current"]["processed"]), int(max(steps, min(batches, optimizer_steps)))


def why_nothing_is_trained(trainer: Mapping[str, Any], checkpoint: Mapping[str, Any] | None) -> str | None:
    """Explain why the trainer's limits leave no step to train; None if they leave some.

    Raises:
        ConfigError: the checkpoint has more epochs than training is to have.
    """
    epochs, steps = 0, 0
    if checkpoint is not None and "loops" in checkpoint:
        epochs, steps = first_unfinished(checkpoint)[0], checkpoint["global_step"]
    for name, done in (("max_epochs", epochs), ("max_steps", steps)):
        limit, what = trainer.get(name), name.removeprefix("max_")
        if limit is not None and 0 <= limit < done:
            raise ConfigError(f"--trainer.{name} {limit}: the checkpoint has made {done} {what}; give a larger number")
        if limit == done > 0:
            return f"--trainer.{name} {limit}: the checkpoint has made these {what}, so nothing more is trained"
    for name in ("max_epochs", "max_steps", "limit_train_batches"):
        if trainer.get(name) == 0:
            return f"--trainer.{name} 0: nothing is trained, and no checkpoint is written; give a larger number"
    return None


def check_same_training(saved: str, own: Mapping[str, Any], defaults: Mapping[str, Any], *, checkpoint: Path) -> None:
    """Compare the settings in a checkpoint with the present ones.

    Args:
        saved: The config in the checkpoint, as YAML.
        own: The present settings.
        defaults: Values of settings that the checkpoint's version of vidact did not have.
        checkpoint: Its file, for the message.

    Raises:
        ConfigError: settings differ that change the training, or that the checkpoint would silently override; names
            the first few.
    """
    theirs, mine, usual = (_comparable(one) for one in (yaml.safe_load(with_current_class_paths(saved)), own, defaults))
    if differing := differences(theirs, mine, usual):
        shown = describe_differences(differing, there="there", here="now")
        raise ConfigError(
            f"{checkpoint}: training can be resumed only with the settings it began with, but {shown}; give the "
            "command it began with (or its config.yaml as --config), or start anew without --ckpt_path"
        )


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keep only the callbacks that change the training."""
    trainer = config.get("trainer") or {}
    given = trainer.get("callbacks") or []
    changing = [
        one
        for one in (given if isinstance(given, list) else [given])
        if one["class_path"].rpartition(".")[2] in TRAINING_CALLBACKS
    ]
    return {**config, "trainer": {**trainer, "callbacks": changing or None}}
