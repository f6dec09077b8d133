"""Methods are sorted by what was measured, controls stand apart, and the text can be read."""

import numpy as np
import pytest
from figures import LONG_TITLE, layout_faults
from matplotlib.colors import to_rgba

from vidact.core.errors import VidactError
from vidact.drawing.evaluation.ranks import Estimate, RankPanel, decimals_of, number_text, rank_dots, ranked

METHODS = ["gradient", "lrp:epsilon_plus", "grad_cam:features.3_$with_^a_very_long_name_of_a_layer", "挥手"]
CONTROLS = ["random", "motion_energy"]
ALL = [*METHODS, *CONTROLS]


def panel(measure: str = "ABPC", *, names: list[str] = ALL, scale: float = 1.0, **settings: bool) -> RankPanel:
    values = {
        name: Estimate(scale * place, scale * (place - 0.5), scale * (place + 1), 40)
        for place, name in enumerate(names)
    }
    return RankPanel(measure, "logit", dict(values), **settings)


def test_the_best_is_on_top_and_controls_are_below() -> None:
    axes = rank_dots([panel()], methods=ALL, controls=CONTROLS, title="").axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[-2:] == ["motion_energy", "random"]
    assert names[-3:-2] == ["gradient"]
    assert [text.get_text() for text in axes.texts] == ["3.00", "2.00", "1.00", "0.00", "5.00", "4.00"]
    assert axes.yaxis_inverted()
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == [3, 2, 1, 0, 5, 4]
    assert [line.get_markerfacecolor() == "white" for line in dots] == [False] * 4 + [True] * 2
    bars = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 1.8]
    assert bars[0] == pytest.approx([2.5, 4.0])
    assert any(list(line.get_xdata()) == [5, 5] for line in axes.lines), "the best control"
    assert any(list(line.get_xdata()) == [0, 0] for line in axes.lines), "what says nothing"


def test_where_less_is_better_the_smallest_is_on_top() -> None:
    assert ranked(panel(higher_is_better=False), controls=CONTROLS) == (METHODS, CONTROLS)
    axes = rank_dots([panel(higher_is_better=False)], methods=ALL, controls=CONTROLS, title="").axes[0]
    assert axes.get_xlabel() == "logit  (← better)"


def test_what_was_not_measured_is_last_and_says_so() -> None:
    values = {"gradient": None, "a": Estimate(np.nan, np.nan, np.nan, 0), "b": Estimate(1.0, np.nan, np.nan, 3)}
    figure = rank_dots([RankPanel("m", "x", values)], methods=["gradient", "a", "b"], controls=[], title="")
    assert [text.get_text() for text in figure.axes[0].texts] == ["1.00", "none", "none"]
    nothing = RankPanel("m", "x", {"gradient": None, "random": None})
    assert layout_faults(rank_dots([nothing], methods=["gradient", "random"], controls=["random"], title="t")) == []


def test_a_method_has_the_same_colour_whatever_else_a_panel_holds() -> None:
    few = panel(names=["lrp:epsilon_plus", "random"])
    figure = rank_dots([panel(), few], methods=ALL, controls=CONTROLS, title="")
    colours = [line.get_color() for axes in figure.axes for line in axes.lines if line.get_marker() == "o"]
    assert to_rgba(colours[2]) == to_rgba(colours[6]) == to_rgba("#d55e00")


@pytest.mark.parametrize(
    ("count", "title", "scale"), [(1, "ranks", 1e5), (2, LONG_TITLE, 1.0), (5, "ranks", 1e5), (5, LONG_TITLE, 1e-5)]
)
def test_the_text_neither_overlaps_nor_is_cut_off(count: int, title: str, scale: float) -> None:
    panels = [panel(name, scale=scale) for name in ("ABPC", "RMA " * 30, "a", "b", "c")[:count]]
    panels[-1] = panel(names=["gradient"], scale=scale)
    assert layout_faults(rank_dots(panels, methods=ALL, controls=CONTROLS, title=title)) == []


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([12.345, -0.1], ["12.3", "−0.1"]),
        ([0.0123, 0.2], ["0.012", "0.200"]),
        ([1.0, float("nan")], ["1.00", "none"]),
        ([0.0], ["0.00"]),
        ([4000.0], ["4000.0"]),
    ],
)
def test_numbers_of_a_panel_have_the_same_decimals(values: list[float], texts: list[str]) -> None:
    assert [number_text(value, decimals=decimals_of(values)) for value in values] == texts


def test_panels_without_methods_are_refused() -> None:
    for panels in ([], [RankPanel("m", "x", {})], [panel(names=["unknown"])]):
        with pytest.raises(VidactError, match="at least one panel, and in each of them some of the methods"):
            rank_dots(panels, methods=ALL, controls=CONTROLS, title="")
