"""Recognise clips by their names, and find what is wrong with a path before a decoder opens it."""

import errno
import os
import stat
from pathlib import Path

from vidact.data.video.verdicts import Inspection, Verdict

ENDINGS = (".avi", ".gif", ".mkv", ".mov", ".mp4", ".webm")
_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


def is_clip_name(name: str) -> bool:
    """Return whether a file name is that of a clip: it ends as one and is not hidden."""
    return Path(name).suffix.lower() in ENDINGS and not name.startswith(".")


def path_fault(path: Path) -> Inspection | None:
    """Return why a decoder cannot open a path; None if it can.

    Nothing is opened here: opening a FIFO would hang.
    """
    try:
        status = path.stat()
    except OSError as error:
        return _absent(path, error)
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
        return Inspection(Verdict.NOT_A_FILE, f"not a regular file but {kind}")
    if status.st_size == 0:
        return Inspection(Verdict.EMPTY, "the file is empty (0 bytes)")
    if not os.access(path, os.R_OK):
        reason = "you may not read it; ask its owner, or use `chmod u+r`"
        return Inspection(Verdict.UNREADABLE, reason, num_bytes=status.st_size)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        reason = "its name is not valid UTF-8, which decord cannot open; rename it"
        return Inspection(Verdict.UNSUPPORTED, reason, num_bytes=status.st_size)
    return None


def _absent(path: Path, error: OSError) -> Inspection:
    reason = (error.strerror or str(error)).lower()
    if error.errno in {errno.EACCES, errno.EPERM, errno.EIO}:
        return Inspection(Verdict.UNREADABLE, f"cannot be looked at ({reason})")
    if error.errno == errno.ENOENT and path.is_symlink():
        reason = f"{reason}: a link to {path.readlink()}, which is not there"
    if error.errno == errno.ELOOP:
        reason = f"{reason}: a link that leads in a circle"
    return Inspection(Verdict.MISSING, reason)
