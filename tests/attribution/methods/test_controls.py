import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vidact.attribution.registry import build_explainer
from vidact.core.errors import ConfigError

NAMES = ("random", "centre", "motion_energy", "intensity")
TARGET = torch.tensor([0, 2, 1])
SHAPE = (3, 2, 4, 5, 6)  # B, C, T, H, W


def _network(shape: tuple[int, ...] = SHAPE) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape[1:]), 3)).eval()


def _video(shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def _explain(method: str, video: Tensor, target: Tensor = TARGET, **settings: object) -> Tensor:
    with build_explainer(method, _network(tuple(video.shape)), **settings) as explain:
        return explain(video, target[: len(video)]).relevance


@pytest.mark.parametrize("method", NAMES)
def test_a_control_is_the_same_for_every_target(method: str) -> None:
    assert torch.equal(_explain(method, _video()), _explain(method, _video(), (TARGET + 1) % 3))


@pytest.mark.parametrize("method", NAMES)
def test_a_control_explains_the_networks_own_score(method: str) -> None:
    network, video = _network(), _video()
    with build_explainer(method, network) as explain:
        found = explain(video, TARGET)
    torch.testing.assert_close(found.score, network(video).gather(1, TARGET[:, None]).squeeze(1).detach())
    assert found.method == method


def test_the_centre_is_a_gaussian_in_every_frame_alike() -> None:
    found = _explain("centre", _video()).sum(dim=1)
    assert torch.equal(found, found[:1, :1].expand_as(found))
    for row in range(5):
        for column in range(6):
            down, across = (row + 0.5) / 5 - 0.5, (column + 0.5) / 6 - 0.5
            expected = math.exp(-(down**2 + across**2) / (2 * 0.25**2))
            assert float(found[0, 0, row, column]) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(found, found.flip(2))
    torch.testing.assert_close(found, found.flip(3))


def test_the_centre_can_be_narrower() -> None:
    wide, narrow = (_explain("centre", _video(), width=width)[0, 0, 0] for width in (0.5, 0.1))
    assert float(narrow[0, 0] / narrow[2, 2]) < float(wide[0, 0] / wide[2, 2])
    with pytest.raises(ConfigError, match="width is a share of the picture, above 0, got 0"):
        build_explainer("centre", _network(), width=0.0)


def test_motion_energy_is_how_much_each_pixel_has_changed() -> None:
    video = _video()
    found = _explain("motion_energy", video)
    for frame in range(4):
        before, after = (0, 1) if frame == 0 else (frame - 1, frame)
        change = (video[:, :, after] - video[:, :, before]).abs().sum(dim=1)
        torch.testing.assert_close(found[:, :, frame].sum(dim=1), change)
        torch.testing.assert_close(found[:, 0, frame], found[:, 1, frame])
    still = video[:, :, :1].expand(SHAPE).clone()
    assert not _explain("motion_energy", still).any()
    assert not _explain("motion_energy", video[:, :, :1]).any()


def test_intensity_is_how_bright_each_pixel_is() -> None:
    video = _video()
    found = _explain("intensity", video)
    assert torch.equal(found, video)
    assert found.data_ptr() != video.data_ptr()


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("centre", lambda video: 1 - video.roll(1, dims=3)),
        ("motion_energy", lambda video: 1 - video),
        ("motion_energy", lambda video: video.flip(1)),
        ("intensity", lambda video: video),
    ],
)
def test_a_control_does_not_see_what_it_does_not_look_at(method: str, change: Callable[[Tensor], Tensor]) -> None:
    video = _video()
    torch.testing.assert_close(_explain(method, change(video)), _explain(method, video))
