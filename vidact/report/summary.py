"""Say in words and tables, for the page, how good a run is: better than guessing or not, which classes it confuses."""

from collections.abc import Sequence
from dataclasses import dataclass

from vidact.report.contents import Interval, Outcome, RunView

NUM_SHADES = 10  # of a confusion cell


@dataclass(frozen=True)
class Level:
    """A line of the picture that compares accuracy with guessing.

    Attributes:
        label: Whose share it is.
        value: In [0, 1]; None where nothing was measured.
        interval: 95 % of it, for the network only.
    """

    label: str
    value: float | None
    interval: Interval | None = None


@dataclass(frozen=True)
class Cell:
    """How many clips of a true class were taken for a predicted one.

    Attributes:
        true: Number of the true class.
        predicted: Number of the predicted class.
        count: Of clips.
        shade: The count's share of its row, 0 to NUM_SHADES; more than no clip is at least 1.
    """

    true: int
    predicted: int
    count: int
    shade: int


def percent(share: float) -> str:
    """Write a share as `74.2 %`."""
    return f"{100 * share:.1f} %"


def interval_text(interval: Interval) -> str:
    """Write an interval as `[66.0, 81.0]`, in percent."""
    return f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def levels(run: RunView) -> tuple[Level, ...]:
    """List the shares on one axis: the network's, each baseline's, chance."""
    network = Level("this network", run.accuracy.value if run.accuracy else None, run.accuracy)
    baselines = (Level(f"{name} alone", share) for name, share in run.baselines)
    return (network, *baselines, Level("chance", run.chance))


def verdict(run: RunView) -> str:
    """Say in one sentence how well the network does, and whether it beats rules that guess without a pixel.

    It is better than a rival whose share lies below its 95 % interval, worse than one whose share lies above.
    """
    rivals = [("chance", run.chance), *((f"{name} alone", share) for name, share in run.baselines)]
    figures = _joined([f"{name} {percent(share)}" for name, share in rivals])
    if run.accuracy is None:
        return f"Accuracy was not measured; guessing: {figures}."
    clips = f"{run.accuracy.count} {run.part} clip{'s' if run.accuracy.count != 1 else ''}"
    measured = f"{percent(run.accuracy.value)} {interval_text(run.accuracy)} of {clips}"
    return f"{measured}; {figures}: this network is {_comparison(run.accuracy, rivals)}."


def _comparison(accuracy: Interval, rivals: Sequence[tuple[str, float]]) -> str:
    beaten = [name for name, share in rivals if share < accuracy.low]
    winners = [name for name, share in rivals if share > accuracy.high]
    equals = [name for name, share in rivals if accuracy.low <= share <= accuracy.high]
    parts = (("better than", beaten), ("not shown to be better than", equals), ("worse than", winners))
    return _joined([f"{words} {_joined(names)}" for words, names in parts if names], last=", ")


def _joined(parts: Sequence[str], *, last: str = " and ") -> str:
    """Join words as a sentence does: `a, b and c`."""
    return last.join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def beats_all(run: RunView) -> bool | None:
    """Tell whether the interval lies above chance and every baseline; None where nothing was measured."""
    if run.accuracy is None:
        return None
    return run.accuracy.low > max([run.chance, *(share for _, share in run.baselines)])


def confusion_cells(outcomes: Sequence[Outcome], *, num_classes: int) -> tuple[tuple[Cell, ...], ...]:
    """Count clips by true (row) and predicted (column) class."""
    counts = [[0] * num_classes for _ in range(num_classes)]
    for outcome in outcomes:
        counts[outcome.true][outcome.predicted] += 1
    return tuple(
        tuple(Cell(true, predicted, count, _shade(count, sum(row))) for predicted, count in enumerate(row))
        for true, row in enumerate(counts)
    )


def _shade(count: int, total: int) -> int:
    return max(1, round(NUM_SHADES * count / total)) if count else 0
