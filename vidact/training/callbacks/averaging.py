"""Average the weights over training steps, so that the average is what is validated, explained and saved."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging

from vidact.core.errors import ConfigError


class MeanWeights(EMAWeightAveraging):
    """Lightning's exponential moving average of the weights, in the network from validation to the next step.

    Lightning's own puts the trained weights back before later callbacks have explained the averaged ones, and before
    a checkpoint of weights alone is saved, which then is not of the network that was measured. Full checkpoints hold
    the averaged weights as the network's, and the trained ones to resume from, at any time.

    Args:
        decay: Share of the mean that a step keeps; 0.99 looks back some hundred steps.

    Raises:
        ConfigError: it is not a share.
    """

    def __init__(self, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"MeanWeights: decay is a share, 0 <= decay < 1, got {decay}")
        super().__init__(decay=decay)
        self._in_place = False

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swap the average into the network."""
        if not self._in_place and self._average_model is not None:
            self._swap_models(pl_module)
            self._in_place = True

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the average in the network, where Lightning would swap it out."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Swap the trained weights back."""
        self._put_back(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the average the network's weights for good."""
        self._put_back(pl_module)
        super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save both; the swap for this is undone at once, as it would change other checkpoints saved at this moment."""
        in_place, self._in_place = self._in_place, False
        if in_place:
            self._swap_models(pl_module)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if in_place:
            for key in ("state_dict", "current_model_state"):
                checkpoint[key] = {name: value.clone() for name, value in checkpoint[key].items()}
            self._swap_models(pl_module)
            self._in_place = True

    def _put_back(self, pl_module: LightningModule) -> None:
        if self._in_place:
            self._swap_models(pl_module)
            self._in_place = False
