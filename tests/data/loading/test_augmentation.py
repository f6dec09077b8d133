from dataclasses import fields, replace

import jsonargparse
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as transforms

from vidact.core.clips import ClipBatch
from vidact.core.errors import ConfigError
from vidact.data.loading.augmentation import AugmentationSettings, Parameters, augment, draw_parameters, transform

NOTHING = AugmentationSettings((1.0, 1.0), (1.0, 1.0), 0.0, 0.0, 0.0, 0)


def _batch(
    num_clips: int = 3, channels: int = 3, num_frames: int = 6, size: tuple[int, int] = (12, 16), seed: int = 0
) -> ClipBatch:
    generator = torch.Generator().manual_seed(seed)
    video = torch.randint(0, 256, (num_clips, channels, num_frames, *size), generator=generator, dtype=torch.uint8)
    frame_numbers = 10 * torch.arange(num_clips)[:, None] + 2 * torch.arange(num_frames)
    return ClipBatch(
        video=video,
        label=torch.arange(num_clips),
        clip_id=tuple(f"run/{number}" for number in range(num_clips)),
        clip_index=torch.arange(num_clips),
        window_index=torch.arange(num_clips),
        frame_numbers=frame_numbers,
        times_seconds=frame_numbers / 30,
        left_out=("run/x: gone",),
        mask=video[:, 0] > 127,
    )


def _augment(batch: ClipBatch, settings: AugmentationSettings, seed: int = 0) -> ClipBatch:
    return augment(batch, settings=settings, generator=torch.Generator().manual_seed(seed))


def _no_change(num_clips: int, **changes: list[float]) -> Parameters:
    values = {"top": 0.0, "left": 0.0, "height": 1.0, "width": 1.0, "brightness": 1.0, "contrast": 1.0}
    tensors = {name: torch.full((num_clips,), value, dtype=torch.float64) for name, value in values.items()}
    tensors |= {name: torch.tensor(value, dtype=torch.float64) for name, value in changes.items()}
    still = torch.zeros(num_clips, dtype=torch.long)
    flip = tensors.pop("flip", still).bool()
    first_frame = tensors.pop("first_frame", still).long()
    return Parameters(flip=flip, first_frame=first_frame, **tensors)


