from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vidact.attribution.registry import build_explainer
from vidact.core.clips import as_float
from vidact.core.errors import ConfigError
from vidact.data.video.reading import read_frames
from vidact.evaluation.context import EvaluationContext, Measurements, Subjects, open_context, possible_methods
from vidact.evaluation.measures import localisation, sensitivity
from vidact.evaluation.measures.fill_ins import build_fill
from vidact.evaluation.measures.perturbation import (
    abpc,
    aopc,
    area,
    of_class,
    perturbation_curves,
    random_orders,
    removal_steps,
)
from vidact.evaluation.measures.units import sum_by_unit, tubes
from vidact.evaluation.measuring import measure
from vidact.evaluation.names import CONTROLS, FAMILIES
from vidact.evaluation.results.tables import MEASURES
from vidact.evaluation.settings import EvaluateSettings, headline
from vidact.runs.clips.choice import Choice
from vidact.runs.clips.chosen import choose_clips
from vidact.runs.run import Run, open_run

SETTINGS = EvaluateSettings(
    ("lrp:epsilon_plus", "gradient"), FAMILIES, units=("tubes",), fills=("blur", "noise"), num_steps=4, random_orders=3
)


@pytest.fixture(scope="module")
def run(small_run: Path) -> Run:
    return open_run(small_run)


