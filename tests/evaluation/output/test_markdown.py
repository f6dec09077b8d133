"""What a person reads of an evaluation says what is missing and which end is the good one."""

from dataclasses import replace

from made_evaluations import make_evaluation
from made_results import ABPC, RMA, make_results, without_values

from vidact.evaluation.output.markdown import evaluation_markdown
from vidact.evaluation.results.statistics import Table
from vidact.evaluation.results.tables import Evaluation, better
from vidact.evaluation.results.verdict import decide

METHODS = ("one", "two")


def _with_gaps() -> Evaluation:
    """The first method has no share in the mask for four of 60 clips."""
    results = make_results({"one": [2, 1], "two": [1, 1]}, wrong_share=0)
    results = without_values(results, "one", RMA, of=lambda one: int(one.source) < 2)
    table = Table(results, run="run", methods=METHODS, num_resamples=200)
    rows = table.rows()
    verdict = decide(table, rows, criteria=(ABPC, RMA))
    return replace(make_evaluation(methods=METHODS, num_clips=4), run="run", rows=rows, verdict=verdict)


def test_clips_without_a_value_are_counted_beside_the_mean_and_the_differences() -> None:
    lines = evaluation_markdown(_with_gaps()).splitlines()
    assert "undefined for 4 of 60 clips" in lines[2]
    start = lines.index(f"## {RMA} less the controls'")
    (own,) = [line for line in lines[start : start + 6] if line.startswith("| one |")]
    assert own.count("[4 undefined]") == 4
    place = lines.index("### strict")
    (own,) = [line for line in lines[place:] if line.startswith("| one |")]
    assert own.endswith("[4 undefined] |")
    assert all("undefined" not in line for line in lines[place:] if line.startswith("| two |"))


def test_on_a_confounder_neither_end_is_the_good_one() -> None:
    """All that is said of measures' ends is said of one rule: no method is the best there, and none is compared."""
    evaluation = make_evaluation(methods=("lrp:epsilon_plus", "gradient"), num_clips=8)
    lines = evaluation_markdown(evaluation).splitlines()
    place = lines.index("### confounder")
    assert lines[place + 2].startswith("Neither more nor less is better on the confounder")
    assert not any("**" in line for line in lines[place : place + 13])
    place = lines.index("### strict")
    assert any("**" in line for line in lines[place : place + 13])
    assert "- `rma`: share of positive relevance in the mask; more is better" in lines
    assert not any(row.differences for row in evaluation.rows if row.key == "rma/confounder")
    assert (better("rma/confounder"), better("time_rma/confounder"), better("rma/strict")) == (0, 0, 1)


def test_of_a_share_on_the_confounder_alone_no_end_is_named() -> None:
    evaluation = make_evaluation(methods=("gradient",), num_clips=8)
    rows = tuple(row for row in evaluation.rows if row.detail == "confounder")
    text = evaluation_markdown(replace(evaluation, rows=rows))
    assert "share of positive relevance in the mask\n" in text
    assert "; more is better" not in text
