"""Draw which methods are better by which measure, beside controls that do not look at the network."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidact.core.errors import VidactError
from vidact.drawing.evaluation.styles import CONTROL_COLOUR, MethodStyle, method_styles
from vidact.drawing.figure import MARGIN_INCHES, add_axes, titled_figure
from vidact.drawing.text import LABEL_POINTS, TICK_POINTS, fit_text, text_inches

MAX_COLUMNS = 2
PANEL_INCHES = 2.7
NAME_INCHES = 1.75
ROW_INCHES = 0.2
GAP_ROWS = 0.6  # between methods and controls
HEAD_INCHES = 0.34
FOOT_INCHES = 0.5
KEY_INCHES = 0.22
NOT_MEASURED = "none"


@dataclass(frozen=True)
class Estimate:
    """A mean of any size with its 95 % interval.

    Attributes:
        value: The mean.
        low: Lower end; NaN where there is no interval.
        high: Upper end.
        count: Of how many clips.
    """

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class RankPanel:
    """One measure of several methods.

    Attributes:
        measure: Its name, in words.
        label: Of the axis: what the numbers are, with their unit.
        values: Of each method; None where nothing was measured.
        higher_is_better: Which end is the good one.
        reference: The value of no effect, as 0 for a difference, or chance; None if there is none.
    """

    measure: str
    label: str
    values: dict[str, Estimate | None]
    higher_is_better: bool = True
    reference: float | None = 0.0


def ranked(panel: RankPanel, *, controls: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sort a panel's methods and its controls, the best first, those without a value last."""

    def badness(name: str) -> float:
        estimate = panel.values[name]
        if estimate is None or not math.isfinite(estimate.value):
            return math.inf
        return -estimate.value if panel.higher_is_better else estimate.value

    names = sorted(panel.values, key=badness)
    return [name for name in names if name not in controls], [name for name in names if name in controls]


def rank_dots(panels: Sequence[RankPanel], *, methods: Sequence[str], controls: Sequence[str], title: str) -> Figure:
    """Draw a panel per measure: each method as a dot with its 95 % interval, the best on top, controls below in gray.

    A dotted line goes up from the best control, a solid one marks the value of no effect.

    Args:
        panels: At least one.
        methods: All methods in the order that gives them their colours, as in `faithfulness.perturbation_curves`.
        controls: Methods that look at no network.
        title: Of any length and in any script.

    Raises:
        VidactError: there is no panel, or one without methods or with one that is not among `methods`.
    """
    if not panels or not all(panel.values and set(panel.values) <= set(methods) for panel in panels):
        raise VidactError("expected at least one panel, and in each of them some of the methods")
    styles = method_styles(methods, controls=[name for name in methods if name in controls])
    left = MARGIN_INCHES + 0.14 + 1.06 * max(text_inches(_short(name), points=TICK_POINTS) for name in methods)
    right = 0.1 + 1.08 * max(
        text_inches(text, points=TICK_POINTS) for panel in panels for text in _texts(panel).values()
    )
    columns = min(MAX_COLUMNS, len(panels))
    step_across = left + PANEL_INCHES + right + MARGIN_INCHES
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [max(ROW_INCHES * _num_rows(panel, controls) for panel in row) for row in rows]
    body = sum(heights) + len(rows) * (HEAD_INCHES + FOOT_INCHES)
    figure = titled_figure(columns * step_across + MARGIN_INCHES, body + KEY_INCHES, title=title)
    bottom = body
    for row, height in zip(rows, heights, strict=True):
        bottom -= HEAD_INCHES + height
        for column, panel in enumerate(row):
            own = ROW_INCHES * _num_rows(panel, controls)
            place = column * step_across + left
            axes = add_axes(figure, place, bottom + height - own, width=PANEL_INCHES, height=own)
            _draw_panel(axes, panel, styles, controls=controls)
        bottom -= FOOT_INCHES
    _draw_key(figure, bottom=body, has_controls=any(set(panel.values) & set(controls) for panel in panels))
    return figure


