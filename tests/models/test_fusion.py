from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidact.core.errors import ConfigError
from vidact.models.fusion import EarlyFusion, FusionNetwork, LateFusion, SingleFrame, SlowFusion
from vidact.models.layers import PIXEL_MEAN, PIXEL_STD

NETWORKS = (SingleFrame, EarlyFusion, LateFusion, SlowFusion)

# Karpathy et al. 2014, section 3.1:
# C(96,11,3)-N-P-C(256,5,1)-N-P-C(384,3,1)-C(384,3,1)-C(256,3,1)-P-FC(4096)-FC(4096), 170×170×3, 487 classes.
# 170 → (170 − 11) / 3 + 1 = 54 → 27 → 27 → 13 → 13 → 13 → 13 → 6: 256·6·6 = 9216 features.
PAPER_TABLE = {
    "conv1": 96 * (11 * 11 * 3) + 96,  # 34,944
    "conv2": 256 * (5 * 5 * 96) + 256,  # 614,656
    "conv3": 384 * (3 * 3 * 256) + 384,  # 885,120
    "conv4": 384 * (3 * 3 * 384) + 384,  # 1,327,488
    "conv5": 256 * (3 * 3 * 384) + 256,  # 884,992
    "fc6": 4096 * 9216 + 4096,  # 37,752,832
    "fc7": 4096 * 4096 + 4096,  # 16,781,312
    "fc8": 487 * 4096 + 487,  # 1,995,239
}
SINGLE_FRAME_PARAMETERS = 60_276_583  # the table's sum, added up by hand
# What the others have more: filters that reach over more frames, or a first dense layer with two inputs.
MORE_PARAMETERS: dict[type[FusionNetwork], int] = {
    SingleFrame: 0,
    EarlyFusion: 96 * (11 * 11 * 3) * (10 - 1),
    LateFusion: 4096 * 9216,
    SlowFusion: 96 * (11 * 11 * 3) * (4 - 1) + 256 * (5 * 5 * 96) * (2 - 1) + 384 * (3 * 3 * 256) * (2 - 1),
}
NORMALISATION_SCALES = 96 + 256  # BatchNorm's shift stands for the convolution's bias, its scale comes on top


def _build(kind: type[FusionNetwork], seed: int = 0, **settings: Any) -> FusionNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind(**{"num_classes": 5, "size": 24, **settings}).eval()


def _video(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_papers_preset_has_the_papers_layers_and_parameters(kind: type[FusionNetwork]) -> None:
    """C-N-P-C-N-P-C-C-C-P-FC-FC and the classifier; a ReLU after each but the last."""
    assert sum(PAPER_TABLE.values()) == SINGLE_FRAME_PARAMETERS
    letters = {nn.Conv3d: "C", nn.BatchNorm3d: "N", nn.MaxPool3d: "P", nn.Linear: "FC"}
    with torch.device("meta"):
        network = kind.paper()
    assert _count(network) - NORMALISATION_SCALES == SINGLE_FRAME_PARAMETERS + MORE_PARAMETERS[kind]
    found = [letters[type(module)] for module in network.modules() if type(module) in letters]
    assert "-".join(found) == "C-N-P-C-N-P-C-C-C-P-FC-FC-FC"
    assert sum(isinstance(module, nn.ReLU) for module in network.modules()) == 7


@pytest.mark.parametrize(
    ("preset", "num_frames", "expected"), [("lean", 16, [16, 7, 3, 1]), ("paper", 10, [10, 4, 2, 1])]
)
def test_slow_fusion_shortens_time_step_by_step(preset: Any, num_frames: int, expected: list[int]) -> None:
    with torch.device("meta"):
        network = SlowFusion(num_classes=2, num_frames=num_frames, size=90, preset=preset)
        lengths, x = [num_frames], torch.rand(1, 1, num_frames, 90, 90)
        for layer in network.features:
            x = layer(x)
            lengths += [x.shape[2]] if x.shape[2] != lengths[-1] else []
    assert lengths == expected


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(("num_frames", "size"), [(12, (40, 22)), (20, (21, 30))])
def test_long_and_oblong_clips_give_a_score_per_class_and_every_frame_counts(
    kind: type[FusionNetwork], num_frames: int, size: tuple[int, int]
) -> None:
    network = _build(kind, num_frames=num_frames, channels=1, size=size)
    video = _video(2, 1, num_frames, *size).requires_grad_()
    scores = network(video)
    assert scores.shape == (2, 5)
    scores.sum().backward()
    assert video.grad is not None
    assert (video.grad.abs().sum(dim=(1, 3, 4)) > 0).all(), "a frame gets no gradient"


def test_late_fusion_shares_the_middle_frame_of_an_odd_clip() -> None:
    video = _video(1, 1, 5, 24, 24).requires_grad_()
    _build(LateFusion, num_frames=5)(video).sum().backward()
    assert video.grad is not None
    assert (video.grad.abs().sum(dim=(1, 3, 4)) > 0).all()


@pytest.mark.parametrize("kind", NETWORKS)
def test_it_is_the_papers_network_written_out(kind: type[FusionNetwork]) -> None:
    """Against frames in a list, 2-D convolutions on stacked frames, and streams that are called one by one."""
    network = _build(kind, num_frames=8).double()
    _give_statistics(network)
    video = _video(2, 1, 8, 24, 24).double()
    frames = [(video[:, :, number] - PIXEL_MEAN) / PIXEL_STD for number in range(8)]
    features = _naive_tower(network.features, frames)
    if kind is SingleFrame:
        expected = sum(_naive_head(network, frame) for frame in features) / 8
    elif kind is LateFusion:
        first, second = (torch.stack(half).mean(dim=0) for half in (features[:4], features[4:]))
        expected = _naive_head(network, torch.stack([first, second], dim=2))
    else:
        assert len(features) == 1
        expected = _naive_head(network, features[0])
    torch.testing.assert_close(network(video), expected)


def _give_statistics(network: nn.Module) -> None:
    """Give BatchNorm means and variances that are not 0 and 1."""
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                assert values is not None
                values.data.copy_(torch.rand(values.shape, generator=generator) + 0.5)


def _naive_tower(layers: nn.Sequential, frames: list[Tensor]) -> list[Tensor]:
    for layer in layers:
        if isinstance(layer, nn.Conv3d):
            frames = _naive_convolution(layer, frames)
        elif isinstance(layer, nn.BatchNorm3d):
            frames = [F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias) for x in frames]
        elif isinstance(layer, nn.ReLU):
            frames = [x.clamp(min=0) for x in frames]
        elif isinstance(layer, nn.MaxPool3d):
            frames = [F.max_pool2d(x, 2) for x in frames]
    return frames


