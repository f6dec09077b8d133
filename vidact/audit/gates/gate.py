"""Check on the content of an `audit.json` whether expressions let the audit fail, and say what they found.

What was not measured leaves a term open. A term that asks to be sure (`background.lean.low > 0.2`, or `.high` with `<`)
does not hold then, so that the audit passes; any other (`background.lean.high > 0.2`: fail unless it is sure that the
network does not lean) holds, so that it fails. Of a difference the first name counts. `strict` lets both fail. Where
the rest of the expression settles the matter, there is no warning.

No torch here: the command line's help needs this module.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vidact.audit.gates.expressions import ACCURACY, BASELINE, LARGEST, LEANS, SIGNS, WORST, Condition, Gate, Name, Term
from vidact.audit.gates.expressions import parse_gate as parse_gate
from vidact.core.errors import ConfigError, DataError
from vidact.core.terminal import printable_lines

CANNOT_SAY = "cannot say"
VERDICTS: dict[str, float | None] = {LEANS: 1.0, "does not lean": 0.0, CANNOT_SAY: None}
_FORM = "expected fail_if: with a list of expressions and, if wanted, strict: true"
_WORDS = {">": "above", ">=": "at least", "<": "below", "<=": "at most"}
_END_WORDS = {"mean": "the mean of ", "low": "the lower end of ", "high": "the upper end of "}


@dataclass(frozen=True)
class Outcome:
    """What became of one expression.

    Attributes:
        expression: In Python's own spelling.
        failed: Whether it lets the audit fail.
        values: The number that each name stands for, None where nothing was measured; for `leans`, how many findings.
        measures: What the numbers come from in this audit: `background.lean`, `accuracy`.
        warning: Says what was not measured and what was made of it; empty where that does not matter.
        sentence: The numbers in words.
    """

    expression: str
    failed: bool
    values: Mapping[str, float | None]
    measures: tuple[str, ...]
    warning: str
    sentence: str


@dataclass(frozen=True)
class _Value:
    """What a name stands for.

    Attributes:
        number: None where nothing was measured.
        bounds: Between them lies the number that a complete measurement would give.
        measures: What it comes from: `background.lean`.
        missing: The names of what was not measured, with the reason.
    """

    number: float | None
    bounds: tuple[float, float]
    measures: tuple[str, ...]
    missing: tuple[str, ...]


def read_gate(path: Path) -> tuple[tuple[str, ...], bool]:
    """Read a file of expressions, `fail_if`, and whether they are `strict`.

    Raises:
        ConfigError: no such file, or something else in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root, content = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"--gate {path}: cannot be read ({error.strerror}); {_FORM}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--gate {path}: not valid YAML: {' '.join(str(error).split())}; {_FORM}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"--gate {path}: {_FORM}; got {type(content).__name__}")
    keys = [key.value for key, _ in root.value]
    for key in keys:
        if key not in ("fail_if", "strict"):
            raise ConfigError(f"--gate {path}: {str(key)[:60]!r} is unknown; {_FORM}")
        if keys.count(key) > 1:
            raise ConfigError(f"--gate {path}: {key} is given twice; {_FORM}")
    expressions, strict = content.get("fail_if"), content.get("strict", False)
    if not isinstance(expressions, list) or not expressions:
        raise ConfigError(f"--gate {path}: {_FORM}; got no list, or an empty one")
    for expression in expressions:
        if not isinstance(expression, str):
            raise ConfigError(f"--gate {path}: {_FORM}; got {type(expression).__name__} in the list")
    if not isinstance(strict, bool):
        raise ConfigError(f"--gate {path}: {_FORM}; got strict: {type(strict).__name__}")
    return tuple(expressions), strict


def check_gate(gate: Gate, content: object, *, baseline: object = None, strict: bool = False) -> tuple[Outcome, ...]:
    """Check each expression on the content of an audit.

    Args:
        gate: The expressions.
        content: What `audit.json` holds.
        baseline: The same of another audit, to compare with.
        strict: Whether what was not measured always fails.

    Raises:
        DataError: a content is not that of an audit.
    """
    audits = (_checked(content, "audit.json"), {} if baseline is None else _checked(baseline, "--baseline"))
    return tuple(_check(text, condition, audits, strict=strict) for text, condition in gate.conditions.items())


def gate_text(outcomes: Sequence[Outcome]) -> str:
    """Write outcomes for people, as `gate.txt` has them."""
    lines = []
    for outcome in outcomes:
        lines += [f"{'FAILED' if outcome.failed else 'held  '}  {outcome.expression}", f"        {outcome.sentence}"]
        lines += [f"        warning: {outcome.warning}"] if outcome.warning else []
    failed = sum(outcome.failed for outcome in outcomes)
    lines.append(f"The gate {'failed' if failed else 'held'}: {failed} of {len(outcomes)} expressions failed.")
    return printable_lines(lines) + "\n"


def _check(
    expression: str, condition: Condition, audits: tuple[Mapping[str, Any], Mapping[str, Any]], *, strict: bool
) -> Outcome:
    terms = tuple(_terms(condition))
    values = {name: _value(name, audits[name.is_baseline]) for term in terms for name in term.names}
    failed = _is_met(condition, values, is_met_when_open=True if strict else None)
    is_open = _is_met(condition, values, is_met_when_open=True) != _is_met(condition, values, is_met_when_open=False)
    return Outcome(
        expression,
        failed,
        values={name.text: value.number for name, value in values.items()},
        measures=tuple(
            dict.fromkeys(one for name, value in values.items() if not name.is_baseline for one in value.measures)
        ),
        warning=_warning(values, failed=failed, strict=strict) if is_open else "",
        sentence="; ".join(_sentence(term, values) for term in terms),
    )


