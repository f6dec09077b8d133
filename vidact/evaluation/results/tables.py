"""The results of an evaluation as dataclasses, and `MEASURES`: each measure's title, family and direction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from vidact.evaluation.names import (
    ALL,
    COMPOSITION,
    CONFOUNDER,
    LOCALISATION,
    PERTURBATION,
    RANDOMISATION,
    SENSITIVITY,
    SPARSENESS,
)


@dataclass(frozen=True)
class Measure:
    """How to read a measure.

    Attributes:
        family: One of `FAMILIES`, or `reliance`.
        title: In words.
        better: 1 where more is better, −1 where less is better, 0 where neither is.
        is_share: Whether its values lie in [0, 1], so that its intervals must, too.
    """

    family: str
    title: str
    better: int
    is_share: bool = False


MEASURES: dict[str, Measure] = {
    "abpc": Measure(PERTURBATION, "area between the curves, LeRF less MoRF (logits)", 1),
    "aopc": Measure(PERTURBATION, "mean fall of the logit, most relevant first", 1),
    "deletion": Measure(PERTURBATION, "area under the probability, most relevant removed first", -1, is_share=True),
    "insertion": Measure(PERTURBATION, "area under the probability, most relevant inserted first", 1, is_share=True),
    **{
        f"{part}{name}": Measure(LOCALISATION, title + where, better, is_share=name != "lift")
        for part, where in (("", ""), ("time_", ", per frame"), ("space_", ", summed over time"))
        for name, title, better in (
            ("rma", "share of positive relevance in the mask", 1),
            ("chance", "the mask's own share", 0),
            ("lift", "share of positive relevance in the mask over the mask's own share", 1),
            ("rra", "share of the top voxels in the mask, as many as it has", 1),
            ("pointing_game", "the largest relevance is in the mask", 1),
            ("auroc", "relevance tells mask from rest", 1),
        )
    },
    "splice": Measure(COMPOSITION, "share of positive relevance in the class's own frames", 1, is_share=True),
    "splice_chance": Measure(COMPOSITION, "the share of its own frames", 0, is_share=True),
    "mosaic": Measure(COMPOSITION, "share of positive relevance in the class's own quadrants", 1, is_share=True),
    "mosaic_chance": Measure(COMPOSITION, "the share of its own quadrants", 0, is_share=True),
    "random_logit": Measure(RANDOMISATION, "cosine with the map of another class", -1),
    "randomised_spearman": Measure(RANDOMISATION, "rank correlation with the map of a randomised network", -1),
    "randomised_ssim": Measure(RANDOMISATION, "structural similarity with the map of a randomised network", -1),
    "emprt": Measure(RANDOMISATION, "gain of the map's entropy when the network is randomised", 1),
    "max_sensitivity": Measure(SENSITIVITY, "largest change of the map for small noise", -1),
    "infidelity": Measure(SENSITIVITY, "squared error of the map as a prediction of what covered boxes do", -1),
    "sparseness": Measure(SPARSENESS, "Gini index of |R|", 0, is_share=True),
    "reliance": Measure("reliance", "what the logit loses when the confounder is removed", 0),
}


def is_share(key: str) -> bool:
    """Say whether a measure's values lie in [0, 1], as then its intervals do, too."""
    measure = MEASURES.get(key.partition("/")[0])
    return measure is not None and measure.is_share


def better(key: str) -> int:
    """Say whether more (1), less (−1) or neither (0, as on a confounder) is better.

    Args:
        key: Measure and detail: `abpc/tubes/blur`, `rma/confounder`.
    """
    name, _, detail = key.partition("/")
    return 0 if detail == CONFOUNDER or name not in MEASURES else MEASURES[name].better


@dataclass(frozen=True)
class Difference:
    """The paired difference of a method and a control.

    Attributes:
        control: Its name.
        mean: Over clips.
        low: Lower end of the 95 % interval, clustered by source; None with fewer than two sources.
        high: Upper end.
        wide_low: Lower end of the interval that is widened for the number of methods.
        wide_high: Its upper end.
        clips: How many have both values.
        sources: How many sources they come from.
    """

    control: str
    mean: float
    low: float | None
    high: float | None
    wide_low: float | None
    wide_high: float | None
    clips: int
    sources: int


