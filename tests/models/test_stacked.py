import pytest
import torch
from torch import nn

from vidact.core.errors import ConfigError
from vidact.models.layers import PIXEL_MEAN, PIXEL_STD
from vidact.models.stacked import StackedFramesCNN


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("size", "expected"), [(100, 75_525_224), (50, 17_362_024)])
def test_the_reports_network_has_the_reports_parameters(size: int, expected: int) -> None:
    with torch.device("meta"):
        assert _count(StackedFramesCNN(num_classes=8, size=size)) == expected


def test_the_lean_head_has_one_linear_layer() -> None:
    network = StackedFramesCNN(num_classes=8, head="pooled")
    convolutions = (16 * 9 + 1) * 32 + (32 * 9 + 1) * 64
    assert _count(network) == convolutions + 64 * 8 + 8


@pytest.mark.parametrize("head", ["dense", "pooled"])
@pytest.mark.parametrize(("size", "channels"), [(20, 1), ((20, 31), 3)])
def test_any_size_and_colour_gives_a_score_per_class(head: str, size: int | tuple[int, int], channels: int) -> None:
    network = StackedFramesCNN(num_classes=5, num_frames=4, channels=channels, size=size, head=head)  # type: ignore[arg-type]
    height, width = (size, size) if isinstance(size, int) else size
    video = torch.rand(2, channels, 4, height, width, requires_grad=True)
    scores = network(video)
    assert scores.shape == (2, 5)
    scores.sum().backward()
    assert video.grad is not None
    assert (video.grad.abs().sum(dim=(1, 3, 4)) > 0).all(), "a frame gets no gradient"


def test_it_is_the_plain_network_written_out() -> None:
    """Against the same layers called by hand on the same weights."""
    network = StackedFramesCNN(num_classes=3, num_frames=2, size=12)
    weights = dict(network.named_parameters())
    video = torch.rand(4, 1, 2, 12, 12)
    x = (video[:, 0] - PIXEL_MEAN) / PIXEL_STD
    for layer in ("features.1", "features.3"):
        x = nn.functional.conv2d(x, weights[f"{layer}.weight"], weights[f"{layer}.bias"]).relu()
    x = nn.functional.max_pool2d(x, 2).flatten(1)
    x = nn.functional.linear(x, weights["head.1.weight"], weights["head.1.bias"]).relu()
    expected = nn.functional.linear(x, weights["head.3.weight"], weights["head.3.bias"])
    torch.testing.assert_close(network(video), expected)


def test_another_input_shape_is_named() -> None:
    with pytest.raises(ConfigError, match=r"takes videos of shape \[B, 1, 16, 100, 100\], got \(1, 3, 16, 100, 100\)"):
        StackedFramesCNN(num_classes=2, head="pooled")(torch.rand(1, 3, 16, 100, 100))


def test_frames_that_are_too_small_are_refused() -> None:
    with pytest.raises(ConfigError, match="frames of 6 pixels or more, got size = 5"):
        StackedFramesCNN(num_classes=2, size=5)
