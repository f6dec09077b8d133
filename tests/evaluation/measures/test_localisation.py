from collections.abc import Callable, Iterator
from itertools import permutations

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantus_measures import quantus_score
from sklearn.metrics import roc_auc_score
from torch import Tensor

from vidact.core.errors import VidactError
from vidact.evaluation.measures.localisation import (
    auroc,
    chance,
    lift,
    over_space,
    over_time,
    pointing_game,
    relevance_mass,
    relevance_rank,
)

MEASURES = {
    "relevance_mass": relevance_mass,
    "relevance_rank": relevance_rank,
    "pointing_game": pointing_game,
    "auroc": auroc,
}
SHAPES = ((4, 5, 6), (7,), (5, 6))  # of space and time, of time, of space


def _made(
    seed: int = 0, *, clips: int = 4, shape: tuple[int, ...] = (4, 5, 6), levels: int = 0
) -> tuple[Tensor, Tensor]:
    """Draw maps and masks; of a few levels, so that voxels tie."""
    generator = torch.Generator().manual_seed(seed)
    relevance = torch.randn(clips, *shape, generator=generator)
    if levels:
        relevance = (relevance * levels / 2).round()
    mask = torch.rand(clips, *shape, generator=generator) < 0.3
    mask.view(clips, -1)[:, 0], mask.view(clips, -1)[:, -1] = True, False  # neither empty nor full
    return relevance, mask


def _naive_mass(values: list[float], inside: list[bool]) -> float:
    total = sum(value for value in values if value > 0)
    return sum(v for v, m in zip(values, inside, strict=True) if m and v > 0) / total if total else float("nan")


def _naive_auroc(values: list[float], inside: list[bool]) -> float:
    """Compare every voxel inside with every one outside."""
    ours = [value for value, m in zip(values, inside, strict=True) if m]
    others = [value for value, m in zip(values, inside, strict=True) if not m]
    wins = sum((a > b) + (a == b) / 2 for a in ours for b in others)
    return wins / (len(ours) * len(others))


def _by_all_orders(values: list[float], inside: list[bool], count: int) -> float:
    """Share of the `count` first voxels that lie inside, averaged over all orders of voxels that tie."""
    found = []
    for shuffled in permutations(range(len(values))):
        order = sorted(shuffled, key=lambda voxel: -values[voxel])
        found.append(sum(inside[voxel] for voxel in order[:count]) / count)
    return sum(found) / len(found)


def _naive_rank(values: list[float], inside: list[bool]) -> float:
    return _by_all_orders(values, inside, sum(inside))


def _naive_pointing(values: list[float], inside: list[bool]) -> float:
    return _by_all_orders(values, inside, 1)


NAIVE: dict[str, Callable[[list[float], list[bool]], float]] = {
    "relevance_mass": _naive_mass,
    "relevance_rank": _naive_rank,
    "pointing_game": _naive_pointing,
    "auroc": _naive_auroc,
}


