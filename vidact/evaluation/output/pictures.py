"""Draw the results of an evaluation: perturbation curves, ranks of the methods, and comparisons of several runs."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from matplotlib.figure import Figure

from vidact.drawing.evaluation.agreement import MethodResponse, dose_response, rank_lines
from vidact.drawing.evaluation.perturbation import Band, FillPanel, MethodCurves, perturbation_curves
from vidact.drawing.evaluation.ranks import Estimate, RankPanel, rank_dots
from vidact.evaluation.names import ALL, CONFOUNDER, CONTROLS, RANDOM, TRUE_MASKS
from vidact.evaluation.results.comparison import Agreement, Comparison
from vidact.evaluation.results.tables import Curve, Difference, Evaluation, Row, better

MAX_RANK_PANELS = 8
SHORT_NAMES = {
    **{name: name.upper() for name in ("abpc", "aopc", "rma", "rra", "auroc")},
    "randomised_spearman": "randomised network, ρ",
    "randomised_ssim": "randomised network, SSIM",
    "emprt": "eMPRT",
    "max_sensitivity": "max-sensitivity",
    "sparseness": "Gini",
}
FILL_WORDS = {
    "noise": "noise: uniform",
    "blur": "blur: each frame",
    "dataset_mean": "dataset_mean: the mean pixel",
    "temporal_mean": "temporal_mean: motion removed",
    "spatial_blur": "spatial_blur: appearance removed",
    "freeze": "freeze: the nearest kept frame",
    "mean_frame": "mean_frame: of the clip",
}
AXIS_LABELS = {
    **dict.fromkeys(("abpc", "aopc"), "logits"),
    **dict.fromkeys(("deletion", "insertion"), "mean probability"),
    **dict.fromkeys(("rma", "splice", "mosaic"), "share of positive relevance"),
    "lift": "times chance",
    "rra": "share of the top voxels",
    "pointing_game": "share of clips",
    "random_logit": "cosine",
    "randomised_spearman": "rank correlation",
    "randomised_ssim": "similarity",
    "emprt": "gain of entropy",
    "max_sensitivity": "relative change",
    "infidelity": "squared error",
}
PARTS = {"time_": ", when", "space_": ", where"}


def evaluation_figures(evaluation: Evaluation) -> dict[str, Figure]:
    """Draw one run's evaluation, by name: `curves_tubes`, `curves_frames`, `curves_columns`, `ranks`."""
    figures = {}
    for units in dict.fromkeys(curve.units for curve in evaluation.curves):
        panels = [
            panel for fill in _fills(evaluation, units) if (panel := _fill_panel(evaluation, units, fill)).methods
        ]
        if panels:
            title = f"score while {units} are replaced, mean of {_clips(evaluation, units)} clips"
            figures[f"curves_{units}"] = perturbation_curves(
                panels, controls=evaluation.controls, unit_name=units, title=f"{evaluation.run}: {title}"
            )
    panels_of_ranks = list(_rank_panels(evaluation))[:MAX_RANK_PANELS]
    if panels_of_ranks:
        title = f"{evaluation.run}: which method is better, {evaluation.clips} clips"
        names, controls = all_methods(evaluation), evaluation.controls
        figures["ranks"] = rank_dots(panels_of_ranks, methods=names, controls=controls, title=title)
    return figures


def comparison_figures(comparison: Comparison) -> dict[str, Figure]:
    """Draw the comparison of several runs, by name: `ranks_over_runs`, `dose_response`, as far as measured."""
    figures = {}
    agreement = next((one for one in comparison.agreements if one.methods), None)
    if agreement is not None and len(comparison.evaluations) > 1:
        figures["ranks_over_runs"] = _ranks_over_runs(comparison, agreement)
    if comparison.dose_responses:
        responses = [
            MethodResponse(one.method, np.asarray(one.reliance, float), np.asarray(one.share, float), one.spearman)
            for one in comparison.dose_responses
        ]
        title = "Is there more relevance on the confounder in runs that lean on it more?"
        chance = _mean_chance(comparison, comparison.dose_responses[0].key)
        figures["dose_response"] = dose_response(responses, controls=CONTROLS, chance=chance, title=title)
    return figures


def all_methods(evaluation: Evaluation) -> list[str]:
    """List methods, then controls; their place decides their colour."""
    return [*evaluation.methods, *(name for name in evaluation.controls if name not in evaluation.methods)]


def main_keys(evaluation: Evaluation) -> list[str]:
    """Choose the main measures, those of the verdict first: one of each kind, as far as measured."""
    found = dict.fromkeys(row.key for row in evaluation.rows if row.subset == ALL)

    def first(wanted: Callable[[str, str], bool]) -> list[str]:
        return [key for key in found if wanted(*_split(key))][:1]

    keys = [key for key in evaluation.verdict.criteria if key in found]
    seen = {_split(key)[1].partition("/")[0] for key in keys if _split(key)[0] == "abpc"}
    for units in dict.fromkeys(_split(key)[1].partition("/")[0] for key in found if _split(key)[0] == "abpc"):
        if units not in seen:
            keys += first(lambda name, detail, units=units: name == "abpc" and detail.startswith(f"{units}/"))  # type: ignore[misc]
    for name in ("rma", "time_rma", "space_rma"):
        keys += first(lambda found_name, detail, name=name: found_name == name and detail in TRUE_MASKS)  # type: ignore[misc]
    keys += [key for key in found if key == f"rma/{CONFOUNDER}"]
    for name in ("splice", "mosaic", "random_logit", "randomised_spearman", "emprt", "max_sensitivity", "infidelity"):
        keys += first(lambda found_name, detail, name=name: found_name == name)  # type: ignore[misc]
    return list(dict.fromkeys(keys))


