"""Draw a run's figures from its view: training curves, confusion matrix, accuracies with intervals."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from vidact.drawing.figure import svg_text
from vidact.drawing.results.accuracy import Score, accuracy_beside_baselines, class_accuracy_bars
from vidact.drawing.results.confusion import confusion_matrix
from vidact.drawing.results.curves import training_curves
from vidact.report.contents import Curves, Interval, RunView
from vidact.report.findings.contents import Picture
from vidact.report.summary import confusion_cells


def draw_pictures(view: RunView) -> Iterator[Picture]:
    """Draw what the page shows of the whole run, as SVG; only what is known."""
    if view.curves is not None:
        title = f"Training of {view.name}"
        yield Picture(title, _curves_alt(view.curves), svg_text(_curves_figure(view, view.curves, title=title)))
    if view.accuracy is None:
        return
    cells = confusion_cells(view.outcomes, num_classes=len(view.class_names))
    matrix = np.array([[cell.count for cell in row] for row in cells])
    title = f"Confusion of {view.part} clips"
    alt = f"{np.trace(matrix)} of {matrix.sum()} clips on the diagonal; the numbers are in the table below"
    yield Picture(title, alt, svg_text(confusion_matrix(matrix, view.class_names, title=title)))
    alt = ", ".join(f"{name} {100 * interval.value:.0f} %" for name, interval in view.per_class)
    yield Picture("Accuracy per class", alt, svg_text(_class_figure(view.per_class, chance=view.chance)))


def run_figures(view: RunView) -> dict[str, Figure]:
    """Draw the accuracy beside its baselines and that of each class, for files; empty if nothing is measured."""
    if view.accuracy is None:
        return {}
    own = Score(view.name, view.accuracy.value, view.accuracy.low, view.accuracy.high)
    baselines = [Score(f"{name} alone", share, is_baseline=True) for name, share in view.baselines]
    title = f"Accuracy of {view.accuracy.count} {view.part} clips, and of guesses without a pixel"
    return {
        "accuracy": accuracy_beside_baselines([own, *baselines], chance=view.chance, title=title),
        "class_accuracy": _class_figure(view.per_class, chance=view.chance),
    }


def _class_figure(per_class: Sequence[tuple[str, Interval]], *, chance: float) -> Figure:
    return class_accuracy_bars(
        np.array([round(interval.value * interval.count) for _, interval in per_class]),
        np.array([interval.count for _, interval in per_class]),
        np.array([[interval.low, interval.high] for _, interval in per_class]),
        [name for name, _ in per_class],
        chance=chance,
        title="Accuracy per class",
    )


def _curves_figure(view: RunView, curves: Curves, *, title: str) -> Figure:
    return training_curves(
        curves.epochs,
        loss=curves.losses,
        accuracy=curves.accuracies,
        title=title,
        best_epoch=curves.best_epoch,
        chance=view.chance,
    )


def _curves_alt(curves: Curves) -> str:
    series = curves.losses | curves.accuracies
    ends = (f"{name} {values[np.isfinite(values)][-1]:.3g}" for name, values in series.items())
    return f"curves over the epochs; at the end: {', '.join(ends)}"
