"""Write an audit as `junit.xml`, which build servers show: one test for each gate expression and each finding.

Only gate expressions fail. A finding passes, whatever its verdict, and is skipped where nothing can be said.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from vidact.audit.gates.expressions import ACCURACY, ENDS
from vidact.audit.gates.gate import CANNOT_SAY, Outcome
from vidact.core.errors import VidactError, in_one_line
from vidact.core.files import atomic_writer
from vidact.core.terminal import printable

CLASS = "vidact.audit"
DESCRIBED = ("run", "vidact", "checkpoint_sha1", "part", "seed", "margin", "level")  # of audit.json, as properties
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


def write_junit(
    path: Path,
    content: Mapping[str, Any],
    outcomes: Sequence[Outcome],
    *,
    seconds: float,
    error: BaseException | None = None,
) -> None:
    """Write the outcomes of a gate and the findings of an audit; after a crash, what there is of them, and the error.

    Args:
        path: The file.
        content: Of `audit.json`; what is missing in it is left out.
        outcomes: Of the gate's expressions.
        seconds: How long the audit took.
        error: What ended it early.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    suite = Element("testsuite", name=_clean(f"{CLASS} {content.get('run', '')}".strip()))
    properties = SubElement(suite, "properties")
    described = {**content.get("versions", {}), **content.get("settings", {}), **content}
    for name in DESCRIBED:
        if name in described:
            SubElement(properties, "property", name=name, value=_clean(described[name]))
    for outcome in outcomes:
        _add_outcome(suite, outcome, content)
    for name in content.get("sections", {}):
        _add_finding(suite, name, content)
    if error is not None:
        message = str(error) if isinstance(error, VidactError) else in_one_line(error)
        SubElement(_case(suite, "audit"), "error", type=type(error).__name__, message=_clean(message))
    suites = Element("testsuites")
    suites.append(suite)
    counts = {tag: str(len(list(suite.iter(tag)))) for tag in ("testcase", "failure", "error", "skipped")}
    for element in (suites, suite):
        element.attrib.update(tests=counts["testcase"], failures=counts["failure"], errors=counts["error"])
        element.set("time", f"{seconds:.3f}")
    suite.set("skipped", counts["skipped"])
    ElementTree.indent(suites)
    with atomic_writer(path) as file:
        file.write(f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n')


def _add_outcome(suite: Element, outcome: Outcome, content: Mapping[str, Any]) -> None:
    case = _case(suite, outcome.expression)
    evidence = [_evidence(measure, content) for measure in outcome.measures]
    if outcome.failed:
        said = "; ".join([f"{outcome.expression}: {outcome.sentence}", *evidence])
        SubElement(case, "failure", type="gate", message=_clean(said))
    SubElement(case, "system-out").text = _clean_lines([outcome.sentence, *evidence])
    if outcome.warning:
        SubElement(case, "system-err").text = _clean_lines([f"warning: {outcome.warning}"])


def _add_finding(suite: Element, name: str, content: Mapping[str, Any]) -> None:
    finding = content["sections"][name]
    said = ": ".join(finding[key] for key in ("verdict", "reason") if finding.get(key))
    case = _case(suite, name)
    if finding.get("verdict") == CANNOT_SAY:
        SubElement(case, "skipped", message=_clean(said))
    measures = [f"{name}.{estimate}" for estimate in ("lean", "steer") if finding.get(estimate) is not None]
    SubElement(case, "system-out").text = _clean_lines([said, *(_evidence(one, content) for one in measures)])


def _evidence(measure: str, content: Mapping[str, Any]) -> str:
    """Say what was measured: `background.lean 0.95 (0.92 to 0.97), 344 clips, 43 sources, examples/background.mp4`."""
    finding, _, estimate = measure.rpartition(".")
    one = content.get("sections", {}).get(finding, {})
    found = content.get(ACCURACY) if measure == ACCURACY else one.get(estimate)
    words = [f"{measure} {_interval(found)}"]
    counts = found if measure == ACCURACY and isinstance(found, Mapping) else one
    words += [f"{counts[name]} {name}" for name in ("clips", "sources") if name in counts and name != estimate]
    words += [f"example {one['example']}"] if one.get("example") else []
    return ", ".join(words)


def _interval(found: object) -> str:
    if not isinstance(found, Mapping):
        return f"{found:.4g}" if isinstance(found, float) else "not measured" if found is None else str(found)
    mean, low, high = (_interval(found.get(end)) for end in ENDS)
    return mean if found.get("low") is None else f"{mean} ({low} to {high})"


def _case(suite: Element, name: str) -> Element:
    return SubElement(suite, "testcase", classname=CLASS, name=_clean(name), time="0")


def _clean(text: object) -> str:
    """Escape what XML cannot hold, and what would break the line."""
    return _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", printable(text))


def _clean_lines(lines: Sequence[str]) -> str:
    return "\n".join(map(_clean, lines))
