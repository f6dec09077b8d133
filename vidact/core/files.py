"""Write files atomically, so that one appears under its name only when it is complete; read files of weights."""

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vidact.core.errors import CheckpointError, EnvironmentProblem, first_few

if TYPE_CHECKING:
    from torch import Tensor

STATES = ("state_dict", "model_state", "model_state_dict", "model")  # under which programs keep a state_dict
PREFIXES = ("module.", "_orig_mod.", "model.", "network.")  # what wrappers put before the names of weights


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[IO[str]]:
    """Open a text file that appears under its name only when it is complete; several processes may write it at once.

    It is not flushed to the disk: after a power failure it may be empty.

    Raises:
        EnvironmentProblem: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # backslashreplace: file names may hold bytes that are not UTF-8. newline: equal bytes on every system.
        with (
            _moved(path.with_name(f".{path.name}-{secrets.token_hex(8)}"), path) as temporary,
            temporary.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file,
        ):
            yield file
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Replace a file by new content that is complete and flushed to the disk; until then the old file stays.

    The part file of a killed process is overwritten by the next call for the same path; two processes must not write
    one path at once.

    Raises:
        OSError: it cannot be written; the old file is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        _moved(path.with_name(f".{path.name}.part"), path) as temporary,
        _open_new(temporary) as file,
    ):
        file.write(content)
        flush_file(file)
    flush_folder(path.parent)


def _open_new(path: Path) -> IO[bytes]:
    """Remove what is there and open a new file: writing through a link would change another file."""
    path.unlink(missing_ok=True)
    return path.open("xb")


@contextlib.contextmanager
def _moved(temporary: Path, path: Path) -> Iterator[Path]:
    """Rename a temporary file at the end; remove it if anything fails."""
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error says more than this one
            temporary.unlink(missing_ok=True)
        raise


def flush_file(file: IO[Any]) -> None:
    """Flush what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can; a renamed file may else vanish with the power."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def require_space(folder: Path, num_bytes: int, *, what: str) -> None:
    """Refuse to write more bytes than a folder's disk has free.

    Args:
        folder: An existing folder.
        num_bytes: Number of bytes to be written.
        what: What they are, as the beginning of a sentence ("the archive unpacks to").

    Raises:
        EnvironmentProblem: there is too little space.
    """
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise EnvironmentProblem(
            f"{folder}: {what} {num_bytes / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; free some space"
        )


def check_writable(out: Path, *, hint: str = "choose another --out") -> None:
    """Write a test file into a folder, before anything expensive starts.

    Args:
        out: The folder; it is made if there is none.
        hint: What the user can do if it cannot be written.

    Raises:
        EnvironmentProblem: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as file:
            file.write(b"vidact")
    except OSError as error:
        raise EnvironmentProblem(f"{out}: cannot be written ({error.strerror}); {hint}") from error


def read_state_dict(path: Path, *, known: Collection[str] = ()) -> "dict[str, Tensor]":
    """Read the names and values of weights from a file that torch has saved; no code in it is run.

    Training scripts keep them under a key beside other things, and wrappers put a word before each name: both are taken
    off as far as more names are known then.

    Args:
        path: The file.
        known: Names of the network's weights.

    Raises:
        CheckpointError: missing, damaged, or something else.
    """
    import torch  # late: the command line's help needs this module

    if not path.is_file():
        raise CheckpointError(f"weights {path}: no such file; expected a state_dict that torch has saved")
    try:
        damaged = _find_damaged_part(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile and torch raise a dozen kinds for damaged bytes
        kind = type(error).__name__
        whole = (
            "it holds Python objects, which could be code"
            if kind == "UnpicklingError" and zipfile.is_zipfile(path)
            else ""
        )
        raise CheckpointError(
            f"weights {path}: {whole or 'not a whole state_dict that torch has saved'} ({path.stat().st_size:,} bytes; "
            f"{kind}); save the weights alone, torch.save(network.state_dict(), path), or try another copy"
        ) from error
    if damaged:
        raise CheckpointError(f"weights {path}: the part {damaged} is damaged; try another copy")
    if isinstance(content, dict):
        content = next((content[key] for key in STATES if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        holds = f"the keys {first_few(map(str, content))}" if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"weights {path}: expected a state_dict, that is names and tensors; got {holds}")
    return _without_wrappers(dict(content), known)


def _without_wrappers(state: "dict[str, Tensor]", known: Collection[str]) -> "dict[str, Tensor]":
    """Take off the words that wrappers put before names, and leave out what lacks them, as a loss's weights."""
    names = set(known)
    inner = [
        _without_wrappers({name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}, known)
        for prefix in PREFIXES
        if any(name.startswith(prefix) for name in state)
    ]
    return max([state, *inner], key=lambda found: len(found.keys() & names))


def _find_damaged_part(path: Path) -> str | None:
    """Name the first part whose checksum is wrong; files from before torch 1.6 have no checksums."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain values as JSON, NaN as null.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    text = json.dumps(_plain(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_writer(path) as file:
        file.write(text)


def _plain(value: Any) -> Any:
    """Convert arrays and tuples to lists, and NaN to None."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
