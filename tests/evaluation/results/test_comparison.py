import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from made_results import ABPC, make_results

from vidact.core.errors import DataError
from vidact.evaluation.names import CONTROLS, NETWORK
from vidact.evaluation.output.files import read_evaluation, write_comparison, write_evaluation
from vidact.evaluation.results.comparison import compare
from vidact.evaluation.results.statistics import Table
from vidact.evaluation.results.tables import Evaluation
from vidact.evaluation.results.verdict import decide

SHARE = "rma/confounder"


def _evaluation(run: str, levels: Mapping[str, Sequence[float]], *, reliance: float | None = None) -> Evaluation:
    results = make_results(levels, keys=(ABPC, SHARE), num_sources=12, spread=0.001)
    if reliance is not None:
        results = [replace(one, values={**one.values, NETWORK: {"reliance": reliance}}) for one in results]
    table = Table(results, run=run, methods=tuple(levels), num_resamples=300)
    rows = table.rows()
    return Evaluation(
        run=run,
        part="test",
        data="made up",
        class_names=("a", "b"),
        methods=tuple(levels),
        controls=CONTROLS,
        settings={"seed": 0, "units": ["tubes"]},
        versions={"vidact": "1"},
        clips=len(results),
        sources=12,
        right=sum(result.is_right for result in results),
        rows=rows,
        curves=table.curves(),
        verdict=decide(table, rows, criteria=(ABPC,)),
        left_out=("a/b: is broken | so it is",),
        notes=("a note",),
    )


def test_runs_agree_where_they_rank_the_methods_alike() -> None:
    same = {"one": [3, 0], "two": [2, 0], "three": [1, 0]}
    reversed_ = {"one": [1, 0], "two": [2, 0], "three": [3, 0]}
    comparison = compare([_evaluation("a", same), _evaluation("b", same), _evaluation("c", reversed_)])
    (agreement,) = comparison.agreements
    assert agreement.key == ABPC
    assert {(first, second): tau for first, second, tau in agreement.pairs} == pytest.approx(
        {("a", "b"): 1, ("a", "c"): -1, ("b", "c"): -1}
    )
    assert agreement.mean == pytest.approx(-1 / 3)
    assert comparison.dose_responses == ()


def test_only_methods_that_all_runs_have_are_ranked() -> None:
    first, second = {"one": [2, 0], "two": [1, 0], "own": [0, 0]}, {"one": [2, 0], "two": [1, 0]}
    (agreement,) = compare([_evaluation("a", first), _evaluation("b", second)]).agreements
    assert agreement.methods == ("one", "two")
    assert compare([_evaluation("a", {"one": [1, 0]}), _evaluation("b", {"two": [1, 0]})]).agreements == ()


def test_the_share_on_the_confounder_is_held_against_reliance() -> None:
    runs = [
        _evaluation(name, {"follows": [1, dose], "does not": [1, -dose]}, reliance=dose)
        for name, dose in (("a", 0.1), ("b", 0.5), ("c", 2.0))
    ]
    found = {response.method: response for response in compare(runs).dose_responses}
    assert found["follows"].reliance == pytest.approx((0.1, 0.5, 2.0))
    assert found["follows"].spearman == pytest.approx(1)
    assert found["does not"].spearman == pytest.approx(-1)
    assert set(found) == {"follows", "does not", *CONTROLS}
    assert compare(runs[:2]).dose_responses[0].spearman is None, "two runs always agree or disagree"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    evaluation = _evaluation("a", {"one": [1, 0], "gradient": [0.5, 0]}, reliance=0.2)
    write_evaluation(tmp_path, evaluation)
    found = read_evaluation(tmp_path)
    assert replace(found, curves=()) == replace(evaluation, curves=())
    for first, second in zip(found.curves, evaluation.curves, strict=True):
        assert (first.method, first.subset, first.clips) == (second.method, second.subset, second.clips)
        assert first.mean.tolist() == second.mean.tolist()
        assert first.removed.tolist() == second.removed.tolist()
    text = (tmp_path / "evaluation.md").read_text()
    assert text.startswith("# Explanations of a\n\n**a: trust one: ")
    best = evaluation.row("one", ABPC)
    assert best is not None
    assert f"| one | **{best.mean:.3g} (" in text
    assert "| *motion_energy* |" in text
    assert "- a/b: is broken | so it is" in text


def test_a_comparison_is_written_for_people_and_programs(tmp_path: Path) -> None:
    runs = [
        _evaluation(name, {"one": [2, dose], "two": [1, 0]}, reliance=dose)
        for name, dose in (("a", 0.1), ("b", 0.5), ("c", 2.0))
    ]
    comparison = compare(runs)
    write_comparison(tmp_path, comparison)
    content = json.loads((tmp_path / "comparison.json").read_text())
    text = (tmp_path / "comparison.md").read_text()
    assert content["agreements"][0]["mean"] == pytest.approx(1)
    assert len(content["dose_responses"]) == 2 + len(CONTROLS)
    for run in runs:
        assert f"- {run.verdict.sentence}." in text
        assert content["runs"][run.run]["sentence"] == run.verdict.sentence
    assert "| reliance | 0.1 | 0.5 | 2 |  |" in text


@pytest.mark.parametrize("text", ["", "[]", '{"rows": 1}'])
def test_something_else_is_not_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(DataError, match=r"evaluation\.json: not what `python -m vidact evaluate` wrote"):
        read_evaluation(tmp_path)
