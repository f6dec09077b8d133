"""Put files in their place only when they are whole, and on the disk where it matters; it knows not what they hold."""

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from vidact.core.errors import EnvironmentProblem


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[IO[str]]:
    """Open a text file that appears under its name only when it is whole; several processes may write it at once.

    It is not forced to the disk: a machine that dies may leave it empty.

    Raises:
        EnvironmentProblem: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            _moved(path.with_name(f".{path.name}-{secrets.token_hex(8)}"), path) as temporary,
            temporary.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file,
        ):
            yield file
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Put a file in its place only once it is whole and on the disk; what was there before stays till then.

    What a killed process has left is overwritten by the next that writes the same file; two must not do so at once.

    Raises:
        OSError: it cannot be written; what was there before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        _moved(path.with_name(f".{path.name}.part"), path) as temporary,
        _anew(temporary) as file,
    ):
        file.write(content)
        flush_file(file)
    flush_folder(path.parent)


def _anew(path: Path) -> IO[bytes]:
    """Open a file for writing that is a new one: through a link one would write into another."""
    path.unlink(missing_ok=True)
    return path.open("xb")


@contextlib.contextmanager
def _moved(temporary: Path, path: Path) -> Iterator[Path]:
    """Give a file its name at the end; it is gone if anything fails."""
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # a folder that can no longer be written: what has failed before says more
            temporary.unlink(missing_ok=True)
        raise


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
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems know no such thing
            raise
    finally:
        os.close(descriptor)


def check_writable(out: Path) -> None:
    """Try by a real write, before anything expensive starts."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as file:
            file.write(b"vidact")
    except OSError as error:
        raise EnvironmentProblem(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
