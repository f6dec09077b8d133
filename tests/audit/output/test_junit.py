"""`junit.xml` against the format as build servers read it, written down here, and read back."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidact.audit.gates.gate import Outcome, check_gate, parse_gate
from vidact.audit.output.junit import write_junit
from vidact.core.errors import EnvironmentProblem

# What Jenkins' junit-10.xsd and Surefire's schema both allow: required and optional attributes, children in this order.
FORMAT: dict[str, tuple[set[str], set[str], str]] = {
    "testsuites": ({"tests", "failures", "errors", "time"}, {"name"}, "(testsuite )*"),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time"},
        {"timestamp", "hostname", "id", "package"},
        "(properties )?(testcase )*(system-out )?(system-err )?",
    ),
    "properties": (set(), set(), "(property )*"),
    "property": ({"name", "value"}, set(), ""),
    "testcase": (
        {"name", "classname", "time"},
        set(),
        "(failure )?(skipped )?(error )?(system-out )?(system-err )?",
    ),
    "failure": ({"message", "type"}, set(), ""),
    "error": ({"message", "type"}, set(), ""),
    "skipped": ({"message"}, {"type"}, ""),
    "system-out": (set(), set(), ""),
    "system-err": (set(), set(), ""),
}
WITH_TEXT = {"failure", "error", "skipped", "system-out", "system-err"}
CONTENT: dict[str, Any] = {
    "run": "runs/version_2",
    "seed": 0,
    "accuracy": {"mean": 0.953, "low": 0.93, "high": 0.97},
    "sections": {
        "background": {
            "verdict": "leans",
            "reason": "lower end of lean above 0.1",
            "lean": {"mean": 0.99, "low": 0.95, "high": 1.0},
            "steer": None,
            "clips": 344,
            "sources": 43,
            "example": "examples/background.mp4",
        },
        "time.when": {
            "verdict": "cannot say",
            "reason": "14 sources needed",
            "lean": {"mean": 0.5, "low": None, "high": None},
            "clips": 3,
            "sources": 2,
        },
        "border": {"verdict": "does not lean", "reason": "", "lean": {"mean": 0.0, "low": -0.01, "high": 0.02}},
    },
}


def _outcomes(*expressions: str, content: Any = CONTENT) -> tuple[Outcome, ...]:
    return check_gate(parse_gate(expressions, findings=list(content["sections"]), has_baseline=False), content)


def _check_element(element: Element) -> None:
    required, optional, children = FORMAT[element.tag]
    assert required <= set(element.keys()) <= required | optional, element.tag
    assert re.fullmatch(children, "".join(f"{child.tag} " for child in element)), element.tag
    assert element.tag in WITH_TEXT or not (element.text or "").strip()
    assert not (element.tail or "").strip()
    for child in element:
        _check_element(child)


def _written(
    folder: Path, *, content: Any = CONTENT, outcomes: Sequence[Outcome] = (), error: BaseException | None = None
) -> tuple[Element, dict[str, Element]]:
    """Write, read back, and check the format and the counts; gives the suite and its cases by name."""
    path = folder / "junit.xml"
    write_junit(path, content, outcomes, seconds=12.3456, error=error)
    root = ElementTree.fromstring(path.read_bytes())
    assert root.tag == "testsuites"
    _check_element(root)
    (suite,) = root
    cases = suite.findall("testcase")
    for name, tag in {"failures": "failure", "errors": "error", "skipped": "skipped"}.items():
        assert suite.get(name) == str(sum(case.find(tag) is not None for case in cases))
    assert {case.get("classname") for case in cases} <= {"vidact.audit"}
    assert [suite.get(name) for name in ("tests", "time")] == [str(len(cases)), "12.346"]
    assert all(root.get(name) == suite.get(name) for name in ("tests", "failures", "errors", "time"))
    return suite, {case.get("name", ""): case for case in cases}


def test_there_is_a_case_for_each_expression_and_each_finding(tmp_path: Path) -> None:
    outcomes = _outcomes("background.lean.low > 0.2", "border.lean.low > 0.2")
    suite, cases = _written(tmp_path, outcomes=outcomes)
    assert list(cases) == ["background.lean.low > 0.2", "border.lean.low > 0.2", "background", "time.when", "border"]
    assert {one.get("name"): one.get("value") for one in suite.iter("property")} == {
        "run": "runs/version_2",
        "seed": "0",
    }
    assert [name for name, case in cases.items() if case.find("failure") is not None] == ["background.lean.low > 0.2"]


def test_a_failure_says_expression_value_interval_clips_sources_and_the_example(tmp_path: Path) -> None:
    _, cases = _written(tmp_path, outcomes=_outcomes("leans and accuracy.mean > 0.9"))
    failure = cases["leans and accuracy.mean > 0.9"].find("failure")
    assert failure is not None
    assert failure.get("message") == (
        "leans and accuracy.mean > 0.9: the network leans on background; the mean of accuracy is 0.953, above 0.9; "
        "background.lean 0.99 (0.95 to 1), 344 clips, 43 sources, example examples/background.mp4; "
        "accuracy 0.953 (0.93 to 0.97)"
    )


def test_without_a_gate_nothing_fails_and_what_cannot_be_said_is_skipped(tmp_path: Path) -> None:
    suite, cases = _written(tmp_path)
    assert [suite.get(name) for name in ("tests", "failures", "skipped")] == ["3", "0", "1"]
    skipped = cases["time.when"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "cannot say: 14 sources needed"
    assert "background.lean 0.99 (0.95 to 1)" in (cases["background"].findtext("system-out") or "")
    assert "time.when.lean 0.5, 3 clips, 2 sources" in (cases["time.when"].findtext("system-out") or "")


def test_warnings_are_told(tmp_path: Path) -> None:
    _, cases = _written(tmp_path, outcomes=_outcomes("time.when.lean.high > 0.2", "time.when.clips > 2"))
    case = cases["time.when.lean.high > 0.2"]
    assert case.find("failure") is not None
    assert "time.when.lean (14 sources needed); this fails" in (case.findtext("system-err") or "")
    failure = cases["time.when.clips > 2"].find("failure")
    assert failure is not None
    assert (failure.get("message") or "").endswith("above 2; time.when.clips 3, 2 sources")


@pytest.mark.parametrize(
    "error", [ValueError("shape\nmismatch"), EnvironmentProblem("disk: is full"), KeyboardInterrupt()]
)
@pytest.mark.parametrize("content", [{}, CONTENT])
def test_after_a_crash_the_error_is_told_beside_what_there_is(
    tmp_path: Path, content: Any, error: BaseException
) -> None:
    _, cases = _written(tmp_path, content=content, error=error)
    assert list(cases) == [*content.get("sections", {}), "audit"]
    found = cases["audit"].find("error")
    assert found is not None
    assert found.get("type") == type(error).__name__
    assert " ".join(str(error).split()) in (found.get("message") or "")


@given(st.text(st.characters(), max_size=20))
def test_any_text_gives_valid_xml_on_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    reason = f"<&'\"]]>{text}\0\ud800\ufffe\x1b\r\n"
    section = {"verdict": "cannot say", "reason": reason, "lean": None, "example": reason}
    content = {"run": reason, "sections": {f"a{reason}": section}}
    outcomes = check_gate(parse_gate(["leans"], findings=[], has_baseline=False), content, strict=True)
    suite, cases = _written(
        tmp_path_factory.mktemp("junit"), content=content, outcomes=outcomes, error=ValueError(reason)
    )
    assert len(cases) == 3
    for element in suite.iter():
        assert not any("\n" in value or "\0" in value for value in element.attrib.values())
    skipped = next(suite.iter("skipped"))
    assert (skipped.get("message") or "").startswith("cannot say: <&'\"]]>")
    assert (skipped.get("message") or "").endswith(r"\x00\ud800\ufffe\x1b\r\n")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem):
        write_junit(tmp_path / "file" / "junit.xml", CONTENT, (), seconds=1.0)