@pytest.mark.parametrize("name", MEASURES)
@given(st.integers(0, 10_000), st.sampled_from([0, 1, 3]))
@settings(max_examples=25, deadline=None)
def test_a_measure_is_what_its_paper_says_also_where_voxels_tie(name: str, seed: int, levels: int) -> None:
    relevance, mask = _made(seed, clips=3, shape=(6,), levels=levels)
    found = MEASURES[name](relevance, mask)
    for row in range(3):
        expected = NAIVE[name](relevance[row].double().tolist(), mask[row].tolist())
        assert float(found[row]) == pytest.approx(expected, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("levels", [0, 4])
def test_the_area_under_the_curve_is_that_of_scikit_learn(levels: int) -> None:
    relevance, mask = _made(clips=5, levels=levels)
    expected = [
        roc_auc_score(inside.flatten().numpy(), values.flatten().numpy())
        for values, inside in zip(relevance, mask, strict=True)
    ]
    torch.testing.assert_close(auroc(relevance, mask), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("measure", "theirs"),
    [
        (relevance_mass, "RelevanceMassAccuracy"),
        (relevance_rank, "RelevanceRankAccuracy"),
        (pointing_game, "PointingGame"),
        (auroc, "AUC"),
    ],
)
def test_it_is_what_quantus_gives_where_no_voxels_tie(measure: Callable[..., Tensor], theirs: str) -> None:
    relevance, mask = _made(3, clips=6)
    if measure is relevance_mass:
        relevance = relevance.clamp(min=0)  # theirs adds up signed values
    torch.testing.assert_close(measure(relevance, mask), quantus_score(theirs, relevance, mask))


@pytest.mark.parametrize("name", MEASURES)
def test_the_truth_scores_1_and_its_opposite_0(name: str) -> None:
    for shape in SHAPES:
        _, mask = _made(shape=shape, clips=3)
        torch.testing.assert_close(MEASURES[name](mask.float(), mask), torch.ones(3, dtype=torch.float64))
        few = torch.zeros_like(mask)  # at most half of the voxels, else the opposite could not fill as many places
        few[:, 0] = True
        torch.testing.assert_close(MEASURES[name]((~few).float(), few), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("name", MEASURES)
def test_a_constant_map_scores_exactly_chance(name: str) -> None:
    _, mask = _made()
    expected = torch.full((4,), 0.5, dtype=torch.float64) if name == "auroc" else chance(mask)
    torch.testing.assert_close(MEASURES[name](torch.full_like(mask, 0.7, dtype=torch.float32), mask), expected)


@pytest.mark.parametrize("name", MEASURES)
def test_random_maps_score_chance_on_average(name: str) -> None:
    _, mask = _made(clips=1)
    relevance, _ = _made(1, clips=3000)
    found = MEASURES[name](relevance, mask.expand(3000, -1, -1, -1))
    expected = 0.5 if name == "auroc" else float(chance(mask))
    assert float(found.mean()) == pytest.approx(expected, abs=4 * float(found.std()) / 3000**0.5)


@pytest.mark.parametrize("name", [*MEASURES, "lift"])
@given(st.integers(0, 10_000), st.floats(1e-30, 1e30), st.sampled_from([0, 2]))
@settings(max_examples=25, deadline=None)
def test_the_unit_of_relevance_does_not_matter(name: str, seed: int, factor: float, levels: int) -> None:
    measure = {**MEASURES, "lift": lift}[name]
    relevance, mask = _made(seed, levels=levels)
    relevance = relevance.double()
    torch.testing.assert_close(measure(relevance * factor, mask), measure(relevance, mask), equal_nan=True)


@given(st.integers(0, 10_000), st.sampled_from([0, 2]))
@settings(max_examples=25, deadline=None)
def test_a_mask_and_its_complement_share_what_there_is(seed: int, levels: int) -> None:
    relevance, mask = _made(seed, levels=levels)
    one = torch.ones(4, dtype=torch.float64)
    for measure in (relevance_mass, pointing_game, auroc):
        torch.testing.assert_close(measure(relevance, mask) + measure(relevance, ~mask), one)
    torch.testing.assert_close(auroc(-relevance, mask), 1 - auroc(relevance, mask))
    torch.testing.assert_close(chance(mask) + chance(~mask), one)


@pytest.mark.parametrize("name", MEASURES)
def test_a_clips_score_is_the_same_in_any_batch_and_any_order_of_voxels(name: str) -> None:
    relevance, mask = _made(levels=3)
    together = MEASURES[name](relevance, mask)
    alone = torch.cat([MEASURES[name](relevance[row : row + 1], mask[row : row + 1]) for row in range(4)])
    torch.testing.assert_close(alone, together)
    order = torch.randperm(mask[0].numel(), generator=torch.Generator().manual_seed(0))
    turned = MEASURES[name](relevance.flatten(1)[:, order], mask.flatten(1)[:, order])
    torch.testing.assert_close(turned, together)
    assert MEASURES[name](relevance[:0], mask[:0]).shape == (0,)


@pytest.mark.parametrize("name", [*MEASURES, "lift"])
def test_where_the_mask_is_empty_or_full_nothing_is_said(name: str) -> None:
    relevance, mask = _made()
    mask[1], mask[2] = True, False
    found = {**MEASURES, "lift": lift}[name](relevance, mask)
    assert found.isnan().tolist() == [False, True, True, False]


def test_where_no_relevance_is_positive_no_share_of_it_is_given() -> None:
    relevance, mask = _made()
    relevance[2] = -relevance[2].abs()
    relevance[3] = 0
    for measure in (relevance_mass, lift):
        assert measure(relevance, mask).isnan().tolist() == [False, False, True, True]
    for measure in (relevance_rank, pointing_game, auroc):
        assert torch.isfinite(measure(relevance, mask)).all()


def test_lift_is_the_share_over_the_share_of_voxels() -> None:
    relevance, mask = _made()
    torch.testing.assert_close(lift(relevance, mask), relevance_mass(relevance, mask) / mask.double().mean((1, 2, 3)))


def test_many_small_values_are_added_up_to_their_last_digits() -> None:
    relevance = torch.full((1, 16, 100, 100), 1e-8)
    relevance[0, 0, 0, 0] = 1
    mask = torch.ones(1, 16, 100, 100, dtype=torch.bool)
    mask[0, 0, 0, 0] = False
    share = 159_999 * 1e-8
    assert float(relevance_mass(relevance, mask)) == pytest.approx(share / (1 + share), rel=1e-6)


def test_over_time_and_over_space_add_up_relevance_and_join_masks() -> None:
    relevance, mask = _made()
    mask[0, 2] = False
    frames, pixels = over_time(relevance), over_space(relevance)
    for clip in range(4):
        for frame in range(4):
            assert float(frames[clip, frame]) == pytest.approx(float(relevance[clip, frame].sum()), abs=1e-5)
            assert bool(over_time(mask)[clip, frame]) == (int(mask[clip, frame].sum()) > 0)
    torch.testing.assert_close(pixels, relevance.sum(dim=1))
    assert torch.equal(over_space(mask), mask.sum(dim=1) > 0)
    assert not bool(over_time(mask)[0, 2])


def test_sums_that_are_but_rounding_are_zero_and_small_ones_stay() -> None:
    relevance = torch.zeros(2, 3, 1, 2)
    relevance[0, :, 0, 0] = torch.tensor([0.1, 0.2, -0.3])  # -0.3 is not the sum of the others in float32
    relevance[1, :, 0, 0] = torch.tensor([1.0, -1.0, 1e-4])
    assert float(relevance[0].double().sum()) != 0
    assert over_space(relevance)[:, 0, 0].tolist() == [0, pytest.approx(1e-4)]
    turned = relevance.transpose(1, 3)  # the same values in one frame
    assert over_time(turned)[:, 0].tolist() == [0, pytest.approx(1e-4)]


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """What users have: no shape is checked."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


RELEVANCE, MASK = _made()


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("relevance", "mask", "message"),
    [
        (RELEVANCE, MASK[:, :3], r"expected a mask of shape \[4, 4, 5, 6\], as the map, got \[4, 3, 5, 6\]"),
        (RELEVANCE, MASK.float(), r"expected a boolean mask, got torch.float32"),
        (RELEVANCE.long(), MASK, r"expected relevance as floating point, got torch.int64"),
        (RELEVANCE / 0, MASK, r"values that are not finite"),
        (RELEVANCE[:, :0], MASK[:, :0], r"expected maps of shape \[clips, …\] with voxels, got shape \[4, 0, 5, 6\]"),
        (RELEVANCE.flatten(), MASK.flatten(), r"got shape \[480\]"),
        (RELEVANCE, MASK.to("meta"), r"expected a mask on cpu, as the map, got meta"),
    ],
)
def test_maps_and_masks_that_do_not_fit_are_refused_in_one_line(relevance: Tensor, mask: Tensor, message: str) -> None:
    for measure in (*MEASURES.values(), lift):
        with pytest.raises(VidactError, match=message) as found:
            measure(relevance, mask)
        assert "\n" not in str(found.value)