@pytest.fixture(scope="module")
def subjects(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Subjects:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDACT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        chosen = choose_clips(run, Choice())
    windows = chosen.windows[:4]
    video, masks = [], []
    for window in windows:
        video.append(as_float(read_frames(window.clip.path, window.frame_numbers, size=(16, 16), gray=True)[None])[0])
        mask = chosen.read_mask(window, chosen.mask_kinds[0], size=(16, 16))
        assert mask is not None
        masks.append(mask)
    clips = torch.stack(video)
    label = torch.tensor([window.clip.label for window in windows])
    partners = clips.flip(0)[:, None].expand(-1, 3, -1, -1, -1, -1)
    names = tuple(window.clip.clip_id for window in windows)
    return Subjects(clips, label, label, names, {"mask": torch.stack(masks)}, partners)


@pytest.fixture(scope="module")
def measured(run: Run, subjects: Subjects) -> Measurements:
    """All that is measured of all methods and controls, for those who ask different things of it."""
    with open_context(run.network, SETTINGS, FAMILIES) as context:
        return measure(context, subjects)


def _one(subjects: Subjects, row: int) -> Subjects:
    assert subjects.partners is not None
    place = [row]
    return Subjects(
        subjects.video[place],
        subjects.label[place],
        subjects.target[place],
        (subjects.clip_ids[row],),
        {kind: mask[place] for kind, mask in subjects.masks.items()},
        subjects.partners[place],
    )


def test_numbers_are_those_of_the_measures_called_directly(
    run: Run, subjects: Subjects, measured: Measurements
) -> None:
    with open_context(run.network, SETTINGS, FAMILIES) as context:
        generator = context.generator("orders", subjects.clip_ids[0], "tubes")
    video, target = subjects.video, subjects.target
    with build_explainer("lrp:epsilon_plus", run.network) as explain:
        colours = explain(video, target).relevance
    relevance, own = colours.sum(dim=1), measured.values["lrp:epsilon_plus"]
    units = tubes((8, 16, 16))
    fill = build_fill("blur", video, units=units)
    curves = {
        order: perturbation_curves(
            run.network,
            video,
            units=units,
            relevance=sum_by_unit(relevance, units),
            fill=fill,
            order=order,  # type: ignore[arg-type]
            num_steps=4,
        ).double()
        for order in ("morf", "lerf")
    }
    logits = {order: of_class(curve, target) for order, curve in curves.items()}
    shares = {order: of_class(curve.softmax(dim=-1), target) for order, curve in curves.items()}
    steps = removal_steps(units.count, 4)
    mask = subjects.masks["mask"]
    expected = {
        "abpc/tubes/blur": abpc(logits["lerf"], logits["morf"]),
        "aopc/tubes/blur": aopc(logits["morf"]),
        "deletion/tubes/blur": area(shares["morf"], steps=steps),
        "insertion/tubes/blur": area(shares["lerf"], steps=steps),
        "rma/mask": localisation.relevance_mass(relevance, mask),
        "chance/mask": localisation.chance(mask),
        "space_auroc/mask": localisation.auroc(localisation.over_space(relevance), localisation.over_space(mask)),
        "sparseness": sensitivity.sparseness(relevance),
    }
    for key, values in expected.items():
        assert own[key].tolist() == pytest.approx(values.tolist(), rel=1e-4, abs=1e-6), key
    assert measured.curves["lrp:epsilon_plus"]["morf/tubes/blur"] == pytest.approx(logits["morf"].numpy(), abs=1e-5)
    assert measured.removed["tubes"] == pytest.approx((steps / units.count).tolist())
    drawn = random_orders(3, 1, units, generator=generator)
    alone = perturbation_curves(
        run.network,
        video[:1],
        units=units,
        relevance=drawn,
        fill=build_fill("blur", video[:1], units=units),
        num_steps=4,
    )
    mean = of_class(alone, target[:1]).mean(dim=0)
    assert measured.curves["random"]["morf/tubes/blur"][0].tolist() == pytest.approx(mean[0].tolist(), abs=1e-5)
    assert measured.values["random"]["abpc/tubes/blur"].abs().max() == 0


def test_every_key_is_a_known_measure_of_each_method_and_control(measured: Measurements) -> None:
    assert set(measured.values) == {*SETTINGS.methods, *CONTROLS}
    for own in measured.values.values():
        assert {MEASURES[key.partition("/")[0]].family for key in own} == set(FAMILIES)
        assert set(own) == set(measured.values["gradient"])
    for name in CONTROLS:
        assert measured.values[name]["random_logit"].tolist() == pytest.approx([1] * 4), "the same for every class"
        assert measured.values[name]["randomised_spearman"].tolist() == pytest.approx([1] * 4)
    assert measured.values["centre"]["splice"].tolist() == pytest.approx(
        measured.values["centre"]["splice_chance"].tolist()
    )
    assert measured.values["gradient"]["mosaic_chance"].tolist() == pytest.approx([0.25] * 4)


def test_a_clips_numbers_do_not_know_its_batch(run: Run, subjects: Subjects, measured: Measurements) -> None:
    with open_context(run.network, SETTINGS, FAMILIES) as context:
        for row in (0, 3):
            alone = measure(context, _one(subjects, row))
            for method, own in alone.values.items():
                for key, value in own.items():
                    other = float(measured.values[method][key][row])
                    assert float(value) == pytest.approx(other, rel=1e-3, abs=1e-5, nan_ok=True), (method, key)


def test_another_seed_draws_otherwise(run: Run, subjects: Subjects) -> None:
    found = []
    for seed in (0, 0, 1):
        settings = EvaluateSettings(("gradient",), units=("frames",), fills=("blur",), num_steps=4, seed=seed)
        with open_context(run.network, settings, ("perturbation",)) as context:
            found.append(measure(context, subjects).curves["random"]["morf/frames/blur"])
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_a_map_that_is_not_finite_counts_as_undefined(
    run: Run, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    explain = EvaluationContext.explain

    def spoiled(self: EvaluationContext, method: str, *args: object, **options: object) -> object:
        relevance, broken = explain(self, method, *args, **options)  # type: ignore[arg-type]
        return relevance, broken | torch.tensor([method == "gradient", False, False, False])

    monkeypatch.setattr(EvaluationContext, "explain", spoiled)
    with open_context(run.network, SETTINGS, ("perturbation", "localisation")) as context:
        found = measure(context, subjects)
    assert set(found.values_of(0)["gradient"].values()) == {None}
    assert found.curves_of(0)["gradient"] == {}
    other = found.values_of(1)["gradient"]
    undefined = {key for key, value in other.items() if value is None}
    nowhere = {"space_rma/mask", "space_lift/mask", "space_chance/mask"}  # with differences it cancels over time
    assert nowhere <= undefined
    assert all(key.startswith("time_") for key in undefined - nowhere), "in every frame there is some of the mask"
    assert found.values_of(0)["lrp:epsilon_plus"]["rma/mask"] is not None


def test_a_map_that_breaks_on_the_way_is_no_number(
    run: Run, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    explain, calls = EvaluationContext.explain, list[str]()

    def spoiled(
        self: EvaluationContext, method: str, video: torch.Tensor, target: torch.Tensor, *, is_random: bool = False
    ) -> object:
        relevance, broken = explain(self, method, video, target, is_random=is_random)
        calls.append(method)
        if is_random or calls.count(method) > 1:  # only the clips' own maps are whole
            return torch.zeros_like(relevance), torch.ones_like(broken)
        return relevance, broken

    monkeypatch.setattr(EvaluationContext, "explain", spoiled)
    with open_context(run.network, replace(SETTINGS, methods=("gradient",)), FAMILIES) as context:
        own = measure(context, subjects).values_of(0)["gradient"]
    broken = ("randomised_spearman", "randomised_ssim", "emprt", "random_logit", "max_sensitivity")
    for key in (*broken, "splice", "mosaic", "splice_chance", "mosaic_chance"):
        assert own[key] is None, key
    assert own["rma/mask"] is not None
    assert own["infidelity"] is not None


def test_chance_is_of_the_clips_that_the_share_is_of(run: Run, subjects: Subjects) -> None:
    class Sinking(torch.nn.Module):
        def forward(self, video: torch.Tensor) -> torch.Tensor:
            return -video.flatten(1).sum(dim=1, keepdim=True) * torch.tensor([1.0, -1.0, -1.0])

    with open_context(Sinking(), EvaluateSettings(("gradient",)), ("localisation",)) as context:
        found = measure(context, replace(subjects, target=torch.tensor([0, 1, 0, 1])))
    own = found.values["gradient"]
    for part in ("", "space_"):
        assert own[f"{part}rma/mask"].isnan().tolist() == [True, False, True, False], "nothing is positive"
        assert own[f"{part}chance/mask"].isnan().tolist() == [True, False, True, False]
    assert not found.values["centre"]["chance/mask"].isnan().any()


def test_what_is_composed_is_explained_for_the_class_that_it_shows(run: Run, subjects: Subjects) -> None:
    other = replace(subjects, target=(subjects.label + 1) % 3)
    with open_context(run.network, replace(SETTINGS, methods=("gradient",)), ("composition",)) as context:
        right, predicted = (measure(context, each).values["gradient"] for each in (subjects, other))
    for name in ("splice", "mosaic"):
        assert predicted[name].tolist() == right[name].tolist()


def test_what_a_network_cannot_have_is_left_out_unless_nothing_is_left(run: Run) -> None:
    example = torch.rand(1, 1, 8, 16, 16)
    kept, lines = possible_methods(run.network, EvaluateSettings(("attention", "gradient")), example=example)
    assert kept.methods == ("gradient",)
    assert len(lines) == 1
    assert lines[0].startswith("attention is skipped: ")
    assert "has no attention_maps" in lines[0]
    with pytest.raises(ConfigError, match="no method is left to evaluate: attention is skipped"):
        possible_methods(run.network, EvaluateSettings(("attention",)), example=example)


def test_the_headline_is_the_first_pair_and_the_truth() -> None:
    settings = EvaluateSettings(units=("frames", "tubes"), fills=("temporal_mean", "freeze"))
    assert settings.pairs_of(8) == (("frames", "freeze"), ("tubes", "temporal_mean"))
    kinds = ("always", "confounder", "strict")
    assert headline(settings, ("perturbation", "localisation"), kinds) == ("abpc/frames/freeze", "rma/strict")
    assert headline(settings, ("perturbation",), kinds) == ("abpc/frames/freeze",)
    assert headline(settings, ("perturbation", "localisation"), ("confounder",)) == ("abpc/frames/freeze",)
    assert headline(settings, ("localisation",), kinds) == ()


def test_in_a_single_frame_nothing_is_taken_from_time() -> None:
    settings = EvaluateSettings()
    assert settings.pairs_of(1) == (("tubes", "blur"),)
    assert settings.idle_note(2) == []
    (note,) = settings.idle_note(1)
    assert note.startswith("clips of 1 frame: skipped are tubes with temporal_mean, frames with blur")
    first = EvaluateSettings(fills=("temporal_mean", "blur"))
    assert headline(first, ("perturbation",), (), num_frames=1) == ("abpc/tubes/blur",)
    with pytest.raises(ConfigError, match="nothing is replaced by frames with freeze; add tubes"):
        EvaluateSettings(units=("frames",), fills=("freeze",)).idle_note(1)


def test_localisation_is_measured_where_there_are_masks() -> None:
    assert EvaluateSettings().families(has_masks=False) == ("perturbation", "sparseness")
    assert EvaluateSettings().families(has_masks=True) == ("perturbation", "localisation", "sparseness")
    with pytest.raises(ConfigError, match="has no masks"):
        EvaluateSettings(measures=("localisation",)).families(has_masks=False)
