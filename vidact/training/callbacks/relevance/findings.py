"""Explain clips for the relevance callback, and summarise them in a table.

A finding is one clip explained for one class, as plain values that can be gathered from several processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vidact.attribution.account import NEGLIGIBLE_SCORE, TOLERANCE, in_words, parts_of
from vidact.attribution.base import Explainer
from vidact.attribution.hotspots import voxel_relevance
from vidact.attribution.names import LOGIT, PREDICTED, TRUE, unit_of
from vidact.core.clips import ClipBatch, as_float
from vidact.core.explanation import Explanation

BATCH_SIZE = 8
TABLE_COLUMNS = (
    *("clip", "true class", "predicted class"),
    *("score", "relevance sum", "relevance sum / score", "where the score is"),
    *("true class score", "true class relevance sum", "true class relevance sum / score"),
    "where the true class score is",
)


@dataclass(frozen=True)
class Finding:
    """One clip explained for one class, as plain arrays that travel between processes.

    Attributes:
        position: The clip's place among the clips that are explained.
        kind: PREDICTED or TRUE.
        target: The class number that is explained.
        score: Its logit.
        largest_logit: max |logit| of the clip.
        relevance_sum: ΣR.
        relevance: Per voxel, summed over colour.
        method: Name of the method.
        parts: Where the score has gone, by names in words; None for methods without an account.
    """

    position: int
    kind: str
    target: int
    score: float
    largest_logit: float
    relevance_sum: float
    relevance: Float[np.ndarray, "T H W"] = field(repr=False)
    method: str
    parts: dict[str, float] | None = None

    @property
    def conservation(self) -> float:
        """ΣR / score, as in `core.Explanation`; NaN if the score is 0 or the method does not conserve it."""
        is_conserving = unit_of(self.method) == LOGIT
        return self.relevance_sum / self.score if self.score and is_conserving else float("nan")

    @property
    def where(self) -> str:
        """Where the score has gone, in words; empty for methods without an account."""
        return "" if self.parts is None else in_words(self.parts, self.score)

    @property
    def is_negligible(self) -> bool:
        """Whether the score is so small that ΣR / score means little, see `account.NEGLIGIBLE_SCORE`."""
        return abs(self.score) <= NEGLIGIBLE_SCORE * self.largest_logit


def explain_clips(
    explainer: Explainer, clips: ClipBatch, *, positions: Sequence[int], device: torch.device
) -> list[Finding]:
    """Explain some of the clips for the class that the network predicts and, where it is wrong, for the true one.

    Args:
        explainer: Not yet entered.
        clips: All clips that are explained.
        positions: Which of them.
        device: The network's.
    """
    findings: list[Finding] = []
    with explainer as explain:
        for start in range(0, len(positions), BATCH_SIZE):
            part = list(positions[start : start + BATCH_SIZE])
            video = as_float(clips.video[part].to(device))
            label = clips.label[part].to(device)
            logits = explain.scores(video)
            predicted, largest = logits.argmax(dim=1), logits.abs().amax(dim=1)
            findings += _findings(explain(video, predicted), part, largest, kind=PREDICTED)
            wrong = predicted != label
            if wrong.any():
                rest = [position for position, is_wrong in zip(part, wrong.tolist(), strict=True) if is_wrong]
                findings += _findings(explain(video[wrong], label[wrong]), rest, largest[wrong], kind=TRUE)
    return findings


def _findings(
    explanation: Explanation, positions: Sequence[int], largest_logit: Float[Tensor, " B"], *, kind: str
) -> list[Finding]:
    relevance = voxel_relevance(explanation.relevance).cpu().numpy()
    columns = (explanation.target, explanation.score, largest_logit, explanation.relevance_sum)
    rows = zip(positions, *(column.tolist() for column in columns), relevance, strict=True)
    account = explanation.account
    parts = [None if account is None else parts_of(account, row) for row in range(len(positions))]
    return [
        Finding(position, kind, target, score, largest, total, maps, explanation.method, own)
        for (position, target, score, largest, total, maps), own in zip(rows, parts, strict=True)
    ]


def most_lost(findings: Sequence[Finding]) -> Finding | None:
    """Find the explanation whose relevance is farthest from its score; None if all add up within TOLERANCE."""
    clear = [finding for finding in findings if not finding.is_negligible]
    worst = max(clear, key=lambda finding: np.nan_to_num(abs(finding.conservation - 1), nan=np.inf), default=None)
    return None if worst is None or abs(worst.conservation - 1) <= TOLERANCE else worst


def title_of(clips: ClipBatch, finding: Finding, *, class_names: Sequence[str]) -> str:
    """Say in one line which clip is explained for which class."""
    label = int(clips.label[finding.position])
    if finding.target == label:
        verdict = f"true class {class_names[label]}" + (", as predicted" if finding.kind == PREDICTED else "")
    else:
        verdict = f"predicted class {class_names[finding.target]}, true class {class_names[label]}"
    score = f"{finding.method}: {verdict}, logit {finding.score:.2f}"
    names = clips.clip_id[finding.position], *clips.datapoint[finding.position : finding.position + 1]
    return " · ".join([score, *names])


def table_rows(
    clips: ClipBatch, findings: Sequence[Finding], *, class_names: Sequence[str]
) -> list[tuple[str | float, ...]]:
    """Make the table's rows, one per clip, as TABLE_COLUMNS says."""
    by_clip: dict[int, dict[str, Finding]] = {}
    for finding in findings:
        by_clip.setdefault(finding.position, {})[finding.kind] = finding
    rows: list[tuple[str | float, ...]] = []
    for position, found in sorted(by_clip.items()):
        predicted, true = found[PREDICTED], found.get(TRUE, found[PREDICTED])
        names = clips.clip_id[position], class_names[int(clips.label[position])], class_names[predicted.target]
        rows.append((*names, *_sums(predicted), *_sums(true)))
    return rows


def _sums(finding: Finding) -> tuple[float, float, float, str]:
    return finding.score, finding.relevance_sum, finding.conservation, finding.where
