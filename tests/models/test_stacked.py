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
def test_oblong_frames_give_a_score_per_class(head: str) -> None:
    network = StackedFramesCNN(num_classes=5, num_frames=4, size=(20, 31), head=head)  # type: ignore[arg-type]
    assert network(torch.rand(2, 1, 4, 20, 31)).shape == (2, 5)


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


def test_frames_that_are_too_small_are_refused() -> None:
    with pytest.raises(ConfigError, match="frames of 6 pixels or more, got size = 5"):
        StackedFramesCNN(num_classes=2, size=5)
