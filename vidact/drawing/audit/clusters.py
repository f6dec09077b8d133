"""Draw where the relevance of each group of a class's clips lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidact.core.errors import VidactError
from vidact.drawing.figure import MARGIN_INCHES, add_axes, titled_figure
from vidact.drawing.text import LABEL_POINTS, TITLE_POINTS, fit_text

SIDE_INCHES = 1.6
TEXT_INCHES = 0.42
HEAD_INCHES = 0.3
FOOT_INCHES = 0.3


@dataclass(frozen=True)
class GroupMap:
    """A group of clips.

    Attributes:
        mean: Its mean map of relevance.
        peak: Cells in which it has more than the others.
        clips: How many there are.
        sources: How many sources they come from.
        is_confirmed: Whether exchanging the peak changes its clips more than others.
    """

    mean: Float[np.ndarray, "h w"]
    peak: Bool[np.ndarray, "h w"]
    clips: int
    sources: int
    is_confirmed: bool


def clusters_plot(
    groups: Mapping[str, Sequence[GroupMap]], *, frame: Float[np.ndarray, "H W"] | None, title: str
) -> Figure:
    """Draw a row per class and a map per group: red where relevance lies, and a line around the peak.

    Args:
        groups: Of each class.
        frame: The mean of all clips, in [0, 1], to draw over; None for gray.
        title: Of any length.

    Raises:
        VidactError: there is no class.
    """
    if not groups:
        raise VidactError("expected a class or more with groups of clips to draw")
    columns = max(2, *(len(own) for own in groups.values()))
    tall = SIDE_INCHES if frame is None else SIDE_INCHES * frame.shape[0] / frame.shape[1]
    step, row_height = SIDE_INCHES + MARGIN_INCHES, HEAD_INCHES + tall + TEXT_INCHES
    figure = titled_figure(columns * step + MARGIN_INCHES, len(groups) * row_height + FOOT_INCHES, title=title)
    inches = figure.dpi_scale_trans
    for row, (name, own) in enumerate(groups.items()):
        bottom = FOOT_INCHES + (len(groups) - 1 - row) * row_height + TEXT_INCHES
        head = fit_text(name, inches=columns * step - MARGIN_INCHES, points=TITLE_POINTS, max_lines=1)
        figure.text(
            MARGIN_INCHES, bottom + tall + 0.07, head, fontsize=TITLE_POINTS, transform=inches, parse_math=False
        )
        largest = max(float(one.mean.max()) for one in own) or 1.0
        for place, one in enumerate(own):
            left = MARGIN_INCHES + place * step
            _draw_group(add_axes(figure, left, bottom, width=SIDE_INCHES, height=tall), one, frame, largest)
            told = "confirmed" if one.is_confirmed else "not confirmed"
            text = f"{one.clips} clips / {one.sources} sources\n{told}"
            weight = "bold" if one.is_confirmed else "normal"
            figure.text(
                left + SIDE_INCHES / 2,
                bottom - 0.05,
                text,
                ha="center",
                va="top",
                fontsize=LABEL_POINTS,
                weight=weight,
                transform=inches,
            )
    foot = fit_text(
        "red: relevance; line: what the group has more", inches=columns * step, points=LABEL_POINTS, max_lines=1
    )
    figure.text(MARGIN_INCHES, 0.08, foot, fontsize=LABEL_POINTS, transform=inches)
    return figure


def _draw_group(axes: Axes, group: GroupMap, frame: Float[np.ndarray, "H W"] | None, largest: float) -> None:
    rows, columns = group.mean.shape
    extent = (0, columns, rows, 0)
    background = np.full((1, 1), 0.6) if frame is None else frame
    axes.imshow(background, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto", alpha=0.7)
    colours = np.zeros((rows, columns, 4))
    colours[...] = (0.7, 0.09, 0.17, 0)
    colours[..., 3] = 0.85 * np.clip(group.mean / largest, 0, 1)
    axes.imshow(colours, extent=extent, aspect="auto", interpolation="nearest")
    padded = np.pad(group.peak, 1)
    for axis in (0, 1):  # a line between two cells, of which one is in the peak
        for row, column in np.argwhere(np.diff(padded.astype(int), axis=axis) != 0):
            across, down = ((column - 1, column), (row, row)) if axis == 0 else ((column, column), (row - 1, row))
            axes.plot(across, down, color="black", linewidth=2, solid_capstyle="round", clip_on=False)
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    axes.set_xticks([])
    axes.set_yticks([])
