import pytest
import torch
from torch import Tensor

from vidact.core.errors import ConfigError
from vidact.models.layers import FrameDifferences, Gate, InputLayers, Sum, SumOver, choose


def _video(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_each_frame_loses_the_one_before_and_the_first_repeats_the_second() -> None:
    video = _video(2, 3, 5, 4, 6)
    found = FrameDifferences()(video)
    assert found.shape == video.shape
    for t in range(1, 5):
        assert torch.equal(found[:, :, t], video[:, :, t] - video[:, :, t - 1])
    assert torch.equal(found[:, :, 0], found[:, :, 1])


def test_differences_need_two_frames() -> None:
    with pytest.raises(ConfigError, match="need clips of 2 frames or more, got 1"):
        FrameDifferences()(_video(1, 1, 1, 4, 4))


@pytest.mark.parametrize("differences", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_comes_out_of_the_input_layers_keeps_their_bounds_and_reaches_them(
    channels: int, differences: bool
) -> None:
    layers = InputLayers(channels, differences=differences)
    low, high = layers.bounds()
    assert low.shape == high.shape == (1, channels, 1, 1, 1)
    found = layers(_video(8, channels, 4, 5, 5).round())  # black and white
    assert (found >= low - 1e-6).all()
    assert (found <= high + 1e-6).all()
    torch.testing.assert_close(found.amin(dim=(0, 2, 3, 4)), low.flatten())
    torch.testing.assert_close(found.amax(dim=(0, 2, 3, 4)), high.flatten())


def test_sums_and_gates_are_what_their_names_say() -> None:
    first, second, third = _video(3, 2, 4, 5)
    assert torch.equal(Sum()(first, second, third), first + second + third)
    assert torch.equal(SumOver(dim=1)(first), first.sum(dim=1))
    assert torch.equal(Gate()(first, second[:, :1]), first * second[:, :1])


def test_a_choice_that_is_none_is_named() -> None:
    assert choose({"dense": 1, "pooled": 2}, "pooled", setting="head") == 2
    with pytest.raises(ConfigError, match="head 'pool' is unknown; there are dense, pooled"):
        choose({"dense": 1, "pooled": 2}, "pool", setting="head")
