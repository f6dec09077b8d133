"""Draw how many clips are classified correctly for each value of each of their tags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidact.core.errors import VidactError
from vidact.drawing.audit.lean import COLOURS
from vidact.drawing.figure import MARGIN_INCHES, add_axes, titled_figure
from vidact.drawing.text import LABEL_POINTS, TICK_POINTS, fit_text, text_inches

ROW_INCHES = 0.24
HEAD_INCHES = 0.36
FOOT_INCHES = 0.6
PLOT_INCHES = 3.6
PLAIN = "#4d4d4d"


@dataclass(frozen=True)
class ValueRow:
    """The clips with one value of a tag.

    Attributes:
        value: Of the tag.
        right: Share of right answers; None where it is not defined.
        low: Lower end of the 95 % interval.
        high: Upper end.
        clips: How many there are.
        sources: How many sources they come from.
    """

    value: str
    right: float | None
    low: float | None
    high: float | None
    clips: int
    sources: int


def tags_plot(
    rows: Mapping[str, Sequence[ValueRow]],
    q: Mapping[str, float],
    *,
    level: float,
    accuracy: float | None,
    title: str,
) -> Figure:
    """Draw a panel per tag and a dot with its 95 % interval per value; tags with q <= level are red and say so.

    Args:
        rows: By tag, from top to bottom.
        q: By tag: how often chance does as much, corrected for the number of tags.
        level: Up to which q predictions go with a tag.
        accuracy: Of all clips, drawn as a dashed line.
        title: Of any length.

    Raises:
        VidactError: there is no tag.
    """
    if not rows:
        raise VidactError("expected a tag or more to draw")
    names = {
        tag: [
            f"{fit_text(row.value, inches=1.2, points=TICK_POINTS, max_lines=1)}  ({row.clips} / {row.sources})"
            for row in own
        ]
        for tag, own in rows.items()
    }
    left = (
        MARGIN_INCHES + 0.15 + 1.06 * max(text_inches(one, points=TICK_POINTS) for own in names.values() for one in own)
    )
    width = left + PLOT_INCHES + 2 * MARGIN_INCHES + 0.1
    height = sum(HEAD_INCHES + ROW_INCHES * len(own) for own in rows.values())
    figure = titled_figure(width, height + FOOT_INCHES, title=title)
    bottom = height + FOOT_INCHES
    for tag, own in rows.items():
        bottom -= HEAD_INCHES + ROW_INCHES * len(own)
        axes = add_axes(figure, left, bottom, width=PLOT_INCHES, height=ROW_INCHES * len(own))
        is_marked = q[tag] <= level
        colour = COLOURS["leans"] if is_marked else PLAIN
        _draw_values(axes, own, colour)
        if accuracy is not None:
            axes.axvline(100 * accuracy, color="#767676", linewidth=1, linestyle="--", zorder=0)
        axes.set_xlim(-3, 103)
        axes.set_ylim(len(own) - 0.5, -0.5)
        axes.set_yticks(range(len(own)), names[tag], fontsize=TICK_POINTS, parse_math=False)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=TICK_POINTS, labelbottom=bottom < FOOT_INCHES + 0.01)
        says = f"{tag}: predictions go with it (q = {q[tag]:.3f})" if is_marked else f"{tag} (q = {q[tag]:.3f})"
        says = fit_text(says, inches=PLOT_INCHES, points=LABEL_POINTS, max_lines=1)
        weight = "bold" if is_marked else "normal"
        axes.set_title(says, loc="left", fontsize=LABEL_POINTS, color=colour, weight=weight, pad=3, parse_math=False)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    dashed = "" if accuracy is None else "; dashed: of all clips"
    figure.text(
        0.5, 0.08 / figure.get_figheight(), f"right, in % (clips / sources{dashed})", ha="center", fontsize=LABEL_POINTS
    )
    return figure


def _draw_values(axes: Axes, own: Sequence[ValueRow], colour: str) -> None:
    for place, row in enumerate(own):
        if row.low is not None and row.high is not None:
            axes.plot([100 * max(0, row.low), 100 * min(1, row.high)], [place, place], color=colour, linewidth=2)
        if row.right is not None:
            axes.plot(100 * row.right, place, "o", color=colour, markersize=5)
