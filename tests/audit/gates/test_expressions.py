"""Expressions of gates: what is refused, and that nothing but the grammar gets through."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vidact.audit.gates.expressions import SIGNS, parse_gate
from vidact.core.errors import ConfigError

FINDINGS = ("background", "time", "time.when", "border")


def _refusal(expression: str, *, has_baseline: bool = False) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_gate([expression], findings=FINDINGS, has_baseline=has_baseline)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    assert "did you mean background.lean.low?" in _refusal("backgroud.lean.low > 0.2")
    assert "did you mean background.lean." in _refusal("background.lean > 0.2")
    assert "There are " in _refusal("darkness.gap.low > 0.2")
    assert "time.when" in _refusal("zzz > 0.2")
    assert "--baseline OTHER/audit.json" in _refusal("time.lean.low - baseline.time.lean.low > 0")
    assert "did you mean baseline.time.lean.low?" in _refusal("baseline.time.lean.lw > 0", has_baseline=True)


NAME = "background.lean.low"  # X below
FORBIDDEN = r"""
f()  f(X)  X()  X.__class__  X.real  (1).real  __import__('os')  X[0]  X['low']  X[:]  X ** 2  'X'  f'{X}'  b'X'
(y := X)  [X for y in z]  {X for y in z}  {y: X for y in z}  (y for y in X)  lambda: X  X if X else X  not X  -X
+X  ~X  X + X  X * 2  X / X  X % 2  X @ X  X // 2  X - 1  X - X - X  X | X  X & X  X << 1  await X  (yield)  *X
X, X  [X]  {X}  {}  ...  None  True  1  -1  1j  X == 1  unknown  _  leans  X.y.z  sections  accuracy  worst
background.verdict
"""
NOT_A_NUMBER = r"""
X  --1  +1  - (-1)  nan  inf  1e999  -1e999  1_0j  '1'  0.2.real
"""
COMPARISONS = r"""
X == 1  X != 1  X is 1  X in 1  1 < X  0 < X < 1  X < 1 > 0  X > 1 if 1 else 2  not X > 1
"""
BROKEN = ("", " ", "X >", "X > 1 and", "(X > 1", "X > 1; X > 1", "X > 1\nX > 1", "X > 0.2and X > 1", "X > 1\0", "X = 1")
LARGE = ("(" * 400, "-" * 499 + "1", "X" * 300, "a" + ".a" * 240 + "> 1", "X > " + "9" * 400)


def _listed(text: str) -> list[str]:
    """Split a text at line breaks and double spaces."""
    return re.split("  |\n", text.strip())


@pytest.mark.parametrize("left", _listed(FORBIDDEN))
def test_nothing_but_names_gets_through_on_the_left(left: str) -> None:
    for around in ("({})", "({}) > 1", "X - ({}) > 1", "({}) - X > 1", "X > 1 or ({}) < 1", "leans and ({})"):
        if left != "leans" or "<" in around or ">" in around:
            _refusal(around.format(left).replace("X", NAME))


@pytest.mark.parametrize("right", sorted({*_listed(FORBIDDEN), *_listed(NOT_A_NUMBER)} - {"1", "-1"}))
def test_nothing_but_numbers_gets_through_on_the_right(right: str) -> None:
    _refusal(f"X > ({right})".replace("X", NAME))


@pytest.mark.parametrize("expression", [*_listed(COMPARISONS), *BROKEN, *LARGE])
def test_everything_else_is_refused_in_one_line(expression: str) -> None:
    _refusal(expression.replace("X", NAME))


def test_long_expressions_are_refused() -> None:
    assert "longer than 500" in _refusal(" and ".join(["leans"] * 100))


PIECES = (
    f"{NAME} leans time .lean .low > < = - 1 0.5 and or not ( ) [ ] {{ }} : := ** ' f' , for in if else lambda * + @ #"
)
TOKENS = {*FINDINGS, "leans", "worst", "accuracy", "and", "or"}


@given(st.lists(st.sampled_from(PIECES.split()), max_size=12).map(" ".join) | st.text(max_size=30))
@example("leans#")
def test_whatever_is_accepted_is_made_of_the_grammar_alone(text: str) -> None:
    try:
        gate = parse_gate([text], findings=FINDINGS, has_baseline=False)
    except ConfigError:
        return
    (expression,) = gate.conditions
    for token in expression.replace("(", " ").replace(")", " ").split():
        is_name = token.split(".")[0] in TOKENS
        assert is_name or token in {*SIGNS, "-"} or isinstance(float(token), float)
    assert parse_gate([expression], findings=FINDINGS, has_baseline=False) == gate
