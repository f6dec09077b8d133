"""Name the user's cache folder, lock files in it against other processes, and add up its size."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from vidact.core.terminal import printable

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Name the user's cache folder: `$VIDACT_CACHE`, else `$XDG_CACHE_HOME/vidact`, else `~/.cache/vidact`."""
    if own := os.environ.get("VIDACT_CACHE"):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "vidact"


@contextlib.contextmanager
def locked(path: Path, *, waiting: str) -> Iterator[None]:
    """Hold a lock file, so that one process at a time runs the block; the system frees it when the process dies.

    Args:
        path: The lock file; its folder exists.
        waiting: Warning to log, once, while another process holds the lock.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)  # try once first, to warn only where there is something to wait for
    except Timeout:
        _log.warning(printable(waiting))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def folder_bytes(folder: Path) -> int:
    """Add up the files of a folder, while other processes may add and remove some."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total
