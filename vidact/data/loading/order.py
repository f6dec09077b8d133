"""Shuffle training samples by seed and epoch alone, so that a resumed run continues with the same order."""

import itertools
from collections.abc import Iterator, Sized
from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DistributedSampler


class EpochOrder(DistributedSampler[Any]):
    """torch's `DistributedSampler`, which may start inside of the first epoch, for resumed training.

    Args:
        samples: The data set.
        seed: Seed of all epochs.
        epoch: Number of the first epoch; Lightning sets the later ones.
        start: Samples of the first epoch that this process has already seen.
        num_replicas: Number of processes that share the samples.
        rank: Number of this process.
    """

    def __init__(
        self, samples: Sized, *, seed: int, epoch: int = 0, start: int = 0, num_replicas: int = 1, rank: int = 0
    ) -> None:
        super().__init__(samples, num_replicas=num_replicas, rank=rank, shuffle=True, seed=seed)  # type: ignore[arg-type]
        self.set_epoch(epoch)  # at once: workers prefetch before Lightning sets the epoch
        self.first_epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(super().__iter__(), self.start if self.epoch == self.first_epoch else 0, None)


def training_order(samples: Sized, trainer: Trainer | None, *, seed: int, batch_size: int) -> EpochOrder:
    """Make the sampler of training, which continues inside an epoch if a run was stopped there.

    Args:
        samples: The data set.
        trainer: Its progress tells where to start; None outside of training.
        seed: Seed of all epochs.
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
