"""Build the callbacks that every run has, in addition to those of its config."""

from lightning.pytorch.callbacks import Callback, RichProgressBar

from vidact.training.callbacks.best_checkpoint import BestCheckpoint
from vidact.training.callbacks.confusion import ConfusionMatrix
from vidact.training.callbacks.predictions import PredictionWriter
from vidact.training.callbacks.split_record import SplitRecord
from vidact.training.resuming.finite import FiniteLoss
from vidact.training.resuming.processes import EndTogether
from vidact.training.resuming.signals import SignalsBetweenBatches


def build_callbacks(verb: str, *, checkpoint: str | None, progress_bar: bool) -> list[Callback]:
    """Build the callbacks of a verb."""
    callbacks: list[Callback] = [EndTogether(), SplitRecord(checkpoint), ConfusionMatrix()]
    if verb == "fit":
        callbacks += [FiniteLoss(), SignalsBetweenBatches(), BestCheckpoint()]
    if verb == "predict":
        callbacks.append(PredictionWriter())
    # Last, as only the first process has it: it gathers numbers from the others, as do the callbacks before it.
    return [*callbacks, RichProgressBar()] if progress_bar else callbacks
