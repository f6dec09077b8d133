import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_results import ABPC, RMA, make_results

from vidact.core.intervals import clustered_mean
from vidact.evaluation.names import ALL, COMPARED_WITH, CONTROLS, RIGHT, WRONG
from vidact.evaluation.results.statistics import ClipResult, Table, wide_level
from vidact.evaluation.results.tables import is_share

LEVELS = {"one": [1.0, 0.5], "gradient": [0.3, 0.2]}


def _table(results: list[ClipResult]) -> Table:
    return Table(results, run="run", methods=tuple(LEVELS), num_resamples=500)


def test_means_and_paired_differences_are_those_of_a_plain_loop() -> None:
    results = make_results(LEVELS)
    rows = {(row.method, row.key, row.subset): row for row in _table(results).rows()}
    for method in (*LEVELS, *CONTROLS):
        for key in (ABPC, RMA):
            for subset, wanted in ((ALL, (True, False)), (RIGHT, (True,)), (WRONG, (False,))):
                own = [result for result in results if result.is_right in wanted]
                row = rows[method, key, subset]
                assert row.mean == pytest.approx(np.mean([result.values[method][key] for result in own]))
                assert (row.clips, row.sources) == (len(own), len({result.source for result in own}))
                assert row.low is not None
                assert row.high is not None
                assert row.low <= row.mean <= row.high
                expected = set(COMPARED_WITH) - {method} if method in LEVELS else set()
                assert set(row.differences) == expected
                for control, difference in row.differences.items():
                    less = [result.values[method][key] - result.values[control][key] for result in own]
                    assert difference.mean == pytest.approx(np.mean(less))
                    assert difference.wide_low is not None
                    assert difference.low is not None
                    assert difference.wide_low <= difference.low <= difference.mean


def test_differences_are_paired_and_so_are_their_intervals() -> None:
    """What all methods of a clip share does not widen the interval of their difference."""
    row = next(row for row in _table(make_results(LEVELS)).rows() if row.method == "one" and row.subset == ALL)
    difference = row.differences["random"]
    assert row.high - row.low > 0.4
    assert difference.high - difference.low < 0.06
    assert difference.low < 1 < difference.high


def test_clips_without_a_value_are_left_out_and_counted() -> None:
    results = make_results(LEVELS)
    values = {method: dict(own) for method, own in results[0].values.items()}
    values["one"][ABPC] = None
    results[0] = replace(results[0], values=values)
    rows = {(row.method, row.key, row.subset): row for row in _table(results).rows()}
    assert (rows["one", ABPC, ALL].clips, rows["one", ABPC, ALL].undefined) == (59, 1)
    assert rows["one", ABPC, ALL].differences["random"].clips == 59
    assert rows["gradient", ABPC, ALL].undefined == 0


def test_one_source_has_means_and_no_intervals() -> None:
    table = _table(make_results(LEVELS, num_sources=1, wrong_share=0))
    for row in table.rows():
        assert row.subset != WRONG, "no row without a clip"
        assert (row.low, row.high, row.sources) == (None, None, 1)
        assert all(difference.low is None for difference in row.differences.values())
    assert all(np.isnan(curve.low).all() for curve in table.curves())


def test_a_curve_is_the_mean_of_the_clips_curves() -> None:
    results = make_results(LEVELS)
    (curve,) = [curve for curve in _table(results).curves() if (curve.method, curve.subset) == ("one", RIGHT)]
    own = [result.curves["one"]["morf/tubes/blur"] for result in results if result.is_right]
    assert curve.mean == pytest.approx(np.mean(own, axis=0))
    assert (curve.order, curve.units, curve.fill, curve.clips) == ("morf", "tubes", "blur", len(own))
    assert curve.removed.tolist() == [0, 0.5, 1]
    assert (curve.low <= curve.mean + 1e-12).all()
    assert (curve.mean <= curve.high + 1e-12).all()


def test_the_interval_of_a_curve_is_that_of_the_fall_whatever_clips_score() -> None:
    results = make_results(LEVELS)
    raised = []
    for number, one in enumerate(results):
        curves = {
            name: {key: [value + 100 * number for value in curve] for key, curve in own.items()}
            for name, own in one.curves.items()
        }
        raised.append(replace(one, curves=curves))
    for plain, high in zip(_table(results).curves(), _table(raised).curves(), strict=True):
        assert plain.low[0] == plain.mean[0] == plain.high[0]
        assert high.mean - high.low == pytest.approx(plain.mean - plain.low)
        assert high.high - high.mean == pytest.approx(plain.high - plain.mean)


def test_the_level_is_widened_for_the_number_of_methods() -> None:
    assert wide_level(1) == pytest.approx(0.95)
    assert wide_level(8) == pytest.approx(1 - 0.05 / 8)
    assert math.isclose(Table([], run="run", methods=("a", "b")).levels[1], 0.975)


def test_hits_have_the_interval_of_clips_that_are_right() -> None:
    """All hit: the bootstrap would call that certain."""
    results = [replace(one, values={"one": {"pointing_game/strict": 1.0}}) for one in make_results(LEVELS)]
    (row,) = [row for row in _table(results).rows() if row.subset == ALL]
    expected = clustered_mean(torch.ones(len(results)), [one.source for one in results])
    assert (row.mean, row.high) == (1, 1)
    assert row.low == pytest.approx(expected.low)
    assert row.low < 1


def test_intervals_of_shares_stay_within_0_and_1() -> None:
    """Two sources' intervals are widened far; those of logits may be as wide as they are."""
    results = make_results(LEVELS, num_sources=2, wrong_share=0)
    ends = dict(zip(sorted({one.source for one in results}), (0.1, 0.8), strict=True))
    results = [replace(one, values={"one": {ABPC: ends[one.source], RMA: ends[one.source]}}) for one in results]
    rows = {row.key: row for row in _table(results).rows() if row.subset == ALL}
    assert (rows[RMA].low, rows[RMA].high) == (0, 1)
    assert rows[ABPC].low < 0
    assert rows[ABPC].high > 1
    assert is_share("rma/strict")
    assert is_share("time_auroc/actor")
    assert not is_share("abpc/tubes/blur")
    assert not is_share("lift/strict")
