"""Runs are compared by ranks and by reliance, every line has its name beside it, and names do not overlap."""

from itertools import pairwise

import numpy as np
import pytest
from figures import LONG_TITLE, layout_faults
from hypothesis import given
from hypothesis import strategies as st

from vidact.core.errors import VidactError
from vidact.drawing.evaluation.agreement import MethodResponse, dose_response, rank_lines, spread_out

METHODS = ["gradient", "lrp:epsilon_plus", "grad_cam:features.3_$with_^a_very_long_name_of_a_layer", "random", "centre"]
CONTROLS = ["random", "centre"]


def test_a_line_goes_through_the_ranks_of_its_method() -> None:
    values = np.array([[3.0, 2.0, 1.0, 0.0, -1.0], [1.0, 2.0, np.nan, 0.0, 5.0]])
    figure = rank_lines(["a", "b"], values, METHODS, controls=CONTROLS, title="")
    (axes,) = figure.axes
    ranks = [line.get_ydata().tolist() for line in axes.lines]
    assert ranks[:2] == [[1, 3], [2, 2]]
    assert ranks[2][0] == 3
    assert np.isnan(ranks[2][1])
    assert ranks[3:] == [[4, 4], [5, 1]]
    named = [text.get_text() for text in axes.texts]
    assert len(named) == 9, "the method without a rank has no name there"
    assert named.count("gradient") == 2


@pytest.mark.parametrize(
    ("num_runs", "run", "title"),
    [
        (2, "runs/" + "a_long_name_" * 5, LONG_TITLE),
        (3, "version_0", "ranks"),
        (12, "runs/" + "a_long_name_" * 5, "ranks"),
        (12, "version_0", LONG_TITLE),
    ],
)
def test_the_text_of_ranks_neither_overlaps_nor_is_cut_off(num_runs: int, run: str, title: str) -> None:
    values = np.random.default_rng(0).normal(size=(num_runs, len(METHODS)))
    figure = rank_lines([run] * num_runs, values, METHODS, controls=CONTROLS, title=title)
    assert layout_faults(figure) == []


def responses(count: int) -> list[MethodResponse]:
    reliance = np.array([3.0, 0.1, np.nan, 2.0])
    return [
        MethodResponse(f"method_{n}", reliance, np.array([0.1 + 0.001 * n, 0.02, 0.5, 0.06]), 0.5 if n % 2 else None)
        for n in range(count)
    ]


def test_shares_rise_from_left_to_right_and_runs_without_a_value_are_left_out() -> None:
    axes = dose_response(responses(1), controls=[], chance=0.03, title="").axes[0]
    assert axes.lines[0].get_xdata().tolist() == [0.1, 2.0, 3.0]
    assert axes.lines[0].get_ydata() == pytest.approx([2, 6, 10])
    assert any(line.get_ydata() == pytest.approx([3, 3]) for line in axes.lines[1:])
    assert "chance, 3.0 %" in axes.get_ylabel()


@pytest.mark.parametrize(("count", "title"), [(1, LONG_TITLE), (5, "dose"), (20, LONG_TITLE)])
def test_the_text_of_responses_neither_overlaps_nor_is_cut_off(count: int, title: str) -> None:
    figure = dose_response(responses(count), controls=["method_0"], chance=None, title=title)
    assert layout_faults(figure) == []
    beside = [text.get_text() for text in figure.axes[1].texts]
    assert len(beside) == count
    assert all(("ρ 0.50" in text) == bool(number % 2) for number, text in enumerate(beside))


def test_a_method_without_any_value_has_no_line_and_no_name() -> None:
    nothing = MethodResponse("a", np.full(2, np.nan), np.full(2, np.nan))
    assert dose_response([nothing], controls=[], chance=None, title="").axes[1].texts[:] == []


@given(st.lists(st.floats(-5, 15), max_size=20))
def test_places_are_moved_apart_in_order_and_stay_in_range(places: list[float]) -> None:
    moved = spread_out(places, least=0.5, low=0.0, high=10.0)
    ordered = [moved[i] for i in np.argsort(places, kind="stable")]
    assert all(b - a >= min(0.5, 10 / max(1, len(places) - 1)) - 1e-6 for a, b in pairwise(ordered))
    assert all(-1e-6 <= place <= 10 + 1e-6 for place in moved)


def test_places_that_are_apart_stay() -> None:
    assert spread_out([9.0, 1.0, 5.0], least=1.0, low=0.0, high=10.0) == [9.0, 1.0, 5.0]


def test_what_cannot_be_drawn_is_named() -> None:
    with pytest.raises(VidactError, match="two runs or more"):
        rank_lines(["a"], np.zeros((1, 1)), ["m"], controls=[], title="")
    with pytest.raises(VidactError, match="of the same runs"):
        dose_response([MethodResponse("m", np.zeros(2), np.zeros(3))], controls=[], chance=None, title="")
