"""Call every measure for some clips and methods; a new one is entered in `SCORES` or `MEASURE` here.

A clip's numbers depend on that clip, the settings and the seed alone: random draws are seeded with the clip's id.
"""

import math
from collections.abc import Callable, Mapping
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidact.attribution.base import mean_picture
from vidact.attribution.names import unit_of
from vidact.evaluation.context import EvaluationContext, Measurements, Subjects
from vidact.evaluation.measures import localisation, randomisation, sensitivity
from vidact.evaluation.measures.composition import NUM_QUADRANTS, mosaic, splice
from vidact.evaluation.measures.fill_ins import build_fill
from vidact.evaluation.measures.perturbation import (
    Order,
    abpc,
    aopc,
    area,
    build_units,
    of_class,
    perturbation_curves,
    random_orders,
    removal_steps,
)
from vidact.evaluation.measures.units import Units, sum_by_unit
from vidact.evaluation.names import FRAMES, RANDOM

MEASURES_VERSION = 2  # raise it whenever a measure gives other numbers, so that no older ones are kept
NUM_PARTNERS = NUM_QUADRANTS - 1  # in a mosaic; the first one is also used to splice
LOCAL_UNIT = "brightness"  # the end of the unit of gradients
SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rma": localisation.relevance_mass,
    "lift": localisation.lift,
    "rra": localisation.relevance_rank,
    "pointing_game": localisation.pointing_game,
    "auroc": localisation.auroc,
}
REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "": lambda values: values,
    "time_": localisation.over_time,
    "space_": localisation.over_space,
}


Maps = Mapping[str, Float[Tensor, "B C T H W"]]


def measure_perturbation(context: EvaluationContext, subjects: Subjects, maps: Maps, found: Measurements) -> None:
    """Replace units, most and least relevant first; the curves of `random` are means over random orders."""
    for name, fill_name in context.settings.pairs_of(subjects.video.shape[2]):
        units = build_units(name, subjects.video)
        steps = removal_steps(units.count, context.settings.num_steps)
        found.removed[name] = (steps / units.count).tolist()
        methods = [method for method in maps if method != RANDOM]
        relevance = torch.stack([sum_by_unit(maps[method].sum(dim=1), units) for method in methods])
        morf, lerf, every = _curves(context, subjects, units, relevance, fill_name=fill_name)
        pairs = {method: (morf[[place]], lerf[[place]]) for place, method in enumerate(methods)}
        for method, curves in (pairs | {RANDOM: (every, every)}).items():
            _put_curves(found, f"{name}/{fill_name}", method, curves, subjects.target, steps)


def _curves(
    context: EvaluationContext, subjects: Subjects, units: Units, relevance: Float[Tensor, "M B U"], *, fill_name: str
) -> tuple[Float[Tensor, "M B P K"], Float[Tensor, "M B P K"], Float[Tensor, "n B P K"]]:
    """Compute the curves of all logits: most relevant first, least relevant first, and in random orders."""
    fill = build_fill(
        fill_name,
        subjects.video,
        units=units,
        mean=mean_picture(context.network, subjects.video),
        generator=context.generator("noise"),
    )

    def follow(relevance: Tensor, order: Order) -> Tensor:
        return perturbation_curves(
            context.network,
            subjects.video,
            units=units,
            relevance=relevance,
            fill=fill,
            order=order,
            num_steps=context.settings.num_steps,
            clips_per_call=context.settings.batch_size,
        ).double()

    # Random orders go along with the MoRF curves; for them, least relevant first is just another random order.
    drawn = torch.cat([_orders(context, clip_id, units) for clip_id in subjects.clip_ids], dim=1)  # [n, B, U]
    morf = follow(torch.cat([relevance, drawn.to(relevance)]), "morf")
    return morf[: len(relevance)], follow(relevance, "lerf"), morf[len(relevance) :]


def _orders(context: EvaluationContext, clip_id: str, units: Units) -> Float[Tensor, "n 1 U"]:
    generator = context.generator("orders", clip_id, units.name)
    return random_orders(context.settings.random_orders, 1, units, generator=generator)


def _put_curves(
    found: Measurements,
    pair: str,
    method: str,
    curves: tuple[Float[Tensor, "n B P K"], Float[Tensor, "n B P K"]],
    target: Int[Tensor, " B"],
    steps: Int[Tensor, " P"],
) -> None:
    """Store the target's curves, means over their orders, and the areas under and between them."""
    logits = [of_class(curve, target).mean(dim=0).cpu() for curve in curves]
    probabilities = [of_class(curve.softmax(dim=-1), target).mean(dim=0).cpu() for curve in curves]
    morf, lerf = logits
    for name, curve in zip(("morf", "lerf"), logits, strict=True):
        found.curves.setdefault(method, {})[f"{name}/{pair}"] = curve
    found.put(method, f"abpc/{pair}", abpc(lerf, morf))
    found.put(method, f"aopc/{pair}", aopc(morf))
    found.put(method, f"deletion/{pair}", area(probabilities[0], steps=steps))
    found.put(method, f"insertion/{pair}", area(probabilities[1], steps=steps))


def measure_localisation(context: EvaluationContext, subjects: Subjects, maps: Maps, found: Measurements) -> None:
    """Compare maps with masks: in space and time, in time alone, in space alone."""
    for (kind, mask), (prefix, reduce) in product(subjects.masks.items(), REDUCTIONS.items()):
        place = reduce(mask)
        share = localisation.chance(place)
        for method, colours in maps.items():
            relevance = reduce(colours.sum(dim=1))
            for name, score in SCORES.items():
                found.put(method, f"{prefix}{name}/{kind}", score(relevance, place))
            undefined = found.values[method][f"{prefix}rma/{kind}"].isnan()  # chance over the same clips as RMA
            found.put(method, f"{prefix}chance/{kind}", share, undefined=undefined)


