"""Networks and callbacks that go wrong, or stop, at a known moment; processes name them by `faulty.<class>`."""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, Trainer
from torch import nn


class Pooled(nn.Module):
    """One linear layer on a 4×4 picture of each clip; small, and every batch of windows is scored alone."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool3d((2, 4, 4)), nn.Flatten(), nn.LazyLinear(num_classes))
        with torch.no_grad():
            self.layers(torch.zeros(1, 1, 2, 4, 4))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.layers(video)


class NotANumber(Pooled):
    """Scores that are NaN at some calls, counted from 0.

    Args:
        num_classes: K.
        training_call: Which call in training.
        evaluation_calls: Which calls in evaluation.
        rank: In which process; in all of them if None.
        in_gradient: In training let the scores be numbers, and their gradient not.
        terminate: In training, send SIGTERM to this process at the same moment.
    """

    def __init__(
        self,
        num_classes: int,
        training_call: int = -1,
        evaluation_calls: list[int] | None = None,
        rank: int | None = None,
        in_gradient: bool = False,
        terminate: bool = False,
    ) -> None:
        super().__init__(num_classes)
        self.training_call, self.evaluation_calls, self.rank = training_call, evaluation_calls or [], rank
        self.in_gradient, self.terminate = in_gradient, terminate
        self.calls = {True: -1, False: -1}

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        self.calls[self.training] += 1
        now = self.calls[self.training]
        here = self.rank is None or (dist.is_initialized() and dist.get_rank() == self.rank)
        due = here and (now == self.training_call if self.training else now in self.evaluation_calls)
        scores = super().forward(video)
        if due and self.training and self.terminate:
            os.kill(os.getpid(), signal.SIGTERM)
        if due and self.training and self.in_gradient:
            scores.register_hook(lambda gradient: gradient * float("nan"))
            return scores
        return scores * (float("nan") if due else 1)


class Ended(Pooled):
    """Sends SIGTERM, in its fourth training step, to the processes whose ranks ENDED_RANKS names, such as `0,1`."""

    calls = 0

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        named = os.environ.get("ENDED_RANKS", "").split(",")
        if self.training and self.calls == 4 and str(dist.get_rank()) in named:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(video)


class Killed(Pooled):
    """Raises, in the second process alone and in its second training step, what torch says of a dead worker."""

    calls = 0

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        if self.calls == 2 and dist.get_rank() == 1:
            raise RuntimeError("DataLoader worker (pid 1234) is killed by signal: Killed. ")
        return super().forward(video)


class KillsWandb(Pooled):
    """Kills the process that wandb has started for this one.

    Args:
        num_classes: K.
        training_call: In which call in training, counted from 1.
        evaluation_call: In which call in evaluation, counted from 1.
    """

    def __init__(self, num_classes: int, training_call: int = 0, evaluation_call: int = 0) -> None:
        super().__init__(num_classes)
        self.due = {True: training_call, False: evaluation_call}
        self.calls = {True: 0, False: 0}

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        self.calls[self.training] += 1
        if self.calls[self.training] == self.due[self.training]:
            kill_wandb()
        return super().forward(video)


def kill_wandb() -> None:
    """Kill the children of this process that are wandb's."""
    killed = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, rest = (folder / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except OSError:  # ended meanwhile
            continue
        if int(rest.split()[1]) == os.getpid() and "wandb" in name:
            os.kill(int(folder.name), signal.SIGKILL)
            killed += 1
    assert killed, "wandb has no process here"


class Signalled(Pooled):
    """Gets SIGUSR1 in a training step, as all processes of a job do from SLURM before the time is over.

    Args:
        num_classes: K.
        training_call: In which one, counted from 1; later ones get none.
    """

    def __init__(self, num_classes: int, training_call: int) -> None:
        super().__init__(num_classes)
        self.training_call, self.calls = training_call, 0

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        if self.training and self.calls == self.training_call:
            workers = multiprocessing.active_children()
            assert workers, "no process decodes"
            for worker in [*workers, multiprocessing.current_process()]:
                os.kill(worker.pid or 0, signal.SIGUSR1)
        return super().forward(video)


class TimeIsUp(Callback):
    """Stops training after so many batches, as Lightning's Timer does after a time."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.left -= 1
        trainer.should_stop = trainer.should_stop or self.left == 0


class Signals(Callback):
    """Sends a signal to this process.

    Args:
        name: Of the signal.
        step: After how many training steps, in the middle of the next one; with each batch of any verb if None.
        to_all: Send it to all processes of its group.
    """

    def __init__(self, name: str, step: int | None = None, to_all: bool = False) -> None:
        self.number, self.step, self.group = signal.Signals[name], step, to_all

    def _send(self) -> None:
        if self.group:
            os.killpg(0, self.number)
        else:
            os.kill(os.getpid(), self.number)

    def on_before_optimizer_step(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self._send()

    def _with_a_batch(self, *_: Any) -> None:
        if self.step is None:
            self._send()

    on_train_batch_start = on_test_batch_start = on_predict_batch_start = _with_a_batch
