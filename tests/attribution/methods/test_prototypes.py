import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidact.attribution.methods.prototypes import Prototypes, make_prototypes
from vidact.core.errors import ConfigError, ExplanationError

LEFT, RIGHT = 0, 1


class _SeesMotion(nn.Module):
    """Waves that travel to the left and to the right by a pixel a frame, and the energy that they find."""

    def __init__(self) -> None:
        super().__init__()
        across, time = torch.arange(-2.0, 3.0), torch.arange(-1.0, 2.0)[:, None]
        window = torch.exp(-across.square() / 4)
        waves = torch.stack([torch.cos(1.5 * (across - speed * time)) * window for speed in (-1, 1)])
        waves = waves - waves.mean(dim=(1, 2), keepdim=True)
        self.weight = nn.Parameter(waves[:, None, :, None])  # [2, 1, 3, 1, 5]
        self.dropout = nn.Dropout(0.5)

    def forward(self, video: Tensor) -> Tensor:
        found = F.conv3d(video.mean(dim=1, keepdim=True) - 0.5, self.weight)
        return self.dropout(found.relu().square().mean(dim=(2, 3, 4)))  # type: ignore[no-any-return]


def _made(network: nn.Module | None = None, *, seed: int = 0, steps: int = 40, **settings: object) -> Prototypes:
    wanted = {"class_numbers": (LEFT, RIGHT), "shape": (1, 8, 20, 24), "gray": True, **settings}
    generator = torch.Generator().manual_seed(seed)
    return make_prototypes(network or _SeesMotion(), steps=steps, generator=generator, **wanted)  # type: ignore[arg-type]


def _pixels_a_frame(video: Tensor) -> int:
    """Find the shift to the right that makes each frame most like the next, over rows of the whole clip."""
    frames = (video.mean(dim=0) - video.mean()).numpy()  # [T, H, W]
    pairs = [pair for now, after in pairwise(frames) for pair in zip(now, after, strict=True)]
    total = np.sum([np.correlate(after, now, mode="full") for now, after in pairs], axis=0)
    return int(total.argmax()) - (frames.shape[2] - 1)


def test_prototypes_of_left_and_right_move_there() -> None:
    found = _made()
    for speed in ("free", "fast"):
        assert _pixels_a_frame(found.of(LEFT, speed).video) == -1
        assert _pixels_a_frame(found.of(RIGHT, speed).video) == 1


def test_slow_changes_less_between_frames_than_free_and_free_than_fast() -> None:
    found = _made(class_numbers=(LEFT,))
    change = [float(found.of(LEFT, speed).video.diff(dim=1).abs().mean()) for speed in ("slow", "free", "fast")]
    assert change[0] < 0.7 * change[1]
    assert change[1] < change[2]


class _SeesTheLeftHalf(_SeesMotion):
    def forward(self, video: Tensor) -> Tensor:
        return super().forward(video[..., : video.shape[4] // 2])


def test_what_the_network_does_not_see_stays_gray() -> None:
    video = _made(_SeesTheLeftHalf(), class_numbers=[RIGHT]).of(RIGHT).video
    assert video[..., 15:].sub(0.5).square().mean() < 0.1 * video[..., :12].sub(0.5).square().mean()


def test_numbers_are_the_networks_own() -> None:
    network, other = _SeesMotion().eval(), nn.Sequential(nn.Flatten(), nn.Linear(8 * 20 * 24, 2))
    found = _made(network, best_real={LEFT: 0.25}, other=other, steps=3)
    assert [(one.class_number, one.speed) for one in found.all] == [
        (number, speed) for number in (LEFT, RIGHT) for speed in ("slow", "free", "fast")
    ]
    for one in found.all:
        logits, others = (each(one.video[None])[0].detach() for each in (network, other))
        assert one.score == pytest.approx(float(logits[one.class_number]), rel=1e-4)
        assert one.probability == pytest.approx(float(logits.softmax(dim=0)[one.class_number]), rel=1e-4)
        assert one.transfer == pytest.approx(float(others.softmax(dim=0)[one.class_number]), rel=1e-4)
        assert one.best_real == (0.25 if one.class_number == LEFT else None)


def test_a_prototype_scores_higher_than_noise() -> None:
    network = _SeesMotion().eval()
    noise = torch.rand(50, 1, 8, 20, 24, generator=torch.Generator().manual_seed(0))
    for one in _made(network).all:
        assert one.score > float(network(noise).detach()[:, one.class_number].max())


def test_they_depend_on_the_generator_and_not_on_the_other_classes() -> None:
    first, again, alone, others = (
        _made(steps=5),
        _made(steps=5),
        _made(steps=5, class_numbers=[1]),
        _made(seed=1, steps=5),
    )
    for one, same in zip(first.all, again.all, strict=True):
        assert torch.equal(one.video, same.video)
    assert torch.equal(first.of(RIGHT).video, alone.of(RIGHT).video)
    assert not torch.equal(first.of(RIGHT).video, others.of(RIGHT).video)


def test_networks_and_the_global_generator_stay_as_they_are() -> None:
    networks = [_SeesMotion().train(), _SeesMotion().train()]
    for network in networks:
        network(torch.rand(2, 1, 8, 20, 24)).sum().backward()
    before = [(copy.deepcopy(network.state_dict()), network.weight.grad.clone()) for network in networks]  # type: ignore[union-attr]
    state = torch.get_rng_state()
    _made(networks[0], other=networks[1], steps=2)
    assert torch.equal(torch.get_rng_state(), state)
    for network, (weights, gradient) in zip(networks, before, strict=True):
        assert network.training
        assert torch.equal(network.weight, weights["weight"])
        assert torch.equal(network.weight.grad, gradient)  # type: ignore[arg-type]
        assert network.weight.requires_grad


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize(("colours", "gray"), [(1, True), (3, True), (3, False)])
def test_any_clip_can_be_made(frames: int, colours: int, gray: bool) -> None:
    network = nn.Sequential(nn.AvgPool3d((1, 4, 4)), nn.Flatten(), nn.Linear(colours * frames * 6, 2))
    for one in _made(network, shape=(colours, frames, 8, 12), gray=gray, steps=3, class_numbers=[1]).all:
        assert one.video.shape == (colours, frames, 8, 12)
        assert one.video.min() >= 0
        assert one.video.max() <= 1
        assert bool((one.video == one.video[:1]).all()) == gray


def test_what_cannot_be_made_is_named() -> None:
    with pytest.raises(ConfigError, match="1 or 3 colours"):
        _made(shape=(2, 8, 20, 24))
    with pytest.raises(ConfigError, match="steps must be at least 1"):
        _made(steps=0)
    with pytest.raises(ExplanationError, match="class numbers from 0 to 1"):
        _made(class_numbers=[2], steps=1)
    with pytest.raises(ConfigError, match="no free prototype of class 5"):
        _made(steps=1).of(5)
