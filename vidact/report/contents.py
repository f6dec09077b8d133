"""Dataclasses for everything that a report shows, as plain arrays and words.

`run_view` fills them from a run, `api` from a single clip, and `page` writes them as HTML.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, UInt8

from vidact.core.errors import VidactError
from vidact.report.findings.contents import AuditView, EvaluationView, Picture


@dataclass(frozen=True)
class Interval:
    """A share with its 95 % interval; all in [0, 1].

    Attributes:
        value: The share itself.
        low: Lower end.
        high: Upper end.
        count: Of how many clips.
    """

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class RelevanceView:
    """One explanation of a clip.

    Attributes:
        method: Name of the method, as `lrp:epsilon_plus`.
        target: What was explained in words: a class, or `A vs B`.
        role: Why this target: `predicted`, `true` or `chosen`.
        score: The logit explained, or the difference of logits.
        conservation: ΣR / score; None for methods whose relevance does not add up to the score.
        relevance: Signed, summed over colour, at the network's resolution.
        unit: Of the relevance.
        where: Where the score has gone, in words; empty for methods without an account.
    """

    method: str
    target: str
    role: str
    score: float
    conservation: float | None
    relevance: Float[np.ndarray, "T h w"] = field(repr=False)
    unit: str
    where: str = ""


@dataclass(frozen=True)
class ClipView:
    """A clip with its explanations.

    Attributes:
        clip_id: `class/name`, or a file's name.
        true_class: None if unknown.
        probabilities: Class and probability, the most probable first; the first is the prediction.
        video: Pixels to look at, at any resolution; the aspect may differ from the relevance's.
        frame_numbers: Which frames of the file these are, from 0.
        times_seconds: When they are shown.
        explanations: By method and target; all of T frames.
    """

    clip_id: str
    true_class: str | None
    probabilities: tuple[tuple[str, float], ...]
    video: UInt8[np.ndarray, "C T H W"] = field(repr=False)
    frame_numbers: Int[np.ndarray, " T"] = field(repr=False)
    times_seconds: Float[np.ndarray, " T"] = field(repr=False)
    explanations: tuple[RelevanceView, ...]

    def __post_init__(self) -> None:
        num_frames = self.video.shape[1]
        lengths = {len(self.frame_numbers), len(self.times_seconds), *(len(e.relevance) for e in self.explanations)}
        if lengths != {num_frames}:
            raise VidactError(f"{self.clip_id}: expected {num_frames} frames everywhere, got {sorted(lengths)}")


@dataclass(frozen=True)
class Outcome:
    """What a network said of one clip.

    Attributes:
        clip_id: `class/name`.
        true: Number of its class.
        predicted: Number of the class it was taken for.
        probability: Of that class.
    """

    clip_id: str
    true: int
    predicted: int
    probability: float


@dataclass(frozen=True)
class Curves:
    """How training went, epoch by epoch.

    Attributes:
        epochs: Their numbers, from 0.
        losses: Of each epoch, by name; NaN where an epoch has none.
        accuracies: The same.
        best_epoch: After which the weights were saved.
    """

    epochs: Int[np.ndarray, " E"]
    losses: dict[str, Float[np.ndarray, " E"]]
    accuracies: dict[str, Float[np.ndarray, " E"]]
    best_epoch: int


@dataclass(frozen=True)
class RunView:
    """All that a report tells of one trained network.

    Attributes:
        name: Of the run.
        part: The clips that were measured: `validation` or `test`.
        class_names: In the order of their numbers.
        accuracy: Of clips; None where nothing could be measured.
        chance: Share that guessing reaches.
        baselines: Rules that guess the class without a pixel, and the share they get right: `tags`, 0.32.
        facts: What was trained on what, by name.
        split: How clips were divided and what leaks from one side to another, by name.
        conservation: Where the scores have gone, by name.
        per_class: Accuracy of each class.
        outcomes: Of every clip that was measured.
        pictures: Confusion, training curves, accuracy per class.
        clips: Those that are shown.
        config: The run's whole config as YAML.
        left_out: What was skipped, a line each with the reason.
        evaluation: Whether its explanations are right; None if `evaluate` has not been run.
        audit: What it leans on; None if `audit` has not been run.
        curves: Of the training; None if the run kept none.
    """

    name: str
    part: str
    class_names: tuple[str, ...]
    accuracy: Interval | None
    chance: float
    baselines: tuple[tuple[str, float], ...]
    facts: tuple[tuple[str, str], ...]
    split: tuple[tuple[str, str], ...]
    conservation: tuple[tuple[str, str], ...]
    per_class: tuple[tuple[str, Interval], ...]
    outcomes: tuple[Outcome, ...]
    pictures: tuple[Picture, ...]
    clips: tuple[ClipView, ...]
    config: str = field(repr=False)
    left_out: tuple[str, ...] = ()
    evaluation: EvaluationView | None = None
    audit: AuditView | None = None
    curves: Curves | None = field(default=None, repr=False)
