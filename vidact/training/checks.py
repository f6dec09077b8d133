"""Refuse settings that Lightning's trainer accepts but fails on later, and turn its errors into one line."""

import contextlib
import inspect
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.seed import max_seed_value
from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher

from vidact.core.errors import ConfigError, EnvironmentProblem, VidactError, causes, reword_machine_error
from vidact.runs.folder import BEST, LAST

PROCESSES_PER_CORE = 4  # more is a mistake
COUNTS = ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval")  # 0 would be a divisor
PRECISIONS = (None, 32, 16, "32", "16", "32-true", "16-mixed", "bf16", "bf16-mixed")  # clips stay float32
VALIDATED_NEVER = f"nothing is validated, so there will be no {BEST}, only {LAST}"
_OF_TRAINER = {"loggers.logger.Logger": "--trainer.logger", "callbacks.callback.Callback": "--trainer.callbacks"}
_REQUIREMENT = re.compile(r"Requirement '[^']+' not met\.(?: HINT: Try running `[^`]+`)?")


def check_seed(seed: bool | int) -> bool | int:
    """Give the seed that Lightning will use: for true, PL_GLOBAL_SEED or 0; false for none.

    Raises:
        ConfigError: outside the range of NumPy's seeds.
    """
    if seed is True:
        given = os.environ.get("PL_GLOBAL_SEED", "0")
        if not given.isdecimal():
            raise ConfigError(f"PL_GLOBAL_SEED: expected a whole number from 0 to {max_seed_value}, got {given!r}")
        seed = int(given)
    if not 0 <= seed <= max_seed_value:
        raise ConfigError(f"--seed_everything: expected false or a whole number from 0 to {max_seed_value}, got {seed}")
    return seed


def check_counts(trainer: Mapping[str, Any]) -> None:
    """Refuse numbers of batches and epochs that are not above 0.

    Raises:
        ConfigError: names the first.
    """
    for name in COUNTS:
        if isinstance(value := trainer.get(name), int | float) and value <= 0:
            raise ConfigError(f"--trainer.{name}: expected a number above 0, got {value}")


def check_run(trainer: Mapping[str, Any]) -> None:
    """Refuse settings of the trainer that do not work in vidact.

    Raises:
        ConfigError: names the first.
    """
    if (precision := trainer.get("precision")) not in PRECISIONS:
        raise ConfigError(
            f"--trainer.precision {precision}: clips and explanations are float32; try 32-true, 16-mixed or bf16-mixed"
        )
    clipping = trainer.get("gradient_clip_val")
    if isinstance(clipping, int | float) and clipping < 0:
        raise ConfigError(f"--trainer.gradient_clip_val: expected a number above 0, or 0 for none, got {clipping}")
    if "://" in str(folder := trainer.get("default_root_dir")):
        raise ConfigError(f"--trainer.default_root_dir {folder}: addresses are refused; give a folder")
    for what in ("epochs", "steps"):
        least, most = trainer.get(f"min_{what}"), trainer.get(f"max_{what}")
        if isinstance(least, int) and isinstance(most, int) and 0 <= most < least:
            raise ConfigError(f"--trainer.min_{what} {least}: more than --trainer.max_{what}, which is {most}")
    _check_max_time(trainer.get("max_time"))


