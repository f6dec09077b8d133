"""Draw the confusion matrix at the end of fit, validate and test."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from vidact.core.errors import ConfigError, EnvironmentProblem
from vidact.drawing.figure import save_png
from vidact.drawing.results.confusion import confusion_matrix
from vidact.runs.folder import RunFolder
from vidact.runs.loggers.media import log_pictures
from vidact.training.classifier import ActionClassifier

PARTS = {"val": "validation", "test": "test"}


class ConfusionMatrix(Callback):
    """Writes `confusion_val.png` or `confusion_test.png` into the run folder and to wandb, clip level."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the last validation."""
        self._draw(trainer, pl_module, part="val")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw a validation that is not part of training."""
        if trainer.state.fn == "validate":
            self._draw(trainer, pl_module, part="val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the test."""
        self._draw(trainer, pl_module, part="test")

    def _draw(self, trainer: Trainer, pl_module: LightningModule, *, part: str) -> None:
        if not isinstance(pl_module, ActionClassifier):
            raise ConfigError(f"the confusion matrix needs an ActionClassifier, got {type(pl_module).__name__}")
        path = RunFolder.of(trainer).picture("confusion", part)
        if trainer.is_global_zero and part in pl_module.confusion:
            title = f"Confusion of {PARTS[part]} clips"
            try:
                save_png(confusion_matrix(pl_module.confusion[part].numpy(), pl_module.class_names, title=title), path)
            except EnvironmentProblem as error:  # a missing picture must not end the run
                rank_zero_warn(f"there is no confusion matrix: {error}")
                return
            log_pictures(trainer, f"{part}/confusion", [path], [title])
