"""Write an evaluation as Markdown: the verdict first, then a table for each family and detail."""

import math
from collections.abc import Iterator, Sequence

from vidact.core.terminal import printable
from vidact.evaluation.names import ALL, COMPARED_WITH, CONFOUNDER, FAMILIES, NETWORK, SUBSETS
from vidact.evaluation.results.comparison import Comparison
from vidact.evaluation.results.tables import MEASURES, Evaluation, Row, better

READING = {1: "; more is better", -1: "; less is better"}
ON_CONFOUNDER = (
    "Neither more nor less is better on the confounder: relevance there has to follow what the network leans on."
)


def evaluation_markdown(evaluation: Evaluation) -> str:
    """Write all tables of one run."""
    lines = [f"# Explanations of {evaluation.run}", "", f"**{evaluation.verdict.sentence}.**", ""]
    lines += [*_facts(evaluation), ""]
    lines += _criteria_tables(evaluation)
    for family in FAMILIES:
        lines += _family(evaluation, family)
    lines += _reliance(evaluation)
    for title, listed in (("Notes", evaluation.notes), ("Left out", evaluation.left_out)):
        if listed:
            lines += [f"## {title}", "", *(f"- {line}" for line in listed), ""]
    return "\n".join(lines)


def comparison_markdown(comparison: Comparison) -> str:
    """Write the comparison of several runs."""
    lines = ["# Runs compared", ""]
    lines += [f"- {evaluation.verdict.sentence}." for evaluation in comparison.evaluations] + [""]
    if comparison.agreements:
        lines += [
            "## Do the runs rank the methods alike?",
            "",
            "Kendall's τ: 1 is the same order, 0 none, −1 reversed.",
            "",
        ]
        pairs = [f"{first}, {second}" for first, second, _ in comparison.agreements[0].pairs]
        rows = [
            [agreement.key, *(_number(value) for *_, value in agreement.pairs), _number(agreement.mean)]
            for agreement in comparison.agreements
        ]
        lines += [*_table(["by", *pairs, "mean"], rows), ""]
    if comparison.dose_responses:
        lines += ["## Is there more relevance on the confounder where a run leans on it more?", ""]
        first = comparison.dose_responses[0]
        lines += [
            "Reliance is what a class's logit loses when the confounder is removed. The last column is the rank "
            f"correlation of the {len(first.runs)} runs' mean reliance with their mean share on it.",
            "",
        ]
        rows = [["reliance", *map(_number, first.reliance), ""]]
        rows += [
            [response.method, *map(_number, response.share), _number(response.spearman)]
            for response in comparison.dose_responses
        ]
        lines += [*_table(["", *first.runs, "Spearman"], rows), ""]
    return "\n".join(lines)


def _facts(evaluation: Evaluation) -> list[str]:
    return [
        f"{evaluation.clips} clips of {evaluation.sources} sources, {evaluation.part} part of {evaluation.data}, "
        f"{len(evaluation.class_names)} classes; {evaluation.right} of the clips are taken for what they are. "
        "Intervals are 95 %, bootstrap clustered by source; a clip where a measure is undefined is not in its mean: "
        "how many those are stands in square brackets. "
        "The best of a column is bold, controls are in italics."
    ]


def _criteria_tables(evaluation: Evaluation) -> list[str]:
    """Write each criterion of the verdict: differences to the controls, and right and wrong clips apart."""
    lines: list[str] = []
    for key in evaluation.verdict.criteria:
        rows = [(method, evaluation.row(method, key)) for method in evaluation.methods]
        cells = [
            [method, *(_difference(row, control) for control in COMPARED_WITH)]
            for method, row in rows
            if row is not None
        ]
        if cells:
            lines += [f"## {key} less the controls'", "", *_table(["", *COMPARED_WITH], cells), ""]
        apart = [
            [_name(evaluation, method), *(_cell(evaluation.row(method, key, subset=subset)) for subset in SUBSETS)]
            for method in _methods(evaluation)
            if evaluation.row(method, key) is not None
        ]
        if apart:
            lines += [f"## {key} of clips taken right and wrong", "", *_table(["", *SUBSETS], apart), ""]
    return lines


