"""Start the command line, for `python -m vidact` and the command `vidact`."""

import contextlib
import os
import sys
from pathlib import Path


def run() -> None:
    """Run the command line, and end the process with its exit status."""
    find_modules_here_last()
    from vidact.cli.main import main
    from vidact.cli.memory import keep_freed_memory
    from vidact.core.terminal import output_problem, survive_closed_pipes

    keep_freed_memory()
    survive_closed_pipes()
    status = main()
    if status in (0, 1) and "torch.distributed" in sys.modules:  # after an error, other processes may wait for this one
        from vidact.core.devices import leave_process_group  # late: help needs no torch

        leave_process_group()
    if problem := output_problem():
        print(f"vidact: error: {problem}", file=sys.stderr)
        status = status or 3
    sys.exit(status)


def find_modules_here_last() -> None:
    """Let modules in the current folder be imported, but after all that is installed.

    `python -m` puts the folder first in `sys.path`, so that a `random.py` there would replace Python's own; the command
    `vidact` does not put it there at all. Nothing is changed if Python was told to leave the folder out (`-P`,
    PYTHONSAFEPATH), or in the folder of vidact's source, where its child processes have to find it.
    """
    with contextlib.suppress(FileNotFoundError):  # the folder has been removed
        here = Path.cwd()
        if sys.flags.safe_path or here == Path(__file__).resolve().parents[1]:
            return
        if __name__ == "__main__" and sys.path[:1] in ([str(here)], [os.curdir], [""]):
            del sys.path[0]
        if str(here) not in sys.path:
            sys.path.append(str(here))


if __name__ == "__main__":
    run()
