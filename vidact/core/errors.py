"""The words that all parts share: clips in memory, explanations, and errors for people.

It knows no file format, no network and no method.

Shape legend: B batch, C colour, T time (frames), H height, W width, K classes.
A video in memory is uint8 [B, C, T, H, W] until it is on the device, then float in [0, 1].
Relevance has the shape of the network's input.
"""

import difflib
import errno
import re
from collections.abc import Iterable, Iterator

from vidact.core.terminal import printable


class VidactError(Exception):
    """A mistake that a person can mend: what was expected, what was got, what to try.

    The command line prints it as one line and ends with `exit_status`. Control characters, as names of files may hold
    them, are written out, so that they reach neither a terminal nor a log.
    """

    exit_status = 2

    def __str__(self) -> str:
        return printable(super().__str__())


class DataError(VidactError):
    """A folder, a split file or a clip is not what it should be."""


class ConfigError(VidactError):
    """A setting is unknown, of the wrong type, or disagrees with another."""


class CheckpointError(VidactError):
    """A checkpoint is missing, damaged, or of another network."""


class ExplanationError(VidactError):
    """A clip and a target cannot be explained with this network."""


class NetworkError(ExplanationError):
    """A network can be neither trained nor explained: it is not from clips [B, C, T, H, W] to logits [B, K]."""


class TrainingError(VidactError):
    """Training cannot go on as it is: its loss is no number."""


class EnvironmentProblem(VidactError):
    """The machine lacks something: a library, space, the right to write."""

    exit_status = 3


def causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error and what it came of, each once: an error that is raised again may come of itself."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__ or cause.__context__


_LESS_WORK = "try a smaller --data.num_workers (0 decodes in the training process) or a smaller --data.batch_size"


_KEPT = "the last checkpoint is kept: go on from it with --ckpt_path last"


_FULL = frozenset(
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


# What torch says, and what it means; the first that is found counts.
_SAID = {
    r"out of shared memory|Bus error|unable to (?:open|allocate|mmap|write to) [^\n]*?(?:shared memory|/torch_)": (
        "there is too little shared memory (/dev/shm) for the processes that decode: enlarge it (docker run "
        f"--shm-size 8g), or {_LESS_WORK}"
    ),
    r"DataLoader worker \(pid\(?s?\)? ?[\d, ]+\) (?:is killed by signal: \w+|exited unexpectedly)": (
        f"a process that decodes clips has died, perhaps because memory ran out; {_LESS_WORK}"
    ),
    r"DataLoader timed out after \d+ seconds": (
        "the processes that decode clips gave nothing in this time: the disk may be gone or overloaded; "
        "`python -m vidact data check` finds clips that hang"
    ),
    r"(?:CUDA|HIP|MPS backend) out of memory(?:[.] Tried to allocate [\d.]+ \w+)?|CUDA error: out of memory|"
    r"can't allocate memory: you tried to allocate \d+ bytes": (
        "memory ran out: try a smaller --data.batch_size (with --trainer.accumulate_grad_batches a step still sees as "
        "many clips), fewer or smaller frames or, on a GPU, --trainer.precision 16-mixed"
    ),
    r"Connection closed by peer|Connection reset by peer|Socket Timeout|Timed out waiting \d+ms": (
        "another process of this run has ended; what it said stands above or in its own log"
    ),
}


def explain_fault(error: BaseException) -> EnvironmentProblem | None:
    """Turn an error of the machine into one for people; None if it is another one."""
    if isinstance(error, OSError) and error.errno in _FULL:
        place = error.filename or "a file of the run"
        return EnvironmentProblem(
            f"{place}: cannot be written or read ({error.strerror}); make room or mend its rights; {_KEPT}"
        )
    if isinstance(error, RuntimeError | OSError):
        message = f"{error} {error.__cause__ or ''}"
        for pattern, meaning in _SAID.items():
            if found := re.search(pattern, message):
                return EnvironmentProblem(f"{' '.join(found[0].split())}: {meaning}; {_KEPT}")
    return None


def nearest(name: str, known: Iterable[str], *, at_most: int = 3) -> list[str]:
    """List the known names that are most like an unknown one, for a message that says what may be meant."""
    return difflib.get_close_matches(name, list(known), n=at_most, cutoff=0.4)
