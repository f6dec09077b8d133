"""Makes up evaluations to show: methods whose orders are better the earlier they are listed, and controls."""

import itertools
from collections.abc import Sequence

import numpy as np

from vidact.evaluation.names import CONTROLS
from vidact.evaluation.results.comparison import Agreement, Comparison, DoseResponse
from vidact.evaluation.results.statistics import ClipResult, Table
from vidact.evaluation.results.tables import Evaluation
from vidact.evaluation.results.verdict import decide

METHODS = (
    *("lrp:epsilon_plus", "lrp:epsilon_gamma", "gradient", "gradient_x_input", "smoothgrad"),
    *("integrated_gradients", "grad_cam"),
)
PAIRS = (("tubes", "blur"), ("tubes", "temporal_mean"), ("frames", "blur"), ("frames", "freeze"))
STEPS = 10
CRITERIA = ("abpc/tubes/blur", "rma/strict")


def made_clip(number: int, *, methods: Sequence[str], skill: float, generator: np.random.Generator) -> ClipResult:
    values: dict[str, dict[str, float | None]] = {}
    curves: dict[str, dict[str, list[float]]] = {}
    share = np.linspace(0, 1, STEPS + 1)
    start = generator.normal(5, 1)
    for place, method in enumerate([*methods, *CONTROLS]):
        is_control = method in CONTROLS
        good = 0.0 if method == "random" else 0.35 if is_control else skill * (1 - 0.12 * place)
        own: dict[str, float | None] = {}
        curves[method] = {}
        for units, fill in PAIRS:
            size = max(0.0, (good if units == "tubes" else 0.4 * good) + generator.normal(0, 0.1))
            falling = start * (1 - share)
            bend = 2.5 * size * share * (1 - share)
            morf, lerf = (falling + sign * bend * start * 0.7 for sign in (-1, 1))
            curves[method] |= {f"morf/{units}/{fill}": morf.tolist(), f"lerf/{units}/{fill}": lerf.tolist()}
            own[f"abpc/{units}/{fill}"] = float((lerf - morf).mean())
            own[f"aopc/{units}/{fill}"] = float((start - morf).mean())
        for prefix, chance in (("", 0.04), ("time_", 0.4), ("space_", 0.08)):
            own[f"{prefix}rma/strict"] = float(np.clip(chance * (1 + 3 * good) + generator.normal(0, 0.02), 0, 1))
            own[f"{prefix}chance/strict"] = chance
        own["rma/confounder"] = float(np.clip(0.03 + 0.1 * good, 0, 1))
        own["chance/confounder"] = 0.03
        own["randomised_spearman"] = None if method == "smoothgrad" else float(generator.uniform(0, 0.3))
        own["max_sensitivity"] = float(generator.uniform(0.1, 2))
        values[method] = own
    values["network"] = {"reliance": float(generator.normal(1, 0.2))}
    predicted = "left" if generator.random() < 0.8 else "up"
    return ClipResult(f"left/{number:03d}", f"source_{number // 2}", "left", predicted, float(start), values, curves)


def make_evaluation(
    run: str = "version_0",
    *,
    methods: Sequence[str] = METHODS,
    skill: float = 1.0,
    num_clips: int = 60,
    seed: int = 0,
    notes: Sequence[str] = ("random: the mean of 20 orders",),
) -> Evaluation:
    """Make up the evaluation of a run.

    Args:
        run: Its name.
        methods: What is evaluated beside the controls.
        skill: Of the first method; 0.35 is a control's.
        num_clips: Two of each source.
        seed: Of everything.
        notes: What else is to be known.
    """
    generator = np.random.default_rng(seed)
    results = [made_clip(n, methods=methods, skill=skill, generator=generator) for n in range(num_clips)]
    table = Table(results, run=run, methods=methods, num_resamples=100)
    rows = table.rows()
    return Evaluation(
        run=run,
        part="test",
        data="synthetic",
        class_names=("left", "up"),
        methods=tuple(methods),
        controls=CONTROLS,
        settings={"num_steps": STEPS},
        versions={},
        clips=num_clips,
        sources=-(-num_clips // 2),
        right=sum(result.is_right for result in results),
        rows=rows,
        curves=table.curves(),
        verdict=decide(table, rows, criteria=CRITERIA),
        left_out=("left/broken: no frame could be decoded",),
        notes=tuple(notes),
    )


def make_comparison(*, num_runs: int = 3) -> Comparison:
    """Make up what several runs tell together."""
    evaluations = tuple(make_evaluation(f"version_{n}", seed=n, num_clips=16) for n in range(num_runs))
    names = tuple(evaluation.run for evaluation in evaluations)
    pairs = tuple((a, b, 0.8) for a, b in itertools.pairwise(names))
    responses = tuple(
        DoseResponse(
            method,
            "rma/confounder",
            names,
            tuple(float(n) for n in range(num_runs)),
            tuple(0.03 + 0.1 * n * (method in METHODS) / (place + 1) for n in range(num_runs)),
            None if num_runs < 3 else 1.0,
        )
        for place, method in enumerate([*METHODS, *CONTROLS])
    )
    return Comparison(evaluations, (Agreement(CRITERIA[0], pairs, 0.8, METHODS),), responses)
