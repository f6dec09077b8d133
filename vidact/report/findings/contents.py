"""Dataclasses for what a report shows of an evaluation and of an audit."""

from dataclasses import dataclass, field

from vidact.report.encoding import Sprite


@dataclass(frozen=True)
class Picture:
    """A figure as SVG text.

    Attributes:
        title: What it shows.
        alt: The same for those who cannot see it, with the numbers that matter.
        svg: From `drawing.figure.svg_text`.
    """

    title: str
    alt: str
    svg: str = field(repr=False)


@dataclass(frozen=True)
class MeasureColumn:
    """A measure of explanations, a column of the table.

    Attributes:
        name: Short: `ABPC`.
        detail: What it was measured with, may be empty: `tubes, blur`.
        meaning: What it is and which end is the good one, in one line.
        chance: Its value without any knowledge; empty if there is none.
    """

    name: str
    detail: str
    meaning: str
    chance: str = ""


@dataclass(frozen=True)
class MeasureCell:
    """A method's value of a measure, as text.

    Attributes:
        value: The mean; empty where nothing was measured.
        interval: Its 95 % interval; empty where there is none.
        is_best: Whether no other method is better.
    """

    value: str = ""
    interval: str = ""
    is_best: bool = False


@dataclass(frozen=True)
class MethodRow:
    """A method or control with its values.

    Attributes:
        method: Its name.
        remark: What the verdict says of it; may be empty.
        cells: One of each measure.
    """

    method: str
    remark: str
    cells: tuple[MeasureCell, ...]


@dataclass(frozen=True)
class EvaluationView:
    """Whether a network's explanations are right.

    Attributes:
        sentence: Which method to trust, in words.
        is_trusted: Whether the sentence names one.
        facts: How many clips of what, in one line.
        columns: The measures.
        methods: The best first.
        controls: Controls, which do not look at the network, the best first.
        pictures: Ranks and curves.
        notes: Further remarks, a line each.
    """

    sentence: str
    is_trusted: bool
    facts: str
    columns: tuple[MeasureColumn, ...]
    methods: tuple[MethodRow, ...]
    controls: tuple[MethodRow, ...]
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...] = ()


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
        gap: Pixels of the sprite between two of them.
    """

    key: str
    clip: str
    true: str
    said: tuple[str, str, str]
    sprite: Sprite = field(repr=False)
    num_frames: int
    gap: float


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
