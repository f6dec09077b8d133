"""Stop for SIGTERM, or for the signal before SLURM requeues a job, after the same batch on all processes.

Lightning saves and requeues at once, wherever the signal arrives: in the middle of an optimizer's step, or in different
steps of different processes, which then wait for each other forever.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch import Callback, LightningModule, Trainer

from vidact.training.resuming.processes import Agreement

END, REQUEUE, NEITHER = 0, 1, 2  # what a process was asked to do; the minimum over processes counts


class SignalsBetweenBatches(Callback):
    """Saves and requeues a SLURM job, and ends several processes on SIGTERM, after a batch.

    A single process without SLURM is left to Lightning, which then does the same.
    """

    def __init__(self) -> None:
        self._requeue_signal: signal.Signals | None = None
        self._before: Any = None
        self._asked = NEITHER
        self._heeds = False
        self._agreement = Agreement()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Install handlers before Lightning does."""
        if stage != "fit":
            return
        connector: Any = trainer._signal_connector
        environment = trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue and environment.requeue_signal:
            self._requeue_signal = environment.requeue_signal
            # Lightning leaves alone what has a handler.
            self._before = signal.signal(self._requeue_signal, self._noting(REQUEUE))
        if trainer.world_size > 1:
            connector._sigterm_notifier_fn = self._noting(END)  # Lightning's own asks the others within a step
        self._heeds = self._requeue_signal is not None or trainer.world_size > 1

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the handler; Lightning restores that of SIGTERM."""
        if self._requeue_signal is not None:
            signal.signal(self._requeue_signal, self._before)
            self._requeue_signal = None

    def _noting(self, what: int) -> Callable[[int, FrameType | None], None]:
        def note(number: int, frame: FrameType | None) -> None:
            self._asked = min(self._asked, what)

        return note

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Do what any process was asked to do before its last batch ended."""
        if self._heeds:
            self._heed(trainer)
            self._tell(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do at once what any process was asked to do, as training cannot be resumed within a validation."""
        if self._heeds:
            self._tell(trainer)
            self._heed(trainer)

    def _tell(self, trainer: Trainer) -> None:
        self._agreement.tell(torch.full((), self._asked, device=trainer.strategy.root_device))

    def _heed(self, trainer: Trainer) -> None:
        agreed = self._agreement.least()
        connector: Any = trainer._signal_connector
        if agreed == END:
            launcher = trainer.strategy.launcher
            if isinstance(launcher, _SubprocessScriptLauncher):
                launcher.procs.clear()  # they end by themselves; else Lightning's watcher would kill this process, too
            connector.received_sigterm = True  # Lightning then ends training at its next opportunity
        elif agreed == REQUEUE and self._requeue_signal is not None:
            self._asked = NEITHER
            # It may reach this process later than the others: once is enough.
            signal.signal(self._requeue_signal, signal.SIG_IGN)
            connector._slurm_sigusr_handler_fn(self._requeue_signal, None)
