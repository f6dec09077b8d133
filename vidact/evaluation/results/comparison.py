"""Compare several runs: whether they rank methods alike, and whether relevance follows reliance on a confounder."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from scipy import stats

from vidact.evaluation.names import NETWORK
from vidact.evaluation.results.tables import Evaluation

CONFOUNDER_SHARE = "rma/confounder"
LEAST_RUNS = 3  # a rank correlation of two is 1 or −1


@dataclass(frozen=True)
class Agreement:
    """Whether several runs rank the methods alike.

    Attributes:
        key: The measure they are ranked by: `abpc/tubes/blur`.
        pairs: Two runs, and Kendall's τ of their rankings.
        mean: Over the pairs.
        methods: The ranked methods, which all runs have.
    """

    key: str
    pairs: tuple[tuple[str, str, float], ...]
    mean: float
    methods: tuple[str, ...]


@dataclass(frozen=True)
class DoseResponse:
    """Whether a method puts more relevance on a confounder in runs that rely on it more.

    Attributes:
        method: The method or control.
        key: How the share on the confounder was measured.
        runs: The runs.
        reliance: Mean reliance of each run on the confounder.
        share: Mean share of relevance on the confounder, for each run.
        spearman: Their rank correlation; None with fewer than three runs.
    """

    method: str
    key: str
    runs: tuple[str, ...]
    reliance: tuple[float, ...]
    share: tuple[float, ...]
    spearman: float | None


@dataclass(frozen=True)
class Comparison:
    """The comparison of several runs.

    Attributes:
        evaluations: One for each run.
        agreements: By ABPC and RMA.
        dose_responses: One for each method, where the data set has a confounder; else none.
    """

    evaluations: tuple[Evaluation, ...]
    agreements: tuple[Agreement, ...]
    dose_responses: tuple[DoseResponse, ...]


def compare(evaluations: Sequence[Evaluation]) -> Comparison:
    """Compare the evaluations of several runs."""
    criteria = dict.fromkeys(key for evaluation in evaluations for key in evaluation.verdict.criteria)
    found = (_agreement(evaluations, key) for key in criteria)
    agreements = tuple(agreement for agreement in found if agreement is not None)
    return Comparison(tuple(evaluations), agreements, tuple(_dose_responses(evaluations)))


def _agreement(evaluations: Sequence[Evaluation], key: str) -> Agreement | None:
    """Correlate the ranks of the methods, by their means, between each two runs (Kendall 1938, τ-b)."""
    methods = _common_methods(evaluations, key, evaluations[0].methods)
    if len(methods) < 2:
        return None
    means = {evaluation.run: [_mean(evaluation, method, key) for method in methods] for evaluation in evaluations}
    pairs = tuple(
        (first, second, float(stats.kendalltau(means[first], means[second]).statistic))
        for first, second in combinations(means, 2)
    )
    return Agreement(key, pairs, sum(value for *_, value in pairs) / len(pairs), methods)


def _common_methods(evaluations: Sequence[Evaluation], key: str, methods: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        method for method in methods if all(evaluation.row(method, key) is not None for evaluation in evaluations)
    )


def _mean(evaluation: Evaluation, method: str, key: str) -> float:
    row = evaluation.row(method, key)
    return math.nan if row is None else row.mean


def _dose_responses(evaluations: Sequence[Evaluation]) -> Iterator[DoseResponse]:
    reliance = [_mean(evaluation, NETWORK, "reliance") for evaluation in evaluations]
    if any(map(math.isnan, reliance)):
        return
    first = evaluations[0]
    for method in _common_methods(evaluations, CONFOUNDER_SHARE, (*first.methods, *first.controls)):
        share = [_mean(evaluation, method, CONFOUNDER_SHARE) for evaluation in evaluations]
        yield DoseResponse(
            method=method,
            key=CONFOUNDER_SHARE,
            runs=tuple(evaluation.run for evaluation in evaluations),
            reliance=tuple(reliance),
            share=tuple(share),
            spearman=_spearman(reliance, share),
        )


def _spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    if len(first) < LEAST_RUNS or min(len(set(first)), len(set(second))) < 2:
        return None
    return float(stats.spearmanr(first, second).statistic)
