"""Gates on the content of an audit, against a naive reading of the same trees."""

import json
import operator
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidact.audit.gates.gate import Outcome, check_gate, gate_text, parse_gate, read_gate
from vidact.core.errors import ConfigError, DataError

FINDINGS = ("background", "time", "time.when", "border")
SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def _interval(low: float, high: float) -> dict[str, float]:
    return {"mean": (low + high) / 2, "low": low, "high": high}


def _content(**leans: tuple[float, float] | None) -> dict[str, Any]:
    """Make an audit of findings with these intervals of lean; None: it cannot say."""
    sections = {
        name.replace("__", "."): {
            "verdict": "cannot say" if ends is None else "leans" if ends[0] > 0.1 else "does not lean",
            "reason": "14 sources needed" if ends is None else "",
            "lean": None if ends is None else _interval(*ends),
            "clips": 344,
        }
        for name, ends in leans.items()
    }
    return {"accuracy": _interval(0.8, 0.9), "sections": sections}


AUDIT = _content(background=(0.9, 0.99), time=(0, 0.05), time__when=(0.2, 0.3), border=None)


def _check(expression: str, content: object = AUDIT, **options: Any) -> Outcome:
    gate = parse_gate([expression], findings=FINDINGS, has_baseline="baseline" in options)
    (outcome,) = check_gate(gate, content, **options)
    return outcome


@pytest.mark.parametrize(
    ("expression", "failed"),
    [
        ("background.lean.low > 0.2", True),
        ("background.lean.low>.95", False),
        ("background.lean.high <= 0.99", True),
        ("time.lean.low >= -0.001", True),
        ("accuracy.mean < 0.9", True),
        ("background.clips < 344 or background.clips <= 344", True),
        ("background.lean.low > 0.2 and (time.lean.low > 0.2 or accuracy.low > 0.85)", False),
        ("background.lean.low - time.lean.high > 0.8", True),
        ("worst.lean.low > 0.89", True),
        ("leans", True),
        ("leans and accuracy.low > 0.85", False),
    ],
)
def test_expressions_say_when_the_audit_fails(expression: str, failed: bool) -> None:
    outcome = _check(expression)
    assert (outcome.failed, outcome.warning) == (failed, "")


def test_names_of_findings_may_have_dots() -> None:
    outcome = _check("time.when.lean.low > 0.1 and time.lean.low < 0.1")
    assert outcome.values == {"time.when.lean.low": 0.2, "time.lean.low": 0}
    assert outcome.measures == ("time.when.lean", "time.lean")


@pytest.mark.parametrize(
    ("expression", "failed"),
    [
        ("border.lean.low > 0.2", False),
        ("border.lean.high > 0.2", True),
        ("border.lean.high < 0.2", False),
        ("border.lean.low < 0.2", True),
        ("border.lean.mean > 0.2", True),
        ("border.lean.low - background.lean.high > 0.2", False),
        ("worst.lean.low > 0.95", False),
        ("worst.lean.high > 0.995", True),
        ("background.lean.low > 0.2 and border.lean.low > 0.2", False),
        ("border.steer.low > 0.2", False),
    ],
)
def test_what_was_not_measured_passes_where_a_gate_asks_to_be_sure_and_fails_elsewhere(
    expression: str, failed: bool
) -> None:
    outcome = _check(expression)
    assert outcome.failed is failed
    assert "border." in outcome.warning
    assert "14 sources needed" in outcome.warning
    assert (
        "this fails, since it fails unless" if failed else "this passes, since it fails only where"
    ) in outcome.warning
    strict = _check(expression, strict=True)
    assert strict.failed
    assert strict.warning.endswith("this fails, since strict is set")


