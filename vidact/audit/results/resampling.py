"""Intervals of accuracies over pairs of a clip and a donor, whose source videos are both a sample.

Donors serve several clips, so pairs that share a donor resemble each other as pairs that share a source do. The
pigeonhole bootstrap (Owen 2007, "The pigeonhole bootstrap") resamples both sides independently; with one side alone
intervals are too narrow where donors are few.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidact.core.intervals import LEVEL, widening

NUM_RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A number with its intervals.

    Attributes:
        mean: As measured; None where it is not defined.
        low: Lower end of the 95 % interval; None with fewer than two sources.
        high: Upper end.
        wide_low: Lower end at the level at which something is claimed, which is raised for the number of claims.
        wide_high: Upper end at that level.
    """

    mean: float | None
    low: float | None = None
    high: float | None = None
    wide_low: float | None = None
    wide_high: float | None = None


@dataclass(frozen=True)
class Drawn:
    """A number, and what it is in each resample.

    Attributes:
        value: As measured.
        resamples: In each resample; NaN where it is not defined.
    """

    value: Float[Tensor, ""]
    resamples: Float[Tensor, " R"]

    def combine(self, other: "Drawn", function: Callable[[Tensor, Tensor], Tensor]) -> "Drawn":
        """Compute a number from two, resample by resample: a difference, a ratio."""
        return Drawn(function(self.value, other.value), function(self.resamples, other.resamples))

    def __sub__(self, other: "Drawn") -> "Drawn":
        return self.combine(other, torch.sub)


class Resamples:
    """How often each source video occurs in each resample: on the side of the clips, and on that of the donors.

    Args:
        sources: All sources, of clips and donors.
        generator: Draws them; a copy is used, so that its state does not change.
    """

    def __init__(
        self, sources: Sequence[str], *, generator: torch.Generator, num_resamples: int = NUM_RESAMPLES
    ) -> None:
        self.names = sorted(set(sources))
        self._number = {name: number for number, name in enumerate(self.names)}
        own = torch.Generator()
        own.set_state(generator.get_state())
        self._of_clips, self._of_donors = (self._draw(own, num_resamples) for _ in range(2))

    def _draw(self, generator: torch.Generator, num_resamples: int) -> Float[Tensor, "R G"]:
        drawn = torch.randint(len(self.names), (num_resamples, len(self.names)), generator=generator)
        ones = torch.ones(1, dtype=torch.float64).expand(drawn.shape)
        return torch.zeros(drawn.shape, dtype=torch.float64).scatter_add_(1, drawn, ones)

    def _rows(self, sources: Sequence[str]) -> Int[Tensor, " P"]:
        return torch.tensor([self._number[source] for source in sources])

    def mean(self, values: Float[Tensor, " P"], sources: Sequence[str], donors: Sequence[str] | None = None) -> Drawn:
        """Draw the mean over pairs of a clip and a donor.

        Args:
            values: Of each pair, or of each clip.
            sources: The source of each pair's clip.
            donors: The source of each pair's donor; None where there are no donors.
        """
        count = len(self.names)
        rows = self._rows(sources)
        columns = torch.zeros_like(rows) if donors is None else self._rows(donors)
        shape = count, 1 if donors is None else count
        place = rows * shape[1] + columns
        total, number = (
            torch.zeros(shape[0] * shape[1], dtype=torch.float64).index_add_(0, place, one).reshape(shape)
            for one in (values.double(), torch.ones(len(rows), dtype=torch.float64))
        )
        weights = torch.ones(len(self._of_clips), 1, dtype=torch.float64) if donors is None else self._of_donors
        sums, counts = (((self._of_clips @ one) * weights).sum(dim=1) for one in (total, number))
        return Drawn(values.double().mean(), sums / counts)

    def estimate(self, drawn: Drawn, *, level: float) -> Estimate:
        """Take the percentiles of a number's resamples, widened for few sources.

        Args:
            drawn: The number.
            level: At which something is claimed.
        """
        value = float(drawn.value)
        if not torch.isfinite(drawn.value):
            return Estimate(None)
        if len(self.names) < 2:
            return Estimate(value)
        known = drawn.resamples[drawn.resamples.isfinite()]
        ends = []
        for own in (LEVEL, level):
            outside = torch.tensor([(1 - own) / 2, (1 + own) / 2], dtype=torch.float64)
            percentiles = torch.quantile(known, outside)
            ends += (value + widening(len(self.names), own) * (percentiles - value)).tolist()
        return Estimate(value, *ends)
