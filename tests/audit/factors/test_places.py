import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation
from torch import Tensor

from vidact.audit.actors.moving import MOVING_SHARE, moving_region
from vidact.audit.factors.clips import Clips, dilate, with_plate
from vidact.audit.factors.places import GRID, NUM_PARTS, Background, Border, Cell, Factor, Time

FACTORS: list[Factor] = [Background(), Background(dilation=0), Cell(0, 3), Cell(2, 1), Time(0), Time(7), Border()]


def _clips(seed: int, *, frames: int = 9, height: int = 14, width: int = 17) -> Clips:
    """Still scenes with a square actor that moves to the right."""
    generator = torch.Generator().manual_seed(seed)
    scene = torch.rand(2, 3, 1, height, width, generator=generator)
    video, mask = scene.repeat(1, 1, frames, 1, 1), torch.zeros(2, frames, height, width, dtype=torch.bool)
    for frame in range(frames):
        mask[:, frame, 5:9, frame : frame + 3] = True
    video = torch.where(mask[:, None], torch.rand(2, 3, 1, 1, 1, generator=generator), video)
    return with_plate(video, mask)


@pytest.mark.parametrize("factor", FACTORS, ids=str)
def test_to_get_ones_own_part_changes_nothing(factor: Factor) -> None:
    clips = _clips(0)
    assert (factor.exchange(clips, clips) - clips.video).abs().max() <= 1 / 255


@pytest.mark.parametrize("factor", FACTORS, ids=str)
def test_what_does_not_belong_to_the_part_stays(factor: Factor) -> None:
    """Two donors differ only inside the part, and outside of it the clip is as it was."""
    clips, first, second = _clips(0), _clips(1), _clips(2)
    one, other = factor.exchange(clips, first), factor.exchange(clips, second)
    inside = one != other
    assert inside.any()
    assert torch.equal(one[~inside], clips.video[~inside])


def test_the_plate_is_the_scene_without_the_actor() -> None:
    clips = _clips(3)
    assert clips.plate is not None
    assert torch.equal(clips.plate, _scene(3))


def _scene(seed: int) -> Tensor:
    return torch.rand(2, 3, 1, 14, 17, generator=torch.Generator().manual_seed(seed))[:, :, 0]


def test_what_is_always_hidden_gets_the_nearest_colour() -> None:
    video = torch.full((1, 1, 3, 9, 9), 0.25)
    video[..., 5:] = 0.75
    mask = torch.zeros(1, 3, 9, 9, dtype=torch.bool)
    mask[:, :, 3:6, :3] = True
    plate = with_plate(video, mask, dilation=1).plate
    assert plate is not None
    assert torch.equal(plate, video[:, :, 0])


def test_a_clip_that_is_all_actor_has_its_mean_for_a_plate() -> None:
    video = torch.rand(1, 2, 4, 6, 6)
    plate = with_plate(video, torch.ones(1, 4, 6, 6, dtype=torch.bool)).plate
    torch.testing.assert_close(plate, video.mean(dim=2))


@given(st.integers(1, 40), st.integers(4, 40), st.integers(4, 40))
def test_parts_cover_the_clip_once(frames: int, height: int, width: int) -> None:
    zeros, ones = Clips(torch.zeros(1, 1, frames, height, width)), Clips(torch.ones(1, 1, frames, height, width))
    cells = sum(Cell(row, column).exchange(zeros, ones) for row in range(GRID) for column in range(GRID))
    assert torch.equal(torch.as_tensor(cells), ones.video)
    times = sum(Time(part).exchange(zeros, ones) for part in range(NUM_PARTS))
    assert torch.as_tensor(times).min() >= 1
    assert frames < NUM_PARTS or torch.equal(torch.as_tensor(times), ones.video)


def test_the_moving_region_is_where_something_moves() -> None:
    video = torch.full((2, 1, 8, 40, 40), 0.5)
    for frame in range(8):
        video[0, :, frame, 10:20, 2 * frame : 2 * frame + 8] = 1.0
    found = moving_region(video)
    share = found[0].float().mean()
    assert 0 < share <= MOVING_SHARE + 0.01
    assert found[0, :, 5:25].sum() == found[0].sum()
    assert not found[1].any(), "nothing moves there"


@given(st.integers(0, 9), st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_a_mask_grows_as_by_scipys_dilation(pixels: int, height: int, width: int, seed: int) -> None:
    mask = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed)) < 0.1
    square = np.ones((1, 1, 2 * pixels + 1, 2 * pixels + 1), bool)
    before = mask.clone()
    assert (dilate(mask, pixels).numpy() == binary_dilation(mask.numpy(), square)).all()
    assert torch.equal(mask, before)
