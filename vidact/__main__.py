"""Run the command line, `python -m vidact` or `vidact`, as a process of its own."""

import contextlib
import os
import sys
from pathlib import Path


def run() -> None:
    """Run it, and end the process with its status."""
    find_modules_here_last()
    from vidact.cli.main import main
    from vidact.cli.memory import keep_freed_memory
    from vidact.core.terminal import output_problem, survive_closed_pipes

    keep_freed_memory()
    survive_closed_pipes()
    status = main()
    if problem := output_problem():
        print(f"vidact: error: {problem}", file=sys.stderr)
        status = status or 3
    sys.exit(status)


def find_modules_here_last() -> None:
    """Let a module in the current folder be found by its name, after all that is installed.

    `python -m` puts the folder first, where a `random.py` in it would stand in for Python's own; `vidact`, as pip
    installs it, does without. Where Python is told to do without (`-P`, PYTHONSAFEPATH), so it stays; and where the
    folder is that of vidact itself, which other processes have to find there, too.
    """
    with contextlib.suppress(FileNotFoundError):  # of a folder that is gone
        here = Path.cwd()
        if sys.flags.safe_path or here == Path(__file__).resolve().parents[1]:
            return
        if __name__ == "__main__" and sys.path[:1] in ([str(here)], [os.curdir], [""]):
            del sys.path[0]
        if str(here) not in sys.path:
            sys.path.append(str(here))


if __name__ == "__main__":
    run()