def _check_max_time(given: Any) -> None:
    """Refuse what is no time, and a time of 0, which would train nothing."""
    duration = given
    if isinstance(given, str) and (found := re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", given.strip())):
        days, hours, minutes, seconds = map(int, found.groups())
        duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    elif isinstance(given, Mapping):
        with contextlib.suppress(TypeError):
            duration = timedelta(**given)
    if given is not None and not (isinstance(duration, timedelta) and duration > timedelta()):
        wanted = "a time above 0: days, hours, minutes and seconds as 00:12:00:00, or {hours: 12}"
        raise ConfigError(f"--trainer.max_time: expected {wanted}, got {given}")


def check_parts(trainer: Mapping[str, Any], *, verb: str, goes_on: bool = False) -> None:
    """Refuse to switch off parts that every run needs, and to resume a trial run, which keeps nothing.

    Raises:
        ConfigError: names the flag.
    """
    if trainer.get("barebones"):
        raise ConfigError(
            "--trainer.barebones true: it forbids the metrics, checkpoints and pictures that a run consists of; leave "
            "it out"
        )
    if verb == "fit" and trainer.get("enable_checkpointing") is False:
        raise ConfigError(
            "--trainer.enable_checkpointing false: a run keeps last.ckpt to resume from, and best.ckpt to explain; "
            "leave it out, or try settings with --trainer.fast_dev_run true, which keeps nothing"
        )
    if verb == "fit" and trainer.get("fast_dev_run") and goes_on:
        raise ConfigError(
            "--trainer.fast_dev_run tries a run from its beginning and keeps nothing: leave out --ckpt_path, or resume "
            "without it"
        )


def why_no_best_epoch(trainer: Mapping[str, Any]) -> str | None:
    """Explain why the trainer's limits leave no epoch validated; None if one is, or if it is not known."""
    epochs, every = trainer.get("max_epochs"), trainer.get("check_val_every_n_epoch")
    if trainer.get("limit_val_batches") == 0:
        return f"--trainer.limit_val_batches 0: {VALIDATED_NEVER}"
    if epochs is not None and every is not None and 0 < epochs < every:
        return f"--trainer.check_val_every_n_epoch {every} with --trainer.max_epochs {epochs}: {VALIDATED_NEVER}"
    return None


def reword_trainer_error(error: Exception, accelerator: object) -> ConfigError | EnvironmentProblem:
    """Turn Lightning's error about a setting into one line."""
    told = " ".join(str(error).split())
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        return EnvironmentProblem(f"--trainer.accelerator {accelerator}: torch finds no GPU; try cpu ({told})")
    return _kind_of(told)(_named(told))


def _named(told: str) -> str:
    """Prefix Lightning's message with the flag that it is about, if it names one."""
    names = inspect.signature(Trainer).parameters
    marked = re.findall(r"[`'\"(](\w+)(?==|[`'\"])", told)
    about = next((name for name in [*marked, *re.findall(r"\w+_\w+", told)] if name in names), None)
    return f"--trainer: {told}" if about is None else f"--trainer.{about}: {told}"


def reword_training_error(error: Exception) -> ConfigError | EnvironmentProblem | None:
    """Turn errors of optimizers, schedules and Lightning about settings into one line; None for all others."""
    frames = traceback.extract_tb(error.__traceback__)
    told = " ".join(str(error).split())
    if frames and "/torch/optim/" in frames[-1].filename.replace(os.sep, "/"):
        return ConfigError(f"--model.optimizer or --model.lr_scheduler: {told}")
    if frames and (
        found := re.search(r"/lightning/pytorch/(callback|logger)s/", frames[-1].filename.replace(os.sep, "/"))
    ):
        return _kind_of(told)(f"--trainer.{found[1].replace('back', 'backs')}: {told}")  # as an unknown metric
    if isinstance(error, ValueError) and "val_check_interval" in told:  # larger than the number of batches
        return ConfigError(_named(told))
    return None


@contextlib.contextmanager
def reword_run_errors() -> Iterator[None]:
    """Turn errors about settings, and faults of the machine, into errors of one line."""
    try:
        yield
    except VidactError:
        raise
    except MisconfigurationException as error:
        raise ConfigError(_named(" ".join(str(error).split()))) from error
    except ValueError as error:  # jsonargparse wraps what a settings class has raised
        if (told := next((cause for cause in causes(error) if isinstance(cause, VidactError)), None)) is not None:
            raise told from error
        if (explained := reword_refused_part(error) or reword_training_error(error)) is None:
            raise
        raise explained from error
    except Exception as error:
        if (fault := reword_machine_error(error) or reword_training_error(error)) is None:
            raise
        raise fault from error


def require_cores(trainer: Trainer) -> None:
    """Refuse more processes than the machine can run.

    Raises:
        ConfigError: more than PROCESSES_PER_CORE per core.
    """
    cores = os.cpu_count() or 1
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > PROCESSES_PER_CORE * cores:
        raise ConfigError(
            f"--trainer.devices {trainer.num_devices}: on a CPU these are processes, and this machine has {cores} "
            f"cores; try {cores} or fewer"
        )


def require_launcher(trainer: Trainer) -> None:
    """Refuse numbers of processes that would wait for each other forever, or train independently by mistake.

    Raises:
        ConfigError: a launcher has started another number of processes, there is no launcher for several machines,
            or the strategy starts processes that do not run the command from its beginning.
    """
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise ConfigError("--trainer.strategy: its processes share a memory that a run does not expect; try ddp")
    environment = trainer._accelerator_connector.cluster_environment
    if trainer.num_nodes > 1 and isinstance(environment, LightningEnvironment) and "MASTER_ADDR" not in os.environ:
        raise ConfigError(
            f"--trainer.num_nodes {trainer.num_nodes}: nothing says where the other machines are; start with torchrun "
            "or SLURM (docs/how-to/many-gpus.md), or set MASTER_ADDR, MASTER_PORT and NODE_RANK"
        )
    if TorchElasticEnvironment.detect() and (started := int(os.environ["WORLD_SIZE"])) != trainer.world_size:
        raise ConfigError(
            f"torchrun has started {started} processes, and these settings are for {trainer.world_size}: give as many "
            "--trainer.devices (per machine), --trainer.num_nodes and --trainer.strategy ddp"
        )


def require_synchronisable(trainer: Trainer) -> None:
    """Refuse BatchNorm synchronised between CPUs, for which torch fails in the first step.

    Raises:
        ConfigError: several processes without a GPU and `sync_batchnorm`.
    """
    if trainer.world_size > 1 and trainer.strategy.root_device.type == "cpu":
        raise ConfigError(
            "--trainer.sync_batchnorm true: torch synchronises BatchNorm between GPUs only; leave it out (each process "
            "then has statistics of its own batch), or take a network without BatchNorm"
        )


def reword_refused_part(error: Exception) -> ConfigError | EnvironmentProblem | None:
    """Extract the message of a logger or a callback from the page that the parser writes around it.

    Returns:
        None if it is no such error.
    """
    page = " ".join(str(error).split())
    option = next((name for kind, name in _OF_TRAINER.items() if f"{kind}'>" in page), None)
    if option is None:
        return None
    *_, innermost = causes(error)
    missing = _REQUIREMENT.search(page)  # of a list of loggers the innermost error does not tell
    told = missing[0] if missing else " ".join(str(innermost).split())
    return _kind_of(told)(f"{option}: {told}")


def _kind_of(told: str) -> type[ConfigError | EnvironmentProblem]:
    """Tell a package that is not installed from a mistake in the settings."""
    is_missing = re.search(r"Requirement '|pip install|No module named '", told)
    return EnvironmentProblem if is_missing else ConfigError
