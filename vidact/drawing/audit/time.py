"""Draw how much of a network's right answers hang on each stretch of time, and on the order of frames."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidact.core.errors import VidactError
from vidact.drawing.audit.lean import COLOURS
from vidact.drawing.figure import MARGIN_INCHES, add_axes, titled_figure
from vidact.drawing.text import LABEL_POINTS, TICK_POINTS

PANEL_INCHES = 3.5
HEIGHT_INCHES = 2.4
LEFT_INCHES = 0.75
FOOT_INCHES = 0.65
FOUND = COLOURS["does not lean"]


@dataclass(frozen=True)
class Ends:
    """A number with its 95 % interval; None where it is not defined."""

    name: str
    value: float | None
    low: float | None
    high: float | None


def time_plot(stretches: Sequence[Ends], orders: Sequence[Ends], *, margin: float, title: str) -> Figure:
    """Draw the lean on each stretch of time, and beside it the accuracy with the frames in other orders.

    Args:
        stretches: Leans, in the order of time; may be empty.
        orders: Accuracies, the first of the clips as they are; may be empty.
        margin: δ.
        title: Of any length.

    Raises:
        VidactError: there is neither.
    """
    draws = [draw for draw, own in ((_stretches, stretches), (_orders, orders)) if own]
    if not draws:
        raise VidactError("expected a stretch of time or an order of frames to draw")
    step = LEFT_INCHES + PANEL_INCHES
    figure = titled_figure(len(draws) * step + 2 * MARGIN_INCHES, HEIGHT_INCHES + FOOT_INCHES, title=title)
    for place, draw in enumerate(draws):
        axes = add_axes(figure, place * step + LEFT_INCHES, FOOT_INCHES, width=PANEL_INCHES, height=HEIGHT_INCHES)
        draw(axes, stretches if draw is _stretches else orders, margin)
        axes.tick_params(labelsize=TICK_POINTS)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure


def _stretches(axes: Axes, stretches: Sequence[Ends], margin: float) -> None:
    axes.axhspan(-margin, margin, color="#e6e6e6", linewidth=0)
    axes.axhline(0, color="#767676", linewidth=1)
    for place, one in enumerate(stretches):
        _interval(axes, place, one, colour=FOUND, scale=1)
        if one.value is not None:
            axes.plot(place, one.value, "o", color=FOUND, markersize=5)
    ends = [end for one in stretches for end in (one.value, one.low, one.high) if end is not None]
    axes.set_ylim(min([-1.5 * margin, *ends]) - 0.03, max([3 * margin, *ends]) + 0.03)
    axes.set_xlim(-0.6, len(stretches) - 0.4)
    axes.set_xticks(range(len(stretches)), [one.name for one in stretches])
    axes.set_xlabel(f"stretch of time (gray: margin {margin:g})", fontsize=LABEL_POINTS)
    axes.set_ylabel("lean", fontsize=LABEL_POINTS)


def _orders(axes: Axes, orders: Sequence[Ends], margin: float) -> None:
    del margin
    for place, one in enumerate(orders):
        if one.value is not None:
            axes.bar(place, 100 * one.value, width=0.6, color="#92c5de" if place else "#d0d0d0")
        low, high = (None if end is None else min(1.0, max(0.0, end)) for end in (one.low, one.high))
        _interval(axes, place, Ends(one.name, one.value, low, high), colour="black", scale=100)
    axes.set_ylim(0, 104)
    axes.set_xlim(-0.6, len(orders) - 0.4)
    axes.set_xticks(range(len(orders)), [one.name for one in orders])
    axes.set_xlabel("order of frames", fontsize=LABEL_POINTS)
    axes.set_ylabel("right, in %", fontsize=LABEL_POINTS)


def _interval(axes: Axes, place: int, one: Ends, *, colour: str, scale: int) -> None:
    if one.low is not None and one.high is not None:
        axes.plot([place, place], [scale * one.low, scale * one.high], color=colour, linewidth=1.6)
