"""Draw a confusion matrix."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidact.core.errors import VidactError
from vidact.drawing.figure import (
    add_axes,
    titled_figure,
)
from vidact.drawing.text import LABEL_POINTS, TICK_POINTS, fit_text, text_inches

MAX_NAME_INCHES = 1.8


MAX_CLASSES_WITH_NUMBERS = 20


def confusion_matrix(matrix: Int[np.ndarray, "K K"], class_names: Sequence[str], *, title: str) -> Figure:
    """Draw which classes are taken for which: rows are true, columns predicted.

    A cell's colour is its share of its row; a row without clips is gray. Up to 20 classes have numbers.

    Args:
        matrix: Number of clips per true (row) and predicted (column) class.
        class_names: One per class; a very long name is cut and ends with ….
        title: Of any length and in any script; what the font lacks is drawn as �.

    Raises:
        VidactError: the matrix is not square, has no class or another number of classes, or a count below zero.
    """
    num_classes = len(class_names)
    if num_classes == 0 or matrix.shape != (num_classes, num_classes):
        raise VidactError(
            f"expected a matrix [{num_classes}, {num_classes}] as class_names has it, got {matrix.shape = }"
        )
    if matrix.min() < 0:
        raise VidactError(f"expected counts of 0 or more, got {matrix.min() = }")
    names = [fit_text(name, points=TICK_POINTS, inches=MAX_NAME_INCHES, max_lines=1) for name in class_names]
    figure, axes = _matrix_axes(names, cell_inches=_cell_inches(matrix), title=title)
    shares = _row_shares(matrix)
    image = axes.imshow(shares, cmap=colormaps["Blues"].with_extremes(bad="0.9"), vmin=0, vmax=1)
    if num_classes <= MAX_CLASSES_WITH_NUMBERS:
        _write_cells(axes, image.to_rgba(shares), matrix)
    bar = figure.colorbar(image, cax=_bar_axes(figure, axes))
    bar.set_label("share of the row (gray: no clips)", fontsize=LABEL_POINTS)
    bar.ax.tick_params(labelsize=TICK_POINTS)
    return figure


def _cell_inches(matrix: Int[np.ndarray, "K K"]) -> float:
    """Choose a cell's side: room for the widest number, and for a label's height where there are none."""
    if len(matrix) > MAX_CLASSES_WITH_NUMBERS:
        return 0.17
    widest = text_inches(str(matrix.max()), points=TICK_POINTS)
    return max(0.3, widest + 0.1, 2.0 / len(matrix))


def _matrix_axes(names: Sequence[str], *, cell_inches: float, title: str) -> tuple[Figure, Axes]:
    """Lay out square cells, with room for the names at the left and, upright, below."""
    room = max(text_inches(name, points=TICK_POINTS) for name in names) + 0.45
    side = cell_inches * len(names)
    figure = titled_figure(room + side + 0.95, room + side + 0.05, title=title)
    axes = add_axes(figure, room, room, width=side, height=side)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90, fontsize=TICK_POINTS, parse_math=False)
    axes.set_yticks(places, names, fontsize=TICK_POINTS, parse_math=False)
    axes.set_xlabel("predicted class", fontsize=LABEL_POINTS)
    axes.set_ylabel("true class", fontsize=LABEL_POINTS)
    return figure, axes


def _bar_axes(figure: Figure, axes: Axes) -> Axes:
    """Add axes for a colour bar at the right of others."""
    place = axes.get_position()
    figure_width, figure_height = figure.get_size_inches()
    height = min(place.height * figure_height, 4.0)
    bottom = place.y1 * figure_height - height
    return add_axes(figure, place.x1 * figure_width + 0.15, bottom, width=0.14, height=height)


def _row_shares(matrix: Int[np.ndarray, "K K"]) -> Float[np.ndarray, "K K"]:
    """Divide each row by its sum; a row without clips is NaN."""
    totals = matrix.sum(axis=1, keepdims=True)
    shares: Float[np.ndarray, "K K"] = np.full(matrix.shape, np.nan)
    np.divide(matrix, totals, out=shares, where=totals > 0)
    return shares


def _write_cells(axes: Axes, colours: Float[np.ndarray, "K K 4"], matrix: Int[np.ndarray, "K K"]) -> None:
    luminance = colours[..., :3] @ (0.2126, 0.7152, 0.0722)  # ITU-R BT.709
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if luminance[row, column] < 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", fontsize=TICK_POINTS, color=colour)
