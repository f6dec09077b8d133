import math
import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import Tensor, nn

from vidact.core.errors import ConfigError, ExplanationError, VidactError
from vidact.evaluation.measures.fill_ins import Fill, build_fill, fill_ins_for
from vidact.evaluation.measures.perturbation import (
    abpc,
    aopc,
    area,
    build_units,
    of_class,
    perturbation_curves,
    random_orders,
    rank_units,
    removal_steps,
)
from vidact.evaluation.measures.units import Units, columns, frames, sum_by_unit, tubes

CLIP = (5, 7, 6)
DIVISIONS = {"tubes": tubes(CLIP, size=(2, 3, 4)), "frames": frames(CLIP), "columns": columns(CLIP, size=(3, 2))}
CASES = [(kind, name) for kind, units in DIVISIONS.items() for name in fill_ins_for(units)]
MEAN = torch.tensor(0.3, dtype=torch.float64)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _video(num_clips: int = 3) -> Tensor:
    return torch.rand(num_clips, 2, *CLIP, dtype=torch.float64, generator=_generator())


def _relevance(units: Units, *orders: int, num_clips: int = 3) -> Tensor:
    return torch.randn(*orders, num_clips, units.count, dtype=torch.float64, generator=_generator(1))


def _fill(name: str, video: Tensor, units: Units) -> Fill:
    return build_fill(name, video, units=units, mean=MEAN, generator=_generator(2))


def _network(clip: tuple[int, int, int]) -> nn.Module:
    """Three classes; no two clips that differ have the same scores."""
    features = 4 * math.prod(side - 2 for side in clip)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = nn.Sequential(nn.Conv3d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(features, 3))
    return network.double().eval()


NETWORK = _network(CLIP)


def _naive_curve(
    score: Callable[[Tensor], Tensor], clip: Tensor, units: Units, relevance: list[float], fill: Fill, most_first: bool
) -> list[Tensor]:
    """Take one unit after the other from one clip, voxel by voxel, and score each time."""
    order = sorted(range(units.count), key=lambda unit: -relevance[unit] if most_first else relevance[unit])
    gone: set[int] = set()
    curve = [score(clip[None])[0]]
    for unit in order:
        gone.add(unit)
        removed = torch.zeros(1, 1, *CLIP, dtype=torch.bool)
        for t, h, w in product(*map(range, CLIP)):
            removed[0, 0, t, h, w] = int(units.number[t, h, w]) in gone
        replacement, changed = fill(removed)[0, 0], clip.clone()
        for c, t, h, w in product(*map(range, clip.shape)):
            if removed[0, 0, t, h, w]:
                changed[c, t, h, w] = replacement[c, t, h, w]
        curve.append(score(changed[None])[0])
    return curve


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_curves_are_those_of_one_unit_after_the_other(kind: str, name: str) -> None:
    video, units = _video(2), DIVISIONS[kind]
    order: Any = "lerf" if name in {"blur", "freeze"} else "morf"
    relevance = _relevance(units, num_clips=2)
    curves = perturbation_curves(
        NETWORK, video, units=units, relevance=relevance, fill=_fill(name, video, units), order=order, num_steps=999
    )
    with torch.no_grad():
        for index, clip in enumerate(video):
            fill = _fill(name, clip[None], units)
            expected = _naive_curve(NETWORK, clip, units, relevance[index].tolist(), fill, order == "morf")
            torch.testing.assert_close(curves[index], torch.stack(expected))


@pytest.mark.parametrize("kind", DIVISIONS)
def test_fewer_steps_are_points_of_the_full_curve(kind: str) -> None:
    video, units = _video(), DIVISIONS[kind]
    relevance, fill = _relevance(units), _fill("blur", video, units)
    full = perturbation_curves(NETWORK, video, units=units, relevance=relevance, fill=fill, num_steps=units.count)
    for num_steps in (1, 2, 3, units.count - 1):
        few = perturbation_curves(NETWORK, video, units=units, relevance=relevance, fill=fill, num_steps=num_steps)
        torch.testing.assert_close(few, full[:, removal_steps(units.count, num_steps)])


@given(count=st.integers(1, 900), num_steps=st.integers(1, 1000))
def test_steps_rise_from_no_unit_to_all_and_are_as_even_as_can_be(count: int, num_steps: int) -> None:
    steps = removal_steps(count, num_steps)
    assert len(steps) == min(num_steps, count) + 1
    assert (steps[0], steps[-1]) == (0, count)
    gaps = steps.diff()
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


