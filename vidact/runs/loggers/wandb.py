"""Build a run's loggers: CSV files, and wandb, online or offline.

Only this file and `media.py` import wandb; all others use Lightning's logger.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from vidact.core.errors import ConfigError, EnvironmentProblem
from vidact.core.files import check_writable, write_whole
from vidact.runs.folder import RunFolder, new_run_folder
from vidact.runs.loggers.guard import Guard
from vidact.runs.loggers.metrics_csv import KeepingCSVLogger
from vidact.runs.loggers.wandb_names import artifact_name, media_key, printable

PROJECT = "vidact"
MODES = ("online", "offline", "disabled", "shared", "dryrun")
REFUSED_CHARACTERS = "/\\#?%:"
MAX_PROJECT_LENGTH = 128
INIT_TIMEOUT_SECONDS = 30
FINISH_TIMEOUT_SECONDS = 120


class GuardedWandbLogger(WandbLogger):
    """Lightning's logger, but failures of wandb end no training: what it does not take is skipped, with a warning."""

    id_path: Path | None = None  # file in the run folder that holds the id of wandb's run

    @property
    def experiment(self) -> Any:
        """The run in wandb; an offline one if the server cannot be reached in INIT_TIMEOUT_SECONDS.

        Raises:
            EnvironmentProblem: the server refuses the key, or no run can be started at all.
        """
        try:
            return super().experiment
        except wandb.errors.AuthenticationError as error:
            raise EnvironmentProblem(f"wandb refuses the key ({_first_line(error)}); run `wandb login`") from error
        except Exception as error:  # what it raises depends on what its server and its own process do
            if self._wandb_init["mode"] == "offline":
                raise EnvironmentProblem(
                    f"wandb cannot start ({_first_line(error)}); WANDB_MODE=disabled does without it"
                ) from error
            rank_zero_warn(f"wandb cannot reach its server, so this run is kept offline: {_first_line(error)}")
            # A new id: wandb's process still holds that of the run it could not start.
            self._wandb_init["id"] = secrets.token_hex(4)
            self._wandb_init["mode"], self._wandb_init["settings"].silent = "offline", True
            run = self.experiment
            if self.id_path is not None:
                write_whole(self.id_path, run.id.encode())
            return run

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log numbers and media; if wandb does not take one of them, only that one is skipped."""
        whole = super().log_metrics
        named = {printable(name): value for name, value in metrics.items()}
        guard_of(self).attempt_all("a value", named, lambda part: whole(part, step))

    def log_hyperparams(self, params: Any) -> None:
        """Log the config."""
        guard_of(self).attempt("settings", lambda: super(GuardedWandbLogger, self).log_hyperparams(params))

    def log_files(self, paths: Mapping[str, Path], *, name: str, kind: str) -> None:
        """Log files, by their names there, as an artifact; they are uploaded from where they are."""

        def log() -> None:
            artifact = wandb.Artifact(artifact_name(name), type=kind)
            for inside, path in paths.items():
                artifact.add_file(str(path.absolute()), name=inside, policy="immutable", skip_cache=True)
            self.experiment.log_artifact(artifact)

        guard_of(self).attempt("files", log, name=name)

    def finish(self) -> str:
        """End the run and say where it is; waits no longer than FINISH_TIMEOUT_SECONDS for its server."""
        place = guard_of(self).attempt("the end of its run", lambda: _finish(self.experiment))
        return place or "ended early; what it had logged until then is under the run folder"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _finish(run: Any) -> str:
    own = Path(run.settings.sync_dir)
    parts = sorted(own.parent.glob(f"offline-run-*-{run.id}")) or [own]  # more than one, if it has gone on
    place = f"wandb sync {' '.join(map(os.path.relpath, parts))}" if run.offline else str(run.url)
    try:
        run.finish()
    except TimeoutError:
        later = f"wandb sync {os.path.relpath(own)}"
        return f"its server did not answer in {run.settings.finish_timeout:.0f} s; later: {later}"
    return place


def guard_of(logger: WandbLogger) -> Guard:
    """Give the guard of a logger, also of one that the user's config names."""
    guard: Guard = logger.__dict__.setdefault("_guard", Guard(_leave))
    return guard


def _leave() -> None:
    """End wandb's process if it still lives; else wandb would fail again at exit."""
    with contextlib.suppress(Exception):
        wandb.teardown()


def media_key_of(logger: WandbLogger, key: str) -> str:
    """Give the key of a table, a chart, pictures or videos in a logger's run; see `wandb_names`."""
    return media_key(key, run_id=str(logger.experiment.id))


