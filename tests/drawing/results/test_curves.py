"""Curves have their numbers, and their text can be read."""

import numpy as np
import pytest
from figures import LONG_TITLE, layout_faults

from vidact.core.errors import VidactError
from vidact.drawing.results.curves import training_curves


def test_the_lines_have_the_numbers_best_epoch_and_chance_are_marked() -> None:
    epochs, values = np.arange(1, 6), np.linspace(2, 1, 5)
    gaps = np.array([0.1, np.nan, 0.3, np.nan, 0.5])
    figure = training_curves(
        epochs, loss={"training": values}, accuracy={"val": gaps}, title="", best_epoch=4, chance=0.125
    )
    left, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == values.tolist()
    assert (right.lines[0].get_xdata().tolist(), right.lines[0].get_ydata().tolist()) == ([1, 3, 5], [10, 30, 50])
    assert right.lines[1].get_ydata() == [12.5, 12.5]
    for axes in (left, right):
        assert axes.lines[-1].get_xdata() == [4, 4]
    legend = right.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["val, last 50", "chance, 12.5 %", "best epoch, 4"]
    assert ("nats" in left.get_ylabel(), "%" in right.get_ylabel()) == (True, True)


@pytest.mark.parametrize(("count", "title"), [(1, LONG_TITLE), (5, "wave"), (40, LONG_TITLE), (1000, "wave")])
def test_the_text_neither_overlaps_nor_is_cut_off(count: int, title: str) -> None:
    values = np.random.default_rng(0).random(count)
    names = ["training", "validation, per clip", "$val_^ 挥手 " * 9, "a", "b"]
    loss = {name: values * 10.0 ** (3 * number) for number, name in enumerate(names)}
    accuracy = {name: values / (number + 1) for number, name in enumerate(names)}
    accuracy["b"] = np.full(count, np.nan)
    figure = training_curves(np.arange(count), loss=loss, accuracy=accuracy, title=title, best_epoch=0, chance=0.02)
    assert layout_faults(figure) == []


def test_curves_say_what_is_wrong() -> None:
    with pytest.raises(VidactError, match=r"val for each of 3 epochs, got .*\(2,\)"):
        training_curves(np.arange(3), loss={"val": np.ones(2)}, accuracy={}, title="")
    with pytest.raises(VidactError, match="up to 5 series"):
        training_curves(np.arange(1), loss={str(k): np.ones(1) for k in range(6)}, accuracy={}, title="")