def _bilinear(image: np.ndarray, y: float, x: float) -> float:
    """Blend the four pixels around a place; beyond the outermost centres the nearest pixel counts."""
    height, width = image.shape
    y, x = min(max(y - 0.5, 0), height - 1), min(max(x - 0.5, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
    lower = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
    return float(upper * (1 - (y - top)) + lower * (y - top))


def _naive_frame(
    image: np.ndarray, parameters: Parameters, clip: int, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Crop, resize and mirror one picture, pixel by pixel."""
    height, width = image.shape
    result = np.empty(size or image.shape)
    for row in range(result.shape[0]):
        for column in range(result.shape[1]):
            across = (column + 0.5) / result.shape[1]
            across = 1 - across if parameters.flip[clip] else across
            y = (parameters.top[clip] + parameters.height[clip] * (row + 0.5) / result.shape[0]) * height
            x = (parameters.left[clip] + parameters.width[clip] * across) * width
            result[row, column] = _bilinear(image, float(y), float(x))
    return result


@pytest.mark.parametrize(("channels", "size"), [(3, None), (1, (5, 17)), (1, (40, 9))])
def test_clips_change_as_a_naive_implementation_says(channels: int, size: tuple[int, int] | None) -> None:
    batch = _batch(channels=channels)
    parameters = draw_parameters(
        3, settings=AugmentationSettings(temporal_jitter=1), generator=torch.Generator().manual_seed(1)
    )
    assert set(parameters.flip.tolist()) == {True, False}
    found = transform(batch, parameters, num_frames=4, size=size)
    for clip in range(3):
        start = int(parameters.first_frame[clip])
        frames = batch.video[clip, :, start : start + 4].double().numpy()
        moved = np.array([[_naive_frame(image, parameters, clip, size) for image in channel] for channel in frames])
        moved *= float(parameters.brightness[clip])
        wanted = moved.mean() + float(parameters.contrast[clip]) * (moved - moved.mean())
        assert np.abs(found.video[clip].numpy() - np.clip(wanted, 0, 255)).max() < 0.51
        masks = batch.mask[clip, start : start + 4].double().numpy()  # type: ignore[index]
        share = np.array([_naive_frame(mask, parameters, clip, size) for mask in masks])
        clear = np.abs(share - 0.5) > 1e-4
        assert ((share >= 0.5) == found.mask[clip].numpy())[clear].all()  # type: ignore[index]


def test_a_crop_is_torchvisions() -> None:
    """Upper end, left end, height and width in whole pixels; nothing is made smaller, so antialiasing is no matter."""
    size = (40, 60)
    batch = _batch(num_clips=2, size=size)
    boxes = ((4, 6, 30, 45), (0, 15, 25, 30))
    shares = [[box[part] / size[part % 2] for box in boxes] for part in range(4)]
    changes = dict(zip(("top", "left", "height", "width"), shares, strict=True))
    found = transform(batch, _no_change(2, **changes), num_frames=6).video
    for clip, box in enumerate(boxes):
        cut = batch.video[clip, :, :, box[0] : box[0] + box[2], box[1] : box[1] + box[3]].float()
        wanted = transforms.resize(cut, list(size), antialias=True)
        # A crop that knows what lies beyond its edges blends with it; torchvision's does not.
        inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
        assert (found[clip].float() - wanted)[inside].abs().max() < 0.51


def test_brightness_and_contrast_are_torchvisions() -> None:
    """torchvision takes a mean per picture: with a clip's frames below one another it is the clip's."""
    batch = _batch(num_clips=2, channels=1)
    changes = {"brightness": [0.8, 1.1], "contrast": [1.2, 0.7]}
    found = transform(batch, _no_change(2, **changes), num_frames=6).video
    for clip in range(2):
        tall = batch.video[clip].float().flatten(1, 2) * changes["brightness"][clip] / 255
        wanted = 255 * transforms.adjust_contrast(tall, changes["contrast"][clip])
        assert (found[clip].float().flatten(1, 2) - wanted).abs().max() < 0.51


def test_settings_that_change_nothing_change_nothing() -> None:
    for size in ((12, 16), (112, 112), (100, 100), (7, 131)):
        batch = _batch(size=size)
        found = _augment(batch, NOTHING)
        for field in fields(ClipBatch):
            before, after = getattr(batch, field.name), getattr(found, field.name)
            assert torch.equal(before, after) if isinstance(before, torch.Tensor) else before == after


def test_mirroring_twice_gives_the_clip_back_and_once_is_torchvisions() -> None:
    batch = _batch()
    always = replace(NOTHING, flip_probability=1.0)
    once = _augment(batch, always)
    assert torch.equal(once.video, transforms.horizontal_flip(batch.video))
    assert torch.equal(once.mask, transforms.horizontal_flip(batch.mask))
    assert torch.equal(_augment(once, always).video, batch.video)


def test_all_frames_of_a_clip_change_alike() -> None:
    batch = _batch(num_frames=8)
    still = replace(batch, video=batch.video[:, :, :1].expand(-1, -1, 8, -1, -1).contiguous())
    found = _augment(still, AugmentationSettings())
    assert not torch.equal(found.video[:, :, 0], still.video[:, :, 0])
    assert (found.video == found.video[:, :, :1]).all()


def test_contrast_is_about_the_clips_mean_so_a_dark_frame_stays_darker() -> None:
    video = torch.full((1, 1, 2, 4, 4), 40, dtype=torch.uint8)
    video[:, :, 1] = 120
    batch = replace(_batch(1, 1, 2, (4, 4)), video=video)
    found = transform(batch, _no_change(1, contrast=[0.5]), num_frames=2).video
    assert found[0, 0, :, 0, 0].tolist() == [60, 100]  # the mean is 80; per frame both would stay


def test_clips_of_a_batch_change_differently() -> None:
    batch = _batch(num_clips=2)
    same = replace(batch, video=batch.video[:1].expand(2, -1, -1, -1, -1).contiguous())
    found = _augment(same, AugmentationSettings())
    assert not torch.equal(found.video[0], found.video[1])


def test_a_shift_in_time_moves_pixels_numbers_times_and_mask_together() -> None:
    batch = _batch(num_clips=40, num_frames=9)
    found = _augment(batch, replace(NOTHING, temporal_jitter=2))
    assert found.video.shape == (40, 3, 5, 12, 16)
    starts = set()
    for clip in range(40):
        start = batch.frame_numbers[clip].tolist().index(int(found.frame_numbers[clip, 0]))
        starts.add(start)
        run = slice(start, start + 5)
        assert torch.equal(found.video[clip], batch.video[clip, :, run])
        assert torch.equal(found.mask[clip], batch.mask[clip, run])  # type: ignore[index]
        assert torch.equal(found.frame_numbers[clip], batch.frame_numbers[clip, run])
        assert torch.equal(found.times_seconds[clip], batch.times_seconds[clip, run])
    assert starts == {0, 1, 2, 3, 4}


def test_the_same_seed_gives_the_same_clips_and_the_global_generators_are_left_alone() -> None:
    batch, state = _batch(), torch.random.get_rng_state()
    first, second, other = (_augment(batch, AugmentationSettings(), seed=seed).video for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_is_drawn_does_not_depend_on_how_clips_come_in_batches() -> None:
    together = draw_parameters(50, settings=AugmentationSettings(), generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    parts = [draw_parameters(number, settings=AugmentationSettings(), generator=generator) for number in (1, 30, 19)]
    for field in fields(Parameters):
        assert torch.equal(torch.cat([getattr(part, field.name) for part in parts]), getattr(together, field.name))


def test_a_whole_batch_at_once_is_the_same_as_clip_by_clip() -> None:
    """A GPU takes the batch at once; here the CPU is asked to do the same."""
    from vidact.data.loading import augmentation

    batch = _batch(num_clips=5)
    parameters = draw_parameters(5, settings=AugmentationSettings(), generator=torch.Generator().manual_seed(0))
    apart = transform(batch, parameters, num_frames=2)
    grid = augmentation._sampling_grid(parameters, size=(12, 16), source=(12, 16))
    factors = torch.stack([parameters.brightness, parameters.contrast], dim=1).float()
    run = augmentation._select_frames(batch, parameters.first_frame, num_frames=2)
    together = augmentation._transform_pixels(run.video, grid, factors)
    assert (together.int() - apart.video.int()).abs().max() <= 1


@settings(max_examples=40, deadline=None)
@given(
    num_clips=st.integers(0, 4),
    channels=st.sampled_from([1, 3]),
    num_frames=st.integers(1, 4),
    size=st.tuples(st.integers(2, 20), st.integers(2, 20)),
    jitter=st.integers(0, 2),
    scale=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
    seed=st.integers(0, 99),
    with_mask=st.booleans(),
)
def test_shapes_and_types_stay_and_pixels_stay_in_range(
    num_clips: int,
    channels: int,
    num_frames: int,
    size: tuple[int, int],
    jitter: int,
    scale: tuple[float, float],
    seed: int,
    with_mask: bool,
) -> None:
    chosen = AugmentationSettings(
        crop_scale=(min(scale), max(scale)), brightness=1.0, contrast=1.0, temporal_jitter=jitter
    )
    batch = _batch(num_clips, channels, chosen.decoded_frames(num_frames), size, seed)
    batch = batch if with_mask else replace(batch, mask=None)
    found = _augment(batch, chosen, seed=seed)
    assert found.video.shape == (num_clips, channels, num_frames, *size)
    assert found.video.dtype == torch.uint8
    assert found.frame_numbers.shape == found.times_seconds.shape == (num_clips, num_frames)
    assert (found.mask is not None) == with_mask
    assert found.mask is None or (found.mask.shape, found.mask.dtype) == ((num_clips, num_frames, *size), torch.bool)
    assert (found.clip_id, found.left_out) == (batch.clip_id, batch.left_out)
    assert torch.equal(found.label, batch.label)


def test_crops_have_the_area_drawn_stay_inside_and_reach_everywhere() -> None:
    chosen = AugmentationSettings(crop_scale=(0.3, 0.9), crop_aspect=(0.5, 2.0), temporal_jitter=3)
    drawn = draw_parameters(20_000, settings=chosen, generator=torch.Generator().manual_seed(0))
    area, aspect = drawn.height * drawn.width, drawn.width / drawn.height
    assert (area.min().item(), area.max().item()) == pytest.approx((0.3, 0.9), abs=0.001)
    assert area.mean().item() == pytest.approx(0.6, abs=0.01)
    assert (aspect.min().item(), aspect.max().item()) == pytest.approx((0.5, 2.0), abs=0.01)
    assert aspect.log().mean().item() == pytest.approx(0, abs=0.01)
    for start, length in ((drawn.top, drawn.height), (drawn.left, drawn.width)):
        assert start.min() >= 0
        assert (start + length).max() <= 1 + 1e-12
        room = 1 - length
        assert (start / room).nanmean().item() == pytest.approx(0.5, abs=0.01)
    assert drawn.flip.double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert drawn.first_frame.bincount().tolist() == pytest.approx([20_000 / 7] * 7, rel=0.08)


def test_a_configuration_file_can_give_the_settings() -> None:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--augmentation", type=AugmentationSettings | None, default=None)
    given_settings = {"crop_scale": [0.5, 0.9], "flip_probability": 0.0, "temporal_jitter": 3}
    parsed = parser.instantiate(parser.parse_object({"augmentation": given_settings})).augmentation
    assert parsed == AugmentationSettings(crop_scale=(0.5, 0.9), flip_probability=0.0, temporal_jitter=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_scale": (0.0, 1.0)}, "crop_scale must be two shares"),
        ({"crop_scale": (0.8, 0.6)}, "crop_scale must be two shares"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale must be two shares"),
        ({"crop_scale": (float("nan"), 1.0)}, "crop_scale must be two shares"),
        ({"crop_aspect": (-1.0, 1.0)}, "crop_aspect must be two ratios"),
        ({"crop_aspect": (1.0, float("inf"))}, "crop_aspect must be two ratios"),
        ({"flip_probability": 1.1}, "flip_probability must be from 0 to 1, got 1.1"),
        ({"brightness": -0.1}, "brightness must be from 0 to 1"),
        ({"contrast": float("nan")}, "contrast must be from 0 to 1"),
        ({"temporal_jitter": -1}, "temporal_jitter must be at least 0 frames, got -1"),
    ],
)
def test_settings_out_of_range_are_reported(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AugmentationSettings(**changes)  # type: ignore[arg-type]


def test_too_few_frames_for_the_shift_are_reported() -> None:
    with pytest.raises(ConfigError, match="temporal_jitter 3 needs windows of at least 7 decoded frames, got 6"):
        _augment(_batch(), replace(NOTHING, temporal_jitter=3))
