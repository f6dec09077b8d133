from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidact.core.errors import ConfigError
from vidact.models.layers import PIXEL_MEAN, PIXEL_STD
from vidact.models.residual import ResidualBlock, SlimResNet3D


def _build(**settings: Any) -> SlimResNet3D:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SlimResNet3D(**{"num_classes": 5, "num_frames": 8, "size": 20, **settings}).eval()


def _video(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("num_frames", "channels", "size", "differences", "time_stride"),
    [(5, 3, (17, 30), True, 1), (5, 1, (17, 30), False, 2), (2, 1, 16, False, 1), (2, 1, 16, True, 2)],
)
def test_any_clip_gives_a_score_per_class_and_every_frame_counts(
    num_frames: int, channels: int, size: int | tuple[int, int], differences: bool, time_stride: int
) -> None:
    settings = {"channels": channels, "size": size, "differences": differences, "time_stride": time_stride}
    network = _build(num_frames=num_frames, **settings)
    height, width = (size, size) if isinstance(size, int) else size
    video = _video(2, channels, num_frames, height, width).requires_grad_()
    scores = network(video)
    assert scores.shape == (2, 5)
    scores.sum().backward()
    assert video.grad is not None
    assert (video.grad.abs().sum(dim=(1, 3, 4)) > 0).all(), "a frame gets no gradient"


def test_it_has_as_many_parameters_as_its_description_says() -> None:
    """Weights of the convolutions, two numbers per filter for BatchNorm, and the last layer."""
    stem = 3 * (3 * 5 * 5) * 16 + 2 * 16
    first = 2 * (27 * 16 * 16 + 2 * 16)
    others = sum(
        27 * before * after + 27 * after * after + 2 * (2 * after) for before, after in ((16, 32), (32, 64), (64, 128))
    )
    head = 128 * 7 + 7
    network = _build(num_classes=7, channels=3)
    assert sum(parameter.numel() for parameter in network.parameters()) == stem + first + others + head == 890_231


def test_stages_halve_space_and_the_last_two_halve_time() -> None:
    network, shapes = _build(num_frames=16, size=64), []
    for stage in (network.stem, *network.stages):
        stage.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    network(_video(1, 1, 16, 64, 64))
    assert shapes == [(16, 16, 32, 32), (16, 16, 32, 32), (32, 16, 16, 16), (64, 8, 8, 8), (128, 4, 4, 4)]


def test_a_stem_with_a_time_stride_halves_time_at_once() -> None:
    network, shapes = _build(num_frames=16, size=64, time_stride=2), []
    for stage in (network.stem, *network.stages):
        stage.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    network(_video(1, 1, 16, 64, 64))
    assert shapes == [(16, 8, 32, 32), (16, 8, 32, 32), (32, 8, 16, 16), (64, 4, 8, 8), (128, 2, 4, 4)]
    assert network.stem[0].weight.shape == (16, 1, 5, 5, 5)


def test_another_time_stride_is_refused() -> None:
    with pytest.raises(ConfigError, match="time_stride is 1 or 2, got 3"):
        _build(time_stride=3)


def test_it_is_the_residual_network_written_out() -> None:
    """Against functional layers on the same weights, the addition as `+`."""
    network = _build(widths=(4, 6, 8), blocks_per_stage=2).double()
    generator = torch.Generator().manual_seed(2)
    for name, values in network.state_dict().items():
        if "running" in name:
            values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    weights = {name: value.double() for name, value in network.state_dict().items()}
    video = _video(2, 1, 8, 20, 20).double()

    def normalised(x: Tensor, name: str) -> Tensor:
        mean, variance, scale, shift = (
            weights[f"{name}.{part}"].reshape(1, -1, 1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    def block(x: Tensor, name: str, stride: Any) -> Tensor:
        inner = F.conv3d(x, weights[f"{name}.residual.0.weight"], stride=stride, padding=1)
        inner = normalised(inner, f"{name}.residual.1").relu()
        inner = normalised(F.conv3d(inner, weights[f"{name}.residual.3.weight"], padding=1), f"{name}.residual.4")
        step = stride[1]
        widened = torch.zeros_like(inner)
        widened[:, : x.shape[1]] = x[:, :, ::step, ::step, ::step]
        return (inner + widened).relu()

    x = (video - PIXEL_MEAN) / PIXEL_STD
    x = normalised(F.conv3d(x, weights["stem.0.weight"], stride=(1, 2, 2), padding=(1, 2, 2)), "stem.1").relu()
    for stage, stride in enumerate(((1, 1, 1), (2, 2, 2), (2, 2, 2))):
        x = block(block(x, f"stages.{stage}.0", stride), f"stages.{stage}.1", (1, 1, 1))
    expected = x.mean(dim=(2, 3, 4)) @ weights["head.3.weight"].T + weights["head.3.bias"]
    torch.testing.assert_close(network(video), expected)


def test_each_layer_is_called_once_and_in_the_order_of_its_definition() -> None:
    network = _build(blocks_per_stage=2)
    leaves = [module for module in network.modules() if not list(module.children())]
    called: list[nn.Module] = []
    for leaf in leaves:
        leaf.register_forward_hook(lambda module, *_: called.append(module))
    network(_video(1, 1, 8, 20, 20))
    assert Counter(called) == Counter(leaves)
    assert all(before < after for before, after in pairwise(leaves.index(module) for module in called))


def test_a_block_of_zeros_hands_on_its_input() -> None:
    block = ResidualBlock(3, 3).eval()
    nn.init.zeros_(block.residual[3].weight)  # type: ignore[arg-type]
    features = _video(1, 3, 4, 5, 6)
    torch.testing.assert_close(block(features), features)


def test_frames_that_are_too_small_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"frames of 16 pixels or more, got size = \(15, 40\)"):
        _build(size=(15, 40))


def test_no_stages_and_no_blocks_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"one width or more, none narrower than the one before; got widths = \(\)"):
        _build(widths=())
    with pytest.raises(ConfigError, match=r"none narrower than the one before; got widths = \(8, 4\)"):
        _build(widths=(8, 4))
    with pytest.raises(ConfigError, match="blocks_per_stage = 0"):
        _build(blocks_per_stage=0)
