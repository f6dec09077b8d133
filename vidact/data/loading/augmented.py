"""Augment the training batches of a data module, in the same way in a run that is resumed."""

import hashlib

import torch
from lightning.pytorch import LightningDataModule

from vidact.core.clips import ClipBatch
from vidact.data.loading.augmentation import AugmentationSettings, augment


class AugmentingDataModule(LightningDataModule):
    """A data module that augments its training batches on the device; base of `VideoDataModule`.

    Attributes:
        augmentation: Ranges of the augmentations; none if None.
        size: Height and width of the augmented clips.
        seed: Seed, to which the epoch and the windows of a batch are added.
    """

    augmentation: AugmentationSettings | None
    size: tuple[int, int]
    seed: int

    def __init__(self) -> None:
        super().__init__()
        self._generator = torch.Generator()

    def on_before_batch_transfer(self, batch: ClipBatch, dataloader_idx: int) -> ClipBatch:
        """Reseed for each batch, from seed, epoch and windows: a resumed run augments alike."""
        if self._augments:
            words = f"{self.seed} {self.trainer.current_epoch} {batch.window_index.tolist()}"  # type: ignore[union-attr]
            self._generator.manual_seed(int.from_bytes(hashlib.sha256(words.encode()).digest()[:6], "big"))
        return batch

    def on_after_batch_transfer(self, batch: ClipBatch, dataloader_idx: int) -> ClipBatch:
        """Augment a training batch, on the device where it is."""
        if self.augmentation is None or not self._augments:
            return batch
        return augment(batch, settings=self.augmentation, generator=self._generator, size=self.size)

    @property
    def _augments(self) -> bool:
        return self.augmentation is not None and self.trainer is not None and bool(self.trainer.training)
