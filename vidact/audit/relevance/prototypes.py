"""Prototypes of a class in the relevance of concepts: the usual reasons for it, and clips that have them and are wrong.

PCX: Dreyer et al. 2024, "Understanding the (extra-)ordinary: validating deep model decisions with prototypical
concept-based explanations". A class's clips, each as the relevance of all channels, are described by a mixture of
Gaussians. There are many more channels than clips, so the mixture sees their first principal components alone.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from vidact.audit.relevance.clusters import LEAST_CLIPS, LEAST_SOURCES
from vidact.audit.relevance.concepts import ConceptTable
from vidact.audit.relevance.regions import halves

MOST_PROTOTYPES = 4
LEAST_STABILITY = 0.7  # cosine of the means that two halves of the sources have
LEAST_MEMBERS = 3  # clips of a component: around fewer, a Gaussian fits anything
_MOST_DIMENSIONS, _CLIPS_PER_DIMENSION = 5, 6
_LEAST_VARIANCE = 1e-3  # of a component, in units of the largest over the class


@dataclass(frozen=True)
class Prototypes:
    """The usual ways in which a class is recognised.

    Attributes:
        clips: Names of the class's clips.
        group: The component of each clip, the largest first.
        prototypes: The clip nearest to each component's mean.
        means: Mean relevance of each component's clips, by channel.
        ordinariness: Rank of each clip's density, from 0 (the strangest) to 1 (the most ordinary).
        suspects: Clips that are wrong, the most ordinary first.
        stability: Cosine of the components' means in two halves of the sources, the best matching; the least of them.
        reason: Why it is one prototype, or cannot be said; empty otherwise.
    """

    clips: tuple[str, ...]
    group: Int[np.ndarray, " N"]
    prototypes: tuple[str, ...]
    means: Float[np.ndarray, "G K"]
    ordinariness: Float[np.ndarray, " N"]
    suspects: tuple[str, ...]
    stability: float | None
    reason: str

    @property
    def count(self) -> int:
        """How many prototypes there are."""
        return len(self.prototypes)


def find_prototypes(table: ConceptTable, label: int, *, seed: int) -> Prototypes | None:
    """Describe the clips of a class by prototypes; None where there are too few clips or sources.

    Args:
        table: The relevance of concepts in all clips.
        label: The class.
        seed: Of all that is drawn.
    """
    own = table.of(label)
    if len(own.clips) < LEAST_CLIPS or len(set(own.sources)) < LEAST_SOURCES:
        return None
    with threadpool_limits(1):
        points = _principal(own.rho)
        mixture = _best(points, seed)
        stability, reason = _stability(points, own, mixture.n_components, seed), ""
        if mixture.n_components > 1 and not (stability is not None and stability >= LEAST_STABILITY):
            mixture, reason = _fit(points, 1, seed), "prototypes do not come back in the other half of the sources"
        return _described(own, points, mixture, stability, reason)


def _described(
    own: ConceptTable, points: Float[np.ndarray, "N D"], mixture: GaussianMixture, stability: float | None, reason: str
) -> Prototypes:
    found = mixture.predict(points)
    order = np.argsort(-np.bincount(found, minlength=mixture.n_components), kind="stable")
    group = np.argsort(order)[found]
    density = mixture.score_samples(points)
    ordinariness = (rankdata(density) - 1) / (len(points) - 1)
    wrong = np.flatnonzero(own.predicted != own.labels)
    distance = np.linalg.norm(points[:, None] - mixture.means_[order][None], axis=2)
    return Prototypes(
        own.clips,
        group,
        tuple(own.clips[row] for row in distance.argmin(axis=0)),
        np.stack([own.rho[group == number].mean(axis=0) for number in range(len(order))]),
        ordinariness,
        tuple(own.clips[row] for row in wrong[np.argsort(-ordinariness[wrong], kind="stable")]),
        stability,
        reason,
    )


def _principal(rho: Float[np.ndarray, "N K"]) -> Float[np.ndarray, "N D"]:
    """Project on the first principal components, in units of the standard deviation along the first."""
    dimensions = max(1, min(_MOST_DIMENSIONS, len(rho) // _CLIPS_PER_DIMENSION, rho.shape[1]))
    points: Float[np.ndarray, "N D"] = PCA(dimensions, svd_solver="full").fit_transform(rho)
    return points / max(float(points[:, 0].std()), 1e-12)


def _fit(points: Float[np.ndarray, "N D"], count: int, seed: int) -> GaussianMixture:
    return GaussianMixture(
        count, covariance_type="diag", reg_covar=_LEAST_VARIANCE, n_init=5, max_iter=500, random_state=seed
    ).fit(points)


def _best(points: Float[np.ndarray, "N D"], seed: int) -> GaussianMixture:
    """Choose the number of components by BIC, of those with enough clips in each."""
    most = min(MOST_PROTOTYPES, len(np.unique(points.round(9), axis=0)))
    fitted = [_fit(points, count, seed) for count in range(1, most + 1)]

    def is_full(mixture: GaussianMixture) -> bool:
        counts = np.bincount(mixture.predict(points), minlength=mixture.n_components)
        return mixture.n_components == 1 or int(counts.min()) >= LEAST_MEMBERS

    return min((one for one in fitted if is_full(one)), key=lambda one: one.bic(points))


def _stability(points: Float[np.ndarray, "N D"], own: ConceptTable, count: int, seed: int) -> float | None:
    """Match the means that two halves of the sources have, and give the least cosine; None where one has too few clips.

    With several components means are taken from the class's mean, from which they differ; with one, from zero.
    """
    half = halves(dict.fromkeys(own.sources, 0), seed=seed)
    parts = [np.array([half[source] == number for source in own.sources]) for number in (0, 1)]
    if min(part.sum() for part in parts) < max(LEAST_MEMBERS * count, 2):
        return None
    if count == 1:
        return _cosines(*(own.rho[part].mean(axis=0)[None] for part in parts))
    return _cosines(*(_fit(points[part], count, seed).means_ for part in parts))


def _cosines(first: Float[np.ndarray, "G D"], second: Float[np.ndarray, "G D"]) -> float:
    unit = [means / np.linalg.norm(means, axis=1, keepdims=True).clip(1e-12) for means in (first, second)]
    cosine = unit[0] @ unit[1].T
    return float(cosine[linear_sum_assignment(-cosine)].min())
