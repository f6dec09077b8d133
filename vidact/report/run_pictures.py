"""Draw what a run amounts to; it knows what a report tells, and not where that comes from."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from vidact.drawing.results.accuracy import Score, accuracy_beside_baselines, class_accuracy_bars
from vidact.report.contents import Interval, RunView


def run_figures(view: RunView) -> dict[str, Figure]:
    """Draw the accuracy beside its baselines, and that of each class; nothing where nothing was measured."""
    if view.accuracy is None:
        return {}
    own = Score(view.name, view.accuracy.value, view.accuracy.low, view.accuracy.high)
    baselines = [Score(f"{name} alone", share, is_baseline=True) for name, share in view.baselines]
    title = f"Accuracy of {view.accuracy.count} {view.part} clips, and of guesses without a pixel"
    return {
        "accuracy": accuracy_beside_baselines([own, *baselines], chance=view.chance, title=title),
        "class_accuracy": class_figure(view.per_class, chance=view.chance),
    }


def class_figure(per_class: Sequence[tuple[str, Interval]], *, chance: float) -> Figure:
    """Draw the accuracy of each class with its interval."""
    return class_accuracy_bars(
        np.array([round(interval.value * interval.count) for _, interval in per_class]),
        np.array([interval.count for _, interval in per_class]),
        np.array([[interval.low, interval.high] for _, interval in per_class]),
        [name for name, _ in per_class],
        chance=chance,
        title="Accuracy per class",
    )
