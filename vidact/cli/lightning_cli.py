"""Adapt LightningCLI: run folders, loggers, checkpoints, early checks, a summary at the end."""

import os
from pathlib import Path
from typing import Any, cast

import jsonargparse
import yaml
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from vidact.cli.parse_errors import reword_import_error, reword_parse_error
from vidact.cli.run_end import guesses_without_pixels, report_run, summary, temporary_folder
from vidact.cli.stopping import INTERRUPTED, TERMINATED, Stopped, ended_by_sigterm
from vidact.core.devices import gather, local_rank
from vidact.core.errors import CheckpointError, ConfigError
from vidact.core.networks import reword_build_error
from vidact.core.terminal import printable
from vidact.runs.checkpoints import find_checkpoint, load_checkpoint
from vidact.runs.config import with_current_class_paths
from vidact.runs.folder import CONFIG, RunFolder
from vidact.runs.loggers.wandb import build_loggers, finish_wandb
from vidact.runs.run import read_run_config, warn_of_other_rates
from vidact.training.callback_checks import check_before_fit, check_callbacks
from vidact.training.callbacks.audit import AuditCallback
from vidact.training.callbacks.every_run import build_callbacks
from vidact.training.callbacks.faithfulness.callback import FaithfulnessCallback
from vidact.training.callbacks.relevance.callback import RelevanceCallback
from vidact.training.callbacks.step_log import StepLog
from vidact.training.checks import (
    check_counts,
    check_parts,
    check_run,
    check_seed,
    require_cores,
    require_launcher,
    require_synchronisable,
    reword_trainer_error,
    why_no_best_epoch,
)
from vidact.training.resuming import lock as run_lock
from vidact.training.resuming.checkpoint_io import WholeCheckpointIO
from vidact.training.resuming.last_checkpoint import LastCheckpoint
from vidact.training.resuming.same_training import (
    check_same_training,
    how_to_resume,
    run_folder_of,
    trim_metrics,
    why_nothing_is_trained,
)
from vidact.training.resuming.step_seeds import StepSeeds

RUNS_FOLDER = "runs"


