"""Let processes that decode outlive what ends the one they decode for; it knows nothing of clips."""

import os
import signal
import threading


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
