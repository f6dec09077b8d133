"""In which order training sees its windows: a function of seed and epoch, whatever happened before.

It does not know what a window is.
"""

from collections.abc import Iterator, Sized
from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DistributedSampler


class EpochOrder(DistributedSampler[Any]):
    """torch's sampler, shuffled by (seed, epoch) and shared out among processes, which can start within an epoch.

    Args:
        items: What is drawn from.
        num_processes: How many share it; each sees as many, so that some items come twice where it does not divide.
        process: Which one this is, from 0.
        seed: Chooses the order together with the epoch, which Lightning sets.
        skip: How many of this process's items were seen before the run was interrupted; of the first pass only.
    """

    def __init__(self, items: Sized, *, num_processes: int = 1, process: int = 0, seed: int = 0, skip: int = 0) -> None:
        super().__init__(items, num_replicas=num_processes, rank=process, shuffle=True, seed=seed)  # type: ignore[arg-type]
        self.skip = skip

    def __iter__(self) -> Iterator[Any]:
        """Go through this process's share."""
        order = list(super().__iter__())
        skip, self.skip = self.skip, 0
        return iter(order[skip:])


def training_order(items: Sized, trainer: Trainer | None, *, batch_size: int, seed: int) -> EpochOrder:
    """Order what this process trains on, from where a checkpoint was saved within an epoch on.

    Args:
        items: What is drawn from.
        trainer: Knows the processes, and how many batches of the epoch were trained on; None where there is none.
        batch_size: Items per batch.
        seed: As in `EpochOrder`.
    """
    if trainer is None:
        return EpochOrder(items, seed=seed)
    loop = trainer.fit_loop
    progress = loop.epoch_loop.batch_progress
    is_through = progress.is_last_batch  # also where there were more or fewer processes
    order = EpochOrder(
        items,
        num_processes=trainer.world_size,
        process=trainer.global_rank,
        seed=seed,
        skip=0 if is_through else progress.current.ready * batch_size,
    )
    # Lightning sets the epoch, too, but after workers have begun; a checkpoint of an epoch's end counts it as running.
    epochs: Any = loop.epoch_progress.current
    order.set_epoch(epochs.processed + (is_through and epochs.ready > epochs.processed))
    return order
