"""Bring together what several processes found, and end them together; it does not know what they do."""

from typing import TypeVar

import torch.distributed as dist
from lightning.fabric.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch import Callback, LightningModule, Trainer

Item = TypeVar("Item")


def gather(items: list[Item]) -> list[Item]:
    """Join the lists of all processes, in the order of their ranks; call it on every process.

    The items are pickled, so they are small and plain.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return items
    parts: list[list[Item]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


class EndTogether(Callback):
    """Ends the processes that this one has started when it fails, so that none waits for it without end."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Kill them; what stops a run in an orderly way (Ctrl-C, SIGTERM) is not an `Exception`."""
        launcher = trainer.strategy.launcher
        if isinstance(exception, Exception) and isinstance(launcher, _SubprocessScriptLauncher):
            processes = list(launcher.procs)
            launcher.procs.clear()  # Lightning's watcher of this list would kill this process, too
            for process in processes:
                process.kill()
