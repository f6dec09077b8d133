"""Run the command line, `python -m vidact` or `vidact`, as a process of its own."""

import sys

from vidact.allocation import keep_freed_memory
from vidact.cli import main


def run() -> None:
    """Run it, and end the process with its status."""
    keep_freed_memory()
    sys.exit(main())


if __name__ == "__main__":
    run()
