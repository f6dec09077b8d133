"""Give a run its folder and its loggers: CSV files, and wandb, online or offline.

The only file that knows wandb itself; everybody else goes through Lightning's logger.
"""

import os
import tempfile
from pathlib import Path

import wandb
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from vidact.core import ConfigError, EnvironmentProblem

PROJECT = "vidact"
MODES = ("online", "offline", "disabled", "shared", "dryrun")
FINISH_TIMEOUT_SECONDS = 120


def build_loggers(runs: Path) -> list[Logger]:
    """Build the loggers of a new run: CSV files in a run folder of its own, `<runs>/version_<n>`, and wandb.

    `WANDB_MODE`, `WANDB_PROJECT` and `WANDB_DIR` are obeyed. With no mode and no key, wandb is offline.

    Raises:
        EnvironmentProblem: a folder cannot be written.
        ConfigError: `WANDB_MODE` is none of wandb's.
    """
    csv = CSVLogger(save_dir=runs, name="")
    folder = Path(csv.log_dir)
    _check_writable(folder, hint="set --trainer.default_root_dir to a folder that can")
    mode = wandb_mode()
    if mode == "disabled":
        return [csv]
    wandb_folder = Path(os.environ.get("WANDB_DIR") or folder)
    _check_writable(wandb_folder, hint="set WANDB_DIR to a folder that can")
    settings = wandb.Settings(
        silent=mode == "offline", console="off", finish_timeout=FINISH_TIMEOUT_SECONDS, finish_timeout_raises=False
    )
    project = os.environ.get("WANDB_PROJECT") or PROJECT
    logger = WandbLogger(project=project, save_dir=wandb_folder, mode=mode, settings=settings)
    logger._wandb_init.pop("anonymous", None)  # wandb warns of this setting, which Lightning always passes
    return [csv, logger]


def wandb_mode() -> str:
    """Choose wandb's mode without ever asking: `WANDB_MODE`, else online with a key, else offline, said once."""
    mode = os.environ.get("WANDB_MODE")
    if mode is not None:
        if mode not in MODES:
            raise ConfigError(f"WANDB_MODE is one of {', '.join(MODES)}, got {mode!r}")
        return "offline" if mode == "dryrun" else mode
    if os.environ.get("WANDB_API_KEY") or wandb.login(prompt=False):
        return "online"
    rank_zero_info("wandb: no key and no WANDB_MODE, so this run is kept offline; `wandb login` changes that")
    return "offline"


@rank_zero_only
def finish_wandb(trainer: Trainer) -> str:
    """End wandb's run, and say where it is; waits no longer than FINISH_TIMEOUT_SECONDS."""
    logger = next((logger for logger in trainer.loggers if isinstance(logger, WandbLogger)), None)
    if logger is None:
        return ""
    run = logger.experiment
    place = f"wandb sync {os.path.relpath(run.settings.sync_dir)}" if run.offline else str(run.url)
    try:
        run.finish()
    except (OSError, RuntimeError) as error:  # its process died; what it had written stays
        return f"{place} (wandb ended early: {error})"
    return place


@rank_zero_only
def _check_writable(folder: Path, *, hint: str) -> None:
    """Try by a real write: rights alone do not tell of a full disk or a read-only one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"vidact")
    except OSError as error:
        raise EnvironmentProblem(f"{folder}: cannot be written ({error.strerror}); {hint}") from error