def decimals_of(values: Iterable[float]) -> int:
    """Choose as many decimals as the largest of some values needs for three digits: 1 to 4."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return min(4, max(1, 2 - math.floor(math.log10(largest)))) if largest else 2


def number_text(value: float, *, decimals: int) -> str:
    """Write a value with a real minus; one that is not finite is `none`."""
    return f"{value:.{decimals}f}".replace("-", "−") if math.isfinite(value) else NOT_MEASURED


def _texts(panel: RankPanel) -> dict[str, str]:
    """Write the value of each method, all with the same decimals."""
    values = {name: math.nan if estimate is None else estimate.value for name, estimate in panel.values.items()}
    decimals = decimals_of(values.values())
    return {name: number_text(value, decimals=decimals) for name, value in values.items()}


def _short(name: str) -> str:
    return fit_text(name, points=TICK_POINTS, inches=NAME_INCHES, max_lines=1)


def _num_rows(panel: RankPanel, controls: Sequence[str]) -> float:
    methods, others = ranked(panel, controls=controls)
    return len(methods) + len(others) + (GAP_ROWS if methods and others else 0.0)


def _draw_panel(axes: Axes, panel: RankPanel, styles: dict[str, MethodStyle], *, controls: Sequence[str]) -> None:
    methods, others = ranked(panel, controls=controls)
    gap = GAP_ROWS if methods and others else 0.0
    places = {name: row + (gap if name in others else 0.0) for row, name in enumerate([*methods, *others])}
    texts = _texts(panel)
    for name, row in places.items():
        _write_right(axes, row, texts[name], colour=_text_colour(name in others))
        _draw_dot(axes, row, panel.values[name], styles[name], is_control=name in others)
    if methods and others:
        axes.axhline(len(methods) - 0.5 + gap / 2, color="0.8", linewidth=0.6)
        best = panel.values[others[0]]
        if best is not None and math.isfinite(best.value):
            axes.axvline(best.value, color=CONTROL_COLOUR, linestyle=(0, (1, 2)), linewidth=1, zorder=0.5)
    if panel.reference is not None:
        axes.axvline(panel.reference, color="0.2", linewidth=0.8, zorder=0.6)
    names = [_short(name) for name in places]
    axes.set_yticks(list(places.values()), names, fontsize=TICK_POINTS, parse_math=False)
    for text, name in zip(axes.get_yticklabels(), places, strict=True):
        text.set_color(_text_colour(name in others))
    axes.set_ylim(len(places) - 0.5 + gap, -0.5)
    _label(axes, panel)


def _text_colour(is_control: bool) -> str:
    return "0.4" if is_control else "black"


def _write_right(axes: Axes, row: float, text: str, *, colour: str) -> None:
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    axes.annotate(text, (1, row), xytext=(5, 0), fontsize=TICK_POINTS, color=colour, annotation_clip=False, **place)


def _draw_dot(axes: Axes, row: float, estimate: Estimate | None, style: MethodStyle, *, is_control: bool) -> None:
    if estimate is None or not math.isfinite(estimate.value):
        return
    if math.isfinite(estimate.low) and math.isfinite(estimate.high):
        axes.plot([estimate.low, estimate.high], [row, row], color=style.colour, linewidth=1.8, solid_capstyle="butt")
    inside, marker = ("white", "o") if is_control else (style.colour, style.marker or "o")
    axes.plot(
        [estimate.value], [row], marker, color=style.colour, markerfacecolor=inside, markersize=5.5, markeredgewidth=1.3
    )


def _label(axes: Axes, panel: RankPanel) -> None:
    head = fit_text(panel.measure, points=LABEL_POINTS, inches=PANEL_INCHES, max_lines=1)
    axes.set_title(head, fontsize=LABEL_POINTS, loc="left", fontweight="bold", parse_math=False, pad=5)
    better = "better →" if panel.higher_is_better else "← better"
    room = PANEL_INCHES - text_inches(f"  ({better})", points=LABEL_POINTS)
    label = fit_text(panel.label, points=LABEL_POINTS, inches=room, max_lines=1)
    axes.set_xlabel(f"{label}  ({better})", fontsize=LABEL_POINTS, parse_math=False)
    axes.tick_params(axis="x", labelsize=TICK_POINTS)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=5)
    axes.ticklabel_format(axis="x", scilimits=(-3, 4), useOffset=False)
    axes.xaxis.get_offset_text().set_fontsize(TICK_POINTS)
    axes.grid(axis="x", color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.margins(x=0.06)


def _draw_key(figure: Figure, *, bottom: float, has_controls: bool) -> None:
    """Say in one line what the lines and the hollow dots are."""
    text = "bars: 95 % intervals, wider for differences" + (
        "; hollow: controls; dotted: the best control" if has_controls else ""
    )
    width = figure.get_figwidth()
    text = fit_text(text, points=LABEL_POINTS, inches=0.95 * (width - 2 * MARGIN_INCHES), max_lines=1)
    y = (bottom + KEY_INCHES / 2) / figure.get_figheight()
    figure.text(MARGIN_INCHES / width, y, text, va="center", fontsize=LABEL_POINTS)