def build_loggers(runs: Path, *, use_wandb: bool = True, folder: Path | None = None) -> list[Logger]:
    """Build the loggers of a run: CSV files in a run folder of its own, `<runs>/version_<n>`, and wandb.

    `folder` is that of a resumed run, which continues the same run of wandb.
    `WANDB_MODE`, `WANDB_PROJECT` and `WANDB_DIR` are obeyed. With no mode and no key, wandb is offline.

    Raises:
        EnvironmentProblem: a folder cannot be written, or wandb is to be online and has no key.
        ConfigError: `WANDB_MODE` is none of wandb's.
    """
    mode = wandb_mode() if use_wandb else "disabled"
    if folder is None:
        _check_writable(runs, hint="set --trainer.default_root_dir to a folder that can")
        folder = new_run_folder(runs)
    csv = KeepingCSVLogger(save_dir=folder.parent, name="", version=folder.name)
    if mode == "disabled":
        return [csv]
    logger = _wandb_logger(folder, mode, name=folder.name, run_id=_run_id(folder))
    logger.id_path = RunFolder(folder).wandb_id
    return [csv, logger]


def _run_id(folder: Path) -> str | None:
    """Give the id of wandb's run, the same when the run is resumed; None in all processes but the first, which logs."""
    if getattr(rank_zero_only, "rank", 0) != 0:
        return None
    path = RunFolder(folder).wandb_id
    given = os.environ.get("WANDB_RUN_ID")  # a sweep names its runs itself
    if given or not path.is_file():
        _check_writable(folder, hint="set --trainer.default_root_dir to a folder that can")
        write_whole(path, (given or secrets.token_hex(4)).encode())
    if given:
        return given
    run_id = path.read_bytes()
    if not re.fullmatch(rb"[\w-]{1,64}", run_id):
        raise ConfigError(
            f"{path}: expected the id of wandb's run, got {run_id[:64]!r}; without it, it is a new run there"
        )
    return run_id.decode()


def build_wandb_logger(folder: Path) -> GuardedWandbLogger | None:
    """Build wandb's logger alone, for what is written into a folder; None if `WANDB_MODE` is disabled.

    Raises:
        EnvironmentProblem: a folder cannot be written, or wandb is to be online and has no key.
        ConfigError: `WANDB_MODE` is none of wandb's.
    """
    mode = wandb_mode()
    return None if mode == "disabled" else _wandb_logger(folder, mode, name="/".join(folder.absolute().parts[-2:]))


def _wandb_logger(folder: Path, mode: str, *, name: str, run_id: str | None = None) -> GuardedWandbLogger:
    wandb_folder = Path(os.environ.get("WANDB_DIR") or folder)
    _check_writable(wandb_folder, hint="set WANDB_DIR to a folder that can")
    _stage_in(wandb_folder / "wandb" / "staging")
    settings = wandb.Settings(
        silent=mode == "offline",
        console="off",
        init_timeout=INIT_TIMEOUT_SECONDS,
        finish_timeout=FINISH_TIMEOUT_SECONDS,
        finish_timeout_raises=True,
    )
    project = os.environ.get("WANDB_PROJECT") or PROJECT
    if set(project) & set(REFUSED_CHARACTERS) or len(project) > MAX_PROJECT_LENGTH:
        raise ConfigError(f"WANDB_PROJECT {project!r}: wandb refuses {REFUSED_CHARACTERS} and more than 128 characters")
    logger = GuardedWandbLogger(
        name=os.environ.get("WANDB_NAME") or printable(name),
        project=project,
        save_dir=wandb_folder,
        mode=mode,
        settings=settings,
        id=run_id,
        resume="allow",
    )
    logger._wandb_init.pop("anonymous", None)  # wandb warns of this setting, which Lightning always passes
    return logger


_own_staging: set[str] = set()


def _stage_in(folder: Path) -> None:
    """Make wandb keep the media of tables in the run folder, not in the user's home, unless `WANDB_DATA_DIR` is set."""
    if os.environ.get("WANDB_DATA_DIR") in {None, *_own_staging}:
        os.environ["WANDB_DATA_DIR"] = str(folder.absolute())
        _own_staging.add(str(folder.absolute()))


def wandb_mode() -> str:
    """Choose wandb's mode without a prompt: `WANDB_MODE`, else online with a key, else offline."""
    mode = os.environ.get("WANDB_MODE")
    if mode is not None and mode not in MODES:
        raise ConfigError(f"WANDB_MODE is one of {', '.join(MODES)}, got {mode!r}")
    if mode in {"offline", "dryrun", "disabled"}:
        return "disabled" if mode == "disabled" else "offline"
    if os.environ.get("WANDB_API_KEY") or wandb.login(prompt=False):
        return mode or "online"
    if mode is not None:
        raise EnvironmentProblem(f"WANDB_MODE is {mode}, but wandb has no key; run `wandb login`, or set WANDB_API_KEY")
    rank_zero_info("wandb: no key and no WANDB_MODE, so this run is kept offline; `wandb login` changes that")
    return "offline"


@rank_zero_only
def finish_wandb(trainer: Trainer) -> str:
    """End wandb's run, if there is one, and say where it is."""
    loggers = [logger for logger in trainer.loggers if isinstance(logger, GuardedWandbLogger)]
    return loggers[0].finish() if loggers else ""


@rank_zero_only
def _check_writable(folder: Path, *, hint: str) -> None:
    check_writable(folder, hint=hint)
