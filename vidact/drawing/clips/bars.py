"""Draw bar charts over the frames of a clip: relevance per frame, hotspots per frame."""

import math

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vidact.core.errors import VidactError
from vidact.drawing.figure import (
    AGAINST_COLOUR,
    FOR_COLOUR,
    add_axes,
    check_frames,
    titled_figure,
)
from vidact.drawing.grid import HOTSPOT_COLOUR
from vidact.drawing.text import LABEL_POINTS, TICK_POINTS, text_inches
from vidact.drawing.timeline import frames_per_bar, means_of

MAX_BARS = 100  # more are thinner than print shows


def frame_relevance_bars(
    positive: Float[np.ndarray, " T"],
    negative: Float[np.ndarray, " T"],
    frame_numbers: Int[np.ndarray, " T"],
    times_seconds: Float[np.ndarray, " T"],
    *,
    title: str,
    unit: str,
) -> Figure:
    """Draw each frame's positive relevance upwards, its negative relevance downwards, and their sum as a line.

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
