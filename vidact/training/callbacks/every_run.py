"""The callbacks that every run has, whatever its config asks for."""

from lightning.pytorch.callbacks import Callback, RichProgressBar

from vidact.training.callbacks.best_checkpoint import BestCheckpoint
from vidact.training.callbacks.confusion import ConfusionMatrix
from vidact.training.callbacks.predictions import PredictionWriter
from vidact.training.callbacks.split_record import SplitRecord
from vidact.training.resuming.finite import FiniteLoss
from vidact.training.resuming.processes import EndTogether
from vidact.training.resuming.signals import SignalsBetweenBatches


def build_callbacks(verb: str, *, checkpoint: str | None, progress_bar: bool) -> list[Callback]:
    """Build the callbacks that every run has; training also keeps its best epoch."""
    callbacks: list[Callback] = [EndTogether(), SplitRecord(checkpoint), ConfusionMatrix()]
    if verb == "fit":
        callbacks += [FiniteLoss(), SignalsBetweenBatches(), BestCheckpoint()]
    if verb == "predict":
        callbacks.append(PredictionWriter())
    # After all that ask the other processes: only the first one has it, and it asks them for its numbers.
    return [*callbacks, RichProgressBar()] if progress_bar else callbacks
