"""Learning rates over epochs, as torch's schedulers that one line of a config can name.

It does not know what is trained.
"""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vidact.core import ConfigError


class WarmupCosine(LambdaLR):
    """Rises linearly over the first epochs, falls to 0 along half a cosine (Loshchilov and Hutter 2017), stays there.

    Args:
        optimizer: Whose rate it is.
        max_epochs: When it is to reach 0: as `trainer.max_epochs`.
        warmup_epochs: How many epochs it takes to rise; the first of them has 1 / (`warmup_epochs` + 1) of the rate.

    Raises:
        ConfigError: no epoch is left to fall.
    """

    def __init__(self, optimizer: Optimizer, max_epochs: int, warmup_epochs: int = 5) -> None:
        if not 0 < warmup_epochs < max_epochs:
            raise ConfigError(
                f"--model.lr_scheduler: expected 0 < warmup_epochs < max_epochs, got {warmup_epochs} and {max_epochs}"
            )
        self.max_epochs = max_epochs

        def share(epoch: int) -> float:
            if epoch < warmup_epochs:
                return (epoch + 1) / (warmup_epochs + 1)
            done = min((epoch - warmup_epochs) / (max_epochs - warmup_epochs), 1.0)
            return (1 + math.cos(math.pi * done)) / 2

        super().__init__(optimizer, share)