def chance_of(evaluation: Evaluation, key: str) -> float | None:
    """Compute the value that a measure has by chance; None where there is none."""
    name, detail = _split(key)
    part = next((prefix for prefix in PARTS if name.startswith(prefix)), "")
    kind = name.removeprefix(part)
    if kind in ("abpc", "aopc", "emprt"):
        return 0.0 if kind != "aopc" else None
    if kind in ("lift", "auroc"):
        return 1.0 if kind == "lift" else 0.5
    if kind in ("rma", "rra", "pointing_game"):
        return _any_mean(evaluation, f"{part}chance/{detail}")
    return _any_mean(evaluation, f"{kind}_chance") if kind in ("splice", "mosaic") else None


def short_name(key: str) -> tuple[str, str]:
    """Split a key into the measure's short name and what it was measured with: `ABPC`, `tubes, blur`."""
    name, detail = _split(key)
    part = next((prefix for prefix in PARTS if name.startswith(prefix)), "")
    kind = name.removeprefix(part)
    return SHORT_NAMES.get(kind, kind.replace("_", " ")) + PARTS.get(part, ""), detail.replace("/", ", ")


def estimate_of(row: Row | None) -> Estimate | None:
    """Take the mean and its ends from a row of the table."""
    return None if row is None else Estimate(row.mean, *_ends(row.low, row.high), row.clips)


def _split(key: str) -> tuple[str, str]:
    name, _, detail = key.partition("/")
    return name, detail


def _ends(low: float | None, high: float | None) -> tuple[float, float]:
    return (math.nan if low is None else low), (math.nan if high is None else high)


def _any_mean(evaluation: Evaluation, key: str) -> float | None:
    """Read the mean of a value that is the same for every method."""
    return next((row.mean for row in evaluation.rows if row.subset == ALL and row.key == key), None)


def _mean_chance(comparison: Comparison, key: str) -> float | None:
    found = [chance_of(evaluation, key) for evaluation in comparison.evaluations]
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if known else None


def _fills(evaluation: Evaluation, units: str) -> list[str]:
    return list(dict.fromkeys(curve.fill for curve in evaluation.curves if curve.units == units))


def _clips(evaluation: Evaluation, units: str) -> int:
    return max(curve.clips for curve in evaluation.curves if curve.units == units and curve.subset == ALL)


def _fill_panel(evaluation: Evaluation, units: str, fill: str) -> FillPanel:
    found = {
        (curve.method, curve.order): curve
        for curve in evaluation.curves
        if (curve.units, curve.fill, curve.subset) == (units, fill, ALL)
    }
    methods = [
        MethodCurves(name, _band(found[name, "morf"]), _band(found[name, "lerf"]))
        for name in all_methods(evaluation)
        if name != RANDOM and (name, "morf") in found and (name, "lerf") in found
    ]
    random = found.get((RANDOM, "morf"))
    removed = next(iter(found.values())).removed if found else np.zeros(0)
    return FillPanel(FILL_WORDS.get(fill, fill), removed, tuple(methods), None if random is None else _band(random))


def _band(curve: Curve) -> Band:
    return Band(curve.mean, curve.low, curve.high)


def _rank_panels(evaluation: Evaluation) -> Iterator[RankPanel]:
    """Build a panel for each criterion, with its differences to the controls, then for the other main measures."""
    for key in main_keys(evaluation):
        sign = better(key)
        rows = {name: evaluation.row(name, key) for name in all_methods(evaluation)}
        if not sign or not any(rows.values()):
            continue
        name, detail = short_name(key)
        title = f"{name}: {detail}" if detail else name
        values = {name: estimate_of(row) for name, row in rows.items() if row is not None}
        yield RankPanel(title, _axis_label(key), values, sign > 0, chance_of(evaluation, key))
        nearest = {name: _nearest(rows[name], sign) for name in evaluation.methods if rows.get(name) is not None}
        if key in evaluation.verdict.criteria and any(nearest.values()):
            yield RankPanel(
                f"{title}, less the best control", "difference; interval widened for all", nearest, sign > 0
            )


def _axis_label(key: str) -> str:
    name = _split(key)[0]
    kind = name.removeprefix("time_").removeprefix("space_")
    return AXIS_LABELS.get(kind, kind)


def _nearest(row: Row | None, sign: int) -> Estimate | None:
    """Find a method's difference to the control that comes closest to it, with the widened interval."""
    controls = [] if row is None else [row.differences[name] for name in CONTROLS if name in row.differences]
    if not controls:
        return None
    nearest: Difference = min(controls, key=lambda difference: sign * difference.mean)
    return Estimate(nearest.mean, *_ends(nearest.wide_low, nearest.wide_high), nearest.clips)


def _ranks_over_runs(comparison: Comparison, agreement: Agreement) -> Figure:
    sign = better(agreement.key) or 1
    values = np.full((len(comparison.evaluations), len(agreement.methods)), np.nan)
    for place, evaluation in enumerate(comparison.evaluations):
        for column, method in enumerate(agreement.methods):
            row = evaluation.row(method, agreement.key)
            values[place, column] = np.nan if row is None else sign * row.mean
    name, detail = short_name(agreement.key)
    tau = f"; Kendall's τ {agreement.mean:.2f}".replace("-", "−") if math.isfinite(agreement.mean) else ""
    runs = [evaluation.run for evaluation in comparison.evaluations]
    title = f"Rank of each method in {len(runs)} runs, by {name} ({detail}){tau}"
    return rank_lines(runs, values, agreement.methods, controls=CONTROLS, title=title)