def _naive_convolution(layer: nn.Conv3d, frames: list[Tensor]) -> list[Tensor]:
    """Slide over time by hand; each window is one picture with its frames as channels."""
    length, step = layer.kernel_size[0], layer.stride[0]
    windows = [frames[start : start + length] for start in range(0, len(frames) - length + 1, step)]
    weight = layer.weight.flatten(1, 2)
    padding = layer.padding[1]
    assert isinstance(padding, int)
    return [
        F.conv2d(torch.stack(window, dim=2).flatten(1, 2), weight, layer.bias, layer.stride[1], padding)
        for window in windows
    ]


def _naive_head(network: FusionNetwork, features: Tensor) -> Tensor:
    first, second = (layer for layer in network.head if isinstance(layer, nn.Linear))
    hidden = (features.flatten(1) @ first.weight.T + first.bias).clamp(min=0)
    return hidden @ second.weight.T + second.bias


def test_a_single_frame_network_does_not_know_the_order_of_frames() -> None:
    video, order = _video(2, 1, 16, 24, 24), torch.randperm(16, generator=torch.Generator().manual_seed(3))
    network = _build(SingleFrame)
    torch.testing.assert_close(network(video), network(video[:, :, order]))
    assert not torch.allclose(_build(SlowFusion)(video), _build(SlowFusion)(video[:, :, order]))


@pytest.mark.parametrize("kind", NETWORKS)
def test_each_layer_is_called_once_and_in_the_order_of_its_definition(kind: type[FusionNetwork]) -> None:
    network = _build(kind)
    leaves = [module for module in network.modules() if not list(module.children())]
    called: list[nn.Module] = []
    for leaf in leaves:
        leaf.register_forward_hook(lambda module, *_: called.append(module))
    network(_video(1, 1, 16, 24, 24))
    assert Counter(called) == Counter(leaves)
    places = [leaves.index(module) for module in called]
    assert all(before < after for before, after in pairwise(places))


@pytest.mark.parametrize(
    ("kind", "preset", "least"),
    [(SingleFrame, "lean", 21), (EarlyFusion, "paper", 32), (LateFusion, "paper", 32), (SlowFusion, "lean", 21)],
)
def test_the_least_size_is_the_least_that_runs(kind: type[FusionNetwork], preset: Any, least: int) -> None:
    frames = {"num_frames": 10} if preset == "paper" else {}
    with pytest.raises(ConfigError, match=rf"frames of {least} pixels or more, got size = \({least - 1}, 200\)"):
        _build(kind, size=(least - 1, 200), preset=preset, **frames)
    with torch.device("meta"):
        network = kind(num_classes=2, size=least, preset=preset, **frames)
        assert network(torch.rand(1, 1, *network.input_shape[1:])).shape == (1, 2)


@pytest.mark.parametrize(
    ("preset", "num_frames", "numbers"),
    [("lean", 15, "8, 12, 16"), ("paper", 4, "6, 10, 14")],
)
def test_slow_fusion_refuses_clips_whose_last_frames_it_would_not_see(
    preset: Any, num_frames: int, numbers: str
) -> None:
    with pytest.raises(ConfigError, match=rf"takes {numbers}, … frames .*so that none is left out; got num_frames = "):
        SlowFusion(num_classes=2, num_frames=num_frames, size=100, preset=preset)


def test_late_fusion_needs_two_frames() -> None:
    with pytest.raises(ConfigError, match="needs 2 frames or more, got num_frames = 1"):
        LateFusion(num_classes=2, num_frames=1)
