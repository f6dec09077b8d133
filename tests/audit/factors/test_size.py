import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from vidact.audit.factors.clips import Clips, with_plate
from vidact.audit.factors.size import Size


def _clips(*heights: int, seed: int = 0, channels: int = 3, frames: int = 4) -> Clips:
    """Still scenes of 31×25 pixels, with an actor of texture that moves to the right and stands on row 25."""
    generator = torch.Generator().manual_seed(seed)
    batch = len(heights)
    video = torch.rand(batch, channels, 1, 31, 25, generator=generator).repeat(1, 1, frames, 1, 1) / 4
    mask = torch.zeros(batch, frames, 31, 25, dtype=torch.bool)
    for row, height in enumerate(heights):
        for frame in range(frames):
            mask[row, frame, 26 - height : 26, 8 + frame : 15 + frame] = True
    actor = 0.5 + torch.rand(batch, channels, 1, 31, 25, generator=generator) / 2
    return with_plate(torch.where(mask[:, None], actor, video), mask)


@pytest.mark.parametrize("channels", [1, 3])
def test_ones_own_size_changes_nothing(channels: int) -> None:
    clips = _clips(10, 6, channels=channels)
    assert (Size().exchange(clips, clips) - clips.video).abs().max() <= 1 / 255


@pytest.mark.parametrize("height", [5, 10, 16])
def test_the_actor_is_resized_about_its_foot(height: int) -> None:
    clips, donors = _clips(10), _clips(height, seed=1)
    assert clips.plate is not None
    found = Size().exchange(clips, donors)[0].numpy()
    actor, ratio = clips.actor(2)[0, 0].numpy(), 10 / height
    for frame in range(4):
        foot = np.array([25.5, 11 + frame])
        how = {"matrix": [ratio, ratio], "offset": foot * (1 - ratio), "order": 1}
        cover = affine_transform(actor[frame].astype(float), **how, mode="grid-constant")
        for channel in range(3):
            colour = affine_transform(clips.video[0, channel, frame].double().numpy(), **how, mode="nearest")
            plate, video = clips.plate[0, channel].numpy(), clips.video[0, channel, frame].numpy()
            expected = cover * colour + (1 - cover) * np.where(actor[frame], plate, video)
            np.testing.assert_allclose(found[channel, frame], expected, atol=1e-4)


def test_donors_of_other_heights_change_the_actor_alone() -> None:
    clips = _clips(8)
    small, large = (Size().exchange(clips, _clips(height, seed=1)) for height in (6, 12))
    inside = (small != large).any(dim=1)
    assert inside.any()
    reach = torch.zeros_like(inside)
    reach[:, :, 5:30, 1:24] = True  # 26 − 1.5 · (8 + 2) rows up, and 1.5 · (3 + 2) columns to each side
    assert not (inside & ~reach).any()


def test_sizes_of_a_batch_are_those_of_its_clips() -> None:
    clips, donors = _clips(8, 12), _clips(12, 5, seed=1)
    found = Size().exchange(clips, donors)
    for row in range(2):
        torch.testing.assert_close(Size().exchange(clips[[row]], donors[[row]]), found[[row]])


@pytest.mark.parametrize("is_seen", [True, False])
def test_tiny_frames_and_unseen_actors_stay(is_seen: bool) -> None:
    clips = with_plate(torch.rand(1, 1, 1, 1, 1), torch.full((1, 1, 1, 1), fill_value=is_seen))
    torch.testing.assert_close(Size().exchange(clips, clips), clips.video)
    unseen = with_plate(torch.rand(1, 3, 4, 31, 25), torch.zeros(1, 4, 31, 25, dtype=torch.bool))
    torch.testing.assert_close(Size().exchange(_clips(8), unseen), _clips(8).video)
