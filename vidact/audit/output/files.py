"""Write an audit as JSON, CSV and Markdown, with its pictures."""

import contextlib
import csv
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vidact.audit.actors.reading import name_actor
from vidact.audit.results.extras import percent
from vidact.audit.results.resampling import Estimate
from vidact.audit.results.summary import Audit
from vidact.audit.results.verdict import CANNOT_SAY, LEANS, is_above
from vidact.audit.runs import NAME, PICTURES
from vidact.core.errors import DataError
from vidact.core.files import atomic_writer, write_json
from vidact.core.terminal import escape_row, printable

MEASURES = ("lean", "steer", "gap", "gap_logp", "same", "other", "aa", "artefact", "random")
_COLUMNS = ("run", "finding", "verdict", "part", "measure", "mean", "low", "high", "clips", "sources")
READING = """
- Of a finding with several parts (cells, stretches of time) the one on which most hangs is shown, and those that are
  clearly above the margin; `audit.csv` has all.
- *same*, *other*: share of right answers when the part comes from another clip of the same class, or of another class.
- *lean*: 1 − other / same, the share of right answers that hang on what the part says of the class; *steer*: how often
  the network says what it says of the donor's part alone, less how often it says so anyway.
- *A/A*: two draws of donors of the same class, which must not differ; *artefact*: what pasting a clip's own part back
  costs; *random*: the gap (same − other) of the network with random weights. All three are 0 but for chance.
- Intervals are 95 %, by the bootstrap over the sources of clips, widened by what those of donors add. Where few sources
  show nothing, the upper end is what they cannot exclude.
- A dash: the instrument failed, as said below, and its lean would mean nothing.
- *leans*: the lower end of lean or steer, at a level raised for the number of claims, is above the margin; *does not
  lean*: the upper ends of both are below it; else nothing is said.
""".strip()


def content_of(audit: Audit) -> dict[str, Any]:
    """Arrange an audit as `audit.json` has it; a finding whose instrument failed has no lean."""
    sections = {}
    for name, found in audit.findings.items():
        verdict = audit.verdicts[name]
        own: dict[str, Any] = {"verdict": verdict.verdict, "reason": verdict.reason, "says": audit.says[name]}
        if found is None:
            own |= dict.fromkeys(MEASURES)
        else:
            main = asdict(found.parts[found.main])
            if len(found.parts) > 1:  # one of several may lean, and each of them must not
                highs = [part.lean.high for part in found.parts.values()]
                main["lean"]["low"] = main["lean"]["wide_low"]
                main["lean"]["high"] = None if None in highs else max(high for high in highs if high is not None)
            own |= main if verdict.works else dict.fromkeys(MEASURES)
            own |= {"main": found.main, "clips": found.clips, "sources": found.sources, "donors": found.donors}
            own |= {"parts": {part: asdict(value) for part, value in found.parts.items()}}
        sections[name] = own
    rest = {
        key: getattr(audit, key)
        for key in audit.__dataclass_fields__
        if key not in ("findings", "verdicts", "accuracy", "extras", "says")
    }
    extras = {name: {"sentence": one.sentence, **one.content} for name, one in audit.extras.items()}
    return {"format": 1, **rest, "accuracy": asdict(audit.accuracy), "sections": sections, "beside": extras}


def write_audit(folder: Path, audit: Audit, *, pictures: Collection[str] = ()) -> dict[str, Any]:
    """Write `audit.json`, `audit.csv` and `audit.md`; gives what the first holds.

    Pictures that the audit before lists and this one does not are taken away: they would be taken for its own.

    Args:
        folder: Where to.
        audit: What was found.
        pictures: Names of the pictures that are drawn, without their ending.

    Raises:
        EnvironmentProblem: they cannot be written.
    """
    content = content_of(audit) | {"pictures": sorted(pictures)}
    with contextlib.suppress(DataError):
        before = read_content(folder).get("pictures") or ()
        for name in [name for name in PICTURES if name in before and name not in pictures]:
            (folder / f"{name}.png").unlink(missing_ok=True)
    write_json(folder / f"{NAME}.json", content)
    with atomic_writer(folder / f"{NAME}.csv") as file:
        table = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(escape_row(row) for row in _rows(audit))
    with atomic_writer(folder / f"{NAME}.md") as file:
        file.write(markdown(audit))
    return content


