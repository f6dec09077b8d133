from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vidact.core.errors import ConfigError
from vidact.evaluation.measures.units import Units, columns, frames, sum_by_unit, tubes

CLIP = (5, 7, 6)
DIVISIONS = {
    "tubes": tubes(CLIP, size=(2, 3, 4)),
    "frames": frames(CLIP),
    "columns": columns(CLIP, size=(3, 2)),
    "single voxels": tubes(CLIP, size=(1, 1, 1)),
    "the whole clip": tubes(CLIP, size=CLIP),
}


def _naive_boxes(clip: tuple[int, int, int], size: tuple[int, int, int]) -> list[set[tuple[int, int, int]]]:
    starts = product(*(range(0, whole, part) for whole, part in zip(clip, size, strict=True)))
    return [
        set(product(*(range(at, min(at + part, whole)) for at, part, whole in zip(start, size, clip, strict=True))))
        for start in starts
    ]


def _voxels(units: Units) -> list[set[tuple[int, int, int]]]:
    return [set(map(tuple, (units.number == unit).nonzero().tolist())) for unit in range(units.count)]


@pytest.mark.parametrize(
    ("name", "size"), [("tubes", (2, 3, 4)), ("frames", (1, 7, 6)), ("columns", (5, 3, 2)), ("the whole clip", CLIP)]
)
def test_units_are_boxes_side_by_side_and_smaller_at_the_far_edges(name: str, size: tuple[int, int, int]) -> None:
    assert _voxels(DIVISIONS[name]) == _naive_boxes(CLIP, size)


def test_the_reports_clips_have_800_tubes_16_frames_and_100_columns() -> None:
    clip = (16, 100, 100)
    assert (tubes(clip).count, frames(clip).count, columns(clip).count) == (800, 16, 100)
    assert [tubes(clip).name, frames(clip).name, columns(clip).name] == ["tubes", "frames", "columns"]


@pytest.mark.parametrize("name", DIVISIONS)
def test_sums_are_those_of_a_loop(name: str) -> None:
    units = DIVISIONS[name]
    values = torch.randn(3, *CLIP, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sums = sum_by_unit(values, units)
    expected = [[float(clip[units.number == unit].sum()) for unit in range(units.count)] for clip in values]
    torch.testing.assert_close(sums, torch.tensor(expected, dtype=torch.float64))


@given(
    clip=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    part=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 99),
)
def test_every_voxel_has_one_unit_and_nothing_is_lost(
    clip: tuple[int, int, int], part: tuple[int, int, int], seed: int
) -> None:
    units = tubes(clip, size=tuple(min(pair) for pair in zip(part, clip, strict=True)))  # type: ignore[arg-type]
    assert sorted(units.number.unique().tolist()) == list(range(units.count))
    # Of one sign: a unit whose values cancel counts as 0, as `without_rounding` says.
    values = torch.rand(2, *clip, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(sum_by_unit(values, units).sum(1), values.sum((1, 2, 3)))


def test_sums_take_any_shape_in_front_and_keep_the_type() -> None:
    units = DIVISIONS["tubes"]
    values = torch.randn(2, 3, 4, *CLIP)
    sums = sum_by_unit(values, units)
    assert (sums.shape, sums.dtype) == ((2, 3, 4, units.count), torch.float32)
    torch.testing.assert_close(sums[1, 2], sum_by_unit(values[1, 2], units))


def test_small_values_beside_large_ones_are_not_lost() -> None:
    values = torch.full((1, 4, 64, 64), 1e-3)
    values[0, 0, 0, 0] = 2.0**24
    total: Tensor = sum_by_unit(values, tubes((4, 64, 64), size=(4, 64, 64)))
    assert float(total) == pytest.approx(2**24 + 1e-3 * (4 * 64 * 64 - 1), abs=1)


@pytest.mark.parametrize("size", [(6, 3, 4), (2, 3, 7), (2, -1, 4)])
def test_tubes_larger_than_the_clip_or_of_no_voxel_are_refused(size: tuple[int, int, int]) -> None:
    with pytest.raises(
        ConfigError, match=r"^tubes are at least one voxel and no larger than the clip.*got \("
    ) as caught:
        tubes(CLIP, size=size)
    assert "\n" not in str(caught.value)


def test_columns_larger_than_the_frame_and_clips_of_no_frame_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"columns are .* got \(5, 8, 2\) for a clip of \(5, 7, 6\)"):
        columns(CLIP, size=(8, 2))
    with pytest.raises(ConfigError, match="frames are"):
        frames((0, 7, 6))


def test_values_of_another_size_than_the_units_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"these frames divide clips of \(5, 7, 6\).*got \(5, 6, 7\)"):
        sum_by_unit(torch.zeros(2, 5, 6, 7), frames(CLIP))