def measure_composition(context: EvaluationContext, subjects: Subjects, maps: Maps, found: Measurements) -> None:
    """Put half of each clip's frames into another clip, and show each clip beside three others.

    The clip's own class is explained there, not the predicted one.
    """
    if subjects.partners is None:
        return
    video, partners = subjects.video, subjects.partners
    places = [torch.rand(2, generator=context.generator("composition", clip_id)) for clip_id in subjects.clip_ids]
    when, where = torch.stack(places).unbind(dim=1)
    composed = {"mosaic": mosaic(video, partners, place=where)}
    if video.shape[2] > 1:
        composed["splice"] = splice(video, partners[:, 0], place=when)
    for (name, one), method in product(composed.items(), maps):
        relevance, broken = context.map(
            method, one.video, subjects.label
        )  # whatever settings.target says: the label is what is known to be there
        mass = localisation.relevance_mass(relevance, one.mask)
        found.put(method, name, mass, undefined=broken)
        found.put(method, f"{name}_chance", localisation.chance(one.mask), undefined=broken | mass.isnan())


def measure_randomisation(context: EvaluationContext, subjects: Subjects, maps: Maps, found: Measurements) -> None:
    """Compare maps with those of a network with random weights, and with those of another class."""
    num_classes = context.scores(subjects.video[:1]).shape[1]
    other = torch.cat([_other_class(context, subjects, row, num_classes) for row in range(len(subjects))])
    for method, colours in maps.items():
        relevance = colours.sum(dim=1)
        random, broken = context.map(method, subjects.video, subjects.target, is_random=True)
        found.put(method, "randomised_spearman", randomisation.spearman(relevance, random), undefined=broken)
        found.put(method, "emprt", randomisation.emprt(relevance, random), undefined=broken)
        if min(relevance.shape[2:]) >= randomisation.SMALLEST_PICTURE:
            found.put(method, "randomised_ssim", randomisation.ssim(relevance, random), undefined=broken)
        of_other, broken = context.map(method, subjects.video, other)
        found.put(method, "random_logit", randomisation.random_logit(relevance, of_other), undefined=broken)


def _other_class(context: EvaluationContext, subjects: Subjects, row: int, num_classes: int) -> Int[Tensor, " 1"]:
    generator = context.generator("class", subjects.clip_ids[row])
    return randomisation.draw_other_class(subjects.target[[row]], num_classes=num_classes, generator=generator)


def measure_sensitivity(context: EvaluationContext, subjects: Subjects, maps: Maps, found: Measurements) -> None:
    """Measure infidelity and max-sensitivity, clip by clip."""
    for method, colours in maps.items():
        rows = [_sensitivity(context, method, subjects, colours, row=row) for row in range(len(subjects))]
        for key, values in zip(("infidelity", "max_sensitivity"), zip(*rows, strict=True), strict=True):
            found.put(method, key, torch.cat(values))


def _sensitivity(
    context: EvaluationContext, method: str, subjects: Subjects, colours: Float[Tensor, "B C T H W"], *, row: int
) -> tuple[Float[Tensor, " 1"], Float[Tensor, " 1"]]:
    video, target, clip_id = subjects.video[[row]], subjects.target[row], subjects.clip_ids[row]
    fill = build_fill("blur", video, units=build_units(FRAMES, video))
    infidelity = sensitivity.infidelity(
        lambda clips: context.scores(clips)[:, target],
        video,
        relevance=colours[[row]],
        fill=lambda removed: fill(removed[None])[0],
        generator=context.generator("boxes", clip_id),
        local=unit_of(method).endswith(LOCAL_UNIT),
    )
    broken = []

    def explain(clips: Float[Tensor, "n C T H W"]) -> Float[Tensor, "n T H W"]:
        relevance, flags = context.map(method, clips, target.expand(len(clips)))
        broken.append(bool(flags.any()))
        return relevance

    largest = sensitivity.max_sensitivity(explain, video, generator=context.generator("small noise", clip_id))
    return infidelity, torch.full_like(largest, math.nan) if any(broken) else largest


def measure_sparseness(context: EvaluationContext, subjects: Subjects, maps: Maps, found: Measurements) -> None:
    """Measure how unequal a map's voxels are."""
    for method, colours in maps.items():
        found.put(method, "sparseness", sensitivity.sparseness(colours.sum(dim=1)))


MEASURE: dict[str, Callable[[EvaluationContext, Subjects, Maps, Measurements], None]] = {
    "perturbation": measure_perturbation,
    "localisation": measure_localisation,
    "composition": measure_composition,
    "randomisation": measure_randomisation,
    "sensitivity": measure_sensitivity,
    "sparseness": measure_sparseness,
}


def measure(context: EvaluationContext, subjects: Subjects) -> Measurements:
    """Measure each method on each clip.

    Raises:
        VidactError: a clip that cannot be explained or measured.
    """
    found = Measurements()
    maps, broken = {}, {}
    for method in context.explainers:
        maps[method], broken[method] = context.explain(method, subjects.video, subjects.target)
    for family in context.families:
        MEASURE[family](context, subjects, maps, found)
    for method, rows in broken.items():
        found.discard(method, rows.cpu())
    return found
