"""Bars and points are where their numbers are, and their text can be read."""

import numpy as np
import pytest
from figures import LONG_TITLE, drawn_texts, layout_faults
from matplotlib.colors import to_rgba

from vidact.core.errors import VidactError
from vidact.drawing.results.accuracy import (
    ORANGE,
    Score,
    accuracy_beside_baselines,
    class_accuracy_bars,
    top_classes_bars,
)

NAMES = ["brush_hair", "$catch_^", "挥手_wave", "swing_baseball_" * 9, "jump", "run", "eat"]


_ALL_RIGHT = np.ones(3, dtype=int), np.ones(3, dtype=int), np.array([[0.3, 1.0]] * 3)


def test_the_top_classes_are_in_order_and_the_true_one_is_marked() -> None:
    probabilities = np.array([0.05, 0.3, 0.02, 0.4, 0.1, 0.12, 0.01])
    figure = top_classes_bars(probabilities, NAMES, true_class=2, title="clip", top=3)
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([40, 30, 12, 2])
    assert [text.get_text().split(".")[0] for text in axes.get_yticklabels()] == ["1", "2", "3", "6"]
    assert [text.get_text() for text in axes.texts] == ["40.0 %", "30.0 %", "12.0 %", "2.0 %, true class"]
    assert [bar.get_facecolor() == to_rgba(ORANGE) for bar in axes.patches] == [False, False, False, True]
    assert axes.yaxis_inverted()


def test_a_true_class_among_the_best_has_no_row_of_its_own() -> None:
    axes = top_classes_bars(np.array([0.9, 0.1]), ["a", "b"], true_class=0, title="").axes[0]
    assert [text.get_text() for text in axes.texts] == ["90.0 %, true class", "10.0 %"]
    axes = top_classes_bars(np.array([0.9, 0.1]), ["a", "b"], true_class=None, title="").axes[0]
    assert [text.get_text() for text in axes.texts] == ["90.0 %", "10.0 %"]


def test_class_bars_have_their_accuracy_interval_chance_and_number_of_clips() -> None:
    correct, totals = np.array([6, 0, 3]), np.array([30, 0, 3])
    intervals = np.array([[0.1, 0.4], [0, 1], [0.4, 1]])
    axes = class_accuracy_bars(correct, totals, intervals, ["a", "b", "c"], chance=1 / 3, title="").axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([20, 100])
    assert [text.get_text() for text in axes.texts] == ["6 of 30 clips", "no clips", "3 of 3 clips"]
    ends = [segment[:, 0] for segment in axes.collections[0].get_segments()]
    assert np.array(ends) == pytest.approx(100 * intervals[[0, 2]])
    assert any(line.get_xdata() == pytest.approx([100 / 3] * 2) for line in axes.lines)
    assert "chance, 33.3 %" in axes.get_xlabel()


def test_scores_stand_on_one_axis_and_baselines_look_different() -> None:
    scores = [Score("net", 0.5, 0.4, 0.6), Score("tags", 0.43, is_baseline=True)]
    axes = accuracy_beside_baselines(scores, chance=0.25, title="").axes[0]
    points = [container.lines[0] for container in axes.containers]
    assert [line.get_xdata()[0] for line in points] == [50, 43]
    assert [line.get_marker() for line in points] == ["o", "s"]
    assert axes.containers[0].lines[2][0].get_segments()[0][:, 0].tolist() == pytest.approx([40, 60])
    assert [text.get_text() for text in axes.texts] == ["50.0 % (40.0 to 60.0)", "43.0 %"]


@pytest.mark.parametrize(("count", "title"), [(1, LONG_TITLE), (7, "wave"), (51, LONG_TITLE)])
def test_the_text_neither_overlaps_nor_is_cut_off(count: int, title: str) -> None:
    names = [NAMES[k % len(NAMES)] for k in range(count)]
    totals = np.arange(count) * 999
    best = np.eye(count)[0]
    scores = [Score(name, 1.0, 1.0, 1.0, is_baseline=bool(k % 2)) for k, name in enumerate(names)]
    figures = [
        top_classes_bars(best, names, true_class=0, title=title),
        class_accuracy_bars(totals // 2, totals, np.tile([0.0, 1.0], (count, 1)), names, chance=0.02, title=title),
        accuracy_beside_baselines(scores, chance=0.02, title=title),
    ]
    for figure in figures:
        assert layout_faults(figure) == []
        assert any("%" in text.get_text() and "(" in text.get_text() for text in drawn_texts(figure))


def test_odd_class_names_are_drawn_as_they_are() -> None:
    axes = class_accuracy_bars(*_ALL_RIGHT, NAMES[:3], chance=0.1, title="").axes[0]
    assert layout_faults(axes.figure) == []
    assert [text.get_text() for text in axes.get_yticklabels()] == ["brush_hair", "$catch_^", "��_wave"]


def test_charts_say_what_is_wrong() -> None:
    with pytest.raises(VidactError, match="each of 2 classes, at least one, got 1 names"):
        top_classes_bars(np.ones(2) / 2, ["a"], true_class=None, title="")
    with pytest.raises(VidactError, match="from 0 to 1, got"):
        top_classes_bars(np.array([2.0, -1.0]), ["a", "b"], true_class=None, title="")
    with pytest.raises(VidactError, match="true_class = 2"):
        top_classes_bars(np.ones(2) / 2, ["a", "b"], true_class=2, title="")
    with pytest.raises(VidactError, match="correct <= totals"):
        class_accuracy_bars(np.array([2]), np.array([1]), np.array([[0.0, 1.0]]), ["a"], chance=0.5, title="")
    with pytest.raises(VidactError, match=r"intervals \[3, 2\]"):
        class_accuracy_bars(*_ALL_RIGHT[:2], np.zeros((2, 2)), NAMES[:3], chance=0.5, title="")
    with pytest.raises(VidactError, match="low <= value"):
        accuracy_beside_baselines([Score("a", 0.5, 0.6, 0.7)], chance=0.5, title="")
    with pytest.raises(VidactError, match="at least one row"):
        accuracy_beside_baselines([], chance=0.5, title="")
