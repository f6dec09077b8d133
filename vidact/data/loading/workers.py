"""How processes that decode are started, and outlive what ends the one they decode for; it knows nothing of clips."""

import multiprocessing.connection
import os
import signal
import tempfile
import threading
from collections.abc import Callable
from typing import TypedDict

from vidact.core.errors import EnvironmentProblem

WORKER_TIMEOUT_SECONDS = 300


class WorkerOptions(TypedDict):
    """Those of a DataLoader that are about its workers."""

    num_workers: int
    timeout: float
    worker_init_fn: Callable[[int], None]


def worker_options(num_workers: int) -> WorkerOptions:
    """How a DataLoader is to decode in `num_workers` processes, or in this one if 0.

    Raises:
        EnvironmentProblem: workers could not hand over what they have decoded.
    """
    if num_workers:
        _check_handover()
    timeout = WORKER_TIMEOUT_SECONDS if num_workers else 0
    return WorkerOptions(num_workers=num_workers, timeout=timeout, worker_init_fn=leave_ending_to_parent)


def _check_handover() -> None:
    """Try what a worker does to hand a batch over; its own failure would show as silence until the timeout."""
    try:
        with multiprocessing.connection.Listener():
            return
    except OSError as error:
        raise EnvironmentProblem(
            f"{tempfile.gettempdir()}: processes that decode need a socket in this temporary folder and cannot have "
            f"one ({error.strerror or error}); try a shorter path on a local disk, TMPDIR=/tmp, or "
            "--data.num_workers 0, which decodes in the training process"
        ) from error


def leave_ending_to_parent(worker_id: int) -> None:
    """Ignore SIGTERM of anyone but the process that trains; a DataLoader's `worker_init_fn`.

    `timeout`, systemd and SLURM send it to all processes of a job at once. The one that trains then saves, and needs
    the batches that are on their way; it ends its workers itself, and they end by themselves once it is gone.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS: there they end at once
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_wait, args=(os.getppid(),), daemon=True).start()


def _wait(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        continue
    os._exit(0)
