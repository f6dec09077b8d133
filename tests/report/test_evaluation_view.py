"""What an evaluation found is told as it is: the right numbers, the best marked, pictures that can be read."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from figures import layout_faults
from made_evaluations import METHODS, make_comparison, make_evaluation

from vidact.evaluation.names import CONTROLS
from vidact.evaluation.output.files import write_evaluation
from vidact.evaluation.output.pictures import (
    all_methods,
    chance_of,
    comparison_figures,
    evaluation_figures,
    main_keys,
    short_name,
)
from vidact.evaluation.results.comparison import Comparison
from vidact.evaluation.results.tables import Evaluation, better
from vidact.report.findings.contents import EvaluationView
from vidact.report.findings.evaluation_view import find_evaluation, view_evaluation
from vidact.runs.folder import RunFolder


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return make_evaluation(num_clips=24)


@pytest.fixture(scope="module")
def view(evaluation: Evaluation) -> EvaluationView:
    return view_evaluation(evaluation)


@pytest.fixture(scope="module")
def nothing(evaluation: Evaluation) -> Evaluation:
    """An evaluation that measured nothing."""
    verdict = replace(evaluation.verdict, method=None, beats_controls=(), ties=(), criteria=())
    return replace(evaluation, rows=(), curves=(), verdict=verdict)


def test_the_verdicts_measures_come_first_and_one_of_each_kind_follows(evaluation: Evaluation) -> None:
    keys = main_keys(evaluation)
    assert keys[:3] == ["abpc/tubes/blur", "rma/strict", "abpc/frames/blur"]
    assert set(keys[3:]) == {
        *("time_rma/strict", "space_rma/strict", "rma/confounder", "randomised_spearman", "max_sensitivity")
    }


def test_the_table_has_the_means_and_marks_the_best_method(evaluation: Evaluation, view: EvaluationView) -> None:
    assert [row.method for row in view.methods] == list(METHODS), "they are made better from the first on"
    assert {row.method for row in view.controls} == set(CONTROLS)
    for column, key in enumerate(main_keys(evaluation)):
        for row in (*view.methods, *view.controls):
            found, cell = evaluation.row(row.method, key), row.cells[column]
            assert (found is None) == (cell.value == "")
            if found is not None:
                assert float(cell.value.replace("−", "-")) == pytest.approx(found.mean, abs=0.006)
        marked = [row for row in (*view.methods, *view.controls) if row.cells[column].is_best]
        assert bool(marked) == bool(better(key))
        rows = [evaluation.row(name, key) for name in METHODS]
        best = max(better(key) * row.mean for row in rows if row is not None)
        for row in marked:
            assert row.method in METHODS
            own = evaluation.row(row.method, key)
            assert own is not None
            assert better(key) * own.mean == best


def test_a_share_on_a_confounder_is_neither_good_nor_bad(view: EvaluationView) -> None:
    assert better("rma/confounder") == 0
    column = next(column for column in view.columns if column.detail == "confounder")
    assert "follow what the network leans on" in column.meaning


def test_the_sentence_stands_without_the_runs_name(view: EvaluationView) -> None:
    assert view.sentence.startswith("Trust lrp:epsilon_plus: its ABPC")
    assert view.methods[0].remark == "to be trusted"
    weak = view_evaluation(make_evaluation(skill=0.2, num_clips=24))
    assert not weak.is_trusted
    assert all(row.remark == "" for row in weak.methods)


def test_chance_is_told_where_there_is_one(evaluation: Evaluation) -> None:
    expected = {
        "abpc/tubes/blur": 0.0,
        "rma/strict": 0.04,
        "time_rma/strict": 0.4,
        "space_rma/strict": 0.08,
        "auroc/strict": 0.5,
        "lift/strict": 1.0,
        "max_sensitivity": None,
        "splice": None,
    }
    for key, value in expected.items():
        assert chance_of(evaluation, key) == (None if value is None else pytest.approx(value))


def test_names_of_measures_are_short() -> None:
    assert short_name("abpc/tubes/blur") == ("ABPC", "tubes, blur")
    assert short_name("time_rma/strict") == ("RMA, when", "strict")
    assert short_name("pointing_game/actor") == ("pointing game", "actor")
    assert short_name("randomised_ssim") == ("randomised network, SSIM", "")


def test_every_picture_can_be_read(evaluation: Evaluation) -> None:
    figures = evaluation_figures(evaluation)
    assert set(figures) == {"curves_tubes", "curves_frames", "ranks"}
    for figure in figures.values():
        assert layout_faults(figure) == []
    titles = [axes.get_title(loc="left") for axes in figures["curves_frames"].axes if axes.get_xlabel()]
    assert titles == ["blur: each frame", "freeze: the nearest kept frame"]
    heads = [axes.get_title(loc="left") for axes in figures["ranks"].axes]
    assert heads[:2] == ["ABPC: tubes, blur", "ABPC: tubes, blur, less the best control"]


def test_the_difference_to_the_nearest_control_is_the_smallest_one(evaluation: Evaluation) -> None:
    axes = evaluation_figures(evaluation)["ranks"].axes[1]
    shown = {label.get_text(): text.get_text() for label, text in zip(axes.get_yticklabels(), axes.texts, strict=True)}
    for name in METHODS:
        row = evaluation.row(name, "abpc/tubes/blur")
        assert row is not None
        least = min(row.differences[control].mean for control in CONTROLS)
        assert float(shown[name].replace("−", "-")) == pytest.approx(least, abs=0.006)


@pytest.mark.parametrize("num_runs", [2, 3])
def test_several_runs_have_pictures_of_their_own(num_runs: int) -> None:
    comparison = make_comparison(num_runs=num_runs)
    figures = comparison_figures(comparison)
    assert set(figures) == {"ranks_over_runs", "dose_response"}
    for figure in figures.values():
        assert layout_faults(figure) == []
    assert comparison_figures(Comparison(comparison.evaluations[:1], (), ())) == {}


def test_an_evaluation_that_measured_nothing_is_told_too(nothing: Evaluation) -> None:
    view = view_evaluation(nothing)
    assert (view.columns, view.pictures) == ((), ())
    assert [row.method for row in view.methods] == list(METHODS)


def test_values_that_are_missing_are_left_empty(evaluation: Evaluation) -> None:
    rows = tuple(replace(row, low=None, high=None) for row in evaluation.rows)
    view = view_evaluation(replace(evaluation, rows=rows))
    assert all(cell.interval == "" for row in view.methods for cell in row.cells)
    odd = tuple(replace(row, mean=math.nan) for row in evaluation.rows)
    view = view_evaluation(replace(evaluation, rows=odd))
    assert not any(cell.is_best for row in view.methods for cell in row.cells)
    assert layout_faults(evaluation_figures(replace(evaluation, rows=odd))["ranks"]) == []


def test_a_report_finds_what_evaluate_left_in_the_run_folder(
    evaluation: Evaluation, view: EvaluationView, tmp_path: Path
) -> None:
    assert find_evaluation(None) == (None, "")
    assert find_evaluation(tmp_path) == (None, "")
    (RunFolder(tmp_path).evaluation).mkdir()
    write_evaluation(RunFolder(tmp_path).evaluation, evaluation)
    assert find_evaluation(tmp_path) == (view, "")
    (RunFolder(tmp_path).evaluation / "evaluation.json").write_text("{}")
    broken, problem = find_evaluation(tmp_path)
    assert broken is None
    assert "evaluate again" in problem


def test_methods_come_before_controls(evaluation: Evaluation) -> None:
    assert all_methods(evaluation) == [*METHODS, *CONTROLS]
    assert all_methods(replace(evaluation, methods=("random", "gradient"))) == [
        *("random", "gradient", "centre", "motion_energy", "intensity")
    ]
