"""Draw accuracies: the top classes of one clip, each class of a run, and a run compared with baselines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from vidact.core.errors import VidactError
from vidact.drawing.figure import MARGIN_INCHES, add_axes, titled_figure
from vidact.drawing.text import LABEL_POINTS, TICK_POINTS, fit_text, text_inches

WIDTH_INCHES = 6.0
ROW_INCHES = 0.24
MAX_NAME_INCHES = 1.9
# Okabe and Ito's palette: told apart by colour-blind readers, and by their lightness in print.
BLUE, ORANGE, GRAY = "#0072b2", "#e69f00", "0.55"
Z_95 = 1.959964  # of the normal distribution


@dataclass(frozen=True)
class Score:
    """An accuracy with a name, from 0 to 1.

    Attributes:
        name: Whose it is; of any length.
        value: The accuracy.
        low: The lower end of its 95 % interval; None where there is none.
        high: The upper end.
        is_baseline: Whether it is a rule that sees no pixel, or another network to compare with.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    is_baseline: bool = False


@dataclass(frozen=True)
class _Remark:
    text: str
    bold: bool = False

    def inches(self) -> float:
        wider = 1.2 if self.bold else 1.06  # hinting widens drawn text
        return wider * text_inches(self.text, points=TICK_POINTS)


def top_classes_bars(
    probabilities: Float[np.ndarray, " K"],
    class_names: Sequence[str],
    *,
    true_class: int | None,
    title: str,
    top: int = 5,
) -> Figure:
    """Draw the most probable classes of a clip, the best on top; the true class is marked, and always there.

    Args:
        probabilities: Of each class, from 0 to 1.
        class_names: One per class; a very long name is cut and ends with ….
        true_class: Its number, None where nobody knows.
        title: Of any length and in any script.
        top: How many classes.

    Raises:
        VidactError: another number of names than classes, no such class, or values that are no probabilities.
    """
    _check_names(class_names, len(probabilities))
    if not ((probabilities >= 0) & (probabilities <= 1.000001)).all():
        raise VidactError(f"expected probabilities from 0 to 1, got {probabilities.min()} to {probabilities.max()}")
    if true_class is not None and not 0 <= true_class < len(class_names):
        raise VidactError(f"expected a class number below {len(class_names)}, got {true_class = }")
    order = np.argsort(-probabilities, kind="stable").tolist()
    shown = order[:top]
    if true_class is not None and true_class not in shown:
        shown.append(true_class)
    names = [f"{order.index(k) + 1}. {class_names[k]}" for k in shown]
    values = 100 * probabilities[shown]
    marks = [", true class" if k == true_class else "" for k in shown]
    beside = [_Remark(f"{value:.1f} %{mark}", bold=bool(mark)) for value, mark in zip(values, marks, strict=True)]
    figure, axes = _rows(names, beside, title=title, label="probability (%)")
    colours = [ORANGE if k == true_class else BLUE for k in shown]
    axes.barh(range(len(shown)), values, height=0.7, color=colours)
    return figure


def class_accuracy_bars(
    correct: Int[np.ndarray, " K"],
    totals: Int[np.ndarray, " K2"],
    intervals: Float[np.ndarray, "K3 2"],
    class_names: Sequence[str],
    *,
    chance: float,
    title: str,
) -> Figure:
    """Draw the accuracy of each class with its 95 % interval, the number of its clips, and chance as a line.

    Args:
        correct: Clips of each class that were recognised.
        totals: Clips of each class; a class without any has no bar.
        intervals: Low and high end of each class's accuracy, from 0 to 1.
        class_names: One per class; a very long name is cut and ends with ….
        chance: Accuracy of a blind guess, from 0 to 1.
        title: Of any length and in any script.

    Raises:
        VidactError: the shapes do not fit each other, or a count is impossible.
    """
    _check_names(class_names, len(totals))
    if correct.shape != totals.shape or (correct < 0).any() or (correct > totals).any():
        raise VidactError(f"expected 0 <= correct <= totals of each class, got {correct = }, {totals = }")
    if intervals.shape != (len(totals), 2):
        raise VidactError(f"expected intervals [{len(totals)}, 2], got {intervals.shape = }")
    low, high = intervals.T
    share = correct / np.maximum(totals, 1)
    pairs = zip(correct, totals, strict=True)
    beside = [_Remark(f"{right} of {total} clips" if total else "no clips") for right, total in pairs]
    figure, axes = _rows(class_names, beside, title=title, label=_axis_label(chance))
    rows, some = np.arange(len(totals)), totals > 0
    axes.barh(rows[some], 100 * share[some], height=0.7, color=BLUE, alpha=0.55)
    reach = 100 * np.stack([share - low, high - share])[:, some]
    axes.errorbar(100 * share[some], rows[some], xerr=reach.clip(0), fmt="none", ecolor="black", capsize=2, linewidth=1)
    _draw_chance(axes, chance)
    return figure


