"""Judge every clip of a data set from its inspection, and list what the user should look at.

The data module and `vidact data check` use it.
"""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vidact.core.files import atomic_writer
from vidact.core.terminal import escape_row
from vidact.data.datasets.clip_frames import frames_of, share_time, why_unusable
from vidact.data.datasets.index import Clip
from vidact.data.video.similarity import Pair, near_duplicates
from vidact.data.video.verdicts import Inspection, Verdict

MAX_LISTED = 20
COLUMNS = (
    *("path", "class", "source", "start", "end", "tags", "frames", "header_frames", "width", "height", "fps", "codec"),
    *("bytes", "sha1", "verdict", "reason"),
)
_PRECEDENCE = tuple(Verdict)


@dataclass(frozen=True)
class Finding:
    """The verdict on one clip.

    Attributes:
        clip: The clip.
        inspection: The inspection of its file.
        verdicts: All that apply, one or more, in the order of `Verdict`.
        reason: The reasons for them.
        num_frames: Frames of the clip, from its start to its end in the file; 0 where none can be used.
    """

    clip: Clip
    inspection: Inspection
    verdicts: tuple[Verdict, ...]
    reason: str
    num_frames: int

    @property
    def verdict(self) -> Verdict:
        """The verdict that takes precedence."""
        return self.verdicts[0]

    @property
    def is_fault(self) -> bool:
        """True where the user should look: the verdict is a fault, or no frame can be used."""
        return self.verdict.is_fault or not self.usable

    @property
    def usable(self) -> bool:
        """True where some frames of the clip can be used."""
        return self.inspection.usable and Verdict.WRONG_TIMES not in self.verdicts

    def row(self) -> dict[str, Any]:
        """Convert to a row of the table, in plain types."""
        info, tags = self.inspection.info, self.clip.tags
        values = (
            str(self.clip.path),
            self.clip.class_name,
            self.clip.source,
            *("" if time is None else time for time in (self.clip.start_seconds, self.clip.end_seconds)),
            " ".join(str(value) for value in asdict(tags).values()) if tags else "",
            self.num_frames,
            *((info.header_frames, info.width, info.height, info.fps, info.codec) if info else (0, 0, 0, 0.0, "")),
            self.inspection.num_bytes,
            self.inspection.sha1,
            self.verdict.value,
            self.reason,
        )
        return dict(zip(COLUMNS, values, strict=True))


@dataclass(frozen=True)
class LookAlikes:
    """Two clips that look alike.

    Attributes:
        first: Clip id.
        second: Clip id.
        distance_bits: Mean differing bits of 64 per frame; 0 for copies of the same pictures.
        sides: Their sides of the split; None for a clip that the split does not use, or without a split.
    """

    first: str
    second: str
    distance_bits: float
    sides: tuple[str | None, str | None]

    @property
    def crosses(self) -> bool:
        """True where they are on different sides of the split."""
        return None not in self.sides and self.sides[0] != self.sides[1]

    def line(self) -> str:
        """Describe the pair in one line."""
        sides = f" ({self.sides[0]}, {self.sides[1]})" if self.crosses else ""
        return f"{self.first} and {self.second}{sides}: {self.distance_bits:.1f} bits of 64 differ"