@given(seed=st.integers(0, 999), values=st.integers(1, 5))
def test_taking_the_least_first_is_taking_the_most_first_of_the_opposite_also_where_units_are_equal(
    seed: int, values: int
) -> None:
    relevance = torch.randint(-values, values, (4, 12), generator=_generator(seed)).float()
    assert torch.equal(rank_units(-relevance, order="morf"), rank_units(relevance, order="lerf"))
    for row, rank in zip(relevance.tolist(), rank_units(relevance), strict=True):
        expected = sorted(range(12), key=lambda unit: (-row[unit], unit))  # of equals the lower number first
        assert rank.argsort().tolist() == expected


@examples(max_examples=20)
@given(seed=st.integers(0, 99), kind=st.sampled_from(list(DIVISIONS)), name=st.sampled_from(["blur", "noise"]))
def test_all_orders_begin_with_the_clip_and_end_where_nothing_is_left(seed: int, kind: str, name: str) -> None:
    video, units = _video(2), DIVISIONS[kind]
    relevance = torch.randn(2, units.count, generator=_generator(seed))
    fill = _fill(name, video, units)
    removed = torch.ones(1, 2, *CLIP, dtype=torch.bool)
    with torch.no_grad():
        first, last = NETWORK(video), NETWORK(fill(removed)[0])
    morf, lerf = perturbation_curves(
        NETWORK, video, units=units, relevance=torch.stack([relevance, -relevance]), fill=fill, num_steps=3
    )
    for curves in (morf, lerf):
        torch.testing.assert_close(curves[:, 0], first)
        torch.testing.assert_close(curves[:, -1], last)
    # What one order takes away first the other takes away last: without ties, insertion is deletion backwards.
    kept = perturbation_curves(
        NETWORK, video, units=units, relevance=relevance, fill=fill, order="lerf", num_steps=units.count
    )
    versions = rank_units(relevance)[:, None] < torch.arange(units.count + 1)[:, None]  # [B, P, U]: inserted
    for inserted in range(units.count + 1):
        away = ~versions[:, inserted][:, units.number][None]
        with torch.no_grad():
            expected = NETWORK(torch.where(away[0][:, None], fill(away)[0], video))
        torch.testing.assert_close(kept.flip(1)[:, inserted], expected)


def test_in_a_linear_model_each_unit_takes_exactly_what_it_gives() -> None:
    """f(x) = Σ w x, fill 0: R = w x, and after k units f has lost the k largest R_u."""
    video, units = _video(), DIVISIONS["tubes"]
    weight = torch.randn(2, *CLIP, dtype=torch.float64, generator=_generator(5))
    relevance = sum_by_unit((weight * video).sum(1), units)
    fill = build_fill("dataset_mean", video, units=units, mean=torch.tensor(0.0))
    settings: dict[str, Any] = {"units": units, "relevance": relevance, "fill": fill, "num_steps": units.count}

    def score(clips: Tensor) -> Tensor:
        return (weight * clips).sum((1, 2, 3, 4))

    morf = perturbation_curves(score, video, **settings)
    lerf = perturbation_curves(score, video, order="lerf", **settings)
    most = relevance.sort(dim=1, descending=True).values.cumsum(dim=1)
    least = relevance.sort(dim=1).values.cumsum(dim=1)
    total = relevance.sum(1, keepdim=True)
    torch.testing.assert_close(morf, torch.cat([total, total - most], dim=1))
    torch.testing.assert_close(lerf, torch.cat([total, total - least], dim=1))
    torch.testing.assert_close(aopc(morf), most.sum(1) / (units.count + 1))
    torch.testing.assert_close(abpc(lerf, morf), (most - least).sum(1) / (units.count + 1))
    # No order does better than the true one, none worse than its opposite.
    others = perturbation_curves(
        score, video, **settings | {"relevance": random_orders(20, 3, units, generator=_generator(6)).double()}
    )
    assert (aopc(others) <= aopc(morf)).all()
    assert (aopc(others) >= aopc(lerf)).all()


@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 2), min_size=2, max_size=9))
def test_areas_are_their_formulas(points: list[tuple[float, float]]) -> None:
    lerf, morf = torch.tensor(points, dtype=torch.float64).T
    length = len(points)  # L + 1
    assert float(aopc(morf)) == pytest.approx(sum(points[0][1] - value for _, value in points) / length)
    assert float(abpc(lerf, morf)) == pytest.approx(sum(one - other for one, other in points) / length)
    assert float(abpc(morf, lerf)) == pytest.approx(-float(abpc(lerf, morf)))
    begun = lerf - lerf[0] + morf[0]  # curves that begin alike
    assert float(abpc(begun, morf)) == pytest.approx(float(aopc(morf) - aopc(begun)), abs=1e-9)
    trapezoids = sum((points[i][0] + points[i + 1][0]) / 2 for i in range(length - 1)) / (length - 1)
    assert float(area(lerf)) == pytest.approx(trapezoids)
    assert float(area(lerf.flip(0))) == pytest.approx(trapezoids)


