"""End all processes of a training when one of them fails, and agree with them on when to stop."""

import torch
import torch.distributed as dist
from lightning.fabric.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class Agreement:
    """Minimum of the processes' numbers, read one step later so that no device waits for it."""

    def __init__(self) -> None:
        self._number: Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    def tell(self, number: Tensor) -> None:
        """Contribute this process's number, on its device; call it on every process."""
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(number, op=dist.ReduceOp.MIN)
        self._number = number.to("cpu", non_blocking=True)
        if number.is_cuda:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()

    def least(self) -> int | None:
        """Give the last minimum, once; None if there is no new one."""
        number, self._number = self._number, None
        if number is not None and self._copied is not None:
            self._copied.synchronize()
        return None if number is None else int(number)


class EndTogether(Callback):
    """Kills the processes that this one has started when it fails, so that none waits for it forever."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Kill them; Ctrl-C and SIGTERM, which end a run in order, are not an `Exception`."""
        launcher = trainer.strategy.launcher
        if isinstance(exception, Exception) and isinstance(launcher, _SubprocessScriptLauncher):
            processes = list(launcher.procs)
            launcher.procs.clear()  # Lightning's watcher of this list would kill this process, too
            for process in processes:
                process.kill()
