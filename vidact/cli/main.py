"""Find a verb, run it, and print errors as one line."""

import io
import os
import sys
import time
from collections.abc import Callable

from vidact.cli.functions import run_function
from vidact.cli.help import HELP, TRAINER_HELP, TRAINER_VERBS
from vidact.cli.stopping import INTERRUPTED
from vidact.cli.verbs.accuracy import accuracy
from vidact.cli.verbs.adopt import adopt
from vidact.cli.verbs.audit import audit
from vidact.cli.verbs.data import check, frames, split
from vidact.cli.verbs.data_sets import download, synthesize, transcode
from vidact.cli.verbs.evaluate import evaluate
from vidact.cli.verbs.explain import explain_videos
from vidact.cli.verbs.inspect import inspect_network
from vidact.cli.verbs.report import report
from vidact.core import __version__
from vidact.core.errors import ConfigError, VidactError, nearest

PATIENCE_SECONDS = 10

# In addition to Lightning's (`help.TRAINER_VERBS`), each verb is a function whose parameters are its options.
VERBS: dict[str, Callable[..., int]] = {
    "explain": explain_videos,
    "report": report,
    "evaluate": evaluate,
    "audit": audit,
    "accuracy": accuracy,
    "inspect": inspect_network,
    "adopt": adopt,
    "data check": check,
    "data split": split,
    "data frames": frames,
    "data download": download,
    "data transcode": transcode,
    "data synthesize": synthesize,
}


def main(args: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Without the program's name; `sys.argv` if None.

    Returns:
        The exit status: 0, 2 for a mistake that the user can mend, 3 for the environment.
    """
    args = list(sys.argv[1:] if args is None else args)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be no valid text
        sys.stdout.reconfigure(errors="backslashreplace")
    if args in (["--version"], ["-V"]):
        print(f"vidact {__version__}")
        return 0
    if not args or args[0] in {"-h", "--help", "help"}:
        print(HELP, end="")
        return 0 if args else 2
    return _run(args)


def _run(args: list[str]) -> int:
    if args[0] in TRAINER_VERBS and {"-h", "--help"} & set(args):
        print(TRAINER_HELP.format(verb=args[0], purpose=TRAINER_VERBS[args[0]]), end="")
        return 0
    try:
        return _dispatch(args)
    except KeyboardInterrupt:  # while modules are imported
        print("vidact: stopped before anything was done", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not isinstance(error, VidactError):
            raise
        from vidact.core.devices import local_rank  # late: it imports torch

        message = str(error) if args[0] in TRAINER_VERBS else _without_prefix(str(error), args)
        if local_rank() == 0:
            print(f"vidact: error: {message}", file=sys.stderr, flush=True)
        elif not _first_process_ends():
            print(f"vidact: error: process {local_rank()}: {message}", file=sys.stderr, flush=True)
        return error.exit_status


def _first_process_ends() -> bool:
    """Wait a little for the parent process to end; it mostly prints the same error and ends all its children."""
    parent, until = os.getppid(), time.monotonic() + PATIENCE_SECONDS
    while os.getppid() == parent and time.monotonic() < until:
        time.sleep(0.1)
    return os.getppid() != parent


def _without_prefix(message: str, args: list[str]) -> str:
    """Name options as other verbs do: `--classes`, where `fit` has `--data.classes`."""
    scheme = "--scheme" if args[1:2] == ["split"] else "--split"
    return message.replace("--data.split ", f"{scheme} ").replace("--data.root", "it").replace("--data.", "--")


def _dispatch(args: list[str]) -> int:
    """Import what a verb needs, and run it."""
    verb, *rest = args
    if verb in TRAINER_VERBS:
        from vidact.cli.verbs import trainer as pipeline

        return pipeline.run_trainer_verb(verb, ["--help" if arg == "--help-all" else arg for arg in rest])
    if verb == "data" and (not rest or rest[0] in {"-h", "--help"}):
        print(HELP, end="")
        return 0 if rest else 2
    length = 2 if verb == "data" else 1
    name = " ".join(args[:length])
    if name in VERBS:
        return run_function(VERBS[name], name, args[length:])
    known = [*TRAINER_VERBS, *VERBS]
    near = nearest(name, known)
    raise ConfigError(f"unknown verb {name!r}; nearest: {', '.join(near or known)}")