@dataclass(frozen=True)
class Row:
    """A line of the long table.

    Attributes:
        run: The run.
        method: The method or control, or `network`.
        measure: A key of `MEASURES`: `abpc`, `rma`, …
        detail: What it was measured with: `tubes/blur`, `strict`, or empty.
        subset: `all`, `right` or `wrong`: which clips, by the network's prediction.
        mean: Over clips.
        low: Lower end of the 95 % interval, clustered by source; None with fewer than two sources.
        high: Upper end.
        clips: How many have a value.
        sources: How many sources they come from.
        undefined: How many clips of the subset have no value.
        differences: To each of `COMPARED_WITH`, by the control's name.
    """

    run: str
    method: str
    measure: str
    detail: str
    subset: str
    mean: float
    low: float | None
    high: float | None
    clips: int
    sources: int
    undefined: int
    differences: Mapping[str, Difference] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Measure and detail: `abpc/tubes/blur`."""
        return f"{self.measure}/{self.detail}" if self.detail else self.measure


@dataclass(frozen=True)
class Curve:
    """How the score falls while units are replaced, as a mean over clips.

    Attributes:
        run: The run.
        method: The method or control; `random` is the mean of many orders.
        order: `morf`, most relevant first, or `lerf`, least relevant first.
        units: `tubes`, `frames` or `columns`.
        fill: What replaces the units.
        subset: `all`, `right` or `wrong`.
        removed: The share of replaced units, from 0 to 1.
        mean: The target's logit.
        low: Lower end of the 95 % interval of the fall from each clip's own score, clustered by source; NaN with
            fewer than two sources.
        high: Upper end.
        clips: How many.
    """

    run: str
    method: str
    order: str
    units: str
    fill: str
    subset: str
    removed: Float[np.ndarray, " S"]
    mean: Float[np.ndarray, " S"]
    low: Float[np.ndarray, " S"]
    high: Float[np.ndarray, " S"]
    clips: int


@dataclass(frozen=True)
class Verdict:
    """Which method to trust for a checkpoint.

    Attributes:
        sentence: In words.
        method: The method to trust; None where none beats the controls, or nothing can be said.
        beats_controls: All methods that beat the controls, the best first.
        ties: Those among them that are not clearly worse than the best.
        criteria: The measures that decide: `abpc/tubes/blur` and, with masks, `rma/strict`.
        comparisons: How many intervals were compared.
        level: Of each interval, raised for the number of methods.
    """

    sentence: str
    method: str | None
    beats_controls: tuple[str, ...]
    ties: tuple[str, ...]
    criteria: tuple[str, ...]
    comparisons: int
    level: float


@dataclass(frozen=True)
class Evaluation:
    """The whole evaluation of one run.

    Attributes:
        run: Its name, unique among the runs of one evaluation.
        part: `validation` or `test`.
        data: The name of the data set.
        class_names: The classes that were evaluated.
        methods: The methods, as asked for, without those that do not work with the network.
        controls: The controls that were run.
        settings: All settings, plain values.
        versions: Of the libraries.
        clips: How many clips were measured.
        sources: How many sources they come from.
        right: How many clips the network predicts right.
        rows: The long table.
        curves: Perturbation curves.
        verdict: Which method to trust.
        left_out: A line for each clip that could not be measured.
        notes: Further remarks, a line each.
    """

    run: str
    part: str
    data: str
    class_names: tuple[str, ...]
    methods: tuple[str, ...]
    controls: tuple[str, ...]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    clips: int
    sources: int
    right: int
    rows: tuple[Row, ...]
    curves: tuple[Curve, ...]
    verdict: Verdict
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def row(self, method: str, key: str, *, subset: str = ALL) -> Row | None:
        """Find a line of the table; None where there is none.

        Args:
            method: A method, a control, or `network`.
            key: Measure and detail: `abpc/tubes/blur`.
            subset: One of `SUBSETS`.
        """
        wanted = (method, key, subset)
        return next((row for row in self.rows if (row.method, row.key, row.subset) == wanted), None)