@pytest.mark.parametrize(
    ("expression", "failed"),
    [
        ("worst.lean.high > 0.98", True),
        ("worst.lean.low < 0.5", False),
        ("background.lean.low > 0.2 or border.lean.low > 0.2", True),
        ("time.lean.low > 0.2 and border.lean.high > 0.2", False),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_what_was_not_measured_is_passed_over_where_the_rest_settles_it(
    expression: str, failed: bool, strict: bool
) -> None:
    outcome = _check(expression, strict=strict)
    assert (outcome.failed, outcome.warning) == (failed, "")


def test_leans_passes_with_a_warning_where_something_cannot_be_said() -> None:
    unsure = _content(background=(0, 0.05), border=None)
    outcome = _check("leans", unsure)
    assert (outcome.failed, outcome.values) == (False, {"leans": 0})
    assert "border.lean (14 sources needed); this passes" in outcome.warning
    assert _check("leans", unsure, strict=True).failed
    assert _check("leans", _content(background=(0, 0.05))).warning == ""
    assert _check("leans", _content(), strict=True).failed, "an audit without findings proves nothing"


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf"), True, "0.5", {}, 10**400])
def test_what_is_no_number_was_not_measured(nothing: object) -> None:
    content = {"accuracy": {"low": nothing}, "sections": {"background": {"lean": {"low": nothing}}}}
    for expression in ("background.lean.low > 0", "worst.lean.low > 0"):
        outcome = _check(expression, content)
        assert list(outcome.values.values()) == [None]
        assert outcome.warning


def test_a_finding_without_the_field_only_describes_and_an_artefact_may_be_a_plain_number() -> None:
    content = _content(background=(0.3, 0.4))
    content["sections"]["background"]["artefact"] = 0.02
    content["sections"]["border"] = {"clips": 3, "artefact": _interval(0.1, 0.3)}
    assert _check("worst.lean.high > 0.5", content).warning == ""
    assert _check("background.artefact > 0.01 and background.artefact.low > 0.01", content).failed
    assert _check("border.artefact > 0.1 and worst.artefact.low >= 0.1", content).failed


def test_differences_to_another_audit_are_of_the_same_path() -> None:
    before = _content(background=(0.8, 0.9))
    outcome = _check("background.lean.mean - baseline.background.lean.mean > 0.05", baseline=before)
    assert outcome.failed
    assert outcome.values == pytest.approx({"background.lean.mean": 0.945, "baseline.background.lean.mean": 0.85})
    assert outcome.measures == ("background.lean",)
    assert "a difference of 0.095, above 0.05" in outcome.sentence
    assert not _check("background.lean.mean - baseline.background.lean.mean > 0.1", baseline=before).failed
    assert _check("accuracy.mean - baseline.accuracy.mean >= 0", baseline=before).failed
    assert _check("worst.lean.low - baseline.worst.lean.low > 0.05", baseline=before).failed
    assert _check("accuracy.mean - baseline.background.lean.mean > 0", baseline=before).measures == ("accuracy",)
    missing = _check("time.lean.mean - baseline.time.lean.mean > 0.05", baseline=before)
    assert missing.failed
    assert "baseline.time.lean" in missing.warning


def test_sentences_are_in_words_and_digits_never_contradict_them() -> None:
    assert _check("background.lean.low > 0.2").sentence == "the lower end of background.lean is 0.9, above 0.2"
    assert _check("leans").sentence == "the network leans on background, time.when"
    assert "the lower end of worst.lean (background.lean) is 0.9" in _check("worst.lean.low > 0.2").sentence
    close = _check("background.lean.low > 0.2", _content(background=(0.2000001, 0.3)))
    assert close.sentence.endswith("is 0.2000001, above 0.2")
    assert _check("border.lean.low > 0.2").sentence == "the lower end of border.lean was not measured"


def test_gate_txt_has_a_line_for_each_expression() -> None:
    gate = parse_gate(
        ["time.lean.low>0.2", "leans", "leans", "border.lean.low>1"], findings=FINDINGS, has_baseline=False
    )
    lines = gate_text(check_gate(gate, AUDIT)).splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "held    time.lean.low > 0.2",
        "FAILED  leans",
        "held    border.lean.low > 1",
        "The gate failed: 1 of 3 expressions failed.",
    ]
    assert sum("warning: undecided: border.lean" in line for line in lines) == 1


# A tree is a term (finding and end, or two, sign, number) or a list whose head is "and" or "or".
ENDS = ("mean", "low", "high")
NUMBERS = st.integers(-4, 4).map(lambda number: number / 4)
PATHS = st.tuples(st.sampled_from([*FINDINGS, "worst"]), st.sampled_from(ENDS))
TERMS = st.tuples(st.lists(PATHS, min_size=1, max_size=2), st.sampled_from(sorted(SIGNS)), NUMBERS)
TREES = st.recursive(
    TERMS,
    lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)),
    max_leaves=6,
)
AUDITS = st.fixed_dictionaries(
    {name: st.none() | st.fixed_dictionaries(dict.fromkeys(ENDS, NUMBERS)) for name in FINDINGS}
)