class VidactCLI(LightningCLI):
    """LightningCLI with vidact's run folders, loggers, callbacks and checks; `verbs/trainer.py` runs it."""

    _checkpoint: dict[str, Any] | None = None
    _resumed: Path | None = None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the settings of the callbacks, and link the data's settings to the network's."""
        parser.add_lightning_class_args(RelevanceCallback, "relevance")
        parser.add_lightning_class_args(FaithfulnessCallback, "faithfulness")
        parser.add_lightning_class_args(AuditCallback, "audit")
        for name in ("method", "composite"):
            for part in ("faithfulness", "audit"):
                parser.link_arguments(f"relevance.{name}", f"{part}.{name}")
        parser.add_argument("--report", type=bool, default=True, help="Write report.html at the end of fit.")
        parser.link_arguments("data.class_names", "model.class_names", apply_on="instantiate")
        network = "model.network.init_args"
        parser.link_arguments("data.class_names", f"{network}.num_classes", compute_fn=len, apply_on="instantiate")
        parser.link_arguments("data.num_frames", f"{network}.num_frames")
        parser.link_arguments("data.size", f"{network}.size")
        parser.link_arguments("data.gray", f"{network}.channels", compute_fn=_num_channels)
        parser.set_defaults({"trainer.default_root_dir": RUNS_FOLDER})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the command line, and turn the parser's errors into one line.

        Raises:
            ConfigError: an unknown key, a wrong type, a missing file.
        """
        try:
            self.config = parser.parse_args(cast(list[str], args))
        except jsonargparse.ArgumentError as error:
            verb = args[0] if isinstance(args, list) and args else ""
            raise ConfigError(reword_parse_error(error, self._known_keys(str(verb)))) from error
        except Exception as error:
            if (told := reword_import_error(error)) is None:
                raise
            raise ConfigError(told) from error

    def _known_keys(self, verb: str) -> list[str]:
        parser = self._subcommand_parsers.get(verb)
        return [action.dest for action in parser._actions] if parser else []

    def _parse_ckpt_path(self) -> None:
        """Check settings and the checkpoint before any expensive work; no settings are taken from the checkpoint."""
        verb = self.config.subcommand
        config = self.config[verb]
        config["seed_everything"] = check_seed(config.get("seed_everything", False))
        trainer = config.trainer.as_dict()
        check_counts(trainer)
        check_run(trainer)
        check_callbacks(trainer)
        check_parts(trainer, verb=verb, goes_on=config.get("ckpt_path") is not None)
        if config.get("ckpt_path") is not None:
            given = [Path(str(path)) for path in config.get("config") or ()]
            own = [path.parent for path in given if path.name == CONFIG]  # the config of a run
            runs = [*own, Path(config.trainer.default_root_dir)]
            path = find_checkpoint(config["ckpt_path"], runs)
            config["ckpt_path"] = str(path)
            self._resumed = run_folder_of(path) if verb == "fit" else None
            if self._resumed is not None:  # before it is read, as another process that trains there may replace it
                self._lock_folder(self._resumed)
            if local_rank() == 0 or verb != "fit":  # for fit, one process reads it for all
                self._checkpoint = load_checkpoint(path)
                if verb != "fit" and RunFolder.of_checkpoint(path).path in [folder.absolute() for folder in own]:
                    read_run_config(path, self._checkpoint)  # which must agree
            if verb == "fit":
                self._check_same_training(path)
            else:
                self._reopen(config.model.network)
        elif verb != "fit":
            raise ConfigError(f"{verb} needs a trained network: --ckpt_path runs/version_<n>/checkpoints/best.ckpt")
        if verb == "fit" and (told := why_nothing_is_trained(trainer, self._checkpoint) or why_no_best_epoch(trainer)):
            rank_zero_warn(told)

    def _reopen(self, network: jsonargparse.Namespace) -> None:
        """Build the checkpoint's network without the weights that its training began with: the checkpoint has all."""
        content = self._checkpoint or {}
        reopening = content.get("vidact", {}).get("reopening_settings") or {}
        trained = yaml.safe_load(content.get("vidact_config") or "{}").get("model", {}).get("network", {})
        settings = network.get("init_args")
        if settings is not None and network.class_path == trained.get("class_path"):
            for name in reopening.keys() & vars(settings):
                settings[name] = reopening[name]

    def _check_same_training(self, path: Path) -> None:
        content = self._checkpoint or {}  # none in a process that is not the first
        if "state_dict" in content and not content.get("optimizer_states"):
            raise CheckpointError(f"{path}: the checkpoint holds weights only; resume from last.ckpt of the same run")
        if not (saved := content.get("vidact_config")):  # of a version that kept none
            return
        verb = self.config.subcommand
        parser = self._parser(verb)
        own = yaml.safe_load(parser.dump(self.config[verb], skip_unset=False))
        defaults = yaml.safe_load(parser.dump(parser.get_defaults(), skip_unset=False, skip_validation=True))
        check_same_training(saved, own, defaults, checkpoint=path)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with vidact's callbacks, and its loggers where the config names none."""
        trainer = self.config_init[self.subcommand].trainer
        own = trainer.get("logger")  # none: CSV files and wandb; false: CSV files only; others are added
        if self._resumed is not None and self._checkpoint is not None:
            trim_metrics(self._resumed, self._checkpoint)
        if trainer.fast_dev_run:  # of which nothing is to be kept
            trainer.default_root_dir = temporary_folder()
        runs = Path(trainer.default_root_dir)
        loggers = build_loggers(runs, use_wandb=own in (None, True), folder=self._resumed)
        if self.subcommand == "fit":
            self._lock_folder(Path(loggers[0].log_dir or ""))
        kwargs["plugins"] = _plugins(trainer.get("plugins"))
        kwargs["logger"] = loggers + (own if isinstance(own, list) else [own] if isinstance(own, Logger) else [])
        users = trainer.get("callbacks") or []
        users = users if isinstance(users, list) else [users]
        progress_bar = trainer.get("enable_progress_bar") is not False
        progress_bar &= not any(isinstance(one, ProgressBar) for one in users)
        self.trainer_defaults["callbacks"] = build_callbacks(
            self.subcommand or "",
            checkpoint=self.config_init[self.subcommand].ckpt_path,
            progress_bar=progress_bar,
        )
        if self.subcommand == "fit":
            seed = self.config_init["fit"].seed_everything
            kwargs["callbacks"] = [
                LastCheckpoint(),
                StepLog(chooses_rate=trainer.get("log_every_n_steps") is None),
                *([StepSeeds(seed)] if seed is not False else []),
                *users,
            ]
        try:
            built = super().instantiate_trainer(**kwargs)
        except (TypeError, ValueError, MisconfigurationException) as error:  # such as an unknown accelerator
            raise reword_trainer_error(error, trainer.get("accelerator")) from error
        require_cores(built)
        require_launcher(built)
        if self.subcommand == "fit" and trainer.get("sync_batchnorm"):
            require_synchronisable(built)
        return built

    def _lock_folder(self, folder: Path) -> None:
        """Keep other trainings out of a run folder; of several processes the first one does it."""
        if getattr(rank_zero_only, "rank", 0) == 0:
            run_lock.hold(folder)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the verb; raise Stopped, with how to resume, if a signal ends it (Lightning exits with 0 or 1)."""
        try:
            super()._run_subcommand(subcommand)
        except SystemExit as end:
            terminated = isinstance(end, SIGTERMException)
            if not terminated and not isinstance(end.__context__, KeyboardInterrupt):
                raise
            folder = Path(self.trainer.log_dir or "")
            raise Stopped(how_to_resume(subcommand, folder), TERMINATED if terminated else INTERRUPTED) from end

    def _prepare_data(self) -> None:
        """Prepare the data before other processes start, so that a mistake shows at once."""
        batches = None
        if not {"LOCAL_RANK", "SLURM_LOCALID"} & os.environ.keys():  # else the others have started already
            if self._checkpoint is not None:
                self.model.on_load_checkpoint(self._checkpoint)
            self.datamodule.prepare_data()
            self.datamodule.setup(self.subcommand)
            if self.subcommand != "fit":
                stage = "validate" if self.subcommand == "validate" else "test"
                warn_of_other_rates(self._checkpoint or {}, self.datamodule.rates_of(stage))
            batches = len(self.datamodule.train_dataloader()) if self.subcommand == "fit" else None
        if self.subcommand == "fit":
            settings = self.config["fit"].model.as_dict()
            check_before_fit(self.trainer, known=self.model.metric_names(), batches=batches, model=settings)

    before_fit = before_validate = before_test = before_predict = _prepare_data

    def _summarise(self) -> None:
        if self.trainer.received_sigterm:  # during the last batch, which Lightning finishes
            raise SIGTERMException
        with ended_by_sigterm():
            self._print_summary()

    def _print_summary(self) -> None:
        folder = RunFolder.of(self.trainer)  # asks all processes, so it comes before the check for the first one
        left_out = sorted({*self.datamodule.left_out, *gather(list(self.model.left_out))})
        if self.trainer.is_global_zero:
            lines = summary(self.trainer, folder, left_out)
            fit = self.config_init["fit"] if self.subcommand == "fit" else None
            if fit is not None and fit.report and not fit.trainer.fast_dev_run:
                lines["report"] = report_run(self.trainer, folder)
            if place := finish_wandb(self.trainer):
                lines["wandb"] = place
            for name, value in (guesses_without_pixels(self.datamodule.leakage, self.subcommand) | lines).items():
                print(printable(f"{name:<24} {value}"), flush=True)

    after_fit = after_validate = after_test = after_predict = _summarise


def _plugins(own: Any) -> list[Any]:
    """Add the plugin that writes checkpoints atomically, unless the config names another one."""
    plugins = own if isinstance(own, list) else [] if own is None else [own]
    return plugins if any(isinstance(one, CheckpointIO) for one in plugins) else [*plugins, WholeCheckpointIO()]


def _num_channels(gray: bool) -> int:
    return 1 if gray else 3


class Parser(LightningArgumentParser):
    """Lightning's parser, which also reads older configs, and links settings to a network that a function builds."""

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Any:
        """Parse the text of a config; class paths of older versions are replaced by today's."""
        return super().parse_string(with_current_class_paths(content), *args, **kwargs)

    def add_function_arguments(self, *args: Any, linked_targets: set[str] | None = None, **kwargs: Any) -> list[str]:
        """Add a function's arguments; jsonargparse passes `linked_targets`, which Lightning's parser does not take."""
        return super().add_function_arguments(*args, **kwargs)

    def instantiate_classes(self, cfg: Any, **kwargs: Any) -> Any:
        """Build all parts.

        Raises:
            NetworkError: the network's own constructor has raised.
        """
        try:
            return super().instantiate_classes(cfg, **kwargs)
        except Exception as error:
            settings = cfg.get(cfg.get("subcommand") or "", cfg)
            name = settings.get("model.network.class_path")
            if name is None or (told := reword_build_error(error, name)) is None:
                raise
            raise told from error
