"""Vary training batches on the device where they are, alike in a run that is resumed.

It does not know where batches come from, nor how they are varied.
"""

import hashlib

import torch
from lightning.pytorch import LightningDataModule

from vidact.core.clips import ClipBatch
from vidact.data.loading.augmentation import AugmentationSettings, augment


class VaryingDataModule(LightningDataModule):
    """A data module whose training batches are varied by chance.

    Attributes:
        augmentation: How far; not at all if None.
        size: Height and width of what comes out.
        seed: Chooses, with the epoch and the windows.
    """

    augmentation: AugmentationSettings | None
    size: tuple[int, int]
    seed: int

    def __init__(self) -> None:
        super().__init__()
        self._chance = torch.Generator()

    def on_before_batch_transfer(self, batch: ClipBatch, dataloader_idx: int) -> ClipBatch:
        """Let chance start anew for each batch, from seed, epoch and windows: a resumed run varies alike."""
        if self._varies_batches:
            words = f"{self.seed} {self.trainer.current_epoch} {batch.window_index.tolist()}"  # type: ignore[union-attr]
            self._chance.manual_seed(int.from_bytes(hashlib.sha256(words.encode()).digest()[:6], "big"))
        return batch

    def on_after_batch_transfer(self, batch: ClipBatch, dataloader_idx: int) -> ClipBatch:
        """Vary a training batch at random, on the device where it is."""
        if self.augmentation is None or not self._varies_batches:
            return batch
        return augment(batch, settings=self.augmentation, generator=self._chance, size=self.size)

    @property
    def _varies_batches(self) -> bool:
        return self.augmentation is not None and self.trainer is not None and bool(self.trainer.training)
