import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import ABPC, RMA, make_results, without_values

from vidact.core.intervals import least_sources
from vidact.evaluation.names import CONTROLS
from vidact.evaluation.results.statistics import ClipResult, Table
from vidact.evaluation.results.tables import Verdict
from vidact.evaluation.results.verdict import decide, why_undecided

METHODS = ("one", "two", "three")


def _decide_on(results: Sequence[ClipResult], methods: Sequence[str] = METHODS) -> Verdict:
    table = Table(results, run="run", methods=methods, num_resamples=2000)
    return decide(table, table.rows(), criteria=(ABPC, RMA))


def _decide(levels: Mapping[str, Sequence[float]], *, keys: Sequence[str] = (ABPC, RMA), **options: float) -> Verdict:
    methods = [method for method in levels if method not in CONTROLS]
    results = make_results(levels, keys=keys, **options)  # type: ignore[arg-type]
    table = Table(results, run="run", methods=methods, num_resamples=2000)
    return decide(table, table.rows(), criteria=keys)


def test_the_best_of_those_that_beat_all_controls_is_trusted_and_the_runner_up_named() -> None:
    verdict = _decide({"one": [1, 1], "two": [2, 1], "three": [3, 0]})
    assert (verdict.method, verdict.beats_controls, verdict.ties) == ("two", ("two", "one"), ())
    assert verdict.sentence.startswith("run: trust two: its ABPC (tubes, blur) is ")
    assert "runner-up one, 1" in verdict.sentence
    assert "2 of 3 methods beat all controls (differences at 98.33 %)" in verdict.sentence
    assert verdict.comparisons == 3 * 2 * 4


def test_a_single_control_that_is_not_beaten_is_enough() -> None:
    verdict = _decide({"one": [1, 1], "motion_energy": [1, 0.2]})
    assert verdict.method is None
    assert "trust none of 1 methods" in verdict.sentence
    assert f"the closest, one, does not beat motion_energy in {ABPC}" in verdict.sentence


def test_ties_are_named() -> None:
    verdict = _decide({"one": [1, 1], "two": [1.001, 1], "three": [0.5, 1]})
    assert verdict.method in {"one", "two"}
    assert set(verdict.ties) | {verdict.method} == {"one", "two"}
    assert f"not clearly better than {verdict.ties[0]}" in verdict.sentence


def test_without_masks_abpc_alone_decides() -> None:
    verdict = _decide({"one": [1]}, keys=(ABPC,))
    assert verdict.method == "one"
    assert "mask" not in verdict.sentence


def test_few_sources_say_nothing_however_large_the_difference() -> None:
    verdict = _decide({"one": [9, 9]}, num_sources=4, clips_per_source=20)
    assert verdict.method is None
    assert "nothing can be said about which method to trust: the clips come from 4 sources" in verdict.sentence


def test_what_was_not_measured_is_not_judged() -> None:
    results = make_results({"one": [1, 1]})
    table = Table(results, run="run", methods=("one",))
    assert decide(table, table.rows(), criteria=()).method is None
    assert decide(table, (), criteria=(ABPC,)).method is None


def test_a_control_that_has_no_value_is_not_beaten() -> None:
    results = make_results({"one": [1, 1]})
    for result in results:
        result.values["centre"][ABPC] = None  # type: ignore[index]
    table = Table(results, run="run", methods=("one",))
    verdict = decide(table, table.rows(), criteria=(ABPC, RMA))
    assert verdict.method is None
    assert f"centre in {ABPC} (was not measured)" in verdict.sentence


LEVELS = {"one": [3, 1], "two": [2, 1], "three": [1, 1]}


def _first(number: int) -> Callable[[ClipResult], bool]:
    """Take the first clip of each of so many of the 60 clips' 30 sources."""
    return lambda result: int(result.source) < number and result.clip_id.endswith("_0")


def test_a_method_that_is_defined_on_few_clips_is_not_judged_and_why_is_said() -> None:
    """Its share is undefined for seven of 60 clips, more than a tenth."""
    verdict = _decide_on(without_values(make_results(LEVELS), "one", RMA, of=_first(7)))
    assert (verdict.method, verdict.beats_controls) == ("two", ("two", "three"))
    assert "2 of 2 methods beat all controls" in verdict.sentence
    assert verdict.sentence.endswith(f"; one is not judged: {RMA} is undefined for 7 of 60 clips")
    assert verdict.comparisons == 2 * 2 * 4


def test_of_the_method_that_is_trusted_it_is_said_for_how_many_clips_it_is_undefined() -> None:
    verdict = _decide_on(without_values(make_results(LEVELS), "one", RMA, of=_first(6)))
    assert verdict.method == "one"
    assert "in the mask (strict), undefined for 6 of 60 clips, " in verdict.sentence
    assert "not judged" not in verdict.sentence


def test_a_method_without_any_value_and_one_without_its_controls_are_not_judged() -> None:
    results = without_values(make_results(LEVELS), "three", RMA, of=lambda _: True)
    verdict = _decide_on(results)
    assert verdict.method == "one"
    assert verdict.sentence.endswith(f"; three is not judged: {RMA} is undefined for all 60 clips")
    verdict = _decide_on(without_values(results, "motion_energy", RMA, of=_first(10)))
    assert verdict.method is None
    assert verdict.sentence.startswith("run: nothing can be said about which method to trust; one is not judged: ")
    assert f"two is not judged: {RMA} of it and motion_energy is undefined for 10 of 60 clips" in verdict.sentence


