"""Draw how much of a network's right answers hang on each part of a clip, beside the margin."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vidact.core.errors import VidactError
from vidact.drawing.figure import MARGIN_INCHES, add_axes, titled_figure
from vidact.drawing.text import LABEL_POINTS, TICK_POINTS, fit_text, text_inches

ROW_INCHES = 0.34
PLOT_INCHES = 3.4
FOOT_INCHES = 0.55
COLOURS = {"leans": "#b2182b", "does not lean": "#2166ac", "cannot say": "#767676"}
MARKERS = {"leans": "o", "does not lean": "s", "cannot say": "D"}  # told apart without colours, too


@dataclass(frozen=True)
class LeanRow:
    """One finding.

    Attributes:
        name: What the network may lean on.
        verdict: `leans`, `does not lean` or `cannot say`.
        value: The lean; None where it is not defined.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    name: str
    verdict: str
    value: float | None
    low: float | None
    high: float | None


def lean_plot(rows: Sequence[LeanRow], *, margin: float, title: str) -> Figure:
    """Draw a line per finding: the lean as a dot with its 95 % interval, and the margin as a band around 0.

    Args:
        rows: From top to bottom.
        margin: δ.
        title: Of any length.

    Raises:
        VidactError: there is no finding.
    """
    if not rows:
        raise VidactError("expected a finding or more to draw")
    names = [fit_text(row.name, inches=2.2, points=TICK_POINTS, max_lines=1) for row in rows]
    left = MARGIN_INCHES + 0.1 + 1.06 * max(text_inches(name, points=TICK_POINTS) for name in names)
    right = 0.2 + 1.1 * max(text_inches(row.verdict, points=TICK_POINTS) for row in rows)
    height = ROW_INCHES * len(rows)
    figure = titled_figure(left + PLOT_INCHES + right + MARGIN_INCHES, height + FOOT_INCHES, title=title)
    axes = add_axes(figure, left, FOOT_INCHES, width=PLOT_INCHES, height=height)
    axes.axvspan(-margin, margin, color="#e6e6e6", linewidth=0)
    axes.axvline(0, color="#767676", linewidth=1)
    for place, row in enumerate(rows):
        colour = COLOURS[row.verdict]
        if row.value is not None:
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot(row.value, place, MARKERS[row.verdict], color=colour, markersize=6)
        axes.text(
            1.02,
            place,
            row.verdict,
            color=colour,
            fontsize=TICK_POINTS,
            va="center",
            transform=axes.get_yaxis_transform(),
        )
    ends = [end for row in rows for end in (row.low, row.high, row.value) if end is not None]
    axes.set_xlim(min(-1.5 * margin, *ends, -0.02) - 0.03, max([1.0, *ends]) + 0.03)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), names, fontsize=TICK_POINTS)
    axes.tick_params(axis="x", labelsize=TICK_POINTS)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"lean: share of right answers that hang on it (gray: margin {margin:g})", fontsize=LABEL_POINTS)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure


def cells_plot(
    lean: Float[np.ndarray, "R C"], clear: Sequence[Sequence[bool]], *, frame: Float[np.ndarray, "H W"], title: str
) -> Figure:
    """Draw the lean of each cell over the mean frame; cells that are clearly above the margin have a thick border.

    Args:
        lean: Of each cell; NaN where it is not defined.
        clear: Whether a cell's interval lies above the margin.
        frame: The mean of all clips, in [0, 1].
        title: Of any length.
    """
    rows, columns = lean.shape
    height, width = frame.shape
    side = 3.6
    tall = side * height / width
    figure = titled_figure(side + 2 * MARGIN_INCHES, tall + MARGIN_INCHES, title=title)
    axes = add_axes(figure, MARGIN_INCHES, MARGIN_INCHES, width=side, height=tall)
    axes.imshow(frame, cmap="gray", vmin=0, vmax=1, extent=(0, columns, rows, 0), aspect="auto", alpha=0.6)
    for row in range(rows):
        for column in range(columns):
            value = lean[row, column]
            strength = 0.0 if np.isnan(value) else float(np.clip(value, 0, 1))
            edge = 3.0 if clear[row][column] else 0.5
            cell = Rectangle((column, row), 1, 1, facecolor=(0.7, 0.09, 0.17, 0.75 * strength), linewidth=edge)
            cell.set_edgecolor("#67001f" if edge > 1 else "white")
            axes.add_patch(cell)
            told = "–" if np.isnan(value) else f"{value:.2f}".replace("-", "−")
            axes.text(
                column + 0.5,
                row + 0.5,
                told,
                ha="center",
                va="center",
                fontsize=LABEL_POINTS,
                color="black",
                bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "boxstyle": "round,pad=0.2"},
            )
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    axes.set_xticks([])
    axes.set_yticks([])
    return figure
