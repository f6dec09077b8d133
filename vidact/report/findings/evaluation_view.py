"""Turn what `evaluate` wrote into the sentence, the table and the pictures that a report shows."""

import math
from collections.abc import Sequence
from pathlib import Path

from vidact.core.errors import DataError
from vidact.drawing.evaluation.ranks import Estimate, decimals_of, number_text
from vidact.drawing.figure import svg_text
from vidact.evaluation.names import CONFOUNDER
from vidact.evaluation.output.files import NAME, read_evaluation
from vidact.evaluation.output.pictures import (
    all_methods,
    chance_of,
    estimate_of,
    evaluation_figures,
    main_keys,
    short_name,
)
from vidact.evaluation.results.tables import MEASURES, Evaluation, better
from vidact.report.findings.contents import EvaluationView, MeasureCell, MeasureColumn, MethodRow, Picture
from vidact.runs.folder import RunFolder

WORDS = {"abpc": "logit with the least relevant {units} replaced first, less that with the most relevant first"}
READING = {1: "more is better", -1: "less is better", 0: ""}


def find_evaluation(folder: Path | None) -> tuple[EvaluationView | None, str]:
    """Read what `evaluate` has written into a run folder.

    Args:
        folder: The run's; None for a checkpoint on its own.

    Returns:
        The view, None if the run has not been evaluated; and why its file cannot be shown, empty if it can.
    """
    if folder is None or not (path := RunFolder(folder).evaluation / f"{NAME}.json").is_file():
        return None, ""
    try:
        return view_evaluation(read_evaluation(path)), ""
    except DataError as error:
        return None, str(error)


def view_evaluation(evaluation: Evaluation) -> EvaluationView:
    """Turn an evaluation into the words and pictures of a report."""
    keys = main_keys(evaluation)
    cells = {key: _cells(evaluation, key) for key in keys}
    order = sorted(all_methods(evaluation), key=lambda name: _badness(evaluation, name, keys))
    rows = [
        MethodRow(name, _remark(evaluation, name), tuple(cells[key].get(name, MeasureCell()) for key in keys))
        for name in order
    ]
    controls = set(evaluation.controls)
    return EvaluationView(
        sentence=_sentence(evaluation),
        is_trusted=evaluation.verdict.method is not None,
        facts=(
            f"{evaluation.clips} {evaluation.part} clips of {evaluation.sources} sources, "
            f"{evaluation.right} of them taken for what they are"
        ),
        columns=tuple(_column(evaluation, key) for key in keys),
        methods=tuple(row for row in rows if row.method not in controls),
        controls=tuple(row for row in rows if row.method in controls),
        pictures=tuple(_pictures(evaluation)),
        notes=(*evaluation.notes, *(f"skipped: {line}" for line in evaluation.left_out)),
    )


def _sentence(evaluation: Evaluation) -> str:
    """Leave out the run's name, begin with a capital and end with a full stop."""
    words = evaluation.verdict.sentence.removeprefix(f"{evaluation.run}: ").rstrip(".")
    return f"{words[:1].upper()}{words[1:]}."


def _badness(evaluation: Evaluation, name: str, keys: Sequence[str]) -> float:
    """Sort by the first measure, the best first."""
    row = evaluation.row(name, keys[0]) if keys else None
    return math.inf if row is None else -(better(keys[0]) or 1) * row.mean


def _remark(evaluation: Evaluation, name: str) -> str:
    verdict = evaluation.verdict
    if name == verdict.method:
        return "to be trusted"
    if name in verdict.ties:
        return "as good, as far as is known"
    return "beats all controls" if name in verdict.beats_controls else ""


def _cells(evaluation: Evaluation, key: str) -> dict[str, MeasureCell]:
    """Write a measure's values, all with the same decimals; the best method's are marked."""
    found = {name: estimate_of(evaluation.row(name, key)) for name in all_methods(evaluation)}
    known = {name: estimate for name, estimate in found.items() if estimate is not None}
    decimals = _decimals(evaluation, key)
    methods = [name for name in known if name not in evaluation.controls and math.isfinite(known[name].value)]
    sign = better(key)
    best = max((sign * known[name].value for name in methods), default=math.nan) if sign else math.nan
    return {
        name: MeasureCell(
            number_text(estimate.value, decimals=decimals),
            _interval(estimate, decimals),
            name in methods and sign * estimate.value == best,
        )
        for name, estimate in known.items()
    }


def _decimals(evaluation: Evaluation, key: str) -> int:
    rows = (evaluation.row(name, key) for name in all_methods(evaluation))
    return decimals_of(row.mean for row in rows if row is not None)


def _interval(estimate: Estimate, decimals: int) -> str:
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return ""
    low, high = (number_text(end, decimals=decimals) for end in (estimate.low, estimate.high))
    return f"{low} to {high}"


def _column(evaluation: Evaluation, key: str) -> MeasureColumn:
    name, detail = short_name(key)
    measure_name = key.partition("/")[0]
    measure = MEASURES[measure_name]
    reading = "has to follow what the network leans on" if detail == CONFOUNDER else READING[better(key)]
    chance = chance_of(evaluation, key)
    words = WORDS.get(measure_name, measure.title).format(units=key.split("/")[1] if "/" in key else "units")
    meaning = "; ".join(part for part in (words, reading) if part)
    return MeasureColumn(
        name, detail, meaning, "" if chance is None else number_text(chance, decimals=_decimals(evaluation, key))
    )


def _pictures(evaluation: Evaluation) -> list[Picture]:
    figures = evaluation_figures(evaluation)
    ranks = [] if (figure := figures.pop("ranks", None)) is None else [("ranks", figure)]
    return [
        Picture(_caption(name), _alt(evaluation, name), svg_text(figure)) for name, figure in [*ranks, *figures.items()]
    ]


def _caption(name: str) -> str:
    if name == "ranks":
        return "Methods by measure, the best on top"
    units = name.removeprefix("curves_")
    return f"Score while {units} are replaced: the wider a method's two curves are apart, the better its order"


def _alt(evaluation: Evaluation, name: str) -> str:
    """Say in words what a picture shows: the sentence, or the first fill-in's areas."""
    if name == "ranks":
        return f"dots with intervals for {len(all_methods(evaluation))} methods and controls; numbers in the table"
    units = name.removeprefix("curves_")
    key = next((row.key for row in evaluation.rows if row.measure == "abpc" and row.detail.startswith(f"{units}/")), "")
    found = {name: evaluation.row(name, key) for name in all_methods(evaluation)}
    areas = [f"{name} {row.mean:.3g}" for name, row in found.items() if row is not None]
    return f"perturbation curves, {units}; areas between them: {', '.join(areas)}"
