"""Refuse, before training, callbacks of Lightning's that do not fit a run of vidact, and measures that never come."""

from collections.abc import Collection, Mapping
from typing import Any

from lightning.pytorch import Trainer

from vidact.core.errors import ConfigError, nearest

OURS = ("vidact.", "lightning.")  # modules whose callbacks log nothing that training waits for
OWN_FILES = ("best", "last")
REFUSED_CALLBACKS = {  # and what to do instead
    "BackboneFinetuning": (
        "it needs a model with a `backbone`; for the networks of --config hmdb51_pretrained, "
        "--model.network.init_args.frozen_stages says how many stages are not trained, and in a network of your own, "
        "part.requires_grad_(False)"
    ),
    "BatchSizeFinder": (
        "it would train with another batch size than config.yaml tells, from which training goes on; try sizes with "
        "--data.batch_size and --trainer.fast_dev_run 2"
    ),
    "LearningRateFinder": (
        "it needs a model with an `lr`, and here the optimizer has it: try rates with "
        "--model.optimizer.init_args.lr and --trainer.max_epochs 1, or by a sweep (configs/sweep.yaml)"
    ),
}


def check_callbacks(trainer: Mapping[str, Any]) -> None:
    """Refuse callbacks of Lightning's that no run of vidact can have.

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
    """Refuse what would show only after an epoch: a measure that never comes, or less than a batch to learn from.

    Args:
        trainer: With its callbacks.
        known: The names under which the model logs.
        batches: Of an epoch; None in a process that does not know it before the others.
        model: The config's settings of the model.

    Raises:
        ConfigError: there is no such measure (with the nearest), it is better the other way, or there is no batch.
    """
    if batches is not None:
        _check_shares(trainer, batches=batches)
    _check_monitors(trainer, known, (model.get("lr_scheduler") or {}).get("init_args") or {})


def _check_shares(trainer: Trainer, *, batches: int) -> None:
    """Refuse to learn from less than a batch: of `overfit_batches`, Lightning advises a setting that does not help."""
    for name in ("overfit_batches", "limit_train_batches"):
        share = getattr(trainer, name)
        if isinstance(share, float) and share > 0 and batches * share < 1:
            raise ConfigError(f"--trainer.{name} {share}: less than one of {batches} batches; try 1, for one batch")


def _check_monitors(trainer: Trainer, known: Collection[str], schedule: Mapping[str, Any]) -> None:
    """Refuse to wait for a measure that will never come, or for its worst value, before training begins.

    Args:
        trainer: With its callbacks.
        known: The names under which the model logs.
        schedule: `monitor` and `mode` of a schedule; empty without one.

    Raises:
        ConfigError: no such measure (with the nearest), or it is better the other way.
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
            raise ConfigError(f"{what}: there is no measure {name}; nearest: {near[0]}; there are {', '.join(known)}")
        better = "min" if name.endswith("loss") else "max" if "accuracy" in name else mode
        if mode in ("min", "max") and mode != better:
            raise ConfigError(f"{what}: {name} with mode {mode} would wait for its worst value; give mode {better}")
