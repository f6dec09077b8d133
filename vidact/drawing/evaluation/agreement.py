"""Draw how several runs agree: whether they rank methods alike, and whether relevance follows reliance on a confounder.

`evaluate` draws these for its comparison of runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vidact.core.errors import VidactError
from vidact.drawing.evaluation.styles import MethodStyle, method_styles
from vidact.drawing.figure import MARGIN_INCHES, add_axes, titled_figure
from vidact.drawing.text import LABEL_POINTS, TICK_POINTS, fit_text, text_inches

NAME_INCHES = 1.9
RUN_INCHES = 1.1
ROW_INCHES = 0.22
LABEL_ROW_INCHES = 0.165
PLOT_INCHES = 4.2
LEFT_INCHES = 0.85
FOOT_INCHES = 0.55


@dataclass(frozen=True)
class MethodResponse:
    """How much relevance a method puts on a confounder, run by run.

    Attributes:
        method: Its name.
        reliance: Drop of the logit when the confounder is removed, mean of each run; NaN if unknown.
        share: The share of positive relevance on the confounder, the mean of each run.
        spearman: Spearman's rank correlation of the two; None with too few runs.
    """

    method: str
    reliance: Float[np.ndarray, " R"]
    share: Float[np.ndarray, " R1"]
    spearman: float | None = None


def rank_lines(
    runs: Sequence[str],
    values: Float[np.ndarray, "R M"],
    methods: Sequence[str],
    *,
    controls: Sequence[str],
    title: str,
) -> Figure:
    """Draw each method's rank in each run as a line, 1 on top; lines that cross are methods that change places.

    Args:
        runs: At least two.
        values: Of each run and method, more being better; NaN has no rank.
        methods: As many names as values, of any length.
        controls: Methods that look at no network; they are gray.
        title: Of any length and in any script.

    Raises:
        VidactError: fewer than two runs, no method, or values of another shape.
    """
    if len(runs) < 2 or not methods or values.shape != (len(runs), len(methods)):
        raise VidactError(
            f"expected values of two runs or more and of each method, got {values.shape = }, {len(runs)} runs"
        )
    styles = method_styles(methods, controls=[name for name in methods if name in controls])
    ranks = np.stack([_ranks(row) for row in values])
    names = 0.2 + 1.06 * max(text_inches(_short(name), points=TICK_POINTS) for name in methods)
    step = min(RUN_INCHES, max(0.3, 9.0 / len(runs)))
    width, height = step * (len(runs) - 1) + 0.4, ROW_INCHES * len(methods)
    edge = max(names, LEFT_INCHES)
    labels = [fit_text(name, points=TICK_POINTS, inches=NAME_INCHES, max_lines=1) for name in runs]
    upright = max(text_inches(label, points=TICK_POINTS) for label in labels) + 0.08 > step
    foot = 0.3 + (1.06 * max(text_inches(label, points=TICK_POINTS) for label in labels) if upright else 0.15)
    figure = titled_figure(max(2 * edge + width, 5.0), height + foot, title=title)
    axes = add_axes(figure, (figure.get_figwidth() - width) / 2, foot, width=width, height=height)
    for column, name in enumerate(methods):
        _draw_ranks(axes, ranks[:, column], styles[name])
    for run, side in ((0, "right"), (len(runs) - 1, "left")):
        _name_ranks(axes, ranks[run], methods, run=run, align=side)
    axes.set(xlim=(-0.2 / step, len(runs) - 1 + 0.2 / step), ylim=(len(methods) + 0.5, 0.5), yticks=[])
    axes.set_xticks(range(len(runs)), labels, fontsize=TICK_POINTS, rotation=90 if upright else 0, parse_math=False)
    axes.tick_params(axis="x", length=0)
    axes.spines[:].set_visible(False)
    return figure


def dose_response(
    responses: Sequence[MethodResponse], *, controls: Sequence[str], chance: float | None, title: str
) -> Figure:
    """Draw the share of relevance on the confounder against the real reliance of each run, a line per method.

    A method that can be trusted rises; it is named, with its rank correlation, at the right end of its line.

    Args:
        responses: At least one.
        controls: Methods that look at no network; they are gray.
        chance: Share of the confounder's voxels in the clip; None where it is unknown.
        title: Of any length and in any script.

    Raises:
        VidactError: there is no method, or reliance and share are not of the same runs.
    """
    if not responses or any(one.reliance.shape != one.share.shape for one in responses):
        raise VidactError("expected at least one method, and reliance and share of the same runs")
    names = [one.method for one in responses]
    styles = method_styles(names, controls=[name for name in names if name in controls])
    texts = {one.method: _with_spearman(one) for one in responses}
    height = max(2.8, LABEL_ROW_INCHES * (len(responses) + 1))
    right = 0.35 + 1.06 * max(text_inches(text, points=TICK_POINTS) for text in texts.values())
    figure = titled_figure(LEFT_INCHES + PLOT_INCHES + right + MARGIN_INCHES, height + FOOT_INCHES, title=title)
    axes = add_axes(figure, LEFT_INCHES, FOOT_INCHES, width=PLOT_INCHES, height=height)
    ends = {one.method: _draw_response(axes, one, styles[one.method]) for one in responses}
    if chance is not None:
        axes.axhline(100 * chance, color="black", linestyle=(0, (4, 3)), linewidth=1)
    axes.axvline(0, color="0.7", linewidth=0.8, zorder=0.5)
    _label_response(axes, chance)
    beside = add_axes(figure, LEFT_INCHES + PLOT_INCHES, FOOT_INCHES, width=right, height=height)
    _name_lines(beside, ends, texts, styles, of=axes, size=(right, height))
    return figure


def spread_out(places: Sequence[float], *, least: float, low: float, high: float) -> list[float]:
    """Move places as little as possible, in the same order, until neighbours in the range are `least` or more apart."""
    order = np.argsort(places, kind="stable")
    least = min(least, (high - low) / max(1, len(places) - 1))
    moved: Float[np.ndarray, " N"] = np.clip(np.asarray(places, dtype=np.float64)[order], low, high)
    for _ in range(200):
        for i in range(len(moved) - 1):
            push = (least - (moved[i + 1] - moved[i])) / 2
            if push > 1e-9:
                moved[i], moved[i + 1] = moved[i] - push, moved[i + 1] + push
        moved = np.clip(moved, low, high)
    steps = least * np.arange(len(moved))  # what is left of it: up from the low end, then down from the high one
    moved = steps + np.maximum.accumulate(moved - steps)
    moved = np.minimum(moved, high - steps[::-1])
    result = np.empty(len(moved))
    result[order] = moved
    return [float(value) for value in result]


def _short(name: str) -> str:
    return fit_text(name, points=TICK_POINTS, inches=NAME_INCHES, max_lines=1)


def _ranks(values: Float[np.ndarray, " M"]) -> Float[np.ndarray, " M"]:
    """Number methods from 1, the largest value first; what has no value has no rank."""
    ranks = np.full(len(values), np.nan)
    known = np.flatnonzero(np.isfinite(values))
    ranks[known[np.argsort(-values[known], kind="stable")]] = np.arange(1, len(known) + 1)
    return ranks


def _draw_ranks(axes: Axes, ranks: Float[np.ndarray, " R"], style: MethodStyle) -> None:
    look: dict[str, Any] = {"color": style.colour, "linewidth": 2, "marker": style.marker or "o", "markersize": 6}
    axes.plot(range(len(ranks)), ranks, markeredgecolor="white", markeredgewidth=0.8, **look)


def _name_ranks(axes: Axes, ranks: Float[np.ndarray, " M"], methods: Sequence[str], *, run: int, align: str) -> None:
    """Write names beside the first or the last run, and the ranks with them."""
    for name, rank in zip(methods, ranks, strict=True):
        if math.isfinite(rank):
            axes.annotate(
                _short(name),
                (run, rank),
                xytext=(-8 if align == "right" else 8, 0),
                textcoords="offset points",
                ha=align,
                va="center",
                fontsize=TICK_POINTS,
                parse_math=False,
                annotation_clip=False,
            )


def _with_spearman(one: MethodResponse) -> str:
    known = one.spearman is not None and math.isfinite(one.spearman)
    return _short(one.method) + (f"  ρ {one.spearman:.2f}".replace("-", "−") if known else "")


def _draw_response(axes: Axes, one: MethodResponse, style: MethodStyle) -> float:
    """Draw one line; gives where it ends, or NaN where it has no point."""
    known = np.flatnonzero(np.isfinite(one.reliance) & np.isfinite(one.share))
    order = known[np.argsort(one.reliance[known], kind="stable")]
    look: dict[str, Any] = {"color": style.colour, "linewidth": 1.4, "marker": style.marker or "o", "markersize": 4.5}
    axes.plot(one.reliance[order], 100 * one.share[order], markeredgecolor="white", markeredgewidth=0.6, **look)
    return float(100 * one.share[order[-1]]) if len(order) else math.nan


def _label_response(axes: Axes, chance: float | None) -> None:
    axes.set_xlabel("reliance: what the logit loses without the confounder, a dot per run", fontsize=LABEL_POINTS)
    known = "" if chance is None else f"; dashed: chance, {100 * chance:.1f} %"
    axes.set_ylabel(f"R⁺ on the confounder (%{known})", fontsize=LABEL_POINTS)
    axes.tick_params(labelsize=TICK_POINTS)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _name_lines(
    beside: Axes,
    ends: dict[str, float],
    texts: dict[str, str],
    styles: dict[str, MethodStyle],
    *,
    of: Axes,
    size: tuple[float, float],
) -> None:
    """Name each line at the height of its end, moved where names would overlap, with a leader; in inches."""
    width, height = size
    beside.set(xlim=(0, width), ylim=(0, height))
    beside.set_axis_off()
    low, high = of.get_ylim()
    known = {name: height * (end - low) / (high - low) for name, end in ends.items() if math.isfinite(end)}
    places = spread_out(list(known.values()), least=LABEL_ROW_INCHES, low=0.08, high=height - 0.08)
    for (name, start), place in zip(known.items(), places, strict=True):
        beside.plot([0, 0.2], [start, place], color=styles[name].colour, linewidth=0.9)
        beside.text(0.25, place, texts[name], va="center", fontsize=TICK_POINTS, parse_math=False)
