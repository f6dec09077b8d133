"""The command line: find the verb, run it, and say what went wrong in one line."""

import difflib
import inspect
import io
import itertools
import os
import re
import sys
import time
from collections.abc import Callable

import jsonargparse

from vidact import __version__, data_verbs, evaluate_verbs, network_verbs, run_verbs
from vidact.parse_errors import explain_parse_error
from vidact.stopping import INTERRUPTED, TERMINATED, Terminated, ended_by_sigterm

HELP = """\
vidact: train video action recognition, and see what the network looks at.

usage: python -m vidact VERB [options]

  fit        train; with nothing else, the embedded default: a small synthetic set, a few minutes on a CPU
  validate   measure a checkpoint on the validation part
  test       measure a checkpoint on the test part
  predict    class probabilities of the test part's windows
  explain RUN VIDEO…        show what a trained network looks at in any video, or in a folder of them
  report RUN…               one HTML file: what a run learned, and what it looks at; opens without a network
  evaluate RUN…             measure how good explanations are; which method to trust for a checkpoint, if any
  accuracy RUN…             clips recognised, with intervals; also with frozen or shuffled frames
  inspect NETWORK           what relevance rules cannot follow in a network (my_module.Net), and what to do; 0 or 1

  data check ROOT           decode every clip once, in child processes; say which can be trusted; 0 or 1
  data split ROOT           divide by its own split, official files, source, film, clip or folds; what leaks
  data frames ROOT          compare the frames that are read with a sequential decode, and with sparse reads
  data download hmdb51 DIR  fetch HMDB51 and its split files, and unpack them
  data transcode ROOT OUT   write a small copy of a data set
  data synthesize OUT       render a synthetic set with its truth: eight motion-only classes in HMDB51's layout

  python -m vidact VERB --help     the options of a verb
  python -m vidact --version       the version
"""

TRAINER_HELP = """\
usage: python -m vidact {verb} [--config RECIPE] [options]

  --config RECIPE           a YAML file, or the name of a recipe that comes with vidact: hmdb51, hmdb51_report,
                            hmdb51_slim, hmdb51_fusion, hmdb51_recurrent, …; without it, that of the run that
                            --ckpt_path is of (not for fit), else demo
  --data.root FOLDER        <class>/*.avi or videos/<class>/*.avi; demo's is the synthetic set
  --data.*                  classes, split (source, film, official, kfold, clip, or a file), fold, num_frames, stride,
                            num_windows, size, gray, augmentation, masks, decoder, cache_gigabytes, batch_size, …
  --model.*                 network (by class_path), optimizer, lr_scheduler, lr_scheduler_interval, loss, top_k
  --relevance.*             every_n_epochs, clips_per_class, method (lrp, gradient, grad_cam, …), composite (a name
                            or a .yaml file), threshold
  --trainer.*               Lightning's Trainer: max_epochs, accelerator, devices, strategy, precision, …
  --ckpt_path FILE          a checkpoint to {purpose}; last means the last one of the run whose config is given,
                            or of the newest run
  --trust MODULES           not for fit: whose code the run's config may name, beside vidact, torch and lightning
  --print_config            every setting with its value, as YAML
  --help-all                every option, with its description (slow)

  wandb: WANDB_MODE, WANDB_PROJECT and WANDB_DIR are obeyed; without a key the run is kept offline.

  python -m vidact {verb} --config hmdb51 --data.root /data/hmdb51
"""

STOPPED = "vidact: stopped; the same command goes on where it ended"
PATIENCE_SECONDS = 10
TRAINER_VERBS = {"fit": "go on from", "validate": "measure", "test": "measure", "predict": "use"}


