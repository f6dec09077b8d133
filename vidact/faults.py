"""Say in one line what the machine did to a run: workers that die, space that ends, processes that are gone.

It knows neither clips nor networks; what it does not recognise stays a programmer's error.
"""

import errno
import re

from vidact.core import EnvironmentProblem

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
