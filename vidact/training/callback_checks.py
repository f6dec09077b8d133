"""Refuse, before training starts, callbacks that do not work in vidact, and monitored metrics that are never logged."""

from collections.abc import Collection, Mapping
from typing import Any

from lightning.pytorch import Trainer

from vidact.core.errors import ConfigError, nearest

OURS = ("vidact.", "lightning.")  # modules whose callbacks log no metric that could be monitored
OWN_FILES = ("best", "last")
REFUSED_CALLBACKS = {  # by name, with what to do instead
    "BackboneFinetuning": (
        "it needs a model with a `backbone`; for the networks of --config hmdb51_pretrained, "
        "--model.network.init_args.frozen_stages says how many stages are not trained, and in a network of your own, "
        "part.requires_grad_(False)"
    ),
    "BatchSizeFinder": (
        "it would train with another batch size than config.yaml says, from which training is resumed; try sizes with "
        "--data.batch_size and --trainer.fast_dev_run 2"
    ),
    "LearningRateFinder": (
        "it needs a model with an `lr`, which here belongs to the optimizer: try rates with "
        "--model.optimizer.init_args.lr and --trainer.max_epochs 1, or by a sweep (configs/sweep.yaml)"
    ),
}


def check_callbacks(trainer: Mapping[str, Any]) -> None:
    """Refuse callbacks of Lightning that do not work in vidact.

    Raises:
        ConfigError: names the first, and what to do instead.
    """
    given = trainer.get("callbacks") or []
    for one in given if isinstance(given, list) else [given]:
        path = one.get("class_path", "") if isinstance(one, Mapping) else ""
        name, settings = path.rpartition(".")[2], one.get("init_args") or {} if path else {}
        if path.startswith("lightning.") and (told := REFUSED_CALLBACKS.get(name)):
            raise ConfigError(f"--trainer.callbacks: {name}: {told}")
        if settings.get("filename") in OWN_FILES and settings.get("dirpath") is None:
            raise ConfigError(
                f"--trainer.callbacks: {name}: {settings['filename']}.ckpt is a file of the run's own; give another "
                "filename"
            )


def check_before_fit(
    trainer: Trainer, *, known: Collection[str], batches: int | None, model: Mapping[str, Any]
) -> None:
    """Refuse what would fail only after an epoch: a metric that is never logged, or less than a batch to train on.

    Args:
        trainer: With its callbacks.
        known: Names of the metrics that the model logs.
        batches: Batches of an epoch; None in a process that does not know it yet.
        model: The `model` part of the config.

    Raises:
        ConfigError: there is no such metric (names the nearest), its best value is the other way, or there is no batch.
    """
    if batches is not None:
        _check_shares(trainer, batches=batches)
    _check_monitors(trainer, known, (model.get("lr_scheduler") or {}).get("init_args") or {})


def _check_shares(trainer: Trainer, *, batches: int) -> None:
    """Refuse to train on less than a batch, where Lightning advises a setting that does not help."""
    for name in ("overfit_batches", "limit_train_batches"):
        share = getattr(trainer, name)
        if isinstance(share, float) and share > 0 and batches * share < 1:
            raise ConfigError(f"--trainer.{name} {share}: less than one of {batches} batches; try 1, for one batch")


def _check_monitors(trainer: Trainer, known: Collection[str], schedule: Mapping[str, Any]) -> None:
    """Refuse to monitor a metric that is never logged, or to take its worst value for the best.

    Args:
        trainer: With its callbacks.
        known: Names of the metrics that the model logs.
        schedule: Settings of a schedule with `monitor` and `mode`; empty without one.

    Raises:
        ConfigError: no such metric (names the nearest), or its best value is the other way.
    """
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it by name
    is_closed = all(type(one).__module__.startswith(OURS) for one in callbacks)  # others may log what they like
    waiting = [
        (f"--trainer.callbacks: {type(one).__name__}", getattr(one, "monitor", None), getattr(one, "mode", None))
        for one in callbacks
    ]
    given = schedule.get("mode")
    monitor = schedule.get("monitor", "val/loss" if given in ("min", "max") else None)
    for what, name, mode in [*waiting, ("--model.lr_scheduler", monitor, given)]:
        if not isinstance(name, str):
            continue
        if is_closed and name not in known and not name.startswith("train/penalty/"):
            near = nearest(name, known, at_most=1)
            raise ConfigError(f"{what}: no metric {name} is logged; nearest: {near[0]}; known are {', '.join(known)}")
        better = "min" if name.endswith("loss") else "max" if "accuracy" in name else mode
        if mode in ("min", "max") and mode != better:
            raise ConfigError(f"{what}: {name} with mode {mode} would wait for its worst value; give mode {better}")
