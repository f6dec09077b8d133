"""Draw perturbation curves: how a score falls when parts of a clip are replaced in the order of their relevance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidact.core.errors import VidactError
from vidact.drawing.evaluation.styles import MethodStyle, method_styles
from vidact.drawing.figure import MARGIN_INCHES, add_axes, titled_figure
from vidact.drawing.text import LABEL_POINTS, TICK_POINTS, fit_text, text_inches

MAX_COLUMNS = 2
MAX_BANDED = 3
BAND_SHARE = 0.3  # of the range of all curves: how far beyond it bands are shown
PANEL_INCHES = 3.2
LEFT_INCHES = 0.75
NAME_INCHES = 1.6
ROW_INCHES = 0.17
SWATCH_INCHES = 0.3
KEY_INCHES = 0.3
FOOT_INCHES = 0.5
HEAD_INCHES = 0.32
RANDOM_COLOUR = "0.85"
DASHES = (0, (3.5, 1.8))
AREA = "ABPC"
AREA_IN_WORDS = "ABPC: mean distance between the two"


@dataclass(frozen=True)
class Band:
    """A mean curve with its 95 % interval at every step; NaN where there is none.

    Attributes:
        mean: Over clips, of all S steps.
        low: Lower ends.
        high: Upper ends.
    """

    mean: Float[np.ndarray, " S"] = field(repr=False)
    low: Float[np.ndarray, " S1"] = field(repr=False)
    high: Float[np.ndarray, " S2"] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.mean.shape == self.low.shape == self.high.shape:
            shapes = f"{self.mean.shape}, {self.low.shape} and {self.high.shape}"
            raise VidactError(f"expected a mean and both ends at every step, got {shapes}")


@dataclass(frozen=True)
class MethodCurves:
    """The two perturbation curves of a method.

    Attributes:
        method: Its name, of any length.
        most_first: The score, the most relevant units being replaced first (MoRF).
        least_first: The same, the least relevant first (LeRF).
    """

    method: str
    most_first: Band
    least_first: Band

    @property
    def gap(self) -> float:
        """The area between the two, ABPC (Samek et al. 2017); NaN where a step has no value."""
        return float(np.mean(self.least_first.mean - self.most_first.mean))


@dataclass(frozen=True)
class FillPanel:
    """The curves of one fill-in.

    Attributes:
        fill: What replaces the units, in words.
        share_removed: Share of the units that are replaced at each step, from 0 to 1.
        methods: Each with as many steps.
        random_order: The score when units are replaced in random order.
    """

    fill: str
    share_removed: Float[np.ndarray, " S"] = field(repr=False)
    methods: tuple[MethodCurves, ...]
    random_order: Band | None = None

    def __post_init__(self) -> None:
        bands = [band for one in self.methods for band in (one.most_first, one.least_first)]
        for band in [*bands, *([self.random_order] if self.random_order else [])]:
            if band.mean.shape != self.share_removed.shape:
                raise VidactError(
                    f"{self.fill}: expected a value at each of {len(self.share_removed)} steps, got {band.mean.shape}"
                )


def perturbation_curves(panels: Sequence[FillPanel], *, controls: Sequence[str], unit_name: str, title: str) -> Figure:
    """Draw a panel per fill-in: each method's two curves with their bands, and those of random order in gray.

    With more than three methods only the best one and the best control have bands, as more bands would hide each other.

    Beside a panel its methods are listed by the area between their curves, the widest first: the list is the legend.

    Args:
        panels: At least one.
        controls: Methods that look at no network; they are gray.
        unit_name: What is replaced, in the plural: tubes.
        title: Of any length and in any script.

    Raises:
        VidactError: there is no panel, or one without methods.
    """
    if not panels or not all(panel.methods for panel in panels):
        raise VidactError("expected at least one panel, and a method in each")
    names = list(dict.fromkeys(one.method for panel in panels for one in panel.methods))
    styles = method_styles(names, controls=[name for name in names if name in controls])
    width, height = LEFT_INCHES + PANEL_INCHES, max(2.1, ROW_INCHES * (len(names) + 1.5))
    list_inches = _list_inches(panels)
    columns = min(MAX_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    step_across, step_down = width + list_inches + MARGIN_INCHES, HEAD_INCHES + height + FOOT_INCHES
    figure = titled_figure(columns * step_across + MARGIN_INCHES, rows * step_down + KEY_INCHES, title=title)
    _draw_key(figure, panels, bottom=rows * step_down)
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        left, bottom = column * step_across, (rows - 1 - row) * step_down + FOOT_INCHES
        axes = add_axes(figure, left + LEFT_INCHES, bottom, width=PANEL_INCHES, height=height)
        _draw_panel(axes, panel, styles, banded=_banded(panel, controls))
        _label(axes, panel.fill, unit_name)
        place_of_list = add_axes(figure, left + width, bottom, width=list_inches, height=height)
        _draw_list(place_of_list, panel, styles, size=(list_inches, height))
    return figure


def gap_text(gap: float) -> str:
    """Write an area between curves as it stands beside a method."""
    return f"{gap:.2f}".replace("-", "−") if math.isfinite(gap) else "none"


def _list_inches(panels: Sequence[FillPanel]) -> float:
    """Choose the room for the widest name and the widest number."""
    lines = [(_short(one.method), gap_text(one.gap)) for panel in panels for one in panel.methods]
    widest_name = max(text_inches(name, points=TICK_POINTS) for name, _ in lines)
    widest_gap = max(text_inches(gap, points=TICK_POINTS) for _, gap in [*lines, ("", AREA)])
    return 0.1 + SWATCH_INCHES + 1.06 * (max(widest_name, 0.7) + widest_gap) + 0.2


def _short(name: str) -> str:
    return fit_text(name, points=TICK_POINTS, inches=NAME_INCHES, max_lines=1)


def _by_gap(panel: FillPanel) -> list[MethodCurves]:
    """Sort methods, the widest gap first, those without one last."""
    return sorted(panel.methods, key=lambda one: -one.gap if math.isfinite(one.gap) else math.inf)


def _banded(panel: FillPanel, controls: Sequence[str]) -> set[str]:
    """Choose the methods whose bands are drawn."""
    names = [one.method for one in _by_gap(panel)]
    if len(names) <= MAX_BANDED:
        return set(names)
    groups = ([name for name in names if (name in controls) == is_control] for is_control in (False, True))
    return {name for group in groups for name in group[:1]}


def _draw_panel(axes: Axes, panel: FillPanel, styles: dict[str, MethodStyle], *, banded: set[str]) -> None:
    percent = 100 * panel.share_removed
    if panel.random_order is not None:
        band = panel.random_order
        axes.fill_between(percent, band.low, band.high, color=RANDOM_COLOUR, linewidth=0)
        axes.plot(percent, band.mean, color="0.7", linewidth=1)
    coloured_last = sorted(panel.methods, key=lambda one: styles[one.method].colour.startswith("#"))
    for one in coloured_last:
        style = styles[one.method]
        marks: dict[str, Any] = {"marker": style.marker, "markersize": 3, "markevery": max(1, len(percent) // 8)}
        for band, dashes in ((one.least_first, DASHES), (one.most_first, "-")):
            if one.method in banded:
                axes.fill_between(percent, band.low, band.high, color=style.colour, alpha=0.13, linewidth=0)
            axes.plot(percent, band.mean, color=style.colour, linestyle=dashes, linewidth=1.3, **marks)
    axes.set_xlim(0, 100)
    _limit_to_means(axes, panel)


def _limit_to_means(axes: Axes, panel: FillPanel) -> None:
    """Limit the axis to the means: bands reach far beyond them, as clips differ more in their scores than orders do."""
    bands = [band for one in panel.methods for band in (one.most_first, one.least_first)]
    bands += [panel.random_order] if panel.random_order else []
    means = np.concatenate([band.mean[np.isfinite(band.mean)] for band in bands])
    room = BAND_SHARE * float(np.ptp(means)) if len(means) else 0.0
    if room:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, float(means.min()) - room), min(high, float(means.max()) + room))


def _label(axes: Axes, fill: str, unit_name: str) -> None:
    head = fit_text(fill, points=LABEL_POINTS, inches=PANEL_INCHES, max_lines=1)
    axes.set_title(head, fontsize=LABEL_POINTS, loc="left", fontweight="bold", parse_math=False, pad=5)
    axes.set_xlabel(f"{unit_name} replaced (%)", fontsize=LABEL_POINTS)
    axes.set_ylabel("logit explained", fontsize=LABEL_POINTS)
    axes.tick_params(labelsize=TICK_POINTS)
    axes.ticklabel_format(axis="y", scilimits=(-3, 4), useOffset=False)
    axes.yaxis.get_offset_text().set_fontsize(TICK_POINTS)
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_list(axes: Axes, panel: FillPanel, styles: dict[str, MethodStyle], *, size: tuple[float, float]) -> None:
    """Name the methods of a panel, the widest gap first, in a column of inches."""
    width, height = size
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    left = 0.1 + SWATCH_INCHES + 0.06
    axes.text(width - 0.04, 0.06, AREA, ha="right", va="center", fontsize=TICK_POINTS, color="0.35")
    for number, one in enumerate(_by_gap(panel), start=1):
        y, style = 0.06 + ROW_INCHES * number, styles[one.method]
        middle = [0.1, 0.1 + SWATCH_INCHES / 2, 0.1 + SWATCH_INCHES]
        axes.plot(middle, [y] * 3, color=style.colour, marker=style.marker, markersize=3, markevery=[1], linewidth=1.6)
        place: dict[str, Any] = {"va": "center", "fontsize": TICK_POINTS, "parse_math": False}
        axes.text(left, y, _short(one.method), **place)
        axes.text(width - 0.04, y, gap_text(one.gap), ha="right", **place)


def _draw_key(figure: Figure, panels: Sequence[FillPanel], *, bottom: float) -> None:
    """Say above all panels what the lines are and, where there is room, what else there is; in inches."""
    width = figure.get_figwidth()
    axes = add_axes(figure, 0.0, bottom, width=width, height=KEY_INCHES)
    axes.set(xlim=(0, width), ylim=(0, KEY_INCHES))
    axes.set_axis_off()
    parts: list[tuple[str, Any]] = [("most relevant first", "-"), ("least relevant first", DASHES)]
    parts += [("random order", None)] if any(panel.random_order for panel in panels) else []
    x, y = MARGIN_INCHES, KEY_INCHES / 2
    for text, dashes in parts:
        if dashes is None:
            axes.fill_between([x, x + 0.36], y - 0.06, y + 0.06, color=RANDOM_COLOUR, linewidth=0)
            axes.plot([x, x + 0.36], [y, y], color="0.7", linewidth=1)
        else:
            axes.plot([x, x + 0.36], [y, y], color="0.2", linestyle=dashes, linewidth=1.3)
        axes.text(x + 0.43, y, text, va="center", fontsize=LABEL_POINTS)
        x += 0.43 + 1.08 * text_inches(text, points=LABEL_POINTS) + 0.25
    many = any(len(panel.methods) > MAX_BANDED for panel in panels)
    remark = AREA_IN_WORDS + ("; bands: 95 %, of the best method and the best control" if many else "; bands: 95 %")
    for text in (remark, AREA_IN_WORDS):
        if x + 1.08 * text_inches(text, points=LABEL_POINTS) + MARGIN_INCHES < width:
            axes.text(x, y, text, va="center", fontsize=LABEL_POINTS)
            break
