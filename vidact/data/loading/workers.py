"""Start DataLoader workers, and keep SIGTERM from ending them before training has saved."""

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
    """The arguments of a DataLoader that concern its workers."""

    num_workers: int
    timeout: float
    worker_init_fn: Callable[[int], None]


def worker_options(num_workers: int) -> WorkerOptions:
    """Make the arguments of a DataLoader with `num_workers` worker processes; 0 decodes in this process.

    Raises:
        EnvironmentProblem: workers could not send their batches to this process.
    """
    if num_workers:
        _check_sockets()
    timeout = WORKER_TIMEOUT_SECONDS if num_workers else 0
    return WorkerOptions(num_workers=num_workers, timeout=timeout, worker_init_fn=leave_ending_to_parent)


def _check_sockets() -> None:
    """Open a socket as workers do to send a batch; a worker that fails there would be silent until the timeout."""
    try:
        with multiprocessing.connection.Listener():
            return
    except OSError as error:
        raise EnvironmentProblem(
            f"{tempfile.gettempdir()}: DataLoader workers need a socket in this temporary folder and cannot have "
            f"one ({error.strerror or error}); try a shorter path on a local disk, TMPDIR=/tmp, or "
            "--data.num_workers 0, which decodes in the training process"
        ) from error


def leave_ending_to_parent(worker_id: int) -> None:
    """Ignore SIGTERM unless the training process sends it; a DataLoader's `worker_init_fn`.

    `timeout`, systemd and SLURM send it to all processes of a job at once. The training process then saves, and needs
    the batches that are under way; it ends its workers itself, and they end by themselves once it is gone.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS: there they end at once
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_wait, args=(os.getppid(),), daemon=True).start()


def _wait(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        continue
    os._exit(0)
