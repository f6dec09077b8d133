"""Spectral relevance analysis (SpRAy): do a class's clips fall into groups that the network recognises by other places?

Lapuschkin et al. 2019, "Unmasking Clever Hans predictors and assessing what machines really learn": maps of relevance
are clustered spectrally. A clustering finds groups in anything, so there must be more structure than in the same maps
moved at random, and than in points of one normal distribution with their mean and covariance (as Liu et al. 2008 test,
"Statistical significance of clustering for high-dimension, low-sample size data"): with the first alone, 25 % of
simulated classes of 80 clips with one place that varies a little had several groups. And the groups must come back when
sources are drawn anew; else it is one strategy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import kneighbors_graph
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

TIMES, PLACES = 4, 10  # of a coarse map: stretches of time, and cells in each direction
LEAST_CLIPS, LEAST_SOURCES = 12, 6
MOST_CLUSTERS = 8
NUM_NULLS, NUM_BOOTSTRAPS = 200, 50
LEAST_STABILITY = 0.6  # mean adjusted Rand index
LEVEL = 0.05
_PEAK = 0.5  # of what a group has more than the others lies in its peak
_MOST_PEAK = 0.25  # of the frame

Maps = Float[np.ndarray, "N t h w"]
Points = Float[np.ndarray, "N D"]


@dataclass(frozen=True)
class Strategies:
    """Groups of a class's clips, by where their relevance lies.

    Attributes:
        group: Of each clip, from 0, the largest first; all 0 where it is one strategy.
        p: How often maps of one strategy have as large an eigengap: the larger of two shares (module docstring).
        stability: Mean adjusted Rand index when sources are drawn anew.
        means: Each group's mean map over the frame.
        peaks: The cells that hold half of what a group has more than the others.
        proposed: For the clips of each half of the sources, the peaks by the clips of the other half; what a clip
            proposes is not asked of itself.
        reason: Why it is one strategy, or cannot be said; empty where there are several.
    """

    group: Int[np.ndarray, " N"]
    p: float
    stability: float
    means: Float[np.ndarray, "G h w"]
    peaks: Bool[np.ndarray, "G h w"]
    proposed: Bool[np.ndarray, "2 G h w"]
    reason: str

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(self.means)


def coarse_map(relevance: Float[Tensor, "T H W"]) -> Float[Tensor, "t h w"]:
    """Sum positive relevance over 4 stretches of time and 10 × 10 cells, as shares of its sum.

    A map without any positive relevance is spread evenly.
    """
    pooled = F.adaptive_avg_pool3d(relevance.clamp_min(0)[None, None].double(), (TIMES, PLACES, PLACES))[0, 0]
    total = pooled.sum()
    return pooled / total if bool(total > 0) else torch.full_like(pooled, 1 / pooled.numel())


def find_strategies(
    maps: Maps, sources: Sequence[str], half: Mapping[str, int], *, num_classes: int = 1, seed: int
) -> Strategies:
    """Group the clips of a class.

    Args:
        maps: Coarse maps, one for each clip, in an order that does not depend on chance.
        sources: The video that each clip was cut from.
        half: Of each source, 0 or 1.
        num_classes: How many classes are tried, for which the level is divided by as many.
        seed: Of all that is drawn.
    """
    if len(maps) < LEAST_CLIPS or len(set(sources)) < LEAST_SOURCES:
        told = f"{len(maps)} clips of {len(set(sources))} sources; {LEAST_CLIPS} of {LEAST_SOURCES} are needed"
        return _one(maps, 1.0, 0.0, told)
    draw = np.random.default_rng(seed)
    points = np.sqrt(maps.reshape(len(maps), -1))  # distances between shares, as Hellinger's
    with threadpool_limits(1):
        count, gap = _largest_gap(spectrum(points)[0])
        num_nulls = max(NUM_NULLS, round(2 * num_classes / LEVEL))
        nulls = [
            [_largest_gap(spectrum(null)[0])[1] for null in (_moved(points, maps.shape, draw), _normal(points, draw))]
            for _ in range(num_nulls)
        ]
        p = float(max((1 + (np.array(nulls) >= gap).sum(axis=0)) / (1 + num_nulls)))
        if p > LEVEL / num_classes:
            return _one(maps, p, 0.0, "no more structure than in maps of one strategy")
        group = _cluster(points, count, seed)
        stability = _stability(points, sources, group, draw, seed)
    if stability < LEAST_STABILITY:
        return _one(maps, p, stability, "groups do not come back when sources are drawn anew")
    means = np.stack([maps[group == number].sum(axis=1).mean(axis=0) for number in range(count)])
    in_first = np.array([half[source] == 0 for source in sources])
    proposed = np.stack([_peaks(maps[others], group[others], count) for others in (~in_first, in_first)])
    return Strategies(group, p, stability, means, _peaks(maps, group, count), proposed, "")


def _one(maps: Maps, p: float, stability: float, reason: str) -> Strategies:
    mean = maps.sum(axis=1).mean(axis=0)[None]
    nowhere = np.zeros(mean.shape, bool)
    return Strategies(np.zeros(len(maps), int), p, stability, mean, nowhere, np.stack([nowhere] * 2), reason)


def spectrum(points: Points) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, "N N"]]:
    """Decompose the symmetric normalised Laplacian of the graph of nearest neighbours."""
    neighbours = max(3, int(np.ceil(np.log(len(points)))))
    near = kneighbors_graph(points, min(neighbours, len(points) - 1)).toarray()
    graph = np.maximum(near, near.T)
    scale = 1 / np.sqrt(graph.sum(axis=1))
    values, vectors = np.linalg.eigh(np.eye(len(points)) - scale[:, None] * graph * scale)
    return values, vectors


def _largest_gap(values: Float[np.ndarray, " N"]) -> tuple[int, float]:
    """Find the number of groups, two or more, after which eigenvalues jump most."""
    gaps = np.diff(values[: MOST_CLUSTERS + 1])[1:]
    return int(gaps.argmax()) + 2, float(gaps.max())


def _moved(points: Points, shape: tuple[int, ...], draw: np.random.Generator) -> Points:
    """Move each map on a torus of time and space: as smooth as before, and anywhere."""
    maps = points.reshape(shape)
    moves = [tuple(int(draw.integers(size)) for size in shape[1:]) for _ in maps]
    moved = [np.roll(one, move, axis=(0, 1, 2)) for one, move in zip(maps, moves, strict=True)]
    return np.stack(moved).reshape(points.shape)


def _normal(points: Points, draw: np.random.Generator) -> Points:
    """Draw as many points of the normal distribution that has the points' mean and covariance."""
    mean = points.mean(axis=0)
    drawn: Points = mean + draw.standard_normal((len(points), len(points))) @ (points - mean) / np.sqrt(len(points))
    return drawn


