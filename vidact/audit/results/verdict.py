"""Say whether a network leans on something, does not, or cannot be said to do either."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vidact.audit.results.findings import Measured, Part, claim_level
from vidact.audit.results.resampling import Estimate
from vidact.audit.sections import ACTOR, ORDER
from vidact.core.intervals import LEVEL, least_sources

LEANS, DOES_NOT_LEAN, CANNOT_SAY = "leans", "does not lean", "cannot say"
MOST_ARTEFACT = 0.25  # of the accuracy above chance
LEAST_COVERAGE = 0.7  # of the frames must have an actor
LEAST_PRESENT = 0.8  # of the clips must have what is exchanged


@dataclass(frozen=True)
class Verdict:
    """What is said of one finding.

    Attributes:
        verdict: `leans`, `does not lean` or `cannot say`.
        reason: The numbers behind it, or why nothing can be said.
        works: Whether the instrument worked, so that its numbers mean something.
    """

    verdict: str
    reason: str
    works: bool = True


def decide(
    found: Measured | None,
    *,
    clean: Estimate,
    margin: float,
    num_findings: int,
    coverage: float | None = None,
    needs: Sequence[str] = (),
) -> Verdict:
    """Decide about one finding.

    Leans: the lower end of lean or steer, at a level raised for the number of claims, is above the margin. Does not
    lean: the upper ends of both 95 % intervals are below it, for all parts. Otherwise nothing can be said.

    Args:
        found: What was measured; None where no clip has donors.
        clean: Accuracy of the clips as they are.
        margin: δ.
        num_findings: How many are asked.
        coverage: Share of frames that have an actor, where the finding needs one.
        needs: What clips and donors must have.
    """
    if found is None:
        has = f" has {_and(needs)} and" if needs else " has"
        lacks = f"no clip{has} donors of its class and of another one, from other sources"
        return Verdict(CANNOT_SAY, lacks, works=False)
    level = claim_level(num_findings=num_findings, num_parts=len(found.parts))
    beyond = any(need != ACTOR for need in needs)  # frames without an actor have a rule of their own
    if told := _failed(
        found, clean=clean, chance=found.chance, margin=margin, level=level, coverage=coverage, must_be_present=beyond
    ):
        return Verdict(CANNOT_SAY, told, works=False)
    main = found.parts[found.main]
    leaning = [name for name, part in found.parts.items() if is_above(part, margin)]
    if leaning:
        where = "" if len(found.parts) == 1 else f" at {', '.join(leaning)}"
        return Verdict(LEANS, f"{_figures(found.name, main)}{where}")
    if found.sources < (least := sources_for_absence(margin)) and all(
        map(_shows_nothing(margin), found.parts.values())
    ):
        seen = f"{_figures(found.name, main)}, but {found.sources} sources cannot exclude"
        return Verdict(CANNOT_SAY, f"{seen} a lean of {margin:g}; {least} can")
    if all(_is_below(part, margin) for part in found.parts.values()):
        return Verdict(DOES_NOT_LEAN, _figures(found.name, main))
    return Verdict(
        CANNOT_SAY, f"{_figures(found.name, main)}: the interval holds the margin{_needed(found, main, margin)}"
    )


def sources_for_absence(margin: float) -> int:
    """Compute how many sources must show nothing before a share of them as large as the margin can be excluded.

    See `unseen_share`.
    """
    return math.ceil(math.log(1 - LEVEL) / math.log(1 - margin))


def is_above(part: Part, margin: float) -> bool:
    """Say whether a part's lean or steer is above the margin, at the level of claims."""
    return any(
        one is not None and one.wide_low is not None and one.wide_low > margin for one in (part.lean, part.steer)
    )


def _shows_nothing(margin: float) -> Callable[[Part], bool]:
    """Say of a part whether lean and steer themselves are below the margin, whatever their intervals hold."""
    return lambda part: all(
        one.mean is not None and one.mean < margin for one in (part.lean, part.steer) if one is not None
    )


def _is_below(part: Part, margin: float) -> bool:
    ends = [one.high for one in (part.lean, part.steer) if one is not None and one.mean is not None]
    return bool(ends) and all(end is not None and end < margin for end in ends)


