"""What a class hangs on among the channels of a late layer, and its usual and unusual clips."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vidact.audit.relevance.concepts import ConceptTable, ablation_changes, mean_inside, most_relevant, table_of
from vidact.audit.relevance.proposals import Proposals
from vidact.audit.relevance.prototypes import find_prototypes
from vidact.audit.results.extras import Extra, number
from vidact.audit.results.findings import Record
from vidact.audit.results.resampling import Resamples
from vidact.audit.settings import CONCEPTS
from vidact.core.intervals import LEVEL

TITLE = "Concepts"
COLUMNS = (
    "class",
    "channels",
    "share of relevance",
    "inside the actor",
    "accuracy without",
    "log p without",
    "seen in",
)
NUM_SHOWN = 3


def concepts(
    records: Sequence[Record], proposals: Proposals, resamples: Resamples, *, class_names: Sequence[str], seed: int
) -> Extra:
    """List each class's strongest channels, what changes without them, and the clips that show them best.

    The last row of a class takes as many other channels away, to compare with.
    """
    if reason := proposals.reasons.get(CONCEPTS):
        return Extra(TITLE, reason)
    table = table_of(records)
    assert table is not None, "else there is a reason"
    changes, rows = ablation_changes(records), []
    for label, sets in proposals.ablations.items():
        own = table.of(label)
        members = [record for record in records if record["label"] == label]
        for channels in sets:
            found = changes.get((label, "+".join(map(str, channels))))
            if found is None:
                continue
            right, log_p = (
                resamples.estimate(
                    resamples.mean(torch.tensor(values, dtype=torch.float64), found.sources), level=LEVEL
                )
                for values in (found.right, found.log_p)
            )
            is_single = len(channels) == 1
            inside = mean_inside(members, channels[0]) if is_single else None
            where = ", ".join(one.clip for one in most_relevant(own, channels[0], count=NUM_SHOWN) if is_single)
            named = " + ".join(map(str, channels))
            share = float(own.rho[:, list(channels)].sum(axis=1).mean())
            rows.append((class_names[label], named, share, inside, number(right), number(log_p), where))
    usual = _usual(table, class_names, seed)
    told = [f"{name}: {', '.join(one['suspects'])}" for name, one in usual.items() if one["suspects"]]
    layer = next(record[CONCEPTS]["layer"] for record in records if CONCEPTS in record)
    sentence = (
        f"channels of {layer}, by their share of relevance; a class's evidence is often spread over many, so that it "
        "misses none of them alone, and the last row of each class takes as many others away"
    )
    sentence += f"; wrong although they are recognised as usual: {'; '.join(told)}" if told else ""
    content = {"rows": [dict(zip(COLUMNS, row, strict=True)) for row in rows], "usual": usual}
    return Extra(TITLE, sentence, COLUMNS, tuple(rows), content)


def _usual(table: ConceptTable, class_names: Sequence[str], seed: int) -> Mapping[str, dict[str, Any]]:
    """Name each class's prototypes, and the wrong clips that are most like its others."""
    found = {}
    for label in sorted({int(own) for own in table.labels}):
        one = find_prototypes(table, label, seed=seed)
        if one is not None:
            found[class_names[label]] = {
                "prototypes": list(one.prototypes),
                "stability": one.stability,
                "reason": one.reason,
                "suspects": list(one.suspects[:NUM_SHOWN]),
            }
    return found