def _difference(row: Row, control: str) -> str:
    difference = row.differences.get(control)
    if difference is None:
        return ""
    text = _with_ends(difference.mean, difference.low, difference.high)
    return text + _undefined(row.clips + row.undefined - difference.clips)


def _family(evaluation: Evaluation, family: str) -> list[str]:
    own = [row for row in evaluation.rows if row.subset == ALL and MEASURES[row.measure].family == family]
    if not own:
        return []
    names = dict.fromkeys(row.measure for row in own)
    lines = [f"## {family.capitalize()}", "", *(f"- `{name}`: {_reading(name, own)}" for name in names), ""]
    for detail in dict.fromkeys(row.detail for row in own):
        rows = [row for row in own if row.detail == detail]
        lines += [f"### {detail}", ""] if detail else []
        lines += [ON_CONFOUNDER, ""] if detail == CONFOUNDER else []
        lines += [*_wide(evaluation, rows), ""]
    return lines


def _reading(name: str, rows: Sequence[Row]) -> str:
    """Say what a measure is, and whether more or less is better."""
    signs = {better(row.key) for row in rows if row.measure == name} - {0}
    return MEASURES[name].title + "".join(READING[sign] for sign in signs)


def _wide(evaluation: Evaluation, rows: Sequence[Row]) -> Iterator[str]:
    """Write a table with a row for each method and a column for each measure."""
    measures = list(dict.fromkeys(row.measure for row in rows))
    by_place = {(row.method, row.measure): row for row in rows}
    best = {name: _best(name, rows) for name in measures}
    lines = []
    for method in _methods(evaluation):
        found = [by_place.get((method, name)) for name in measures]
        if any(row is not None for row in found):
            pairs = zip(measures, found, strict=True)
            lines.append([_name(evaluation, method), *(_cell(row, is_best=row is best[name]) for name, row in pairs)])
    yield from _table(["", *measures], lines)


def _best(name: str, rows: Sequence[Row]) -> Row | None:
    own = [row for row in rows if row.measure == name and better(row.key)]
    return max(own, key=lambda row: better(row.key) * row.mean, default=None)


def _reliance(evaluation: Evaluation) -> list[str]:
    row = evaluation.row(NETWORK, "reliance")
    if row is None:
        return []
    cells = [[subset, _cell(evaluation.row(NETWORK, "reliance", subset=subset))] for subset in SUBSETS]
    return [
        "## Reliance",
        "",
        f"{MEASURES['reliance'].title.capitalize()}.",
        "",
        *_table(["clips", "reliance"], cells),
        "",
    ]


def _methods(evaluation: Evaluation) -> tuple[str, ...]:
    return (*evaluation.methods, *(name for name in evaluation.controls if name not in evaluation.methods))


def _name(evaluation: Evaluation, method: str) -> str:
    return f"*{method}*" if method in evaluation.controls else method


def _cell(row: Row | None, *, is_best: bool = False) -> str:
    if row is None:
        return ""
    text = _with_ends(row.mean, row.low, row.high)
    return (f"**{text}**" if is_best else text) + _undefined(row.undefined)


def _undefined(clips: int) -> str:
    return f" [{clips} undefined]" if clips else ""


def _with_ends(value: float, low: float | None, high: float | None) -> str:
    return _number(value) if low is None or high is None else f"{_number(value)} ({_number(low)} to {_number(high)})"


def _number(value: float | None) -> str:
    """Write a number with three significant digits."""
    return "" if value is None or math.isnan(value) else f"{value:.3g}".replace("-", "−")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(map(_escaped, header))} |"
    yield f"|---|{'--:|' * (len(header) - 1)}"
    for row in rows:
        yield f"| {' | '.join(map(_escaped, row))} |"


def _escaped(cell: str) -> str:
    return printable(cell).replace("|", r"\|")
