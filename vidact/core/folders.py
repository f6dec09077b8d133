"""Make sure that folders lie where they should, and remove only those that vidact has made; it knows no contents.

What is not finished is made in a *workshop*: a hidden folder with a mark of ours and a lock that ends with its process.
Only a folder with that mark, whose lock nobody holds, is ever removed.
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
except ImportError:  # Windows has none: there nothing proves that a workshop is abandoned, and it stays
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"\.vidact-[0-9a-f]{16}")
_MARK, _LOCK = "workshop.json", "lock"
_RECORD = {"format": "vidact workshop"}
CLAIM = ".vidact.json"


def place_inside(folder: Path, place: Path) -> Path:
    """Name a folder that lies strictly inside of another one, with no link on the way from it.

    Args:
        folder: The outer one; it may be a link itself.
        place: Where in it.

    Raises:
        DataError: it would be the outer one, or lie outside of it or behind a link.
    """
    outer, inner = Path(os.path.realpath(folder)), folder / place
    if not place.parts or place.is_absolute() or {".", ".."} & set(place.parts) or "\0" in str(place):
        raise DataError(f"{inner}: is no folder inside of {folder}; give what is named so another name")
    if (real := Path(os.path.realpath(inner))) != outer.joinpath(*place.parts):
        raise DataError(
            f"{inner}: is, or lies behind, a link to {real}; links are not followed, so choose another --out"
        )
    return inner


def folds_case(folder: Path) -> bool:
    """Say whether names in a folder that differ in upper and lower case only are the same."""
    with tempfile.NamedTemporaryFile(prefix=".vidact-case-", dir=folder) as file:
        path = Path(file.name)
        return path.with_name(path.name.replace("vidact", "VIDACT")).exists()


def refuse_foreign_file(path: Path, is_ours: Callable[[Path], bool], *, option: str = "--out") -> None:
    """Make sure that a file may be written: there is none, or one that vidact has written.

    Args:
        path: Where to.
        is_ours: Tells by its content whether a file is such a one.
        option: What names the file on the command line.

    Raises:
        ConfigError: a file of somebody else's is there.
    """
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise ConfigError(f"{option} {path} is a folder; give the name of a file")
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
        if path.is_file() and (path.stat().st_size == 0 or is_ours(path)):
            return
    raise ConfigError(
        f"{path}: is there already, and not a file that this command wrote; choose another {option}, or move it away"
    )


def claim(folder: Path, names: Sequence[str], *, kind: str, is_ours: bool = False) -> None:
    """Mark a folder as one in which files of certain names are vidact's, and make it where there is none.

    Args:
        folder: Which.
        names: Of the files, as patterns.
        kind: What is written there, for the mark.
        is_ours: Whether it is certain that what is there is vidact's, though there is no mark.

    Raises:
        ConfigError: it has no such mark, and files of these names.
        EnvironmentProblem: it cannot be written.
    """
    mark = {"format": f"vidact {kind}"}
    if _reads(folder / CLAIM, mark):
        return
    others = [] if is_ours else sorted(path for name in names for path in folder.glob(name))
    if others:
        raise ConfigError(
            f"{others[0]}: is there already, and not of {kind} that vidact wrote; choose another --out, or move it away"
        )
    with atomic_writer(folder / CLAIM) as file:
        file.write(json.dumps(mark) + "\n")


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Lend an empty folder, hidden in another one, for what is not finished; it goes at the end.

    Raises:
        EnvironmentProblem: it cannot be made.
    """
    folder = parent / f".vidact-{secrets.token_hex(8)}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        _take(lock)
        (folder / _MARK).write_text(json.dumps(_RECORD), encoding="utf-8")  # now that nobody takes it for abandoned
        (room := folder / "room").mkdir()
    except OSError as error:
        raise EnvironmentProblem(f"{parent}: cannot be written ({error.strerror}); choose another place") from error
    try:
        yield room
    finally:
        _clear(folder)
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path) -> None:
    """Remove the workshops that killed processes have left in a folder; those that are in use stay."""
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
    """Say whether a path lies in somebody's workshop."""
    return any(is_scratch_folder(folder) for folder in path.parents)


def is_scratch_folder(folder: Path) -> bool:
    """Say whether a folder is a workshop of ours."""
    if not _NAME.fullmatch(folder.name) or folder.is_symlink():
        return False
    return _reads(folder / _MARK, _RECORD)


def _reads(path: Path, record: dict[str, str]) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return bool(json.loads(path.read_text(encoding="utf-8")) == record)
    return False


def _take(lock: int) -> bool:
    """Take a lock; say whether it is certain that nobody else has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # taken, or a file system without locks
        return False
    return True


def _clear(folder: Path) -> None:
    """Remove what is in a workshop; its mark last, so that a process that is killed here leaves a workshop."""
    shutil.rmtree(folder / "room", ignore_errors=True)
    with contextlib.suppress(OSError):
        (folder / _MARK).unlink()