@dataclass(frozen=True)
class Check:
    """The verdicts on a data set.

    Attributes:
        findings: One per clip, in the order of the clips.
        look_alikes: Pairs of clips that look alike; with a split, only those on different sides.
    """

    findings: tuple[Finding, ...]
    look_alikes: tuple[LookAlikes, ...]

    @property
    def exit_status(self) -> int:
        """1 where a clip has a fault, else 0."""
        return int(any(finding.is_fault for finding in self.findings))

    def record(self) -> dict[str, Any]:
        """Convert to plain types, for JSON."""
        return {
            "exit_status": self.exit_status,
            "verdicts": {verdict.value: count for verdict, count in self._counts()},
            "clips": [finding.row() for finding in self.findings],
            "look_alikes": [asdict(pair) for pair in self.look_alikes],
        }

    def summary(self) -> list[str]:
        """Summarise in a few lines how many clips have which verdict, and which have faults."""
        usable = [finding for finding in self.findings if finding.usable]
        frames = sum(finding.num_frames for finding in usable)
        files = {f.clip.path: f.inspection.info.num_frames for f in usable if f.inspection.info}
        held = sum(files.values())
        of_files = f" (their files have {held:,})" if frames != held else ""
        lines = [f"{len(self.findings)} clips; {len(usable)} can be used, with {frames:,} frames{of_files}"]
        lines += [f"  {verdict.value}: {count}" for verdict, count in self._counts()]
        lines += self._read_with_pyav()
        faults = [f"{f.clip.clip_id}: {f.verdict.value}: {f.reason}" for f in self.findings if f.is_fault]
        lines += _listed("to look at", faults)
        return lines + _listed("pairs of clips that look alike", [pair.line() for pair in self.look_alikes])

    def _read_with_pyav(self) -> list[str]:
        """Note in one line how many clips are read with PyAV instead of decord, and why the first of them is."""
        found = [(f.clip.clip_id, f.inspection.info.only_pyav) for f in self.findings if f.inspection.info]
        reasons = [f"{clip_id}: {reason}" for clip_id, reason in found if reason]
        if not reasons:
            return []
        return [f"read with PyAV, whatever --data.decoder says: {len(reasons)}, the first {reasons[0]}"]

    def _counts(self) -> list[tuple[Verdict, int]]:
        counts = Counter(verdict for finding in self.findings for verdict in finding.verdicts)
        return [(verdict, counts[verdict]) for verdict in reversed(_PRECEDENCE) if counts[verdict]]


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    rest = [f"  … and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
    return [f"{title}, {len(lines)}:", *(f"  {line}" for line in lines[:MAX_LISTED]), *rest]


def check_clips(
    clips: Sequence[Clip],
    inspections: Mapping[Path, Inspection],
    *,
    least_frames: int = 1,
    sides: Mapping[str, str] | None = None,
    compare: bool = True,
    fps: float | None = None,
) -> Check:
    """Judge every clip.

    Args:
        clips: The data set.
        inspections: From path to inspection, as `inspection.inspect_clips` returns it.
        least_frames: Number of frames that a window spans; shorter clips repeat their last frame.
        sides: From clip id to its side of the split, without clips that the split does not use.
        compare: Whether to search for clips that look alike.
        fps: Frames per second at which clips are sampled; as in their files if None.
    """
    found = [inspections[clip.path] for clip in clips]
    twins = _twins(clips, found, sides or {})
    pairs = [
        LookAlikes(
            a.clip_id, b.clip_id, pair.distance_bits, ((sides or {}).get(a.clip_id), (sides or {}).get(b.clip_id))
        )
        for pair, a, b in (_pairs(clips, found) if compare else ())
    ]
    crossing = [pair for pair in pairs if pair.crosses]
    near = _near_reasons(crossing)
    findings = []
    for clip, inspection in zip(clips, found, strict=True):
        wrong = why_unusable(clip, inspection)
        reasons = {
            Verdict.DUPLICATE: twins.get(clip.clip_id),
            Verdict.NEAR_DUPLICATE: near.get(clip.clip_id),
            Verdict.WRONG_TIMES: wrong,
        }
        length = len(frames_of(clip, inspection.info, fps=fps)) if inspection.info and not wrong else 0
        verdicts, reason = judge(inspection, num_frames=length, least_frames=least_frames, reasons=reasons)
        findings.append(Finding(clip, inspection, verdicts, reason, length))
    return Check(tuple(findings), tuple(pairs if sides is None else crossing))


def judge(
    inspection: Inspection, *, num_frames: int, least_frames: int, reasons: Mapping[Verdict, str | None]
) -> tuple[tuple[Verdict, ...], str]:
    """Choose all verdicts that apply to a clip, in the order of `Verdict`.

    A file that cannot be used at all keeps the verdict of its inspection.

    Args:
        inspection: The inspection of the file.
        num_frames: Frames of the clip.
        least_frames: Number of frames that a window spans.
        reasons: Verdicts because of other clips or a table, each with its reason (None: it does not apply).

    Returns:
        The verdicts, and their reasons in the same order.
    """
    if inspection.info is None:
        return (inspection.verdict,), inspection.reason
    applying = {verdict: reason for verdict, reason in reasons.items() if reason}
    if inspection.verdict is not Verdict.OK:
        applying[inspection.verdict] = inspection.reason
    if inspection.info.only_pyav:
        applying.setdefault(Verdict.PYAV_ONLY, "")
    if num_frames < least_frames and Verdict.WRONG_TIMES not in applying:
        applying[Verdict.TOO_SHORT] = f"{num_frames} frames, a window spans {least_frames}"
    order = sorted(applying, key=_PRECEDENCE.index)
    return tuple(order) or (Verdict.OK,), "; ".join(filter(None, (applying[verdict] for verdict in order)))


def _twins(clips: Sequence[Clip], found: Sequence[Inspection], sides: Mapping[str, str]) -> dict[str, str]:
    """Find clips with the same bytes and times as an earlier one (by path); from clip id to the reason."""
    earlier: dict[str, list[Clip]] = {}
    reasons = {}
    for clip, inspection in sorted(zip(clips, found, strict=True), key=lambda pair: pair[0].path):
        if not inspection.sha1:
            continue
        same = earlier.setdefault(inspection.sha1, [])
        twin = next((other for other in same if _is_copy(other, clip, sides)), None)
        same.append(clip)
        if twin is not None:
            here, there = sides.get(clip.clip_id), sides.get(twin.clip_id)
            across = f" ({there}, this one: {here})" if here and there and here != there else ""
            reasons[clip.clip_id] = f"the same bytes as {twin.clip_id}{across}"
    return reasons


def _is_copy(first: Clip, second: Clip, sides: Mapping[str, str]) -> bool:
    """Return whether clips with the same bytes are copies; parts of one file are, if they overlap on two sides."""
    apart = first.path != second.path or sides.get(first.clip_id) != sides.get(second.clip_id)
    return apart and share_time(first, second)


def _pairs(clips: Sequence[Clip], found: Sequence[Inspection]) -> list[tuple[Pair, Clip, Clip]]:
    """Find clips that look alike but are different files."""
    return [
        (pair, clips[pair.first], clips[pair.second])
        for pair in near_duplicates([inspection.frame_hashes for inspection in found])
        if found[pair.first].sha1 != found[pair.second].sha1
    ]


def _near_reasons(crossing: Sequence[LookAlikes]) -> dict[str, str]:
    """Name for each clip the most similar one on another side of the split."""
    reasons: dict[str, str] = {}
    for pair in sorted(crossing, key=lambda pair: pair.distance_bits):
        for own, other, side in ((pair.first, pair.second, pair.sides[1]), (pair.second, pair.first, pair.sides[0])):
            reasons.setdefault(own, f"looks like {other} in {side} ({pair.distance_bits:.1f} bits of 64 differ)")
    return reasons


def is_table(path: Path) -> bool:
    """Return whether a file was written by `write_table`.

    Raises:
        OSError, ValueError: it cannot be read as text.
    """
    with path.open(encoding="utf-8", newline="") as file:
        return file.readline().rstrip("\n") == ",".join(COLUMNS)


def write_table(path: Path, check: Check) -> None:
    """Write a CSV file in UTF-8 with one row per clip, atomically.

    Raises:
        EnvironmentProblem: it cannot be written.
    """
    with atomic_writer(path) as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(escape_row(finding.row()) for finding in check.findings)
