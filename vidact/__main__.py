"""Run the command line, `python -m vidact` or `vidact`, as a process of its own."""

import sys

from vidact.allocation import keep_freed_memory
from vidact.cli import main
from vidact.terminal import outlive_readers, output_problem


def run() -> None:
    """Run it, and end the process with its status."""
    keep_freed_memory()
    outlive_readers()
    status = main()
    if problem := output_problem():
        print(f"vidact: error: {problem}", file=sys.stderr)
        status = status or 3
    sys.exit(status)


if __name__ == "__main__":
    run()
