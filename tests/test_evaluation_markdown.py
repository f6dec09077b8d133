"""What a person reads of an evaluation says what is missing and which end is the good one."""

from dataclasses import replace

from made_evaluations import make_evaluation
from made_results import ABPC, RMA, make_results, without_values

from vidact.evaluation_markdown import evaluation_markdown
from vidact.evaluation_statistics import Table
from vidact.evaluation_tables import Evaluation
from vidact.evaluation_verdict import decide

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
