"""Draw loss and accuracy over the epochs of a training."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vidact.core.errors import VidactError
from vidact.drawing.figure import MAX_LINES, add_axes, draw_line, legend_above, titled_figure
from vidact.drawing.text import LABEL_POINTS, TICK_POINTS, fit_text

MAX_NAME_INCHES = 1.4


def training_curves(
    epochs: Int[np.ndarray, " E"],
    *,
    loss: Mapping[str, Float[np.ndarray, " E1"]],
    accuracy: Mapping[str, Float[np.ndarray, " E2"]],
    title: str,
    best_epoch: int | None = None,
    chance: float | None = None,
) -> Figure:
    """Draw named series over the epochs, loss at the left, accuracy at the right, best epoch and chance as lines.

    Args:
        epochs: Their numbers, increasing.
        loss: Up to five series by name; NaN where an epoch has no value.
        accuracy: The same, from 0 to 1.
        title: Of any length and in any script.
        best_epoch: The one whose weights were kept.
        chance: Accuracy of a blind guess, from 0 to 1.

    Raises:
        VidactError: there is no epoch, more than five series, or one of another length.
    """
    for name, values in (*loss.items(), *accuracy.items()):
        if len(epochs) == 0 or values.shape != epochs.shape:
            raise VidactError(f"expected a value of {name} for each of {len(epochs)} epochs, got {values.shape = }")
    if max(len(loss), len(accuracy)) > MAX_LINES:
        raise VidactError(f"expected up to {MAX_LINES} series in a panel, got {len(loss)} and {len(accuracy)}")
    legend_inches = 0.17 * (max(len(loss), len(accuracy)) + 1) + 0.1
    figure = titled_figure(8.0, 3.0 + legend_inches, title=title)
    left = add_axes(figure, 0.75, 0.5, width=3.0, height=2.4)
    right = add_axes(figure, 4.8, 0.5, width=3.0, height=2.4)
    _draw_series(left, epochs, loss, label="loss (cross-entropy, nats)")
    percent = {name: 100 * values for name, values in accuracy.items()}
    _draw_series(right, epochs, percent, label="accuracy (% of clips)")
    right.set_ylim(0, 100)
    if chance is not None:
        label = f"chance, {100 * chance:.1f} %"
        right.axhline(100 * chance, color="black", linestyle=(0, (1, 2)), linewidth=1, label=label)
    for axes in (left, right):
        if best_epoch is not None:
            axes.axvline(best_epoch, color="0.5", linewidth=1, label=f"best epoch, {best_epoch}")
        legend_above(axes)
    return figure


def _draw_series(
    axes: Axes, epochs: Int[np.ndarray, " E"], series: Mapping[str, Float[np.ndarray, " E"]], *, label: str
) -> None:
    for number, (name, values) in enumerate(series.items()):
        known = np.isfinite(values)
        last = f", last {values[known][-1]:.3g}" if known.any() else ", no value"
        name = fit_text(name, points=TICK_POINTS, inches=MAX_NAME_INCHES, max_lines=1)
        draw_line(axes, epochs[known], values[known], number=number, label=name + last)
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("epoch", fontsize=LABEL_POINTS)
    axes.set_ylabel(label, fontsize=LABEL_POINTS)
    axes.tick_params(labelsize=TICK_POINTS)
    axes.grid(color="0.92", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