def accuracy_beside_baselines(scores: Sequence[Score], *, chance: float, title: str) -> Figure:
    """Draw accuracies with their 95 % intervals on one axis, baselines as hollow squares, and chance as a line.

    Args:
        scores: From the top down.
        chance: Accuracy of a blind guess, from 0 to 1.
        title: Of any length and in any script.

    Raises:
        VidactError: there is no score, or one is not from 0 to 1 and inside of its interval.
    """
    for score in scores:
        low, high = _ends(score)
        if not 0 <= low <= score.value <= high <= 1:
            raise VidactError(f"expected 0 <= low <= value <= high <= 1, got {score}")
    beside = [_Remark(_in_percent(score), bold=not score.is_baseline) for score in scores]
    figure, axes = _rows([score.name for score in scores], beside, title=title, label=_axis_label(chance))
    for row, score in enumerate(scores):
        low, high = _ends(score)
        reach = [[100 * (score.value - low)], [100 * (high - score.value)]]
        colour, marker, inside = (GRAY, "s", "white") if score.is_baseline else (BLUE, "o", BLUE)
        style: dict[str, Any] = {"ecolor": colour, "markeredgecolor": colour, "markerfacecolor": inside, "capsize": 3}
        axes.errorbar([100 * score.value], [row], xerr=reach, fmt=marker, markersize=6, linewidth=1.6, **style)
    _draw_chance(axes, chance)
    return figure


def _ends(score: Score) -> tuple[float, float]:
    return (
        score.value if score.low is None else score.low,
        score.value if score.high is None else score.high,
    )


def _in_percent(score: Score) -> str:
    low, high = _ends(score)
    interval = "" if low == high == score.value else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * score.value:.1f} %{interval}"


def _check_names(class_names: Sequence[str], count: int) -> None:
    if count == 0 or len(class_names) != count:
        raise VidactError(f"expected a name for each of {count} classes, at least one, got {len(class_names)} names")


def _rows(names: Sequence[str], beside: Sequence[_Remark], *, title: str, label: str) -> tuple[Figure, Axes]:
    """Lay out a row per name, from the top down, over an axis from 0 to 100 %, with a remark at the right of each."""
    if not names:
        raise VidactError("expected at least one row, got none")
    names = [fit_text(name, points=TICK_POINTS, inches=MAX_NAME_INCHES, max_lines=1) for name in names]
    left = 1.06 * max(text_inches(name, points=TICK_POINTS) for name in names) + MARGIN_INCHES + 0.1
    right = max(remark.inches() for remark in beside) + MARGIN_INCHES + 0.1
    height = ROW_INCHES * len(names)
    figure = titled_figure(WIDTH_INCHES, height + 0.55, title=title)
    axes = add_axes(figure, left, 0.5, width=WIDTH_INCHES - left - right, height=height)
    axes.set_yticks(range(len(names)), names, fontsize=TICK_POINTS, parse_math=False)
    axes.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.5))
    axes.xaxis.set_major_locator(MultipleLocator(20))
    axes.tick_params(axis="x", labelsize=TICK_POINTS)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(label, fontsize=LABEL_POINTS)
    axes.spines[["top", "right"]].set_visible(False)
    for row, remark in enumerate(beside):
        _write_right(axes, row, remark)
    return figure, axes


def _axis_label(chance: float) -> str:
    return f"accuracy (% of clips), 95 % interval; dashed: chance, {100 * chance:.1f} %"


def _draw_chance(axes: Axes, chance: float) -> None:
    axes.axvline(100 * chance, color="black", linestyle=(0, (4, 3)), linewidth=1)


def _write_right(axes: Axes, row: int, remark: _Remark) -> None:
    """Write beside a row, at the right of the axes."""
    axes.annotate(
        remark.text,
        (1, row),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=TICK_POINTS,
        fontweight="bold" if remark.bold else "normal",
        annotation_clip=False,
    )
