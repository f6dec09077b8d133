"""Decide which method to trust for a checkpoint, by a rule that is fixed before anything is measured.

A method passes where it beats every control (random order, centre, motion energy, intensity) in the area between the
perturbation curves (ABPC) and, where there are masks, in the share of positive relevance in them (RMA): the interval of
each paired difference lies above zero. All of a method's intervals have to, so the number of controls needs no
correction (an intersection-union test, Berger 1982); that there are several methods does, and intervals are widened for
their number (Bonferroni). Of those that pass, the one with the highest ABPC is named; those whose paired difference
with it has an interval that holds zero are named as its ties.

A method whose criteria, or their differences to the controls, are undefined for more than a tenth of the clips is not
judged: a map without positive relevance has no share in a mask, and the remaining clips would be a biased selection.
Nor is a method judged whose values come from fewer sources than `least_sources`; other methods still are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vidact.core.intervals import least_sources
from vidact.evaluation.names import ALL, CONTROLS
from vidact.evaluation.results.statistics import Table, or_none, wide_level
from vidact.evaluation.results.tables import Difference, Row, Verdict

MAX_NAMED = 3
LEAST_DEFINED = 0.9  # of the clips


@dataclass(frozen=True)
class Lead:
    """The difference in ABPC between the best method and another.

    Attributes:
        other: The other method.
        mean: Over clips.
        low: Lower end of the widened interval; None with fewer than two sources.
        high: Upper end.
    """

    other: str
    mean: float
    low: float | None
    high: float | None

    @property
    def is_tie(self) -> bool:
        """Whether the best method is not clearly better."""
        return self.low is None or self.low <= 0


def why_undecided(sources_of: Mapping[str, Sequence[str]], *, num_clips: int, num_methods: int) -> str | None:
    """Say, before anything is measured, why no verdict will be possible; None if one will be.

    Args:
        sources_of: The source of each clip that can have a value, by criterion.
        num_clips: How many clips are measured.
        num_methods: How many methods are compared.
    """
    for key, sources in sources_of.items():
        if len(sources) < LEAST_DEFINED * num_clips:
            return (
                f"there will be no verdict: {key} is defined for at most {len(sources)} of {num_clips} "
                f"clips, and {math.ceil(LEAST_DEFINED * num_clips)} are needed; everything is measured all the same"
            )
    own = min((len(set(sources)) for sources in sources_of.values()), default=None)
    least = least_sources(wide_level(num_methods))
    if own is None or own >= least:
        return None
    enough = [number for number in range(1, num_methods) if least_sources(wide_level(number)) <= own]
    fewer = f"at most {enough[-1]} --methods, or " if enough else ""
    return (
        f"there will be no verdict: the clips come from {own} source{'s' if own != 1 else ''}, and "
        f"{num_methods} method{'s need' if num_methods != 1 else ' needs'} {least} or more; try {fewer}more clips "
        "(--part, --root); everything is measured all the same"
    )


def decide(table: Table, rows: Sequence[Row], *, criteria: Sequence[str]) -> Verdict:
    """Name the method to trust, or say why there is none.

    Args:
        table: Of all clips.
        rows: Its rows.
        criteria: Keys in which a method has to beat the controls, ABPC first: `abpc/tubes/blur`, `rma/strict`.
    """
    of = {(row.method, row.key): row for row in rows if row.subset == ALL}
    level = table.levels[1]
    asked = [method for method in table.methods if any((method, key) in of for key in criteria)]
    least, sources = least_sources(level), len(set(table.groups))
    is_enough = sources >= least
    candidates = asked if is_enough else []
    reasons = {method: _why_not(of, method=method, table=table, criteria=criteria) for method in candidates}
    judged = [method for method, reason in reasons.items() if not reason]
    unjudged = [f"{method} is not judged: {reason}" for method, reason in reasons.items() if reason]
    comparisons = sum(len(_against(of[method, key])) for method in judged for key in criteria)

    def say(words: str, passed: Sequence[str] = (), ties: Sequence[str] = ()) -> Verdict:
        best = passed[0] if passed else None
        sentence = "; ".join((f"{table.run}: {words}", *unjudged))
        return Verdict(sentence, best, tuple(passed), tuple(ties), tuple(criteria), comparisons, level)

    if not asked:
        return say("no verdict: it needs the perturbation measure and at least one method")
    if not is_enough:
        return say(
            f"nothing can be said about which method to trust: the clips come from {sources} source"
            f"{'s' if sources != 1 else ''}, and {len(table.methods)} methods need {least} or more"
        )
    if not judged:
        return say("nothing can be said about which method to trust")
    ranked = sorted(judged, key=lambda method: -of[method, criteria[0]].mean)
    passed = [method for method in ranked if not _failures(of, method, criteria)]
    if not passed:
        return say(_none_passes(of, ranked, criteria, level))
    leads = _leads(table, passed, criteria[0])
    ties = [lead.other for lead in leads if lead.is_tie]
    return say(_trust(of, passed, leads, criteria, num_methods=len(judged), level=level), passed, ties)


def _why_not(of: Mapping[tuple[str, str], Row], *, method: str, table: Table, criteria: Sequence[str]) -> str:
    """Say why a method cannot be judged; empty if it can."""
    clips, least = len(table.results), least_sources(table.levels[1])
    for key in criteria:
        row = of.get((method, key))
        if row is None:
            return f"{key} is undefined for all {clips} clips"
        parts: list[Row | Difference] = [row, *_against(row)]
        for part in parts:
            what = key if isinstance(part, Row) else f"{key} of it and {part.control}"
            if part.clips < LEAST_DEFINED * clips:
                return f"{what} is undefined for {clips - part.clips} of {clips} clips"
            if part.sources < least:
                return f"{what} is defined for clips of {part.sources} sources, and {least} or more are needed"
    return ""


def _against(row: Row) -> list[Difference]:
    return [row.differences[control] for control in CONTROLS if control in row.differences]


def _failures(of: Mapping[tuple[str, str], Row], method: str, criteria: Sequence[str]) -> list[tuple[str, str]]:
    """List the criteria and controls that a method does not clearly beat; a missing control counts as not beaten."""
    found = []
    for key in criteria:
        differences = of[method, key].differences
        for control in CONTROLS:
            low = differences[control].wide_low if control in differences else None
            if low is None or low <= 0:
                found.append((key, control))
    return found


def _leads(table: Table, passed: Sequence[str], key: str) -> list[Lead]:
    best, *others = passed
    if not others:
        return []
    found = table.means([table.column(best, key) - table.column(other, key) for other in others])
    return [
        Lead(other, float(found.value[place]), or_none(found.low[1, place]), or_none(found.high[1, place]))
        for place, other in enumerate(others)
    ]


def _trust(
    of: Mapping[tuple[str, str], Row],
    passed: Sequence[str],
    leads: Sequence[Lead],
    criteria: Sequence[str],
    *,
    num_methods: int,
    level: float,
) -> str:
    best = passed[0]
    row = of[best, criteria[0]]
    nearest = min(_against(row), key=lambda difference: difference.mean)
    words = [
        f"trust {best}: its ABPC ({_detail(criteria[0])}) is {row.mean:.3g}{_between(row.low, row.high)}{_gaps(row)}, "
        f"{nearest.mean:.3g}{_between(nearest.wide_low, nearest.wide_high)} above the best control, {nearest.control}"
    ]
    for key in criteria[1:]:
        own = of[best, key]
        closest = min(_against(own), key=lambda difference: difference.mean)
        words.append(
            f"{own.mean:.3g} of its positive relevance lies in the mask ({own.detail}){_gaps(own)}, "
            f"{closest.mean:.3g}{_between(closest.wide_low, closest.wide_high)} more than of {closest.control}"
        )
    ties = [lead.other for lead in leads if lead.is_tie]
    if ties:
        words.append(f"not clearly better than {_and(ties)}")
    elif leads:
        words.append(
            f"runner-up {leads[0].other}, {leads[0].mean:.3g}{_between(leads[0].low, leads[0].high)} below in ABPC"
        )
    words.append(f"{len(passed)} of {num_methods} methods beat all controls (differences at {100 * level:.4g} %)")
    return "; ".join(words)


def _none_passes(
    of: Mapping[tuple[str, str], Row], ranked: Sequence[str], criteria: Sequence[str], level: float
) -> str:
    """Say which criteria the best method fails."""
    closest = min(ranked, key=lambda method: len(_failures(of, method, criteria)))
    failed = []
    for key, control in _failures(of, closest, criteria):
        difference = of[closest, key].differences.get(control)
        by = "was not measured" if difference is None else f"{difference.mean:+.3g}"
        ends = "" if difference is None else _between(difference.wide_low, difference.wide_high)
        failed.append(f"{control} in {key} ({by}{ends.replace(' (', ', ').rstrip(')')})")
    if len(failed) > MAX_NAMED:
        failed[MAX_NAMED:] = [f"{len(failed) - MAX_NAMED} more"]
    asked = _and(criteria)
    return (
        f"trust none of {len(ranked)} methods: none clearly beats all of {_and(CONTROLS)} in {asked}; the closest, "
        f"{closest}, does not beat {_and(failed)} (differences at {100 * level:.4g} %)"
    )


def _gaps(row: Row) -> str:
    """Say for how many clips a value is undefined, if any."""
    return f", undefined for {row.undefined} of {row.clips + row.undefined} clips" if row.undefined else ""


def _detail(key: str) -> str:
    return ", ".join(key.split("/")[1:])


def _between(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
