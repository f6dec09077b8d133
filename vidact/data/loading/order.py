"""The order of training: which sample comes when is a function of seed and epoch alone.

It does not know what a sample is.
"""

import itertools
from collections.abc import Iterator, Sized
from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DistributedSampler


class EpochOrder(DistributedSampler[Any]):
    """torch's order of an epoch, also for one process, with a start inside the first epoch for training that goes on.

    Args:
        samples: What is put in order.
        seed: Of all epochs.
        epoch: The first epoch; Lightning names the later ones.
        start: How many samples of the first epoch this process has had already.
        num_replicas: How many processes share the samples.
        rank: Which of them this is.
    """

    def __init__(
        self, samples: Sized, *, seed: int, epoch: int = 0, start: int = 0, num_replicas: int = 1, rank: int = 0
    ) -> None:
        super().__init__(samples, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)  # type: ignore[arg-type]
        self.set_epoch(epoch)  # at once: workers fetch before Lightning names the epoch
        self.first_epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(super().__iter__(), self.start if self.epoch == self.first_epoch else 0, None)


def training_order(samples: Sized, trainer: Trainer | None, *, seed: int, batch_size: int) -> EpochOrder:
    """Put training in order; where it goes on inside an epoch, from there.

    Args:
        samples: What is put in order.
        trainer: Knows where in training it is; None outside of one.
        seed: Of all epochs.
        batch_size: Samples per batch and process.
    """
    if trainer is None:
        return EpochOrder(samples, seed=seed)
    loop = trainer.fit_loop
    epochs: Any = loop.epoch_progress.current
    inside = epochs.started > epochs.processed
    batches = loop.epoch_loop.batch_progress.current.completed if inside else 0
    return EpochOrder(
        samples,
        seed=seed,
        epoch=epochs.processed,
        start=batches * batch_size,
        num_replicas=trainer.world_size,
        rank=trainer.global_rank,
    )
