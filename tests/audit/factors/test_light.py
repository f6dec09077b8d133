import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from vidact.audit.factors.clips import Clips, with_plate
from vidact.audit.factors.light import Luminance, lifted


def _clips(seed: int, *, shape: tuple[int, ...] = (2, 3, 5, 21, 17), masked: bool = True, low: float = 0.0) -> Clips:
    """Noise, with an actor that never leaves its place."""
    video = low + (1 - 2 * low) * torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    if not masked:
        return Clips(video)
    mask = torch.zeros(shape[0], *shape[2:], dtype=torch.bool)
    mask[..., shape[3] // 3 : shape[3] // 2, shape[4] // 3 : shape[4] // 2] = True
    return with_plate(video, mask)


@pytest.mark.parametrize("shape", [(2, 3, 5, 21, 17), (1, 1, 1, 9, 12), (1, 5, 2, 1, 1)], ids=str)
@pytest.mark.parametrize("masked", [True, False])
def test_ones_own_light_changes_nothing(shape: tuple[int, ...], masked: bool) -> None:
    clips = _clips(0, shape=shape, masked=masked)
    assert (Luminance().exchange(clips, clips) - clips.video).abs().max() <= 1 / 255
    assert Luminance().alone(clips).shape == clips.video.shape


def test_the_field_is_a_gaussian_average_of_what_the_actor_leaves_free() -> None:
    clips = _clips(1)
    assert clips.plate is not None
    seen = (~clips.actor(2)[:, 0]).any(dim=1).double().numpy()
    plate = clips.plate.double().mean(dim=1).numpy()
    for row, field in enumerate(Luminance().alone(clips)):
        blur = [
            gaussian_filter(image, 2.1, mode="constant", truncate=12) for image in (plate[row] * seen[row], seen[row])
        ]
        expected = np.broadcast_to(blur[0] / blur[1], field.shape)
        np.testing.assert_allclose(field.numpy(), expected, atol=1e-5)


def test_only_the_light_of_the_background_changes() -> None:
    clips, donors = _clips(2, low=0.4), _clips(3, low=0.4)
    changed = Luminance().exchange(clips, donors) - clips.video
    actor = clips.actor(2).expand_as(changed)
    assert torch.equal(changed[actor], torch.zeros_like(changed[actor]))
    expected = Luminance().alone(donors) - Luminance().alone(clips)
    torch.testing.assert_close(changed[~actor], expected[~actor])


def test_the_actor_does_not_leak_into_the_field() -> None:
    clips = _clips(4)
    bright = with_plate(clips.video.masked_fill(clips.actor(0), 1.0), _mask(clips))
    torch.testing.assert_close(Luminance().alone(bright), Luminance().alone(clips))


def test_light_of_a_batch_is_that_of_its_clips() -> None:
    clips, donors = _clips(5), _clips(6)
    together = Luminance().exchange(clips, donors)
    for row in range(2):
        torch.testing.assert_close(Luminance().exchange(clips[[row]], donors[[row]]), together[[row]])


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_darkest_fifth_is_lifted_to_the_median_and_the_control_changes_as_much(channels: int, masked: bool) -> None:
    clip = _clips(7, shape=(1, channels, 4, 21, 17), masked=masked, low=0.3)
    found = lifted(clip, generator=torch.Generator().manual_seed(0))
    assert found is not None
    ground = ~clip.actor(2)[0, 0] if masked else torch.ones(4, 21, 17, dtype=torch.bool)
    luminance = clip.video[0].mean(dim=0)
    change, moved = (own[0] - clip.video[0] for own in found)
    was_lifted = change.abs().amax(dim=0) > 1e-6
    values = luminance[ground].numpy()
    dark = ground & (luminance <= float(np.quantile(values, 0.2)) + 1e-6)
    assert not (was_lifted & ~dark).any()
    assert was_lifted.sum() > 0.7 * dark.sum()
    torch.testing.assert_close(
        found[0][0].mean(dim=0)[was_lifted],
        torch.full((int(was_lifted.sum()),), float(np.median(values))),
        atol=0.01,
        rtol=0,
    )
    assert not (moved.abs().amax(dim=0) > 0)[~ground].any()
    torch.testing.assert_close(moved.flatten().sort().values, change.flatten().sort().values, atol=1e-5, rtol=0)
    assert (was_lifted & (moved.abs().amax(dim=0) > 1e-6)).sum() < 0.5 * was_lifted.sum()


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (1, 3, 1, 2, 2)], ids=str)
def test_there_is_nothing_to_lift_without_background_or_shades(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    assert lifted(Clips(torch.full(shape, 0.5)), generator=generator) is None
    video = torch.rand(shape)
    assert lifted(with_plate(video, torch.ones(1, *shape[2:], dtype=torch.bool)), generator=generator) is None


def _mask(clips: Clips) -> Tensor:
    assert clips.mask is not None
    return clips.mask
