"""What a report shows of an audit, as plain words and packed pictures."""

from dataclasses import dataclass, field

from vidact.report.encoding import Sprite


@dataclass(frozen=True)
class FactorRow:
    """What is said of one factor.

    Attributes:
        name: What the network may lean on.
        key: The finding's name.
        verdict: `leans`, `does not lean` or `cannot say`.
        lean: As text, with its interval; empty where nothing can be said.
        low: Lower end of the interval, value and upper end, as shares of the scale's width; None where unknown.
        value: See `low`.
        high: See `low`.
        same: Accuracy with donors of the same class, as text.
        other: With donors of another class.
        control: Two draws of the same kind, as text.
        artefact: What pasting costs, as text.
        reason: The numbers in words, or why nothing can be said.
    """

    name: str
    key: str
    verdict: str
    lean: str
    low: float | None
    value: float | None
    high: float | None
    same: str
    other: str
    control: str
    artefact: str
    reason: str


@dataclass(frozen=True)
class Triplet:
    """A clip as it is, and with the same part of two donors, side by side in one sprite.

    Attributes:
        key: The finding's name.
        clip: Its name.
        true: Its class.
        said: What the network says of the three.
        sprite: Of the three, side by side.
        num_frames: Of the clip.
    """

    key: str
    clip: str
    true: str
    said: tuple[str, str, str]
    sprite: Sprite = field(repr=False)
    num_frames: int


@dataclass(frozen=True)
class AuditView:
    """What a network leans on.

    Attributes:
        sentence: All verdicts.
        facts: Clips, sources, accuracy and actor in one line.
        rows: One for each factor.
        zero: Where 0 lies on the scale, as a share of its width.
        margin: Where the margin ends on it.
        cells: Lean of each cell of the frame, by row; empty where it was not asked.
        triplets: Examples.
        beside: Headings and sentences of what no verdict hangs on.
        notes: Remarks, a line each.
    """

    sentence: str
    facts: str
    rows: tuple[FactorRow, ...]
    zero: float
    margin: float
    cells: tuple[tuple[float | None, ...], ...]
    triplets: tuple[Triplet, ...]
    beside: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
