"""Starts vidact as a process of its own, as a user does; what it trains may be named by `faulty.<class>`."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def start(*args: object, launcher: tuple[str, ...] = ("-m",), **env: str) -> subprocess.CompletedProcess[str]:
    """Run vidact in the current folder, two minutes at most.

    Args:
        args: Its command line, from the verb on.
        launcher: What stands between Python and vidact's name.
        env: Set in its environment on top of this process's own.
    """
    command = [sys.executable, *launcher, "vidact", *map(str, args)]
    environment = os.environ | {"PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"} | env
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
