"""Parse what `--fail-if` and `--gate` say: when an audit counts as failed. Nothing in an expression is ever run.

    EXPRESSION := TERM (and|or TERM)*      TERM := NAME [- NAME] (<|<=|>|>=) NUMBER, or the word leans

A NAME is a path below `sections` (`background.lean.low`), `accuracy.mean`, `worst.lean.low` (the largest of this field
over all findings), or `baseline.` and one of these, of another audit. An end of an interval is always written out, so
that nobody wonders which is meant. The word `leans` stands for any finding with this verdict.
"""

import ast
import operator
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vidact.core.errors import ConfigError, nearest

ENDS = ("mean", "low", "high")
ESTIMATES = ("lean", "steer", "gap", "gap_logp", "same", "other", "aa", "artefact")
LEANS, ACCURACY, WORST, BASELINE = "leans", "accuracy", "worst", "baseline"
MAX_LETTERS = 500
LARGEST = 1e300  # 1e999 is infinite to Python
SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_INTERVALS = tuple(f"{estimate}.{end}" for estimate in ESTIMATES for end in ENDS)
_FIELDS = (*_INTERVALS, "artefact", "clips", "sources", "donors")
_SIGN_OF: dict[type[ast.cmpop], str] = {ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<="}
_EXPECTED = (
    "expected NAME > NUMBER or NAME - NAME > NUMBER (also <, <=, >=), joined by and, or; or the word leans; "
    "try 'background.lean.low > 0.2'"
)


@dataclass(frozen=True)
class Name:
    """A name in an expression.

    Attributes:
        text: As it is written.
        part: A finding, or `accuracy`, `worst`, `leans`.
        field: The path below it: `lean.low`, `clips`.
        is_baseline: Whether the other audit's is meant.
    """

    text: str
    part: str
    field: str
    is_baseline: bool = False


@dataclass(frozen=True)
class Term:
    """A name, or the difference of two, that is compared with a number."""

    names: tuple[Name, ...]
    sign: str
    number: float

    @property
    def asks_to_be_sure(self) -> bool:
        """Whether it holds only where the far end of the interval lies beyond the number: `.low >`, `.high <`."""
        return self.names[0].field.endswith("low" if self.sign in {">", ">="} else "high")


@dataclass(frozen=True)
class Joined:
    """Conditions joined by `and` (`is_all`) or by `or`."""

    is_all: bool
    parts: tuple["Condition", ...]


Condition = Term | Joined
ANY_LEANS = Term((Name(LEANS, LEANS, "low"),), ">", 0.0)  # the number of findings that surely lean


@dataclass(frozen=True)
class Gate:
    """Expressions in Python's own spelling, and what they mean."""

    conditions: Mapping[str, Condition]


def parse_gate(expressions: Iterable[str], *, findings: Sequence[str], has_baseline: bool) -> Gate:
    """Parse expressions before anything is measured.

    Args:
        expressions: Each says when the audit fails.
        findings: The names of all findings that the audit will have; each a Python name, or several joined by dots.
        has_baseline: Whether there is another audit to compare with.

    Raises:
        ConfigError: not an expression, or a name that the audit will not have.
    """
    known = _known_names(findings, has_baseline=has_baseline)
    conditions = {}
    for text in expressions:
        try:
            node = _parse_python(text)
            condition = _read(node, known)
        except ConfigError as error:
            raise ConfigError(f"gate {text[:MAX_LETTERS]!r}: {error}") from error
        conditions[ast.unparse(node)] = condition
    return Gate(conditions)


def _known_names(findings: Sequence[str], *, has_baseline: bool) -> dict[str, Name]:
    """List all names that expressions may use; a finding's own name may have dots."""
    parts = [(finding, _FIELDS) for finding in findings]
    parts += [(WORST, _INTERVALS), (ACCURACY, ENDS)]
    prefixes = {"": False, f"{BASELINE}.": True} if has_baseline else {"": False}
    return {
        (text := f"{prefix}{part}.{field}"): Name(text, part, field, is_baseline)
        for prefix, is_baseline in prefixes.items()
        for part, fields in parts
        for field in fields
    }


def _parse_python(text: str) -> ast.expr:
    if len(text) > MAX_LETTERS:
        raise ConfigError(f"longer than {MAX_LETTERS} letters; write several expressions, of which each can fail")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of `0.2and`; Python turns it into a SyntaxError
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ConfigError(_EXPECTED) from error


def _read(node: ast.expr, known: Mapping[str, Name]) -> Condition:
    """Translate what the grammar of expressions has; everything else is refused."""
    match node:
        case ast.BoolOp(op=joint, values=parts):
            return Joined(isinstance(joint, ast.And), tuple(_read(part, known) for part in parts))
        case ast.Name(id="leans"):
            return ANY_LEANS
        case ast.Compare(left=ast.BinOp(left=one, op=ast.Sub(), right=other), ops=[sign], comparators=[number]):
            names: tuple[Name, ...] = (_read_name(one, known), _read_name(other, known))
        case ast.Compare(left=one, ops=[sign], comparators=[number]):
            names = (_read_name(one, known),)
        case _:
            raise ConfigError(_EXPECTED)
    if type(sign) not in _SIGN_OF:
        raise ConfigError(_EXPECTED)
    return Term(names, _SIGN_OF[type(sign)], _read_number(number))


def _read_name(node: ast.expr, known: Mapping[str, Name]) -> Name:
    steps: list[str] = []
    while isinstance(node, ast.Attribute):
        steps.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise ConfigError(_EXPECTED)
    text = ".".join([node.id, *steps])
    if text in known:
        return known[text]
    if node.id == BASELINE and not any(name.is_baseline for name in known.values()):
        raise ConfigError(f"{text} needs an audit to compare with; give one by --baseline OTHER/audit.json")
    near = nearest(text, known, at_most=1)
    hint = f"did you mean {near[0]}? " if near else ""
    parts = dict.fromkeys(name.part for name in known.values())
    raise ConfigError(f"{text} is unknown; {hint}There are {', '.join(parts)}, each with fields such as lean.low")


def _read_number(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool) and number <= LARGEST:
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as positive):
            return -_read_number(positive)
    raise ConfigError(_EXPECTED)
