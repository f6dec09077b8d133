"""Draw which class a network says where the actor is of one class, and the background of another."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure

from vidact.core.errors import VidactError
from vidact.drawing.figure import MARGIN_INCHES, add_axes, titled_figure
from vidact.drawing.text import LABEL_POINTS, TICK_POINTS, fit_text, text_inches

MOST_NUMBERED = 16  # classes with a number in each cell
WIDE_CELL, NARROW_CELL = 0.5, 0.19


def conflict_plot(
    said: Int[np.ndarray, "K K"], pairs: Int[np.ndarray, "K K"], class_names: Sequence[str], *, title: str
) -> Figure:
    """Draw the share of predictions that name the background's class, for each two classes.

    Args:
        said: How many predictions name the background's class [actor, background].
        pairs: Of how many; a cell without any stays empty.
        class_names: Names of the classes.
        title: Of any length.

    Raises:
        VidactError: there is no pair.
    """
    count = len(class_names)
    if not pairs.any():
        raise VidactError("expected a clip or more with the background of another class")
    share = np.where(pairs > 0, said / np.maximum(pairs, 1), np.nan)
    cell = WIDE_CELL if count <= MOST_NUMBERED else NARROW_CELL
    names = [fit_text(name, inches=1.4, points=TICK_POINTS, max_lines=1) for name in class_names]
    room = 0.15 + 1.06 * max(text_inches(name, points=TICK_POINTS) for name in names)
    side = max(cell * count, 2.4)
    left, bottom = MARGIN_INCHES + 0.25 + room, MARGIN_INCHES + 0.25 + room
    figure = titled_figure(left + side + 0.95, bottom + side + 0.05, title=title)
    axes = add_axes(figure, left, bottom, width=side, height=side)
    image = axes.imshow(share, cmap="Reds", vmin=0, vmax=1, aspect="auto")
    axes.set_facecolor("#eeeeee")
    for row, column in np.argwhere(pairs > 0) if count <= MOST_NUMBERED else ():
        value = share[row, column]
        colour = "white" if value > 0.6 else "black"
        axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=TICK_POINTS, color=colour)
    axes.set_xticks(range(count), names, fontsize=TICK_POINTS, rotation=90, parse_math=False)
    axes.set_yticks(range(count), names, fontsize=TICK_POINTS, parse_math=False)
    axes.tick_params(length=0)
    middle_x, middle_y = (left + side / 2) / figure.get_figwidth(), (bottom + side / 2) / figure.get_figheight()
    figure.text(
        middle_x, MARGIN_INCHES / figure.get_figheight(), "class of the background", ha="center", fontsize=LABEL_POINTS
    )
    figure.text(
        MARGIN_INCHES / figure.get_figwidth(),
        middle_y,
        "class of the actor",
        va="center",
        rotation=90,
        fontsize=LABEL_POINTS,
    )
    bar = figure.colorbar(image, cax=add_axes(figure, left + side + 0.15, bottom, width=0.14, height=side))
    bar.set_ticks([0, 0.5, 1], labels=["0 %", "50 %", "100 %"])
    bar.ax.tick_params(labelsize=TICK_POINTS, length=2)
    return figure