def _cluster(points: Points, count: int, seed: int) -> Int[np.ndarray, " N"]:
    """Cluster rows of the first eigenvectors (Ng, Jordan & Weiss 2002); the largest group is 0."""
    rows = spectrum(points)[1][:, :count]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    found = KMeans(count, n_init=10, random_state=seed).fit_predict(rows)
    order = np.argsort(-np.bincount(found, minlength=count), kind="stable")
    group: Int[np.ndarray, " N"] = np.argsort(order)[found]
    return group


def _stability(
    points: Points, sources: Sequence[str], group: Int[np.ndarray, " N"], draw: np.random.Generator, seed: int
) -> float:
    """Cluster the clips of sources that are drawn anew, and compare."""
    names, own = sorted(set(sources)), np.array(sources)
    count, found = int(group.max()) + 1, []
    for _ in range(NUM_BOOTSTRAPS):
        kept = np.isin(own, draw.choice(names, len(names)))
        if kept.sum() > count:
            found.append(adjusted_rand_score(group[kept], _cluster(points[kept], count, seed)))
    return float(np.mean(found)) if found else 0.0


def _peaks(maps: Maps, group: Int[np.ndarray, " N"], count: int) -> Bool[np.ndarray, "G h w"]:
    """Find the peak of each group; nothing for a group that has no clip here."""
    there = [number for number in range(count) if bool((group == number).any())]
    means = np.stack([maps[group == number].sum(axis=1).mean(axis=0) for number in there])
    peaks = np.zeros((count, *maps.shape[2:]), bool)
    if len(there) > 1:
        peaks[there] = [_peak(means, number) for number in range(len(there))]
    return peaks


def _peak(means: Float[np.ndarray, "G h w"], number: int) -> Bool[np.ndarray, "h w"]:
    """Mark the cells in which a group has most more than the others, until they hold half of it."""
    more = (means[number] - np.delete(means, number, axis=0).mean(axis=0)).clip(0)
    order = np.argsort(-more, axis=None)
    needed = int(np.searchsorted(np.cumsum(more.flat[order]), _PEAK * more.sum())) + 1
    peak = np.zeros(more.shape, bool)
    peak.flat[order[: min(needed, int(_MOST_PEAK * more.size))]] = True
    return peak
