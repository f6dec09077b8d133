"""Save a job of SLURM whose time ends, and have it requeued; it does not know what is trained.

Lightning does the saving and the asking, but wherever the signal finds a process: in the middle of an optimizer's step,
or each process in another one, where they would wait for each other without end.
"""

import signal
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer

from vidact.callbacks.processes import Agreement


class RequeueBetweenBatches(Callback):
    """Lets Lightning save and requeue after a batch, the same one on all processes; does nothing without SLURM."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self._before: Any = None
        self._asked = False
        self._agreement = Agreement()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the signal before Lightning does, which then leaves it alone."""
        environment = trainer._accelerator_connector.cluster_environment
        if not (isinstance(environment, SLURMEnvironment) and environment.auto_requeue):
            return
        if stage == "fit" and environment.requeue_signal is not None:
            self._signal = environment.requeue_signal
            self._before = signal.signal(self._signal, self._note)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signal back."""
        if self._signal is not None:
            signal.signal(self._signal, self._before)
            self._signal = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Requeue, if some process was asked to before its last batch ended."""
        if self._signal is not None:
            self._requeue_if_agreed(trainer)
            self._tell(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Requeue, if some process was asked to until now: training does not go on from amidst a validation."""
        if self._signal is not None:
            self._tell(trainer)
            self._requeue_if_agreed(trainer)

    def _tell(self, trainer: Trainer) -> None:
        self._agreement.tell(torch.full((), 0 if self._asked else 1, device=trainer.strategy.root_device))

    def _requeue_if_agreed(self, trainer: Trainer) -> None:
        if self._signal is not None and self._agreement.least() == 0:
            self._asked = False
            # It may reach this process later than the others: once is enough.
            signal.signal(self._signal, signal.SIG_IGN)
            trainer._signal_connector._slurm_sigusr_handler_fn(self._signal, None)  # type: ignore[arg-type]
