"""Make chance a function of where training is, not of what came before: a resumed run goes on as it would have."""

import hashlib
import os
import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class StepSeeds(Callback):
    """Seeds torch's, numpy's and Python's global random numbers anew for each batch, from seed, epoch, batch and rank.

    Dropout and mixing draw from them. The seed is that of `seed_everything`, 0 without it.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed before anything of this step is drawn."""
        seed = os.environ.get("PL_GLOBAL_SEED", "0")
        words = f"{seed} {trainer.current_epoch} {batch_idx} {trainer.global_rank}"
        number = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big")
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)