def _write(tree: Any) -> str:
    if tree[0] in ("and", "or"):
        return "(" + f" {tree[0]} ".join(map(_write, tree[1])) + ")"
    paths, sign, number = tree
    return f"{' - '.join(f'{finding}.lean.{end}' for finding, end in paths)} {sign} {number}"


def _holds(tree: Any, leans: Mapping[str, Any], when_open: str) -> bool:
    """Evaluate a tree over all ways in which the missing numbers of one term could be, far away or not."""
    if tree[0] in ("and", "or"):
        parts = [_holds(part, leans, when_open) for part in tree[1]]
        return False not in parts if tree[0] == "and" else True in parts
    paths, sign, number = tree
    choices = [_choices(finding, end, leans) for finding, end in paths]
    results = {
        SIGNS[sign](first - second, number)
        for first in choices[0]
        for second in (choices[1] if len(choices) == 2 else [0])
    }
    if results == {True} or results == {False}:
        return True in results
    sure = (">" in sign and paths[0][1] == "low") or ("<" in sign and paths[0][1] == "high")
    return {"yes": True, "no": False, "usual": not sure}[when_open]


def _choices(finding: str, end: str, leans: Mapping[str, Any]) -> list[float]:
    if finding != "worst":
        return [leans[finding][end]] if leans[finding] else [-1e9, 1e9]
    each = [[one[end]] if one else [-1e9, 1e9] for one in leans.values()]
    return [max(one[0] for one in each), max(one[-1] for one in each)]


@given(TREES, AUDITS, st.booleans())
def test_gates_say_what_a_naive_reading_says(tree: Any, leans: Mapping[str, Any], strict: bool) -> None:
    content = {"sections": {name: {"lean": lean} for name, lean in leans.items()}}
    outcome = _check(_write(tree), content, strict=strict)
    assert outcome.failed is _holds(tree, leans, "yes" if strict else "usual")
    assert bool(outcome.warning) is (_holds(tree, leans, "yes") != _holds(tree, leans, "no"))


def test_gate_files_hold_a_list_and_perhaps_strict(tmp_path: Path) -> None:
    path = tmp_path / "audit.yaml"
    path.write_text("fail_if:\n  - background.lean.low > 0.2  # it must not\n  - leans\n")
    assert read_gate(path) == (("background.lean.low > 0.2", "leans"), False)
    path.write_text("strict: true\nfail_if: [leans]\n")
    assert read_gate(path) == (("leans",), True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "got NoneType"),
        ("leans", "got str"),
        ("fail_if: leans", "got no list"),
        ("fail_if: []", "got no list"),
        ("fail_if: [leans, 3]", "got int in the list"),
        ("fail_if: [leans]\nstrict: 1", "got strict: int"),
        ("fail_if: [leans]\nfial: 1", "'fial' is unknown"),
        ("fail_if: [leans]\nfail_if: [leans]", "fail_if is given twice"),
        ("fail_if: [", "not valid YAML"),
        ("fail_if: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("fail_if: 2020-13-45", "not valid YAML"),
        ("fail_if: " + "[" * 3000, "not valid YAML"),
        ("? [a]\n: b", "not valid YAML"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nfail_if: [*b]", "is unknown"),
    ],
)
def test_gate_files_that_are_none_are_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "audit.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_gate(path)
    assert said in str(caught.value)
    assert "expected fail_if: with a list" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_gate_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xff")
    for path in (tmp_path / "none.yaml", tmp_path, tmp_path / "bytes.yaml"):
        with pytest.raises(ConfigError, match="--gate"):
            read_gate(path)


@pytest.mark.parametrize("content", [{}, {"sections": []}, {"sections": {"background": 1}}, []])
def test_other_contents_are_refused(content: Any) -> None:
    with pytest.raises(DataError, match="audit.json"):
        _check("leans", content)
    with pytest.raises(DataError, match="--baseline"):
        _check("leans", AUDIT, baseline=content)


def test_audit_json_is_enough_and_torch_is_not_needed(tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(json.dumps(AUDIT))
    code = """
import json, pathlib, sys
from vidact.audit.gates import gate
from vidact.audit.output import junit
content = json.loads(pathlib.Path("audit.json").read_text())
asked = gate.parse_gate(["leans"], findings=list(content["sections"]), has_baseline=False)
assert gate.check_gate(asked, content)[0].failed
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
