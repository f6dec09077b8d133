"""Seed random numbers by run, step and process, so that a resumed training draws the same ones."""

import hashlib
import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class StepSeeds(Callback):
    """Seeds torch, numpy and Python anew before every training step (dropout draws from them).

    Args:
        seed: Seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed from what a checkpoint knows: the epoch and the batch in it."""
        words = f"{self.seed} {trainer.current_epoch} {batch_idx} {trainer.global_rank}"
        number = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big")  # numpy takes no more
        torch.manual_seed(number)
        np.random.seed(number)
        random.seed(number)