def _failed(
    found: Measured,
    *,
    clean: Estimate,
    chance: float,
    margin: float,
    level: float,
    coverage: float | None,
    must_be_present: bool,
) -> str | None:
    """Say why the instrument does not work here; None where it does."""
    if found.sources < (least := least_sources(level)):
        return f"its clips come from {found.sources} sources, and {least} are needed"
    if coverage is not None and coverage < LEAST_COVERAGE:
        return f"only {_percent(coverage)} of the frames have an actor; expected {_percent(LEAST_COVERAGE)}"
    if must_be_present and found.present < LEAST_PRESENT:
        return f"only {_percent(found.present)} of the clips have it; expected {_percent(LEAST_PRESENT)}"
    for name, part in found.parts.items():
        where = f" ({name})" if len(found.parts) > 1 else ""
        if part.same.low is None or part.same.low <= chance:
            right = f"{_percent(part.same.mean)} right{where}"
            return f"the network is not above chance: {right}, chance is {_percent(chance)}"
        if part.artefact is not None and clean.mean is not None and part.artefact.mean is not None:
            most = MOST_ARTEFACT * (clean.mean - chance)
            if part.artefact.mean > most:
                costs = f"{_percent(part.artefact.mean)} of accuracy{where}"
                return f"pasting a clip's own part back costs {costs}, more than the {_percent(most)} that it may"
        if part.aa is None and found.name != ORDER:
            return f"each class has a single donor{where}, so two draws cannot be compared"
        if part.aa is not None and (told := _differs(part.aa, margin)):
            return f"two draws of donors of the same class {told}{where}"
    return None


def _differs(aa: Estimate, margin: float) -> str | None:
    if aa.low is None or aa.high is None or aa.wide_low is None or aa.wide_high is None:
        return "cannot be compared"
    if aa.wide_low > 0 or aa.wide_high < 0:
        return f"differ by {aa.mean:.3f} ({aa.wide_low:.3f} to {aa.wide_high:.3f})"
    half = (aa.high - aa.low) / 2
    return f"are only equal to within {half:.2f}; more clips or donors are needed" if half > margin else None


def _figures(name: str, part: Part) -> str:
    same, other, lean = _percent(part.same.mean), _percent(part.other.mean), f"lean {_interval(part.lean)}"
    if name == ORDER:
        return f"{other} right in another order, {same} as they are ({lean})"
    steer = "" if part.steer is None else f"; steer {_interval(part.steer)}"
    return f"with another class's {other} right, with the same class's {same} ({lean}{steer})"


def _needed(found: Measured, part: Part, margin: float) -> str:
    """Say how many sources would narrow the interval enough."""
    lean = part.lean
    if lean.mean is None or lean.low is None or lean.high is None or lean.mean == margin:
        return ""
    needed = math.ceil(found.sources * ((lean.high - lean.low) / 2 / abs(margin - lean.mean)) ** 2)
    return f"; about {needed} sources would do" if found.sources < needed < 100 * found.sources else ""


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _interval(one: Estimate) -> str:
    if one.mean is None:
        return "undefined"
    return f"{one.mean:.2f}" + (f", {one.low:.2f} to {one.high:.2f}" if one.low is not None else "")


def sentence(run: str, verdicts: Sequence[tuple[str, Verdict]], *, margin: float) -> str:
    """Say in one sentence what a run leans on.

    Args:
        run: Its name.
        verdicts: What each finding is about, in words, and what is said of it.
        margin: δ.
    """
    by = {
        kind: [
            f"{name} ({verdict.reason})" if kind == LEANS else name
            for name, verdict in verdicts
            if verdict.verdict == kind
        ]
        for kind in (LEANS, DOES_NOT_LEAN, CANNOT_SAY)
    }
    if not verdicts:
        return f"{run}: nothing was asked that ends in a verdict"
    told = [f"leans on {_and(by[LEANS])}"] if by[LEANS] else []
    told += [f"does not lean on {_and(by[DOES_NOT_LEAN])}"] if by[DOES_NOT_LEAN] else []
    told += [f"nothing can be said of {_and(by[CANNOT_SAY])}"] if by[CANNOT_SAY] else []
    return f"{run}: {'; '.join(told)} (margin: {_percent(margin)} of its right answers)"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
