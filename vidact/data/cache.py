"""Where vidact keeps what it can make again; it does not know what that is."""

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from vidact.core import EnvironmentProblem

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Name the user's cache folder: `$VIDACT_CACHE`, else `$XDG_CACHE_HOME/vidact`, else `~/.cache/vidact`."""
    if own := os.environ.get("VIDACT_CACHE"):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "vidact"


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[IO[str]]:
    """Open a text file that appears under its name only when it is whole.

    Raises:
        EnvironmentProblem: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
        try:
            with temporary.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
                yield file
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot be written ({error.strerror}); choose another place") from error


@contextlib.contextmanager
def locked(path: Path, *, waiting: str) -> Iterator[None]:
    """Keep other processes out by a lock file; the system lets go of it when this process dies.

    Args:
        path: The lock file; its folder exists.
        waiting: What to say, once, if another process is in.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.warning(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def remove_abandoned(folder: Path, *, own_key: str) -> None:
    """Remove what killed processes left half done in a folder that is shared under locks.

    Args:
        folder: Holds `.<key>-<anything>` while `<key>` is made under the lock `<key>.lock`.
        own_key: The key whose lock the caller holds.
    """
    for path in folder.glob(".*-*"):
        key = path.name[1:].split("-")[0]
        if key == own_key:
            shutil.rmtree(path)
            continue
        with contextlib.suppress(Timeout), FileLock(folder / f"{key}.lock", timeout=0):
            shutil.rmtree(path, ignore_errors=True)


def folder_bytes(folder: Path) -> int:
    """Add up the files of a folder, while other processes may add and remove some."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def flush_file(file: IO[Any]) -> None:
    """Make sure that what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk, where the system can be asked to."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
