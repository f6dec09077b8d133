"""Draw bars over the frames of a clip, and the confusion matrix of a run.

It does not know which network, method or data set the numbers come from.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vidact.core import VidactError
from vidact.report.grid import HOTSPOT_COLOUR
from vidact.report.images import (
    AGAINST_COLOUR,
    FOR_COLOUR,
    LOGIT,
    add_axes,
    check_frames,
    titled_figure,
)
from vidact.report.text import LABEL_POINTS, TICK_POINTS, fit_text, text_inches
from vidact.report.timeline import frames_per_bar, means_of

MAX_NAME_INCHES = 1.8
MAX_CLASSES_WITH_NUMBERS = 20
MAX_BARS = 100  # more are thinner than print shows


def frame_relevance_bars(
    positive: Float[np.ndarray, " T"],
    negative: Float[np.ndarray, " T"],
    frame_numbers: Int[np.ndarray, " T"],
    times_seconds: Float[np.ndarray, " T"],
    *,
    title: str,
    unit: str = LOGIT,
) -> Figure:
    """Draw what speaks for the target in each frame upwards, what speaks against it downwards, and their sum.

    Of more than 100 frames, neighbours share a bar, their mean; the axis says how many.

    Args:
        positive: Sum of a frame's positive relevance.
        negative: Sum of a frame's negative relevance, zero or below.
        frame_numbers: Which frames of the file these are, from 0.
        times_seconds: When they are shown.
        title: Of any length and in any script; what the font lacks is drawn as �.
        unit: Of the relevance.

    Raises:
        VidactError: the shapes do not fit each other, a value is not finite, or has the wrong sign.
    """
    if positive.ndim != 1 or positive.shape != negative.shape:
        raise VidactError(f"expected two arrays [T], got {positive.shape = }, {negative.shape = }")
    if not (np.isfinite(positive).all() and np.isfinite(negative).all()):
        raise VidactError("expected finite relevance, got NaN or infinite values")
    if positive.min(initial=0) < 0 or negative.max(initial=0) > 0:
        raise VidactError(f"expected positive >= 0 and negative <= 0, got {positive.min() = :g}, {negative.max() = :g}")
    figure, axes = _frame_axes(frame_numbers, times_seconds, num_frames=len(positive), title=title, legend_inches=0.3)
    size = frames_per_bar(len(positive), max_bars=MAX_BARS)
    positive, negative = (means_of(part, size=size) if size > 1 else part for part in (positive, negative))
    places = np.arange(len(positive))
    axes.bar(places, positive, color=FOR_COLOUR, label="for the target")
    axes.bar(places, negative, color=AGAINST_COLOUR, label="against the target")
    marker = "o" if len(places) <= 40 else ""
    axes.plot(places, positive + negative, "-", marker=marker, color="black", markersize=3, linewidth=1, label="net")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel(f"relevance per frame ({unit})", fontsize=LABEL_POINTS)
    axes.ticklabel_format(axis="y", scilimits=(-2, 3), useOffset=False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=LABEL_POINTS, frameon=False)
    return figure


def hotspots_per_frame_bars(
    counts: Int[np.ndarray, " T"],
    frame_numbers: Int[np.ndarray, " T"],
    times_seconds: Float[np.ndarray, " T"],
    *,
    title: str,
    threshold: float,
) -> Figure:
    """Draw how many hotspots each frame holds; of more than 100 frames, neighbours share a bar, their mean.

    Args:
        counts: Number of hotspots per frame.
        frame_numbers: Which frames of the file these are, from 0.
        times_seconds: When they are shown.
        title: Of any length and in any script; what the font lacks is drawn as �.
        threshold: A voxel is a hotspot if its relevance is at least this share of max|R| over the clip.

    Raises:
        VidactError: the shapes do not fit each other, or a count is below zero.
    """
    if counts.ndim != 1:
        raise VidactError(f"expected counts [T], got {counts.shape = }")
    if counts.min(initial=0) < 0:
        raise VidactError(f"expected counts of 0 or more, got {counts.min() = }")
    figure, axes = _frame_axes(frame_numbers, times_seconds, num_frames=len(counts), title=title)
    size = frames_per_bar(len(counts), max_bars=MAX_BARS)
    heights = means_of(counts.astype(np.float64), size=size) if size > 1 else counts
    axes.bar(np.arange(len(heights)), heights, color=HOTSPOT_COLOUR)
    axes.set_ylim(0, 1.05 * max(1.0, float(heights.max())))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(f"hotspots (voxels, R ≥ {threshold:g} · max |R|)", fontsize=LABEL_POINTS)
    return figure


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


def _frame_axes(
    frame_numbers: Int[np.ndarray, " T1"],
    times_seconds: Float[np.ndarray, " T2"],
    *,
    num_frames: int,
    title: str,
    legend_inches: float = 0.0,
) -> tuple[Figure, Axes]:
    """Lay out axes with a place per bar, from 0, and as many labels of (first) frames as have room."""
    check_frames(frame_numbers, times_seconds, num_frames=num_frames)
    size = frames_per_bar(num_frames, max_bars=MAX_BARS)
    num_bars = math.ceil(num_frames / size)
    width = min(max(1.2 + 0.42 * num_bars, 5.0), 8.0)
    figure = titled_figure(width, 3.1 + legend_inches, title=title)
    axes = add_axes(figure, 0.85, 0.7, width=width - 1.0, height=2.4)
    labels = [
        f"{number}\n{seconds:.2f}" for number, seconds in zip(frame_numbers[::size], times_seconds[::size], strict=True)
    ]
    widest = max(text_inches(line, points=TICK_POINTS) for text in labels for line in text.split("\n"))
    step = math.ceil((widest + 0.08) * num_bars / (width - 1.0))
    axes.set_xticks(range(0, num_bars, step), labels[::step], fontsize=TICK_POINTS)
    axes.set_xlim(-0.6, num_bars - 0.4)
    shared = f"; each bar is the mean of {size} frames, of which this is the first" if size > 1 else ""
    axes.set_xlabel(f"frame number, and below it its time (s){shared}", fontsize=LABEL_POINTS)
    axes.tick_params(axis="y", labelsize=TICK_POINTS)
    axes.yaxis.get_offset_text().set_fontsize(TICK_POINTS)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


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
