"""Where vidact keeps what it can make again; it does not know what that is."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from vidact.core import EnvironmentProblem


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
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            temporary = Path(file.name)
            try:
                yield file
            except BaseException:
                temporary.unlink()
                raise
        temporary.replace(path)
    except OSError as error:
        raise EnvironmentProblem(
            f"{path}: cannot be written ({error.strerror}); set VIDACT_CACHE to a folder that can"
        ) from error
