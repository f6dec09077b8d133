"""Makes up what was measured of clips: values with known differences between methods and controls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from vidact.evaluation.names import CONTROLS
from vidact.evaluation.results.statistics import ClipResult

ABPC, RMA = "abpc/tubes/blur", "rma/strict"


def without_values(
    results: Sequence[ClipResult], method: str, key: str, *, of: Callable[[ClipResult], bool]
) -> list[ClipResult]:
    """Take a method's value from some clips."""
    return [
        replace(one, values={**one.values, method: {**one.values[method], key: None}}) if of(one) else one
        for one in results
    ]


def make_results(
    levels: Mapping[str, Sequence[float]],
    *,
    keys: Sequence[str] = (ABPC, RMA),
    num_sources: int = 30,
    clips_per_source: int = 2,
    spread: float = 0.05,
    seed: int = 0,
    wrong_share: float = 0.25,
) -> list[ClipResult]:
    """Make up clips whose values scatter around a level of each method in each key; controls are at 0 unless named."""
    generator = np.random.default_rng(seed)
    own = {**{control: [0.0] * len(keys) for control in CONTROLS}, **levels}
    results = []
    for source in range(num_sources):
        shift = generator.normal(0, 1)  # of the source: paired differences do not know it
        for number in range(clips_per_source):
            values = {
                method: {
                    key: level + shift + generator.normal(0, spread) for key, level in zip(keys, mine, strict=True)
                }
                for method, mine in own.items()
            }
            curves = {method: {"morf/tubes/blur": [1.0, 0.5 + shift, 0.1]} for method in own}
            predicted = "b" if generator.random() < wrong_share else "a"
            name = f"a/{source:03d}_{number}"
            results.append(
                ClipResult(name, str(source), "a", predicted, 1.0, values, curves, {"tubes": [0.0, 0.5, 1.0]})
            )
    return results
