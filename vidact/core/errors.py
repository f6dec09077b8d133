"""Errors for users, and the translation of what torch and the system raise when the machine fails."""

import difflib
import errno
import re
from collections.abc import Iterable, Iterator

from vidact.core.terminal import printable

MAX_LETTERS = 300  # of what somebody else's code says


class VidactError(Exception):
    """A mistake that the user can fix; the message says what was expected, what was found, and what to try.

    The command line prints it as one line and ends with `exit_status`. Control characters, which file names may hold,
    are escaped, so that they reach neither a terminal nor a log.
    """

    exit_status = 2

    def __str__(self) -> str:
        return printable(super().__str__())


class DataError(VidactError):
    """A folder, a split file or a clip is not what it should be."""


class ConfigError(VidactError):
    """A setting is unknown, has a wrong value, or contradicts another."""


class CheckpointError(VidactError):
    """A checkpoint is missing, damaged, or belongs to another network."""


class ExplanationError(VidactError):
    """A clip and a target cannot be explained with this network."""


class NetworkError(ExplanationError):
    """A network does not map clips [B, C, T, H, W] to logits [B, K], so it can be neither trained nor explained."""


class TrainingError(VidactError):
    """Training cannot continue: its loss is NaN or infinite."""


class EnvironmentProblem(VidactError):
    """The machine lacks something: a library, disk space, the permission to write."""

    exit_status = 3


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, each once: the chain of an error that is raised again may contain itself."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__ or cause.__context__


_USE_LESS_MEMORY = "try a smaller --data.num_workers (0 decodes in the training process) or a smaller --data.batch_size"
_RESUME = "the last checkpoint is kept: continue from it with --ckpt_path last"

_DISK_ERRORS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.EFBIG,
        errno.EISDIR,
        errno.ENOTDIR,
    }
)


# Torch raises plain RuntimeErrors for failures of the machine, so only the message tells them apart. From pattern to
# what it means; the first match counts.
_MACHINE_FAILURES = {
    r"out of shared memory|Bus error|unable to (?:open|allocate|mmap|write to) [^\n]*?(?:shared memory|/torch_)": (
        "there is too little shared memory (/dev/shm) for the DataLoader workers: enlarge it (docker run "
        f"--shm-size 8g), or {_USE_LESS_MEMORY}"
    ),
    r"DataLoader worker \(pid\(?s?\)? ?[\d, ]+\) (?:is killed by signal: \w+|exited unexpectedly)": (
        f"a DataLoader worker has died, perhaps because memory ran out; {_USE_LESS_MEMORY}"
    ),
    r"DataLoader timed out after \d+ seconds": (
        "the DataLoader workers decoded nothing in this time: the disk may be gone or overloaded; "
        "`python -m vidact data check` finds clips that hang"
    ),
    r"(?:CUDA|HIP|MPS backend) out of memory(?:[.] Tried to allocate [\d.]+ \w+)?|CUDA error: out of memory|"
    r"can't allocate memory: you tried to allocate \d+ bytes": (
        "memory ran out: try a smaller --data.batch_size (with --trainer.accumulate_grad_batches a step still sees as "
        "many clips), fewer or smaller frames or, on a GPU, --trainer.precision 16-mixed"
    ),
    r"Connection closed by peer|Connection reset by peer|Socket Timeout|Timed out waiting \d+ms": (
        "another process of this run has ended; its error is printed above or in its own log"
    ),
}


def reword_machine_error(error: BaseException) -> EnvironmentProblem | None:
    """Reword an error of the machine (disk, memory, another process) for the user; None for any other error."""
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        place = error.filename or "a file of the run"
        return EnvironmentProblem(
            f"{place}: cannot be written or read ({error.strerror}); free space or change its permissions; {_RESUME}"
        )
    if isinstance(error, RuntimeError | OSError):
        message = f"{error} {error.__cause__ or ''}"  # DataLoader's own errors name only the worker, causes say why
        for pattern, meaning in _MACHINE_FAILURES.items():
            if found := re.search(pattern, message):
                return EnvironmentProblem(f"{' '.join(found[0].split())}: {meaning}; {_RESUME}")
    return None


def in_one_line(error: BaseException) -> str:
    """Quote an error that is not vidact's own: its kind, and the beginning of what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:MAX_LETTERS]}"


def first_few(names: Iterable[str], *, at_most: int = 3) -> str:
    """Join the first names with commas, and add "…" for the others, for messages."""
    listed = list(names)
    return ", ".join(listed[:at_most]) + ", …" * (len(listed) > at_most)


def nearest(name: str, known: Iterable[str], *, at_most: int = 3) -> list[str]:
    """List the known names that resemble an unknown one, for 'did you mean' messages."""
    return difflib.get_close_matches(name, list(known), n=at_most, cutoff=0.4)