def _checked(content: object, name: str) -> Mapping[str, Any]:
    if isinstance(content, Mapping):
        sections = content.get("sections")
        if isinstance(sections, Mapping) and all(isinstance(found, Mapping) for found in sections.values()):
            return content
    raise DataError(f"{name}: expected the content of an audit, with `sections` in it, got something else; audit again")


def _terms(condition: Condition) -> Iterator[Term]:
    if isinstance(condition, Term):
        yield condition
    else:
        for part in condition.parts:
            yield from _terms(part)


def _value(name: Name, content: Mapping[str, Any]) -> _Value:
    """Look up what a name stands for; a largest value and a count may be larger than those that are measured say."""
    sections = content.get("sections", {})
    found = _numbers(name, content)
    measured = {measure: number for measure, number in found.items() if number is not None}
    missing = tuple(f"{measure}{_why(measure, sections)}" for measure in found if measure not in measured)
    missing = missing if found else (name.text,)
    if name.part == LEANS:
        number = sum(measured.values(), 0.0)
        return _Value(number, (number, number + len(missing)), tuple(one for one in measured if measured[one]), missing)
    if not measured:
        return _Value(None, (-math.inf, math.inf), (), missing)
    largest = max(measured, key=lambda measure: measured[measure])
    number = measured[largest]
    return _Value(number, (number, math.inf if missing else number), (largest,), missing)


def _numbers(name: Name, content: Mapping[str, Any]) -> dict[str, float | None]:
    """Look up the numbers of all findings that a name stands for; what only describes lacks the whole field."""
    sections, estimate = content.get("sections", {}), name.field.partition(".")[0]
    if name.part == ACCURACY:
        return {ACCURACY: _number(content.get(ACCURACY), name.field)}
    if name.part == LEANS:
        return {
            f"{finding}.lean": VERDICTS.get(str(one["verdict"]))
            for finding, one in sections.items()
            if "verdict" in one
        }
    if name.part == WORST:
        return {
            f"{finding}.{estimate}": _number(one, name.field) for finding, one in sections.items() if estimate in one
        }
    return {f"{name.part}.{estimate}": _number(sections.get(name.part), name.field)}


def _number(found: object, field: str) -> float | None:
    """Follow a path to a finite number; a plain number stands for all its ends, and an interval for its mean."""
    for step in (*field.split("."), "mean"):
        found = found.get(step) if isinstance(found, Mapping) else found
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return float(found) if -LARGEST <= found <= LARGEST else None


def _why(measure: str, sections: Mapping[str, Any]) -> str:
    reason = sections.get(measure.rpartition(".")[0], {}).get("reason")
    return f" ({reason})" if reason else ""


def _is_met(condition: Condition, values: Mapping[Name, _Value], *, is_met_when_open: bool | None) -> bool:
    """Say whether a condition is met; an open term as given, or (None) only if it does not ask to be sure."""
    if not isinstance(condition, Term):
        parts = [_is_met(part, values, is_met_when_open=is_met_when_open) for part in condition.parts]
        return all(parts) if condition.is_all else any(parts)
    low, high = values[condition.names[0]].bounds
    if len(condition.names) == 2:
        other_low, other_high = values[condition.names[1]].bounds
        low, high = low - other_high, high - other_low
    compare = SIGNS[condition.sign]
    at_both = {compare(low, condition.number), compare(high, condition.number)}
    if len(at_both) == 1:
        return at_both.pop()
    return not condition.asks_to_be_sure if is_met_when_open is None else is_met_when_open


def _warning(values: Mapping[Name, _Value], *, failed: bool, strict: bool) -> str:
    missing = dict.fromkeys(
        f"{BASELINE}.{one}" if name.is_baseline else one for name, value in values.items() for one in value.missing
    )
    why = "strict is set" if strict else f"it fails {'unless' if failed else 'only where'} the audit is sure"
    return f"undecided: {', '.join(missing)}; this {'fails' if failed else 'passes'}, since {why}"


def _sentence(term: Term, values: Mapping[Name, _Value]) -> str:
    """Say in words what a term found: `the lower end of background.lean is 0.95, above 0.2`."""
    if term.names[0].part == LEANS:
        leaning = [measure.removesuffix(".lean") for measure in values[term.names[0]].measures]
        return f"the network leans on {', '.join(leaning)}" if leaning else "no finding says that the network leans"
    unmeasured = [name for name in term.names if values[name].number is None]
    if unmeasured:
        return " and ".join(f"{_in_words(name, values[name])} was not measured" for name in unmeasured)
    numbers = [values[name].number or 0.0 for name in term.names]
    told = " and ".join(
        f"{_in_words(name, values[name])} is {_rounded(number, term.number)}"
        for name, number in zip(term.names, numbers, strict=True)
    )
    total = numbers[0] - sum(numbers[1:])
    told += f", a difference of {_rounded(total, term.number)}" if len(numbers) == 2 else ""
    return f"{told}, {'' if SIGNS[term.sign](total, term.number) else 'not '}{_WORDS[term.sign]} {_plain(term.number)}"


def _in_words(name: Name, value: _Value) -> str:
    path, _, end = name.text.rpartition(".")
    of = f" ({', '.join(value.measures)})" if name.part == WORST and value.measures else ""
    return f"{_END_WORDS[end]}{path}{of}" if end in _END_WORDS else name.text


def _rounded(number: float, threshold: float) -> str:
    """Write a number with so many digits that it stays on its side of the threshold."""
    side = (number > threshold, number < threshold)
    texts = (f"{number:.3g}", f"{number:.6g}")
    return next((text for text in texts if (float(text) > threshold, float(text) < threshold) == side), _plain(number))


def _plain(number: float) -> str:
    return repr(number).removesuffix(".0")
