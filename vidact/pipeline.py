"""Wire the parts together: what each verb of the command line does.

It holds no arithmetic and draws nothing.
"""

import contextlib
import difflib
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import jsonargparse
import yaml
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from vidact.callbacks.confusion import ConfusionMatrix
from vidact.callbacks.faithfulness import FaithfulnessCallback
from vidact.callbacks.last_checkpoint import LastCheckpoint
from vidact.callbacks.loggers import build_loggers, finish_wandb
from vidact.callbacks.pictures import log_file, log_pictures, run_folder
from vidact.callbacks.predictions import FILE_NAME as PREDICTIONS
from vidact.callbacks.predictions import PredictionWriter
from vidact.callbacks.processes import gather
from vidact.callbacks.relevance import RelevanceCallback
from vidact.callbacks.run_config import RunConfig
from vidact.callbacks.split_record import SplitRecord
from vidact.callbacks.step_seeds import StepSeeds
from vidact.checkpoint_io import WholeCheckpointIO
from vidact.checkpoints import find_checkpoint, load_checkpoint
from vidact.core import ConfigError, VidactError
from vidact.data.datamodule import VideoDataModule
from vidact.data.leakage import LeakageReport
from vidact.recipes import resolve_configs
from vidact.report.images import save_png
from vidact.report.page import report_page, write_page
from vidact.report.run_pictures import run_figures
from vidact.reporting import ReportSettings, view_run
from vidact.resuming import INTERRUPTED, TERMINATED, Stopped, check_same_training, go_on_in, how_to_go_on, run_folder_of
from vidact.runs import relative
from vidact.training import ActionClassifier

RUNS_FOLDER = "runs"
REPORT = "report.html"
HARMLESS_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own code, on newer torch
    r"Experiment logs directory .* exists and is not empty",  # it holds this run's config, written a moment before
    r"You're resuming from a checkpoint that ended before the epoch ended",  # its data start where it ended
    r"Precision bf16-mixed is not supported by the model summary",
    r"The number of training batches .* is smaller than the logging interval",  # epochs are logged in any case
)
MONITOR = "val/clip_accuracy"
REPORTED = tuple(
    f"{part}/{name}" for part in ("val", "test") for name in ("clip_accuracy", "clip_accuracy_macro", "window_accuracy")
)


