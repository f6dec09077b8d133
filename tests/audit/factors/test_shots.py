from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vidact.audit.factors.clips import Clips
from vidact.audit.factors.shots import OffShot, find_cut
from vidact.data.synthetic.clips import DEMO, render_clip
from vidact.data.synthetic.confounders import Confounder


def _cut_clips(*cuts: int, seed: int = 0, channels: int = 3, masked: bool = True, frames: int = 12) -> Clips:
    """Dark noise with an actor, then bright noise without."""
    generator = torch.Generator().manual_seed(seed)
    video = torch.rand(len(cuts), channels, frames, 7, 9, generator=generator) / 3
    mask = torch.zeros(len(cuts), frames, 7, 9, dtype=torch.bool)
    for row, cut in enumerate(cuts):
        video[row, :, cut:] = 1 - video[row, :, [cut]] + torch.linspace(0, 0.01, frames - cut)[:, None, None]
        mask[row, :cut, 2:4, 2:5] = True
    return Clips(video.clamp(0, 1), mask if masked else None)


@pytest.mark.parametrize("kind", ["shot", "cut", "flicker", "drift", None])
def test_cuts_are_found_and_motion_is_none(kind: Confounder | None) -> None:
    for label in ("left", "clockwise"):
        for source in range(4):
            clip = render_clip(label, source=source, settings=replace(DEMO, confounder=kind, size=(48, 56)))
            video = torch.tensor(clip.video).permute(3, 0, 1, 2) / 255
            assert find_cut(video) == clip.truth.get("cut_frame")


def test_the_largest_of_two_cuts_is_found() -> None:
    video = torch.zeros(1, 9, 4, 4)
    video[:, 3:, :2] = 1
    video[:, 6:] = 0.5
    assert find_cut(video) == 6


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_ones_own_off_shot_changes_nothing(channels: int, masked: bool) -> None:
    clips = _cut_clips(4, 9, channels=channels, masked=masked)
    assert torch.equal(OffShot().exchange(clips, clips), clips.video)


def test_the_off_shot_is_that_of_the_donor() -> None:
    """A longer shot is sampled evenly, a shorter one is looped; a batch is treated as its clips."""
    clips, donors = _cut_clips(8, 4), _cut_clips(4, 8, seed=1)
    found = OffShot().exchange(clips, donors)
    assert torch.equal(found[0, :, :8], clips.video[0, :, :8])
    assert torch.equal(found[0, :, 8:], donors.video[0, :, [5, 7, 9, 11]])
    assert torch.equal(found[1, :, :4], clips.video[1, :, :4])
    assert torch.equal(found[1, :, 4:], donors.video[1, :, [8, 9, 10, 11] * 2])
    assert torch.equal(OffShot().exchange(clips[[1]], donors[[1]]), found[[1]])
    assert torch.equal(OffShot().alone(clips)[0], clips.video[0, :, [8, 9, 10, 11] * 3])


def test_the_off_shot_may_come_first() -> None:
    clips = _cut_clips(5)
    back = Clips(clips.video.flip(2), _flipped(clips.mask))
    assert torch.equal(OffShot().alone(back)[0, :, 0], back.video[0, :, 0])
    assert torch.equal(OffShot().exchange(back, back), back.video)


def test_without_a_cut_there_is_no_off_shot() -> None:
    still = Clips(torch.zeros(1, 1, 1, 1, 1))
    assert find_cut(still.video[0]) is None
    with pytest.raises(ValueError, match="without"):
        OffShot().exchange(still, still)


def _flipped(mask: Tensor | None) -> Tensor:
    assert mask is not None
    return mask.flip(1)
