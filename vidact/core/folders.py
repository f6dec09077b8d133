"""Keep output inside its folder, refuse to overwrite files of others, and make scratch folders for unfinished work.

A scratch folder is hidden, holds a marker file and a lock that ends with its process. Only folders with that marker,
whose lock nobody holds, are ever removed.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vidact.core.errors import ConfigError, DataError, EnvironmentProblem
from vidact.core.files import atomic_writer

try:
    import fcntl
except ImportError:  # Windows: without locks nothing proves that a scratch folder is abandoned, so it stays
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"\.vidact-[0-9a-f]{16}")
# The names on disk are those of earlier versions, whose abandoned folders are still to be recognised.
_MARK, _LOCK = "workshop.json", "lock"
_RECORD = {"format": "vidact workshop"}
CLAIM = ".vidact.json"


def place_inside(folder: Path, place: Path) -> Path:
    """Join a relative path to a folder, and make sure that the result lies strictly inside, not behind a link.

    Args:
        folder: The outer folder; it may be a link itself.
        place: Relative path.

    Raises:
        DataError: the result would be the outer folder, lie outside of it, or behind a link.
    """
    outer, inner = Path(os.path.realpath(folder)), folder / place
    if not place.parts or place.is_absolute() or {".", ".."} & set(place.parts) or "\0" in str(place):
        raise DataError(f"{inner}: is no folder inside of {folder}; rename the file or class of this name")
    if (real := Path(os.path.realpath(inner))) != outer.joinpath(*place.parts):
        raise DataError(
            f"{inner}: is, or lies behind, a link to {real}; links are not followed, so choose another --out"
        )
    return inner


def folds_case(folder: Path) -> bool:
    """Return whether a folder's file system ignores upper and lower case in names."""
    with tempfile.NamedTemporaryFile(prefix=".vidact-case-", dir=folder) as file:
        path = Path(file.name)
        return path.with_name(path.name.replace("vidact", "VIDACT")).exists()


def refuse_foreign_file(path: Path, is_ours: Callable[[Path], bool], *, option: str = "--out") -> None:
    """Refuse to overwrite a file that vidact has not written.

    Args:
        path: Where a file is to be written.
        is_ours: Tells from a file's content whether vidact wrote it.
        option: The command line option that names the file.

    Raises:
        ConfigError: there is such a file, or a folder.
    """
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise ConfigError(f"{option} {path} is a folder; give the name of a file")
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
        if path.is_file() and (path.stat().st_size == 0 or is_ours(path)):
            return
    raise ConfigError(f"{path}: already exists, and this command did not write it; choose another {option}, or move it")


def claim(folder: Path, names: Sequence[str], *, kind: str, is_ours: bool = False) -> None:
    """Create an output folder with a marker file, which says that files of certain names in it are vidact's.

    Args:
        folder: The output folder.
        names: Patterns of the files that vidact writes there.
        kind: What is written there, for the marker.
        is_ours: Take existing files for vidact's, though there is no marker.

    Raises:
        ConfigError: the folder has files of these names, but no marker.
        EnvironmentProblem: it cannot be written.
    """
    mark = {"format": f"vidact {kind}"}
    if _reads(folder / CLAIM, mark):
        return
    others = [] if is_ours else sorted(path for name in names for path in folder.glob(name))
    if others:
        raise ConfigError(
            f"{others[0]}: already exists, but not of {kind} that vidact wrote; choose another --out, or move it"
        )
    with atomic_writer(folder / CLAIM) as file:
        file.write(json.dumps(mark) + "\n")


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Make an empty hidden folder for unfinished files, and remove it at the end.

    It lies in `parent`, so that a finished file only needs to be renamed.

    Raises:
        EnvironmentProblem: it cannot be made.
    """
    folder = parent / f".vidact-{secrets.token_hex(8)}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        _take(lock)
        (folder / _MARK).write_text(
            json.dumps(_RECORD), encoding="utf-8"
        )  # after the lock: a marked folder without one would count as abandoned
        (room := folder / "room").mkdir()
    except OSError as error:
        raise EnvironmentProblem(f"{parent}: cannot be written ({error.strerror}); choose another place") from error
    try:
        yield room
    finally:
        _clear(folder)
        os.close(lock)  # not before: without its lock another process would take the folder for abandoned
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path) -> None:
    """Remove the scratch folders that killed processes have left in a folder; those in use stay."""
    for folder in [path for path in parent.glob(".vidact-*") if is_scratch_folder(path)]:
        with contextlib.suppress(OSError):
            lock = os.open(folder / _LOCK, os.O_RDWR)
            try:
                if _take(lock):
                    _clear(folder)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def in_scratch_folder(path: Path) -> bool:
    """Return whether a path lies in a scratch folder."""
    return any(is_scratch_folder(folder) for folder in path.parents)


def is_scratch_folder(folder: Path) -> bool:
    """Return whether a folder is a scratch folder of vidact's."""
    if not _NAME.fullmatch(folder.name) or folder.is_symlink():
        return False
    return _reads(folder / _MARK, _RECORD)


def _reads(path: Path, record: dict[str, str]) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return bool(json.loads(path.read_text(encoding="utf-8")) == record)
    return False


def _take(lock: int) -> bool:
    """Take a lock; return whether it is certain that nobody else holds it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # taken, or a file system without locks
        return False
    return True


def _clear(folder: Path) -> None:
    """Empty a scratch folder, its marker last: if the process is killed here, the next one still recognises it."""
    shutil.rmtree(folder / "room", ignore_errors=True)
    with contextlib.suppress(OSError):
        (folder / _MARK).unlink()
