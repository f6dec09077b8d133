"""Lock a run folder, so that only one process trains in it at a time.

The lock is a POSIX lock (`lockf`), which ends with the process, however that ends. Forked processes do not inherit it:
DataLoader workers may outlive a killed training by seconds.
"""

import errno
import os
from pathlib import Path

from vidact.core.errors import EnvironmentProblem
from vidact.runs.folder import RunFolder

try:
    import fcntl
except ImportError:  # Windows has none: there a second training is not refused
    fcntl = None  # type: ignore[assignment]

_TAKEN = {errno.EACCES, errno.EAGAIN}
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EINVAL}  # network file systems without locks

_held: dict[Path, int] = {}


def hold(folder: Path) -> None:
    """Lock a run folder until `release` or the end of this process.

    Raises:
        EnvironmentProblem: another process trains there, or the folder cannot be written.
    """
    folder = folder.resolve()
    if fcntl is None or folder in _held:
        return
    path = RunFolder(folder).lock
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise EnvironmentProblem(f"{path} cannot be written ({error.strerror})") from error
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip()
        os.close(descriptor)
        if error.errno in _NO_LOCKS:
            return
        if error.errno not in _TAKEN:
            raise EnvironmentProblem(f"{path} cannot be locked ({error.strerror})") from error
        who = f" ({holder})" if holder else ""
        raise EnvironmentProblem(
            f"{folder}: another process{who} trains there; wait for its end, stop it, give the last.ckpt of "
            "the run that you mean as --ckpt_path, or start anew without"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
    _held[folder] = descriptor


def held() -> Path | None:
    """Name the run folder that this process holds, if it holds one."""
    return next(iter(_held), None)


def release() -> None:
    """Let others train in the run folders that this process holds."""
    while _held:
        os.close(_held.popitem()[1])