def test_area_goes_by_the_share_of_units_where_steps_are_uneven() -> None:
    steps = removal_steps(7, 3)  # 0, 2, 5, 7
    assert steps.tolist() == [0, 2, 5, 7]
    assert float(area(1 - steps / 7, steps=steps)) == pytest.approx(0.5)
    assert float(area(torch.tensor([1.0, 1.0, 0.0, 0.0]), steps=steps)) == pytest.approx(3.5 / 7)
    assert area(torch.ones(2, 3, 4), steps=steps).tolist() == [[1.0] * 3] * 2


def test_one_pass_gives_logits_and_probabilities() -> None:
    video, units = _video(), DIVISIONS["tubes"]
    target = torch.tensor([2, 0, 1])
    calls: list[int] = []

    def logits(clips: Tensor) -> Tensor:
        calls.append(len(clips))
        scores: Tensor = NETWORK(clips)
        return scores

    def probability(clips: Tensor) -> Tensor:
        chosen = target.repeat(len(clips) // len(target))  # row n is of clip n mod B
        found: Tensor = NETWORK(clips).softmax(1)[torch.arange(len(clips)), chosen]
        return found

    settings: dict[str, Any] = {"units": units, "relevance": _relevance(units, 4), "num_steps": 5}
    settings["fill"] = _fill("noise", video, units)
    curves = perturbation_curves(logits, video, **settings, clips_per_call=7)
    assert curves.shape == (4, 3, 6, 3)
    # Two versions of three clips at a time; both ends once for the four orders.
    assert sum(calls) == 3 * (2 + 4 * 4)
    assert set(calls) == {6}
    torch.testing.assert_close(
        of_class(curves.softmax(-1), target), perturbation_curves(probability, video, **settings)
    )
    assert torch.equal(of_class(curves, target)[1, 2], curves[1, 2, :, 1])


@pytest.mark.parametrize(
    ("kind", "name"),
    [("tubes", "noise"), ("columns", "temporal_mean"), ("frames", "freeze"), ("frames", "mean_frame")],
)
def test_a_clip_does_not_depend_on_its_batch_nor_on_the_size_of_a_call(kind: str, name: str) -> None:
    video, units = _video(), DIVISIONS[kind]
    relevance = _relevance(units, 2)
    before = video.clone(), relevance.clone(), units.number.clone()
    settings: dict[str, Any] = {"units": units, "num_steps": 4}
    together = perturbation_curves(
        NETWORK, video, relevance=relevance, fill=_fill(name, video, units), clips_per_call=9, **settings
    )
    for index in range(3):
        alone = perturbation_curves(
            NETWORK,
            video[[index]],
            relevance=relevance[:, [index]],
            fill=_fill(name, video[[index]], units),
            clips_per_call=1,
            **settings,
        )
        torch.testing.assert_close(alone[:, 0], together[:, index])
    for tensor, copy in zip((video, relevance, units.number), before, strict=True):
        assert torch.equal(tensor, copy)


def test_a_prepared_fill_serves_every_call_and_nothing_is_kept_for_a_gradient() -> None:
    video, units = _video(), DIVISIONS["frames"]
    fill, relevance = _fill("freeze", video, units), _relevance(units, 2, 3)
    at_once = perturbation_curves(NETWORK, video.requires_grad_(), units=units, relevance=relevance, fill=fill)
    one_by_one = [
        perturbation_curves(NETWORK, video, units=units, relevance=row, fill=fill) for row in relevance.flatten(0, 1)
    ]
    torch.testing.assert_close(at_once.flatten(0, 1), torch.stack(one_by_one))
    assert at_once.shape == (2, 3, 3, 6, 3)
    assert not at_once.requires_grad


def test_random_orders_are_drawn_from_the_generator_and_know_nothing() -> None:
    units = frames((8, 4, 4))
    orders = random_orders(500, 2, units, generator=_generator())
    assert torch.equal(orders, random_orders(500, 2, units, generator=_generator()))
    share = rank_units(orders).float().mean(dim=(0, 1))  # each frame's mean turn
    assert (share - 3.5).abs().max() < 0.3


def test_no_clip_is_no_curve() -> None:
    units = DIVISIONS["frames"]
    video = _video()[:0]
    fill = _fill("blur", video, units)
    curves = perturbation_curves(NETWORK, video, units=units, relevance=torch.zeros(0, 5), fill=fill)
    assert curves.shape == (0, 6, 3)


class _Double(nn.Module):
    """Take Quantus's float32 as float64."""

    def forward(self, video: Tensor) -> Tensor:
        return video.double()


def _quantus_curve(
    network: nn.Module, video: Tensor, target: Tensor, relevance: Tensor, num_voxels: int, replacement: Tensor | None
) -> Tensor:
    """Let Quantus flip so many voxels a step, colours apart, to 0 or to their replacement."""
    with warnings.catch_warnings():  # what it imports may warn
        warnings.simplefilter("ignore")
        quantus = pytest.importorskip("quantus", reason="`make install` brings Quantus")

    def replace(arr: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
        assert replacement is not None
        changed = arr.copy()
        values = np.take_along_axis(replacement.flatten(1).numpy(), indices, axis=1)
        np.put_along_axis(changed, indices, values, axis=1)
        return changed

    metric = quantus.PixelFlipping(
        features_in_step=num_voxels,
        normalise=False,
        disable_warnings=True,
        **({"perturb_baseline": 0.0} if replacement is None else {"perturb_func": replace}),
    )
    curve = metric(
        model=nn.Sequential(_Double(), network).eval(),
        x_batch=video.numpy(),
        y_batch=target.numpy(),
        a_batch=relevance.numpy(),
        channel_first=True,
        softmax=False,
        device="cpu",
    )
    return torch.tensor(np.array(curve))


@pytest.mark.parametrize(
    ("units", "units_per_step", "name"),
    [
        (frames((4, 6, 6)), 1, "blur"),
        (columns((4, 6, 6), size=(3, 3)), 1, "noise"),
        (tubes((4, 6, 6), size=(2, 3, 3)), 1, "zero"),
        (tubes((4, 6, 6), size=(2, 3, 3)), 2, "spatial_blur"),
    ],
    ids=["frames", "columns", "tubes", "two tubes a step"],
)
def test_curves_are_those_of_quantus(units: Units, units_per_step: int, name: str) -> None:
    network, target = _network(units.clip), torch.tensor([2, 0, 1])
    video = torch.rand(3, 2, *units.clip, dtype=torch.float64, generator=_generator())
    relevance = _relevance(units)
    if name == "zero":
        fill, replacement = build_fill("dataset_mean", video, units=units, mean=torch.tensor(0.0)), None
    else:
        fill = _fill(name, video, units)
        replacement = fill(torch.ones(1, 3, *units.clip, dtype=torch.bool))[0]
    voxels = relevance[..., units.number][:, None].expand_as(video)
    num_voxels = units_per_step * video[0].numel() // units.count
    expected = _quantus_curve(network, video, target, voxels, num_voxels, replacement)
    curves = perturbation_curves(
        network, video, units=units, relevance=relevance, fill=fill, num_steps=units.count // units_per_step
    )
    # Quantus leaves out the clip itself.
    torch.testing.assert_close(of_class(curves, target)[:, 1:], expected, rtol=1e-6, atol=1e-6)


def _run(**changed: Any) -> Tensor:
    video, units = _video(), DIVISIONS["frames"]
    settings = {"units": units, "relevance": _relevance(units), "fill": _fill("blur", video, units)} | changed
    return perturbation_curves(settings.pop("score", NETWORK), video, **settings)


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ({"num_steps": 0}, ConfigError, "a perturbation curve has one step or more, got num_steps = 0"),
        ({"clips_per_call": 0}, ConfigError, "a call scores one clip or more, got clips_per_call = 0"),
        ({"relevance": torch.zeros(3, 4)}, ConfigError, "expected relevance of 3 clips and 5 frames, got (3, 4)"),
        ({"units": frames((4, 7, 6))}, ConfigError, "these frames divide clips of (4, 7, 6)"),
        ({"score": lambda clips: clips.sum()}, ConfigError, "a score of 6 clips has as many rows"),
        ({"score": lambda clips: clips[:, :, 0]}, ConfigError, "a score of 6 clips has as many rows"),
        (
            {"relevance": torch.full((3, 5), torch.nan)},
            ExplanationError,
            "relevance of frames holds values that are not",
        ),
        (
            {"relevance": torch.full((3, 5), torch.inf)},
            ExplanationError,
            "relevance of frames holds values that are not",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(
    changed: dict[str, Any], kind: type[VidactError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        _run(**changed)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "clip", "sizes"),
    [
        ("tubes", (8, 20, 20), {200}),
        ("tubes", (1, 4, 5), {20}),
        ("frames", (3, 4, 5), {20}),
        ("columns", (3, 20, 20), {300}),
        ("columns", (3, 4, 5), {60}),
    ],
)
def test_clips_are_divided_into_units_that_are_no_larger_than_they(
    name: str, clip: tuple[int, int, int], sizes: set[int]
) -> None:
    units = build_units(name, torch.zeros(2, 1, *clip))
    assert units.name == name
    assert set(torch.bincount(units.number.flatten()).tolist()) == sizes
