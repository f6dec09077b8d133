"""The pictures of an audit show its numbers where they are, and their text can be read."""

import numpy as np
import pytest
from figures import LONG_TITLE, layout_faults

from vidact.audit.output.pictures import conflict_counts
from vidact.drawing.audit.clusters import GroupMap, clusters_plot
from vidact.drawing.audit.conflict import conflict_plot
from vidact.drawing.audit.tags import ValueRow, tags_plot
from vidact.drawing.audit.time import Ends, time_plot

NAMES = ["brush_hair", "$catch_^", "swing_baseball_" * 9]


def test_tags_that_predictions_go_with_are_marked_and_intervals_end_at_0_and_1() -> None:
    rows = [ValueRow("f", 0.5, -0.2, 1.3, 4, 2), ValueRow(NAMES[2], 0.25, None, None, 1, 1)]
    figure = tags_plot(
        {"view": rows, "$_camera": rows}, {"view": 0.05, "$_camera": 0.06}, level=0.05, accuracy=0.4, title=LONG_TITLE
    )
    assert layout_faults(figure) == []
    view, camera = figure.axes
    assert "go with it" in view.get_title(loc="left")
    assert "go with it" not in camera.get_title(loc="left")
    assert view.lines[0].get_xdata() == pytest.approx([0, 100])
    assert view.lines[2].get_xdata() == pytest.approx([25])


def test_groups_are_outlined_where_their_peak_is() -> None:
    peak = np.zeros((10, 10), bool)
    peak[2:4, 5] = True
    groups = [GroupMap(np.full((10, 10), 0.01), peak, 20, 9, number == 0) for number in range(2)]
    figure = clusters_plot({NAMES[2]: groups}, frame=None, title=LONG_TITLE)
    assert layout_faults(figure) == []
    sides = np.array([line.get_xydata() for line in figure.axes[0].lines])
    assert len(sides) == 6  # around two cells
    assert sides.min(axis=(0, 1)) == pytest.approx([5, 2])
    assert sides.max(axis=(0, 1)) == pytest.approx([6, 4])
    texts = [text.get_text() for text in figure.texts]
    assert "20 clips / 9 sources\nconfirmed" in texts
    assert "20 clips / 9 sources\nnot confirmed" in texts


def test_time_has_a_dot_for_each_stretch_and_a_bar_for_each_order() -> None:
    stretches = [Ends(f"{number + 1}/8", 0.1 * number, 0.1 * number - 0.3, None) for number in range(8)]
    orders = [Ends("as it is", 0.9, 0.8, 1.2), Ends("shuffled", 0.2, 0.1, 0.3)]
    figure = time_plot(stretches, orders, margin=0.1, title=LONG_TITLE)
    assert layout_faults(figure) == []
    dots = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert dots == pytest.approx([0.1 * number for number in range(8)])
    assert [bar.get_height() for bar in figure.axes[1].patches] == pytest.approx([90, 20])
    assert len(time_plot([], orders, margin=0.1, title="").axes) == 1


def test_the_matrix_counts_predictions_of_the_backgrounds_class() -> None:
    def record(clip: str, label: int, donors: list[str], said: list[int]) -> dict[str, object]:
        answers = {"background|background|other": [[one, -1.0] for one in said]}
        return {"clip": clip, "label": label, "donors": {"background": {"other": donors}}, "answers": answers}

    records = [
        record("a", 0, ["b", "b", "c", "gone"], [1, 0, 1, 1]),
        record("b", 1, ["c"], [2]),
        record("c", 2, [], []),
    ]
    said, pairs = conflict_counts(records, num_classes=3)
    assert pairs.tolist() == [[0, 2, 1], [0, 0, 1], [0, 0, 0]]
    assert said.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    figure = conflict_plot(said, pairs, NAMES, title=LONG_TITLE)
    assert layout_faults(figure) == []
    assert [text.get_text() for text in figure.axes[0].texts] == ["50", "0", "100"]