def _rows(audit: Audit) -> Iterator[dict[str, Any]]:
    yield _row(audit, "", "", "accuracy", audit.accuracy, audit)
    for name, found in audit.findings.items():
        for part, value in {**found.parts, **found.beside}.items() if found is not None else ():
            for measure in MEASURES:
                if (one := getattr(value, measure)) is not None:
                    yield _row(audit, name, part, measure, one, found)


def _row(audit: Audit, name: str, part: str, measure: str, one: Estimate, counted: Any) -> dict[str, Any]:
    verdict = audit.verdicts[name].verdict if name else ""
    values = (audit.run, name, verdict, part, measure, one.mean, one.low, one.high, counted.clips, counted.sources)
    return dict(zip(_COLUMNS, values, strict=True))


def markdown(audit: Audit) -> str:
    """Write the sentence, the table of findings, and how to read it."""
    lines = [f"# What {printable(audit.run)} leans on", "", f"**{printable(audit.sentence)}.**", ""]
    lines += [
        f"{audit.clips} clips of {audit.sources} sources, {audit.part} part of {printable(audit.data)}, "
        f"{len(audit.class_names)} classes; {percent(audit.accuracy)} right as they are. "
        f"Actor: {name_actor(audit.actor)}.",
        "",
        "| | verdict | lean | steer | same | other | A/A | artefact | random | clips (sources) |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, found in audit.findings.items():
        verdict = audit.verdicts[name].verdict
        title = printable(audit.says[name]).removeprefix("the ").removeprefix("a ")
        if found is None:
            lines.append(f"| {title} | {verdict} | | | | | | | | 0 |")
            continue
        margin = audit.settings["margin"]
        shown = [part for part in found.parts if part == found.main or is_above(found.parts[part], margin)]
        for part in shown:
            label = title if len(found.parts) == 1 else f"{title}: {part}"
            told = verdict if part == found.main else ""
            measures = ("lean", "steer", "same", "other", "aa", "artefact", "random")
            works = audit.verdicts[name].works  # else a lean would be read, whatever the verdict says
            cells = [
                _number(getattr(found.parts[part], measure)) if works or measure not in ("lean", "steer") else "–"
                for measure in measures
            ]
            cells.append(f"{found.clips} ({found.sources})")
            lines.append(f"| {label} | {f'**{told}**' if told == LEANS else told} | {' | '.join(cells)} |")
    lines += ["", READING, ""]
    for extra in audit.extras.values():
        lines += [f"## {extra.title}", "", f"{printable(extra.sentence[:1].upper() + extra.sentence[1:])}.", ""]
        if extra.rows:
            lines += [f"| {' | '.join(extra.columns)} |", f"|{'---|' * len(extra.columns)}"]
            lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in extra.rows] + [""]
    if unsure := [
        f"- {audit.says[name]}: {one.reason}" for name, one in audit.verdicts.items() if one.verdict == CANNOT_SAY
    ]:
        lines += ["## Why nothing can be said", "", *map(printable, unsure), ""]
    for heading, listed in (("Notes", audit.notes), ("Left out", audit.left_out)):
        if listed:
            lines += [f"## {heading}", "", *(f"- {printable(line)}" for line in listed), ""]
    return "\n".join(lines)


def _number(one: Estimate | None) -> str:
    if one is None or one.mean is None:
        return "" if one is None else "undefined"
    ends = "" if one.low is None or one.high is None else f" ({one.low:.3f} to {one.high:.3f})"
    return f"{one.mean:.3f}{ends}".replace("-", "−")


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}".replace("-", "−") if isinstance(value, float) else printable(str(value)).replace("|", r"\|")


def read_content(path: Path) -> Mapping[str, Any]:
    """Read `audit.json`.

    Raises:
        DataError: the file is missing, or is something else.
    """
    path = path / f"{NAME}.json" if path.is_dir() else path
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and isinstance(content.get("sections"), dict):
            return content
        reason = "it has no sections"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    raise DataError(f"{path}: not what `python -m vidact audit` wrote ({reason})")
