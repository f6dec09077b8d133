"""Draw an audit: the lean of each finding and cell, time, tags, groups of clips, and actor against background."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from vidact.audit.asking import OTHER
from vidact.audit.factors.places import GRID
from vidact.audit.results.findings import Measured, Record
from vidact.audit.results.resampling import Estimate
from vidact.audit.results.summary import Audit
from vidact.audit.results.tags import FALSE_DISCOVERIES
from vidact.audit.sections import ORDER
from vidact.audit.settings import BACKGROUND, CELLS, CLUSTERS, TAGS, TIME
from vidact.drawing.audit.clusters import GroupMap, clusters_plot
from vidact.drawing.audit.conflict import conflict_plot
from vidact.drawing.audit.lean import LeanRow, cells_plot, lean_plot
from vidact.drawing.audit.tags import ValueRow, tags_plot
from vidact.drawing.audit.time import Ends, time_plot


def audit_figures(
    audit: Audit,
    records: Sequence[Record] = (),
    *,
    class_names: Sequence[str] = (),
    mean_frame: Float[np.ndarray, "H W"] | None,
) -> dict[str, Figure]:
    """Draw `lean`, and `cells`, `time`, `conflict`, `tags` and `clusters` where there is something to show.

    Args:
        audit: What was found.
        records: The answers, for `conflict`.
        class_names: Of the network, as labels in the records count them.
        mean_frame: Of some clips, in [0, 1], to draw cells and groups over.
    """
    margin = float(audit.settings["margin"])
    figures = {}
    if audit.findings:
        title = f"What {audit.run} leans on, {audit.clips} clips"
        figures["lean"] = lean_plot(_rows(audit), margin=margin, title=title)
    cells = audit.findings.get(CELLS)
    if cells is not None and mean_frame is not None and audit.verdicts[CELLS].works:
        title = f"Where {audit.run} finds the class: lean of each cell"
        figures["cells"] = cells_plot(*_cells(cells, margin), frame=mean_frame, title=title)
    stretches, orders = _time(audit)
    if stretches or orders:
        title = f"When {audit.run} finds the class, and in which order of frames"
        figures["time"] = time_plot(stretches, orders, margin=margin, title=title)
    said, pairs = conflict_counts(records, num_classes=len(class_names))
    if pairs.any():
        kept = np.flatnonzero(pairs.any(axis=0) | pairs.any(axis=1)).tolist()
        own = np.ix_(kept, kept)
        title = f"{audit.run}: predictions that name the background's class, in %"
        figures["conflict"] = conflict_plot(said[own], pairs[own], [class_names[one] for one in kept], title=title)
    tags = audit.extras[TAGS].content if TAGS in audit.extras else {}
    if tags:
        title = f"How often {audit.run} is right, by the tags of clips"
        rows, q = _tags(tags)
        figures["tags"] = tags_plot(rows, q, level=FALSE_DISCOVERIES, accuracy=audit.accuracy.mean, title=title)
    groups = _groups(audit.extras[CLUSTERS].content) if CLUSTERS in audit.extras else {}
    if groups:
        title = f"Groups of clips by where {audit.run} looks"
        figures["clusters"] = clusters_plot(groups, frame=mean_frame, title=title)
    return figures


def conflict_counts(
    records: Sequence[Record], *, num_classes: int
) -> tuple[Int[np.ndarray, "K K"], Int[np.ndarray, "K K"]]:
    """Count pairs of an actor of one class and a background of another, and predictions of the background's class.

    Pairs whose donor has no record are left out, since its class is not known.

    Returns:
        Predictions that name the background's class, and all pairs; both [actor's class, background's class].
    """
    labels = {record["clip"]: record["label"] for record in records}
    said, pairs = (np.zeros((num_classes, num_classes), dtype=int) for _ in range(2))
    for record in records:
        donors = record["donors"].get(BACKGROUND, {}).get(OTHER, ())
        answers = record["answers"].get(f"{BACKGROUND}|{BACKGROUND}|{OTHER}", ())
        for donor, (predicted, _) in zip(donors, answers, strict=True):
            if donor in labels:
                pairs[record["label"], labels[donor]] += 1
                said[record["label"], labels[donor]] += predicted == labels[donor]
    return said, pairs


def _rows(audit: Audit) -> list[LeanRow]:
    rows = []
    for name, found in audit.findings.items():
        works = audit.verdicts[name].works  # else a lean would be read, whatever the verdict says
        lean = None if found is None or not works else found.parts[found.main].lean
        label = audit.says[name]
        if found is not None and len(found.parts) > 1:
            label = f"{label} ({found.main})"
        ends = (None, None, None) if lean is None else (lean.mean, lean.low, lean.high)
        rows.append(LeanRow(label, audit.verdicts[name].verdict, *ends))
    return rows


def _cells(cells: Measured, margin: float) -> tuple[Float[np.ndarray, "R C"], list[list[bool]]]:
    lean_of, clear = np.full((GRID, GRID), np.nan), [[False] * GRID for _ in range(GRID)]
    for part, value in cells.parts.items():
        row, column = map(int, part.split(","))
        lean_of[row, column] = np.nan if value.lean.mean is None else value.lean.mean
        clear[row][column] = value.lean.wide_low is not None and value.lean.wide_low > margin
    return lean_of, clear


def _time(audit: Audit) -> tuple[list[Ends], list[Ends]]:
    """List the leans on stretches of time, and the accuracies of reordered clips after that of clips as they are."""

    def ends(name: str, one: Estimate) -> Ends:
        return Ends(name, one.mean, one.low, one.high)

    when, order = audit.findings.get(f"{TIME}.when"), audit.findings.get(ORDER)
    works = when is not None and audit.verdicts[when.name].works
    stretches = [] if when is None or not works else [ends(name, part.lean) for name, part in when.parts.items()]
    if order is None:
        return stretches, []
    ways = {**order.parts, **order.beside}
    return stretches, [ends("as it is", audit.accuracy), *(ends(name, part.other) for name, part in ways.items())]


def _tags(content: Mapping[str, Any]) -> tuple[dict[str, list[ValueRow]], dict[str, float]]:
    rows: dict[str, list[ValueRow]] = {}
    for row in content["rows"]:
        own = ValueRow(row["value"], row["right"], row["low"], row["high"], row["clips"], row["sources"])
        rows.setdefault(row["tag"], []).append(own)
    return rows, {name: one["q"] for name, one in content["tags"].items()}


def _groups(content: Mapping[str, Any]) -> dict[str, list[GroupMap]]:
    return {
        name: [
            GroupMap(np.array(mean), np.array(peak, dtype=bool), row["clips"], row["sources"], row["confirmed"])
            for mean, peak, row in zip(one["means"], one["peaks"], one["rows"], strict=True)
        ]
        for name, one in content.items()
        if one["groups"] > 1
    }
