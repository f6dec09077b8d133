import math
from itertools import product

import pytest
import torch
from torch import Tensor

from vidact.core.errors import ConfigError
from vidact.evaluation.measures.fill_ins import FILL_INS, blur_frames, build_fill, fill_ins_for
from vidact.evaluation.measures.units import Units, columns, frames, tubes

CLIP = (5, 7, 6)
DIVISIONS = {"tubes": tubes(CLIP, size=(2, 3, 4)), "frames": frames(CLIP), "columns": columns(CLIP, size=(3, 2))}
MEAN = torch.tensor([0.2, 0.7], dtype=torch.float64)[:, None, None, None]
ANY_UNITS = ("noise", "blur", "dataset_mean", "spatial_blur")
USES = {
    "tubes": (*ANY_UNITS[:3], "temporal_mean", "spatial_blur"),
    "frames": (*ANY_UNITS, "freeze", "mean_frame"),
    "columns": (*ANY_UNITS[:3], "temporal_mean", "spatial_blur"),
}
CASES = [(kind, name) for kind, names in USES.items() for name in names]


def _video(num_clips: int = 3) -> Tensor:
    return torch.rand(num_clips, 2, *CLIP, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _build(name: str, video: Tensor, units: Units) -> Tensor:
    """Give the fill as it is where the last two frames are gone."""
    removed = torch.zeros(1, len(video), *CLIP, dtype=torch.bool)
    removed[..., 3:, :, :] = True
    fill = build_fill(name, video, units=units, mean=MEAN, generator=torch.Generator().manual_seed(7))
    return fill(removed).expand(1, *video.shape)[0]


def _naive_voxel(name: str, clip: Tensor, units: Units, at: tuple[int, int, int, int]) -> float:
    """Compute one voxel's replacement from the definitions; the last two frames are gone."""
    c, t, h, w = at
    unit = units.number[t, h, w]
    num_frames, height, width = CLIP
    if name == "dataset_mean":
        return float(MEAN[c])
    if name == "blur":
        weights = {
            (i, j): math.exp(-((i - h) ** 2 + (j - w) ** 2) / 2) for i, j in product(range(height), range(width))
        }
        return sum(float(clip[c, t, i, j]) * weight for (i, j), weight in weights.items()) / sum(weights.values())
    if name == "temporal_mean":
        values = [float(clip[c, s, h, w]) for s in range(num_frames) if units.number[s, h, w] == unit]
        return sum(values) / len(values)
    if name == "spatial_blur":
        pixels = product(range(height), range(width))
        values = [float(clip[c, t, i, j]) for i, j in pixels if units.number[t, i, j] == unit]
        return sum(values) / len(values)
    if name == "mean_frame":
        return sum(float(clip[c, s, h, w]) for s in range(num_frames)) / num_frames
    assert name == "freeze"
    return float(clip[c, min(t, 2), h, w])


@pytest.mark.parametrize(("kind", "name"), [case for case in CASES if case[1] != "noise"])
def test_each_voxel_is_replaced_by_its_definition(kind: str, name: str) -> None:
    video, units = _video(2), DIVISIONS[kind]
    found = _build(name, video, units)
    expected = torch.zeros_like(video)
    for b, c, t, h, w in product(*map(range, video.shape)):
        expected[b, c, t, h, w] = _naive_voxel(name, video[b], units, (c, t, h, w))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", DIVISIONS)
def test_it_can_be_asked_which_fill_ins_change_such_units(kind: str) -> None:
    assert fill_ins_for(DIVISIONS[kind]) == USES[kind]
    assert "temporal_mean" not in fill_ins_for(tubes(CLIP, size=(1, 3, 4)))
    assert "spatial_blur" not in fill_ins_for(tubes(CLIP, size=(2, 1, 1)))
    assert set().union(*USES.values()) == set(FILL_INS)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_clip_does_not_depend_on_its_batch_and_stays_what_it_was(kind: str, name: str) -> None:
    video, units = _video(), DIVISIONS[kind]
    before = video.clone()
    together = _build(name, video, units)
    alone = torch.cat([_build(name, video[[index]], units) for index in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-15)
    assert torch.equal(video, before)
    assert together.dtype == video.dtype


def test_noise_is_uniform_over_0_to_1_and_drawn_from_the_generator() -> None:
    video = torch.zeros(1, 3, 16, 32, 32)
    units = frames((16, 32, 32))
    removed = torch.ones(1, 1, 16, 32, 32, dtype=torch.bool)
    first, second, other = (
        build_fill("noise", video, units=units, generator=torch.Generator().manual_seed(seed))(removed)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    share = torch.histc(first, bins=10, min=0, max=1) / first.numel()
    assert (share - 0.1).abs().max() < 0.005


def test_temporal_mean_removes_motion_alone_and_spatial_blur_appearance_alone() -> None:
    """A texture that stands still is its own temporal mean; frames that only flicker are their own spatial blur."""
    still = torch.rand(1, 1, 1, 7, 6).expand(-1, -1, 5, -1, -1)
    flicker = torch.rand(1, 1, 5, 1, 1).expand(-1, -1, -1, 7, 6)
    nothing = torch.zeros(1, 1, *CLIP, dtype=torch.bool)
    for units in (DIVISIONS["tubes"], DIVISIONS["columns"]):
        torch.testing.assert_close(build_fill("temporal_mean", still, units=units)(nothing)[0], still)
        torch.testing.assert_close(build_fill("spatial_blur", flicker, units=units)(nothing)[0], flicker)
        assert (
            build_fill("spatial_blur", still, units=units)(nothing)[0].var(dim=(3, 4)).sum()
            < still.var(dim=(3, 4)).sum()
        )
        mean = build_fill("temporal_mean", flicker, units=units)(nothing)[0]
        assert mean.var(dim=2).sum() < flicker.var(dim=2).sum()


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ("10001", [0, 0, 0, 4, 4]),  # the third is as far from both: the earlier
        ("01000", [1, 1, 1, 1, 1]),
        ("00110", [2, 2, 2, 3, 3]),
        ("11111", [0, 1, 2, 3, 4]),
        ("00001", [4, 4, 4, 4, 4]),
    ],
)
def test_freeze_repeats_the_nearest_frame_that_is_kept(kept: str, expected: list[int]) -> None:
    video = _video(2)
    gone = torch.tensor([mark == "0" for mark in kept])
    removed = gone[:, None, None].expand(1, 2, *CLIP)
    fill = build_fill("freeze", video, units=frames(CLIP))
    assert torch.equal(fill(removed)[0], video[:, :, expected])


def test_freeze_looks_at_each_clip_and_version_by_itself_and_shows_the_mean_frame_where_none_is_kept() -> None:
    video = _video(2)
    gone = torch.zeros(3, 2, 5, dtype=torch.bool)
    gone[0, 0, 0], gone[1, 1, 4], gone[2, 0] = True, True, True
    found = build_fill("freeze", video, units=frames(CLIP))(gone[..., None, None].expand(-1, -1, -1, 7, 6))
    assert torch.equal(found[0, 0], video[0, :, [1, 1, 2, 3, 4]])
    assert torch.equal(found[0, 1], video[1])
    assert torch.equal(found[1, 0], video[0])
    assert torch.equal(found[1, 1], video[1, :, [0, 1, 2, 3, 3]])
    torch.testing.assert_close(found[2, 0], video[0].mean(dim=1, keepdim=True).expand(-1, 5, -1, -1))


def test_blur_keeps_an_even_frame_and_the_brighter_σ_the_flatter_it_gets() -> None:
    torch.testing.assert_close(
        blur_frames(torch.full((1, 1, 2, 9, 8), 0.4), sigma=2.0), torch.full((1, 1, 2, 9, 8), 0.4)
    )
    video = _video(1)
    spread = [float(blur_frames(video, sigma=sigma).var(dim=(3, 4)).sum()) for sigma in (0.5, 1.0, 2.0, 4.0)]
    assert spread == sorted(spread, reverse=True)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("tubes", "temporal_maen", "unknown fill-in 'temporal_maen'; nearest: temporal_mean; known: noise, blur"),
        ("tubes", "freeze", "fill-in 'freeze' is for whole frames, got tubes"),
        ("columns", "mean_frame", "fill-in 'mean_frame' is for whole frames, got columns"),
        ("frames", "temporal_mean", "fill-in 'temporal_mean' changes nothing in frames of a single frame"),
        ("frames", "noise", "fill-in 'noise' needs a generator"),
        ("frames", "dataset_mean", "fill-in 'dataset_mean' needs the mean"),
    ],
)
def test_a_fill_in_that_cannot_be_is_refused_in_one_line(kind: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_fill(name, _video(), units=DIVISIONS[kind])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_clips_of_another_size_and_a_mean_of_another_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match="these frames divide clips of"):
        build_fill("blur", torch.zeros(1, 1, 4, 7, 6), units=frames(CLIP))
    with pytest.raises(ConfigError, match=r"the mean must broadcast with \[C, T, H, W\] = \(2, 5, 7, 6\), got \(3, 1"):
        build_fill("dataset_mean", _video(), units=frames(CLIP), mean=torch.zeros(3, 1, 1, 1))
    with pytest.raises(ConfigError, match="changes nothing in tubes of a single pixel"):
        build_fill("spatial_blur", _video(), units=tubes(CLIP, size=(2, 1, 1)))
