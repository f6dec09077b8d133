"""Learning rates over epochs, as torch's schedulers that one line of a config can name.

It does not know what is trained.
"""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from vidact.core import ConfigError


class WarmupCosine(SequentialLR):
    """Rises linearly over the first epochs, then falls to 0 along half a cosine (Loshchilov and Hutter 2017).

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
        rise = LinearLR(optimizer, start_factor=1 / (warmup_epochs + 1), total_iters=warmup_epochs)
        fall = CosineAnnealingLR(optimizer, T_max=max_epochs - warmup_epochs)
        super().__init__(optimizer, schedulers=[rise, fall], milestones=[warmup_epochs])
