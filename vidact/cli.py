"""The command line: find the verb, run it, and say what went wrong in one line."""

import difflib
import os
import sys

import jsonargparse

from vidact import __version__

HELP = """\
vidact: train video action recognition, and see what the network looks at.

usage: python -m vidact VERB [options]

  fit        train; with nothing else, the embedded default: a small synthetic set, a few minutes on a CPU
  validate   measure a checkpoint on the validation part
  test       measure a checkpoint on the test part
  predict    class probabilities of the test part's windows
  data synthesize OUT
             render the synthetic set: eight motion-only classes as video files in HMDB51's layout

  python -m vidact VERB --help     the options of a verb
  python -m vidact --version       the version
"""

TRAINER_HELP = """\
usage: python -m vidact {verb} [--config RECIPE] [options]

  --config RECIPE           a YAML file, or the name of a recipe that comes with vidact: demo (the default),
                            hmdb51, hmdb51_report
  --data.root FOLDER        <class>/*.avi or videos/<class>/*.avi; without it, the synthetic set
  --data.*                  classes, split (source, official, clip), fold, num_frames, stride, num_windows,
                            size, gray, batch_size, num_workers, seed
  --model.*                 network (by class_path), optimizer, lr_scheduler, loss, top_k
  --relevance.*             every_n_epochs, clips_per_class, composite, threshold
  --trainer.*               Lightning's Trainer: max_epochs, accelerator, devices, strategy, precision, …
  --ckpt_path FILE          a checkpoint to {purpose}; last means the last epoch of the run whose config is given,
                            or of the newest run
  --print_config            every setting with its value, as YAML
  --help-all                every option, with its description (slow)

  wandb: WANDB_MODE, WANDB_PROJECT and WANDB_DIR are obeyed; without a key the run is kept offline.

  python -m vidact {verb} --config hmdb51 --data.root /data/hmdb51
"""

TRAINER_VERBS = {"fit": "go on from", "validate": "measure", "test": "measure", "predict": "use"}


def main(args: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: Without the program's name; `sys.argv` if None.

    Returns:
        The exit status: 0, 2 for a mistake that the user can mend, 3 for the environment.
    """
    args = list(sys.argv[1:] if args is None else args)
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
        _dispatch(args)
    except Exception as error:
        from vidact.core import VidactError  # late: it imports torch

        if not isinstance(error, VidactError):
            raise
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print(f"vidact: error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


def _dispatch(args: list[str]) -> None:
    """Import what a verb needs, and run it."""
    verb, *rest = args
    if verb in TRAINER_VERBS:
        from vidact import pipeline

        pipeline.run_trainer_verb(verb, ["--help" if arg == "--help-all" else arg for arg in rest])
    elif args[:2] == ["data", "synthesize"]:
        _synthesize(args[2:])
    else:
        from vidact.core import ConfigError

        if args == ["data"]:
            raise ConfigError("data needs a verb of its own: python -m vidact data synthesize OUT")
        known = [*TRAINER_VERBS, "data synthesize"]
        near = difflib.get_close_matches(" ".join(args[:2] if verb == "data" else args[:1]), known, cutoff=0.4)
        raise ConfigError(f"unknown verb {verb!r}; nearest: {', '.join(near or known)}")


def _synthesize(args: list[str]) -> None:
    parser = jsonargparse.ArgumentParser(prog="python -m vidact data synthesize", exit_on_error=False)
    parser.add_argument("out", help="the folder to make; HMDB51's layout")
    parser.add_argument("--num_sources", type=int, help="scenes, each with a clip of every class")
    parser.add_argument("--num_frames", type=int, help="frames per clip")
    parser.add_argument("--size", type=tuple[int, int], help="height and width in pixels, even: '[64, 64]'")
    parser.add_argument("--seed", type=int, help="equal seeds give equal clips")
    try:
        settings = parser.parse_args(args).as_dict()
    except jsonargparse.ArgumentError as error:
        from vidact.core import ConfigError

        raise ConfigError(" ".join(str(error).split())) from error
    from vidact import pipeline

    out = settings.pop("out")
    pipeline.synthesize(out, **{name: value for name, value in settings.items() if value is not None})