class VidactCLI(LightningCLI):
    """LightningCLI with vidact's parts: run folders, loggers, checkpoints, and errors of one line."""

    _checkpoint: dict[str, Any] | None = None
    _resumed: Path | None = None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks' settings, and hand the data's settings to the network."""
        parser.add_lightning_class_args(RelevanceCallback, "relevance")
        parser.add_lightning_class_args(FaithfulnessCallback, "faithfulness")
        for name in ("method", "composite"):
            parser.link_arguments(f"relevance.{name}", f"faithfulness.{name}")
        parser.add_argument("--report", type=bool, default=True, help="Write report.html at the end of fit.")
        parser.link_arguments("data.class_names", "model.class_names", apply_on="instantiate")
        network = "model.network.init_args"
        parser.link_arguments("data.class_names", f"{network}.num_classes", compute_fn=len, apply_on="instantiate")
        parser.link_arguments("data.num_frames", f"{network}.num_frames")
        parser.link_arguments("data.size", f"{network}.size")
        parser.link_arguments("data.gray", f"{network}.channels", compute_fn=_num_channels)
        parser.set_defaults({"trainer.default_root_dir": RUNS_FOLDER})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, and turn what argparse says into one line with the nearest name.

        Raises:
            ConfigError: an unknown key, a wrong type, a missing file.
        """
        try:
            self.config = parser.parse_args(cast(list[str], args))
        except jsonargparse.ArgumentError as error:
            verb = args[0] if isinstance(args, list) and args else ""
            raise ConfigError(_explain_parse_error(str(error), self._known_keys(str(verb)))) from error

    def _known_keys(self, verb: str) -> list[str]:
        parser = self._subcommand_parsers.get(verb)
        return [action.dest for action in parser._actions] if parser else []

    def _parse_ckpt_path(self) -> None:
        """Look at the checkpoint before any expensive work; the config says everything else, not the checkpoint."""
        verb = self.config.subcommand
        config = self.config[verb]
        if config.get("ckpt_path") is not None:
            runs = [*(Path(path).parent for path in config.get("config") or ()), Path(config.trainer.default_root_dir)]
            path = find_checkpoint(config["ckpt_path"], runs)
            config["ckpt_path"] = str(path)
            if os.environ.get("LOCAL_RANK", "0") == "0":  # one process reads it for all
                self._checkpoint = load_checkpoint(path)
            if verb == "fit":
                self._resumed = run_folder_of(path)
                self._check_same_training(path)
        elif verb != "fit":
            raise ConfigError(f"{verb} needs a trained network: --ckpt_path runs/version_<n>/checkpoints/best.ckpt")

    def _check_same_training(self, path: Path) -> None:
        saved = (self._checkpoint or {}).get("vidact_config")
        if not saved:  # of a process that is not the first, or of a version that kept none
            return
        verb = self.config.subcommand
        parser = self._parser(verb)
        own = yaml.safe_load(parser.dump(self.config[verb], skip_none=False))
        defaults = yaml.safe_load(parser.dump(parser.get_defaults(), skip_none=False, skip_validation=True))
        check_same_training(saved, own, defaults, checkpoint=path)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with vidact's callbacks, and its loggers where the config names none."""
        trainer = self.config_init[self.subcommand].trainer
        own = trainer.get("logger")  # none: CSV files and wandb; false: CSV files only; others come on top of them
        if self._resumed is not None and self._checkpoint is not None:
            go_on_in(self._resumed, self._checkpoint)
        runs = Path(trainer.default_root_dir)
        loggers = build_loggers(runs, use_wandb=own in (None, True), folder=self._resumed)
        kwargs["plugins"] = _plugins(trainer.get("plugins"))
        kwargs["logger"] = loggers + (own if isinstance(own, list) else [own] if isinstance(own, Logger) else [])
        progress_bar = trainer.get("enable_progress_bar") is not False
        self.trainer_defaults["callbacks"] = build_callbacks(self.subcommand or "", progress_bar=progress_bar)
        if self.subcommand == "fit":
            seed = self.config_init["fit"].seed_everything
            users = trainer.get("callbacks") or []
            kwargs["callbacks"] = [
                LastCheckpoint(),
                *([StepSeeds(seed)] if seed is not False else []),
                *(users if isinstance(users, list) else [users]),
            ]
        return super().instantiate_trainer(**kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the verb, and say how it goes on if a signal has ended it; Lightning ends with 0 or 1."""
        try:
            super()._run_subcommand(subcommand)
        except SystemExit as end:
            terminated = isinstance(end, SIGTERMException)
            if not terminated and not isinstance(end.__context__, KeyboardInterrupt):
                raise
            folder = Path(self.trainer.log_dir or "")
            raise Stopped(how_to_go_on(subcommand, folder), TERMINATED if terminated else INTERRUPTED) from end

    def _prepare_data(self) -> None:
        """Render, measure and split before other processes start, so that a mistake shows at once."""
        if "LOCAL_RANK" not in os.environ:
            if self._checkpoint is not None:
                self.model.on_load_checkpoint(self._checkpoint)
            self.datamodule.prepare_data()
            self.datamodule.setup(self.subcommand)

    before_fit = before_validate = before_test = before_predict = _prepare_data

    def _summarise(self) -> None:
        if self.trainer.received_sigterm:  # in the last batch, which Lightning finishes
            raise SIGTERMException
        folder = run_folder(self.trainer)  # asks all processes, so before the question which one this is
        left_out = sorted({*self.datamodule.left_out, *gather(list(self.model.left_out))})
        if self.trainer.is_global_zero:
            lines = summary(self.trainer, folder, left_out)
            fit = self.config_init["fit"] if self.subcommand == "fit" else None
            if fit is not None and fit.report and not fit.trainer.fast_dev_run:
                lines["report"] = write_run_report(self.trainer, folder)
            if place := finish_wandb(self.trainer):
                lines["wandb"] = place
            for name, value in (guesses_without_pixels(self.datamodule.leakage, self.subcommand) | lines).items():
                print(f"{name:<24} {value}", flush=True)

    after_fit = after_validate = after_test = after_predict = _summarise


def run_trainer_verb(verb: str, args: list[str]) -> int:
    """Run one of Lightning's verbs; gives the exit status.

    Args:
        verb: fit, validate, test or predict.
        args: The rest of the command line; without `--config` the embedded default is used.
    """
    if not any(arg.split("=")[0] in {"-c", "--config"} for arg in args):
        args = ["--config", "demo", *args]
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)
    for message in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    strict = {"exit_on_error": False}
    try:
        with _one_line_errors():
            VidactCLI(
                ActionClassifier,
                VideoDataModule,
                save_config_callback=RunConfig,
                save_config_kwargs={"overwrite": True},  # by the run that goes on
                seed_everything_default=0,
                parser_kwargs={**strict, **dict.fromkeys(VidactCLI.subcommands(), strict)},
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                args=[verb, *resolve_configs(args)],
            )
    except (Stopped, KeyboardInterrupt) as stop:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"vidact: {str(stop) or 'stopped; the same command starts it anew'}", file=sys.stderr)
        return stop.status if isinstance(stop, Stopped) else INTERRUPTED
    return 0


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in record.getMessage()


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn what Lightning says of settings that cannot be into one line."""
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except ValueError as error:  # jsonargparse hides what a settings class has said
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, VidactError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise cause from error


def build_callbacks(verb: str, *, progress_bar: bool) -> list[Callback]:
    """Build the callbacks that every run has; training also keeps its best epoch."""
    callbacks: list[Callback] = [SplitRecord(), ConfusionMatrix(), *([RichProgressBar()] if progress_bar else [])]
    if verb == "fit":
        best = ModelCheckpoint(
            filename="best", monitor=MONITOR, mode="max", save_weights_only=True, enable_version_counter=False
        )
        callbacks.append(best)  # one file, also where training goes on
    if verb == "predict":
        callbacks.append(PredictionWriter())
    return callbacks


def summary(trainer: Trainer, folder: Path, left_out: list[str]) -> dict[str, str]:
    """Say in a few lines what a run found and where it lies."""
    lines = {name: f"{float(value):.3f}" for name, value in trainer.callback_metrics.items() if name in REPORTED}
    best = next((found for found in trainer.checkpoint_callbacks if getattr(found, "monitor", None) == MONITOR), None)
    if isinstance(best, ModelCheckpoint) and best.best_model_score is not None:
        lines[f"best {MONITOR}"] = f"{float(best.best_model_score):.3f}, {relative(Path(best.best_model_path))}"
    if left_out:
        text = "\n".join(left_out) + "\n"
        (folder / "left_out.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
        lines["left out"] = f"{len(left_out)} clips, listed in {relative(folder / 'left_out.txt')}"
    lines["run folder"] = relative(folder)
    if (folder / PREDICTIONS).is_file():
        lines["predictions"] = relative(folder / PREDICTIONS)
    if (folder / "explanations").is_dir():
        lines["pictures"] = f"{relative(folder / 'explanations')}, {relative(folder)}/confusion_*.png"
    return lines


def write_run_report(trainer: Trainer, folder: Path) -> str:
    """Write `report.html` into the run folder and hand it to wandb; says where it is, or why there is none."""
    path = folder / REPORT
    try:
        data = trainer.datamodule  # type: ignore[attr-defined]
        view = view_run(folder, settings=ReportSettings(), device=trainer.strategy.root_device, data=data)
        write_page(report_page([view]), path)
        for name, figure in run_figures(view).items():
            picture = folder / f"{name}_val.png"
            save_png(figure, picture)
            log_pictures(trainer, f"val/{name}", [picture], [name])
    except VidactError as error:  # the training is done: a report that cannot be written must not spoil it
        return f"none: {error}"
    log_file(trainer, path, name=f"report-{folder.name}", kind="report")
    return relative(path)


def guesses_without_pixels(leakage: LeakageReport, verb: str | None) -> dict[str, str]:
    """Say how well the class is guessed by what is no pixel, on the clips that the verb measures."""
    side = "validation" if verb in {"fit", "validate"} else "test"
    shares = {guess.feature: getattr(guess, side) for guess in leakage.guesses}
    told = ", ".join(f"{feature} {100 * share:.1f} %" for feature, share in shares.items() if share is not None)
    return {"guessed without a pixel": f"{told} ({side} clips)"} if told else {}


def _plugins(own: Any) -> list[Any]:
    """Add the one that writes whole checkpoints, where the config names none that writes checkpoints."""
    plugins = own if isinstance(own, list) else [] if own is None else [own]
    return plugins if any(isinstance(one, CheckpointIO) for one in plugins) else [*plugins, WholeCheckpointIO()]


def _num_channels(gray: bool) -> int:
    return 1 if gray else 3


def _explain_parse_error(message: str, known: list[str]) -> str:
    """Make one line of a parser's message, with the nearest known names of the key it complains about."""
    line = " ".join(message.split())
    key = re.search(r"(?:unrecognized arguments: --|does not accept option ')([\w.]+)", line)
    near = difflib.get_close_matches(key[1], known, n=1, cutoff=0.6) if key else []
    return f"{line}; nearest: --{near[0]}" if near else line