def test_a_method_of_few_sources_is_not_judged_and_does_not_silence_the_others() -> None:
    """One of twelve sources has 200 clips, eleven have one: two methods take seven, and the first has values of six."""
    results = make_results({"one": [3, 1], "two": [2, 1]}, num_sources=12, clips_per_source=200)
    results = [result for result in results if result.source == "0" or result.clip_id.endswith("_0")]
    assert len(results) == 211
    verdict = _decide_on(without_values(results, "one", RMA, of=lambda one: int(one.source) > 5), ("one", "two"))
    assert (verdict.method, verdict.beats_controls) == ("two", ("two",))
    expected = f"; one is not judged: {RMA} is defined for clips of 6 sources, and 7 or more are needed"
    assert verdict.sentence.endswith(expected)


@pytest.mark.parametrize(("level", "expected"), [(0.95, 6), (1 - 0.05 / 8, 9)])
def test_sources_are_as_many_as_a_sign_test_needs(level: float, expected: int) -> None:
    assert least_sources(level) == expected
    assert 2 * 0.5**expected <= 1 - level < 2 * 0.5 ** (expected - 1)


@pytest.mark.parametrize(("num_methods", "clips_per_source"), [(1, 4), (2, 1), (8, 1)])
def test_what_it_says_before_is_true_of_perfect_data(num_methods: int, clips_per_source: int) -> None:
    """Each clip of each source is for the methods, by the same amount: the clearest case there can be."""
    levels = {f"method {number}": [1.0 + number, 1.0] for number in range(num_methods)}
    options: dict[str, Any] = {"clips_per_source": clips_per_source, "spread": 0.0}
    decided = []
    for sources in range(1, 12):
        names = [str(source) for source in range(sources) for _ in range(clips_per_source)]
        told = why_undecided({ABPC: names, RMA: names}, num_clips=len(names), num_methods=num_methods)
        verdict = _decide(levels, num_sources=sources, **options)
        assert (told is None) == (verdict.method is not None), f"{sources} sources: {told}"
        decided.append(told is None)
        if found := re.search(r"try at most (\d+) --methods", told or ""):  # the advice
            few = int(found[1])
            assert why_undecided({ABPC: names}, num_clips=len(names), num_methods=few) is None
            assert why_undecided({ABPC: names}, num_clips=len(names), num_methods=few + 1) is not None
    assert decided == sorted(decided)
    assert len(set(decided)) == 2


def test_clips_without_masks_cannot_be_judged_by_them_as_is_said_before() -> None:
    results = make_results({"one": [3, 1]})
    sources, names = [result.source for result in results], [result.clip_id for result in results]
    for masked in (53, 54):
        rows = without_values(results, "one", RMA, of=lambda one, known=names[:masked]: one.clip_id not in known)  # type: ignore[misc]
        told = why_undecided({ABPC: sources, RMA: sources[:masked]}, num_clips=60, num_methods=1)
        assert (told is None) == (_decide_on(rows, ("one",)).method is not None) == (masked >= 54)
    assert why_undecided({}, num_clips=60, num_methods=1) is None, "it was not asked"


@pytest.mark.slow
def test_where_nothing_is_better_it_rarely_says_so() -> None:
    """Eight methods as good as one control, far above the others, on the fewest sources that are judged at all.

    At most one time in twenty is one of them trusted (with intervals of the plain bootstrap, one time in ten).
    """
    methods = {f"method {number}": [0.0] for number in range(8)}
    levels = {**methods, **{control: [-9.0] for control in CONTROLS}, "random": [0.0]}
    options = {"num_sources": least_sources(1 - 0.05 / 8), "clips_per_source": 1}
    named = [_decide(levels, keys=(ABPC,), seed=seed, **options).method for seed in range(200)]
    assert len([method for method in named if method is not None]) <= 0.05 * len(named)


@settings(max_examples=25, deadline=None)
@given(
    st.fixed_dictionaries(
        {name: st.tuples(st.sampled_from([-1, 0, 1, 2]), st.sampled_from([-1, 1])) for name in METHODS}
    ),
    st.fixed_dictionaries({name: st.tuples(st.sampled_from([-1, 0]), st.just(0)) for name in CONTROLS}),
    st.integers(0, 3),
)
def test_the_verdict_follows_the_rule(
    methods: dict[str, tuple[int, int]], controls: dict[str, tuple[int, int]], seed: int
) -> None:
    """With clear differences, exactly those that are above every control in both criteria pass."""
    verdict = _decide({**methods, **controls}, spread=0.01, seed=seed)
    highest = max(level for level, _ in controls.values())
    passing = {name for name, (abpc, rma) in methods.items() if abpc > highest and rma > 0}
    above = {name for name, (abpc, _) in methods.items() if abpc == highest}  # equal levels: chance may decide
    assert passing <= set(verdict.beats_controls) <= passing | above
    if passing:
        best = max(methods[name][0] for name in passing)
        assert verdict.method is not None
        assert methods[verdict.method][0] == best
        assert verdict.method not in verdict.ties
        assert set(verdict.ties) < set(verdict.beats_controls)
        assert all(methods[name][0] == best for name in verdict.ties)
    assert "\n" not in verdict.sentence
