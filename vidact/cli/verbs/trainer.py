"""Run Lightning's verbs `fit`, `validate`, `test` and `predict` with vidact's data module and classifier."""

import contextlib
import logging
import os
import signal
import sys
import warnings

from vidact.cli.lightning_cli import Parser, VidactCLI
from vidact.cli.recipes import resolve_configs
from vidact.cli.stopping import INTERRUPTED, TERMINATED, Stopped, Terminated
from vidact.core.devices import local_rank
from vidact.core.terminal import guard_warnings, printable
from vidact.data.datamodule import VideoDataModule
from vidact.runs.config import with_current_class_paths
from vidact.runs.run import config_of_run, restrict_imports_of
from vidact.runs.trust import split_off_trust
from vidact.training.callbacks.run_config import RunConfig
from vidact.training.checks import reword_run_errors
from vidact.training.classifier import ActionClassifier
from vidact.training.resuming import lock as run_lock
from vidact.training.resuming.same_training import how_to_resume, remove_if_nothing_written

HARMLESS_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own code, on newer torch
    r"Experiment logs directory .* exists and is not empty",  # it has just been made for this run
    r"You're resuming from a checkpoint that ended before the epoch ended",  # the data loader resumes at that batch
    r"Checkpoint directory .* exists and is not empty",  # a resumed run
    r"Precision bf16-mixed is not supported by the model summary",
    r"The number of training batches .* is smaller than the logging interval",  # epochs are logged anyway
)


def run_trainer_verb(verb: str, args: list[str]) -> int:
    """Run one of Lightning's verbs; gives the exit status.

    Args:
        verb: fit, validate, test or predict.
        args: The rest of the command line; without `--config` the run's own config, or the recipe demo, is used.
    """
    if not any(arg.split("=")[0] in {"-c", "--config"} for arg in args):
        args = ["--config", str((verb != "fit" and config_of_run(args)) or "demo"), *args]
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "Tip: For seamless cloud" not in record.getMessage()
    )
    guard_warnings()
    for message in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    if "SLURM_JOB_ID" in os.environ:
        # SLURM signals all processes of a job; DataLoader workers must ignore it.
        os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN))
    args, trusted = (args, ()) if verb == "fit" else split_off_trust(args)
    args = resolve_configs(args)
    strict = {"exit_on_error": False, "allow_abbrev": False}
    try:
        with contextlib.nullcontext() if verb == "fit" else restrict_imports_of(args, trusted), reword_run_errors():
            VidactCLI(
                ActionClassifier,
                VideoDataModule,
                parser_class=Parser,
                save_config_callback=RunConfig,
                save_config_kwargs={"overwrite": True},  # by a resumed run
                seed_everything_default=0,
                parser_kwargs={**strict, **dict.fromkeys(VidactCLI.subcommands(), strict)},
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                args=[verb, *map(with_current_class_paths, args)],
            )
    except (Stopped, KeyboardInterrupt, Terminated) as stop:
        if local_rank() == 0:
            print(printable(f"vidact: {str(stop) or how_to_resume(verb, run_lock.held())}"), file=sys.stderr)
        if isinstance(stop, Stopped):
            return stop.status
        return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
    finally:
        remove_if_nothing_written(run_lock.held())
        run_lock.release()
    return 0
