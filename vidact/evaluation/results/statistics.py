"""Summarise the numbers of single clips as means and differences with intervals.

Intervals come from a bootstrap clustered by source; those of hits and misses from `clustered_mean`. Differences are
paired: a clip counts where method and control both have a value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vidact.core.intervals import (
    LEVEL,
    MANY_RESAMPLES,
    NUM_RESAMPLES,
    ClusteredMeans,
    clustered_mean,
    clustered_means,
)
from vidact.evaluation.names import ALL, COMPARED_WITH, CONTROLS, NETWORK, RIGHT, SUBSETS
from vidact.evaluation.results.tables import MEASURES, Curve, Difference, Row, better, is_share

SEED = 0
HITS = "pointing_game"  # a clip is a hit or a miss


@dataclass(frozen=True)
class ClipResult:
    """The numbers of one clip.

    Attributes:
        clip_id: `class/file name without its ending`.
        source: The video that it was cut from.
        label: Its true class.
        predicted: The class that the network predicts.
        score: The explained logit.
        values: By method and key (`abpc/tubes/blur`); None where undefined.
        curves: By method and key (`morf/tubes/blur`).
        removed: The share of units that is replaced at each point of a curve, by the units' name.
    """

    clip_id: str
    source: str
    label: str
    predicted: str
    score: float
    values: Mapping[str, Mapping[str, float | None]] = field(repr=False)
    curves: Mapping[str, Mapping[str, Sequence[float]]] = field(repr=False)
    removed: Mapping[str, Sequence[float]] = field(repr=False, default_factory=dict)

    @property
    def is_right(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.predicted == self.label


def wide_level(num_methods: int) -> float:
    """Raise the level of intervals so that those of all methods hold together at 95 % (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(1, num_methods)


class Table:
    """The values of all clips, and their means with intervals.

    Args:
        results: One for each clip.
        run: The run's name.
        methods: In the order of the table; controls come after them.
        num_resamples: Of the bootstrap.
    """

    def __init__(
        self,
        results: Sequence[ClipResult],
        *,
        run: str,
        methods: Sequence[str],
        num_resamples: int = MANY_RESAMPLES,
    ) -> None:
        self.results, self.run, self.methods = list(results), run, tuple(methods)
        self.groups = [result.source for result in results]
        self.levels = (LEVEL, wide_level(len(self.methods)))
        self._num_resamples = num_resamples
        right = torch.tensor([result.is_right for result in results], dtype=torch.bool)
        self.subsets: dict[str, Bool[Tensor, " N"]] = {
            subset: torch.ones_like(right) if subset == ALL else right == (subset == RIGHT) for subset in SUBSETS
        }

    @property
    def known_methods(self) -> tuple[str, ...]:
        """Methods, controls and the network, as far as they have values."""
        found = {method for result in self.results for method in result.values}
        return tuple(method for method in dict.fromkeys((*self.methods, *CONTROLS, NETWORK)) if method in found)

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys of values, in the order of `MEASURES`."""
        found = dict.fromkeys(key for result in self.results for own in result.values.values() for key in own)
        order = list(MEASURES)
        return tuple(sorted(found, key=lambda key: order.index(_measure(key)) if _measure(key) in MEASURES else 99))

    def column(self, method: str, key: str) -> Float[Tensor, " N"]:
        """List each clip's value; NaN where there is none."""
        values = (result.values.get(method, {}).get(key) for result in self.results)
        return torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float64)

    def means(self, columns: Sequence[Float[Tensor, " N"]]) -> ClusteredMeans:
        """Compute the mean of each column with its intervals."""
        generator = torch.Generator().manual_seed(SEED)
        stacked = torch.stack(list(columns), dim=1)
        return clustered_means(
            stacked, self.groups, generator=generator, levels=self.levels, num_resamples=self._num_resamples
        )

    def rows(self) -> tuple[Row, ...]:
        """Compute the long table."""
        return tuple(row for key in self.keys for row in self._rows_of(key))

    def _rows_of(self, key: str) -> list[Row]:
        own = {method: self.column(method, key) for method in self.known_methods}
        own = {method: values for method, values in own.items() if not values.isnan().all()}
        cells = list(product(own, SUBSETS))
        pairs = [pair for pair in product(own, COMPARED_WITH) if self._is_compared(key, *pair, own)]
        places = list(product(pairs, SUBSETS))
        columns = [self._within(own[method], subset) for method, subset in cells]
        columns += [self._within(own[method] - own[control], subset) for (method, control), subset in places]
        if not columns:
            return []
        found = self.means(columns)
        differences: dict[tuple[str, str], dict[str, Difference]] = {}
        for number, ((method, control), subset) in enumerate(places, start=len(cells)):
            if int(found.count[number]):
                differences.setdefault((method, subset), {})[control] = _difference(control, found, number)
        return [
            self._row(key, cell, found, number, columns[number], differences.get(cell, {}))
            for number, cell in enumerate(cells)
            if int(found.count[number])
        ]

    def _is_compared(self, key: str, method: str, control: str, own: Mapping[str, Any], /) -> bool:
        is_method = method in self.methods and control in own and control != method
        return is_method and better(key) != 0

    def _within(self, values: Float[Tensor, " N"], subset: str) -> Float[Tensor, " N"]:
        return values.masked_fill(~self.subsets[subset], math.nan)

    def _row(
        self,
        key: str,
        cell: tuple[str, str],
        found: ClusteredMeans,
        number: int,
        values: Float[Tensor, " N"],
        differences: Mapping[str, Difference],
    ) -> Row:
        method, subset = cell
        measure, _, detail = key.partition("/")
        clips = int(found.count[number])
        low, high = found.low[0, number], found.high[0, number]
        if is_share(key):  # with few sources, widened intervals would leave [0, 1]
            low, high = low.clamp(min=0), high.clamp(max=1)
        if _measure(key).endswith(HITS) and int(found.num_groups[number]) > 1:
            known = (~values.isnan()).nonzero().flatten().tolist()
            hits = clustered_mean(values[known], [self.groups[clip] for clip in known])
            low, high = torch.tensor(hits.low), torch.tensor(hits.high)
        return Row(
            run=self.run,
            method=method,
            measure=measure,
            detail=detail,
            subset=subset,
            mean=float(found.value[number]),
            low=or_none(low),
            high=or_none(high),
            clips=clips,
            sources=int(found.num_groups[number]),
            undefined=int(self.subsets[subset].sum()) - clips,
            differences=differences,
        )

    def curves(self) -> tuple[Curve, ...]:
        """Average the perturbation curves."""
        found = dict.fromkeys(key for result in self.results for own in result.curves.values() for key in own)
        return tuple(
            curve
            for key, method, subset in product(found, self.known_methods, SUBSETS)
            if (curve := self._curve(key, method, subset)) is not None
        )

    def _curve(self, key: str, method: str, subset: str) -> Curve | None:
        pairs = [
            (result.curves[method][key], result.source)
            for result, is_in in zip(self.results, self.subsets[subset].tolist(), strict=True)
            if is_in and key in result.curves.get(method, {})
        ]
        if not pairs:
            return None
        values = torch.tensor([list(curve) for curve, _ in pairs], dtype=torch.float64)
        generator = torch.Generator().manual_seed(SEED)
        groups = [source for _, source in pairs]
        resamples = min(NUM_RESAMPLES, self._num_resamples)
        # Clips differ more in their scores than orders do: the interval is that of the fall from each clip's own score.
        start = values[:, 0].mean()
        falls = clustered_means(values - values[:, :1], groups, generator=generator, num_resamples=resamples)
        order, units, fill = key.split("/")
        removed = next((result.removed[units] for result in self.results if units in result.removed), None)
        return Curve(
            run=self.run,
            method=method,
            order=order,
            units=units,
            fill=fill,
            subset=subset,
            removed=np.linspace(0, 1, values.shape[1]) if removed is None else np.asarray(removed, dtype=np.float64),
            mean=(start + falls.value).numpy(),
            low=(start + falls.low[0]).numpy(),
            high=(start + falls.high[0]).numpy(),
            clips=len(pairs),
        )


def _measure(key: str) -> str:
    return key.partition("/")[0]


def _difference(control: str, found: ClusteredMeans, number: int) -> Difference:
    ends = [or_none(end) for level in range(2) for end in (found.low[level, number], found.high[level, number])]
    low, high, wide_low, wide_high = ends
    return Difference(
        control=control,
        mean=float(found.value[number]),
        low=low,
        high=high,
        wide_low=wide_low,
        wide_high=wide_high,
        clips=int(found.count[number]),
        sources=int(found.num_groups[number]),
    )


def or_none(value: Float[Tensor, ""]) -> float | None:
    """Convert NaN to None."""
    number = float(value)
    return number if math.isfinite(number) else None