def main(args: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Without the program's name; `sys.argv` if None.

    Returns:
        The exit status: 0, 2 for a mistake that the user can mend, 3 for the environment.
    """
    args = list(sys.argv[1:] if args is None else args)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name need not be text
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
    except KeyboardInterrupt:  # while it is imported
        print("vidact: stopped before anything was done", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        from vidact.core import VidactError, local_rank  # late: it imports torch

        if not isinstance(error, VidactError):
            raise
        message = str(error) if args[0] in TRAINER_VERBS else _without_prefix(str(error), args)
        if local_rank() == 0:
            print(f"vidact: error: {message}", file=sys.stderr, flush=True)
        elif not _first_process_ends():
            print(f"vidact: error: process {local_rank()}: {message}", file=sys.stderr, flush=True)
        return error.exit_status


def _first_process_ends() -> bool:
    """Wait a little for the process that has started this one: mostly, it says the same and ends all of them."""
    parent, until = os.getppid(), time.monotonic() + PATIENCE_SECONDS
    while os.getppid() == parent and time.monotonic() < until:
        time.sleep(0.1)
    return os.getppid() != parent


def _without_prefix(message: str, args: list[str]) -> str:
    """Name options as data verbs have them: `--classes`, where `fit` has `--data.classes`."""
    scheme = "--scheme" if args[1:2] == ["split"] else "--split"
    return message.replace("--data.split ", f"{scheme} ").replace("--data.root", "it").replace("--data.", "--")


def _dispatch(args: list[str]) -> int:
    """Import what a verb needs, and run it."""
    verb, *rest = args
    if verb in TRAINER_VERBS:
        from vidact import pipeline

        return pipeline.run_trainer_verb(verb, ["--help" if arg == "--help-all" else arg for arg in rest])
    if verb == "data" and rest and rest[0] in data_verbs.VERBS:
        return _run_function(data_verbs.VERBS[rest[0]], f"data {rest[0]}", rest[1:])
    own_verbs = network_verbs.VERBS | run_verbs.VERBS | evaluate_verbs.VERBS
    if verb in own_verbs:
        return _run_function(own_verbs[verb], verb, rest)
    if verb == "data" and (not rest or rest[0] in {"-h", "--help"}):
        print(HELP, end="")
        return 0 if rest else 2
    from vidact.core import ConfigError

    known = [*TRAINER_VERBS, *own_verbs, *(f"data {name}" for name in data_verbs.VERBS)]
    given = " ".join(args[:2] if verb == "data" else args[:1])
    near = difflib.get_close_matches(given, known, cutoff=0.4)
    raise ConfigError(f"unknown verb {given!r}; nearest: {', '.join(near or known)}")


def _run_function(function: Callable[..., int], name: str, args: list[str]) -> int:
    """Call a verb's function with its arguments from the command line; the help comes from its docstring."""
    parser = jsonargparse.ArgumentParser(prog=f"python -m vidact {name}", exit_on_error=False, allow_abbrev=False)
    lists = _positional_lists(function)
    parser.add_function_arguments(function, as_positional=True, as_group=False, skip=set(lists))
    for parameter in lists:
        parser.add_argument(parameter, nargs="+", type=str, help=lists[parameter])
    parser.description = inspect.getdoc(function).split("\n\nArgs:")[0]  # type: ignore[union-attr]
    try:
        settings = parser.parse_args(_spell(args, function)).as_dict()
    except jsonargparse.ArgumentError as error:
        from vidact.core import ConfigError

        raise ConfigError(f"{name}: {_told(error, function)}; see python -m vidact {name} --help") from error
    if "" in settings.values():
        from vidact.core import ConfigError

        raise ConfigError(f"{name}: an empty name was given; expected a path")
    try:
        with ended_by_sigterm():  # Lightning alone would go on
            return function(**settings)
    except (Terminated, KeyboardInterrupt) as stop:
        print(STOPPED, file=sys.stderr)
        return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


def _positional_lists(function: Callable[..., int]) -> dict[str, str]:
    """Name the parameters that take one word or more of the command line, with what the docstring says of them."""
    described = dict(re.findall(r"^ {4}(\w+): (.*)", inspect.getdoc(function) or "", flags=re.MULTILINE))
    return {
        name: described.get(name, "")
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.annotation == list[str] and parameter.default is parameter.empty
    }


def _told(error: Exception, function: Callable[..., int]) -> str:
    """Say in one line what was expected and what was given."""
    message = " ".join(str(error).split())
    found = re.search(r'Parser key "(\w+)": Does not validate against any of the Union .* Given value: (.*)$', message)
    if found is None:
        return explain_parse_error(message, list(inspect.signature(function).parameters))
    key, value = found.groups()
    return f"--{key}: expected {inspect.signature(function).parameters[key].annotation}, got {value}"


def _spell(args: list[str], function: Callable[..., int]) -> list[str]:
    """Let `--short-side` be `--short_side`, and a bare `--json` mean `--json=true`."""
    spelled = []
    for arg, following in itertools.zip_longest(args, args[1:], fillvalue=""):
        option, sign, value = arg.partition("=")
        if not option.startswith("--"):
            spelled.append(arg)
            continue
        option = "--" + option[2:].replace("-", "_")
        known = inspect.signature(function).parameters.get(option[2:])
        is_switch = known is not None and known.annotation is bool
        bare = is_switch and not sign and following not in {"true", "false"}
        spelled.append(f"{option}=true" if bare else option + sign + value)
    return spelled
