"""Collect a network's scores of windows over batches and processes, and average them per clip."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from vidact.core.clips import ClipBatch


class Predictions:
    """A network's scores of some windows.

    Not a dataclass: torchmetrics would squeeze the tensors of a single window.

    Args:
        scores: Logits.
        label: The true class.
        clip_index: Number of the clip that each window is from.
    """

    def __init__(self, scores: Float[Tensor, "N K"], label: Int[Tensor, " N"], clip_index: Int[Tensor, " N"]) -> None:
        self.scores, self.label, self.clip_index = scores, label, clip_index

    @property
    def probabilities(self) -> Float[Tensor, "N K"]:
        """Softmax of the scores."""
        return self.scores.softmax(dim=1)

    def per_clip(self) -> tuple[Float[Tensor, "M K"], Int[Tensor, " M"]]:
        """Give each clip the mean probabilities of its windows, and its label."""
        clips, rows = torch.unique(self.clip_index, return_inverse=True)
        count = torch.bincount(rows, minlength=len(clips)).unsqueeze(1)
        total = self.scores.new_zeros(len(clips), self.scores.shape[1]).index_add_(0, rows, self.probabilities)
        return total / count, self.label.new_zeros(len(clips)).scatter_(0, rows, self.label)


class WindowPredictions(Metric):
    """Metric that collects the scores of all windows, over batches and processes.

    A window that two processes have scored, because windows do not divide evenly among them, counts once.

    Args:
        settings: Of torchmetrics, such as `sync_on_compute`.
    """

    full_state_update = False
    window_index: list[Tensor]
    clip_index: list[Tensor]
    label: list[Tensor]
    scores: list[Tensor]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name in ("window_index", "clip_index", "label", "scores"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, batch: ClipBatch, scores: Float[Tensor, "B K"]) -> None:
        """Add a batch and its logits."""
        self.window_index.append(batch.window_index)
        self.clip_index.append(batch.clip_index)
        self.label.append(batch.label)
        self.scores.append(scores.detach().float())

    def compute(self) -> Predictions | None:
        """Give each window's scores once, in the order of the windows; None if there was none."""
        if isinstance(self.label, list) and not self.label:
            return None
        label = dim_zero_cat(self.label)
        if not len(label):
            return None
        window_index = dim_zero_cat(self.window_index)
        windows, rows = torch.unique(window_index, return_inverse=True)
        first = torch.full_like(windows, len(window_index)).scatter_reduce_(
            0, rows, torch.arange(len(window_index), device=rows.device), reduce="amin"
        )
        return Predictions(dim_zero_cat(self.scores)[first], label[first], dim_zero_cat(self.clip_index)[first])


def mean_scores(*views: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
    """Give the scores whose softmax is the mean of the views' probabilities."""
    return torch.stack(views).log_softmax(dim=2).logsumexp(dim=0) - math.log(len(views))
