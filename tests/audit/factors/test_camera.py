from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, shift

from vidact.audit.factors.camera import Camera, camera_path, is_trackable
from vidact.audit.factors.clips import Clips, with_plate
from vidact.data.synthetic.clips import DEMO, render_clip
from vidact.data.synthetic.confounders import drift_velocity

FRAMES, HEIGHT, WIDTH = 7, 33, 42


def _scene(seed: int, channels: int = 3) -> np.ndarray:
    """Smooth noise, larger than a frame."""
    noise = np.random.default_rng(seed).normal(size=(channels, HEIGHT + 40, WIDTH + 40))
    smooth = np.stack([gaussian_filter(one, 2.0) for one in noise])
    return np.asarray(0.5 + 0.1 * smooth / smooth.std())


def _clip(seed: int, velocity: tuple[float, float], *, channels: int = 3, has_actor: bool = True) -> Clips:
    """A scene that moves, and a bright square that moves otherwise."""
    scene, path = _scene(seed, channels), np.arange(FRAMES)[:, None] * velocity
    frames = [np.stack([shift(one, step, order=3) for one in scene])[:, 20:-20, 20:-20] for step in path]
    video = torch.tensor(np.stack(frames, axis=1), dtype=torch.float32)[None].clamp(0, 1)
    mask = torch.zeros(1, FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    for frame in range(FRAMES * has_actor):
        mask[:, frame, 12:20, 28 - 3 * frame : 36 - 3 * frame] = True
    return with_plate(video.masked_fill(mask[:, None], 1.0), mask)


@pytest.mark.parametrize("velocity", [(0.0, 0.0), (1.0, -2.0), (-0.4, 0.7), (2.3, 1.5)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_path_is_that_of_the_background(velocity: tuple[float, float], channels: int) -> None:
    clip = _clip(0, velocity, channels=channels)
    expected = torch.arange(FRAMES)[None, :, None] * torch.tensor(velocity)
    assert (camera_path(clip) - expected).abs().max() < 0.1 * (FRAMES - 1)  # a tenth of a pixel per frame
    assert is_trackable(clip).all()


@pytest.mark.parametrize("kind", ["all_objects", "always"])
@pytest.mark.parametrize(("label", "code"), [("left", 0), ("clockwise", 3), ("expand", 6)])
def test_the_path_of_a_synthetic_clip_is_known(label: str, code: int, kind: str) -> None:
    """Also where the mask holds only one of the moving discs."""
    settings = replace(DEMO, confounder="drift", size=(48, 56))
    rendered = render_clip(label, source=3, settings=settings, code=code)
    video = torch.tensor(rendered.video).permute(3, 0, 1, 2)[None] / 255
    clip = Clips(video, torch.tensor(rendered.masks[kind])[None])
    truth = np.rint(drift_velocity(code, size=settings.size) * np.arange(len(rendered.video))[:, None])
    assert np.abs(camera_path(clip)[0].numpy() - truth).max() < 0.5
    assert is_trackable(clip).all()


def test_what_has_no_detail_or_no_constancy_cannot_be_tracked() -> None:
    stripes = (torch.arange(WIDTH) % 8 < 4).float().expand(1, 3, FRAMES, HEIGHT, WIDTH)
    noise = torch.rand(1, 3, FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    clips = Clips(torch.cat([torch.full_like(noise, 0.3), stripes, noise]))
    assert is_trackable(clips).tolist() == [False, False, False]
    assert not camera_path(clips)[:2].any()


def test_the_clips_scene_moves_as_the_donors_does_behind_the_actor() -> None:
    clip, donor = _clip(1, (1.0, -1.0)), _clip(2, (-1.0, 0.5))
    found, actor = Camera().exchange(clip, donor), clip.actor(2).expand_as(clip.video)
    assert torch.equal(found[actor], clip.video[actor])
    expected = _clip(1, (-1.0, 0.5), has_actor=False).video
    known = ~actor & _was_seen()
    assert (found - expected)[known].abs().mean() < 0.01
    alone = Camera().alone(clip)
    assert (alone - _clip(1, (1.0, -1.0), has_actor=False).video).abs().mean() < 0.01


def test_ones_own_path_gives_the_clip_back() -> None:
    clip = _clip(3, (1.0, -2.0))
    difference = (Camera().exchange(clip, clip) - clip.video).abs()
    assert difference.mean() < 1 / 255
    still = _clip(3, (0.0, 0.0))
    assert (Camera().exchange(still, still) - still.video).abs().max() <= 1 / 255


def test_cameras_of_a_batch_are_those_of_its_clips() -> None:
    clips = Clips.join([_clip(4, (1.0, 0.0)), _clip(5, (0.0, -0.6))])
    donors = Clips.join([_clip(6, (0.3, 1.0)), _clip(7, (2.0, 0.0))])
    found = Camera().exchange(clips, donors)
    for row in range(2):
        torch.testing.assert_close(Camera().exchange(clips[[row]], donors[[row]]), found[[row]])


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (1, 3, 4, 2, 3), (2, 1, 1, 9, 9), (1, 1, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("is_actor", [True, False])
def test_tiny_clips_stay_in_range(shape: tuple[int, ...], is_actor: bool) -> None:
    clips = with_plate(torch.rand(shape), torch.full((shape[0], *shape[2:]), fill_value=is_actor))
    found = Camera().exchange(clips, clips)
    assert found.shape == clips.video.shape
    assert found.isfinite().all()
    assert not is_actor or torch.equal(found, clips.video)


def _was_seen() -> torch.Tensor:
    """Mark what some frame of the clip that moves by (1, −1) shows, and the donor's path brings into view."""
    seen = torch.zeros(FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    for frame in range(FRAMES):
        seen[frame, : HEIGHT - frame - 1, round(0.5 * frame) + 1 :] = True
    return seen
