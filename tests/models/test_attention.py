import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from zennit.composites import LayerMapComposite

from vidact.attribution.graph.canonizers import build_canonizers
from vidact.attribution.lrp.rules import Epsilon, EvenSplit, Norm, Pass, SignalTakesAll, ZPlus
from vidact.core.errors import ConfigError
from vidact.core.networks import Attentive, Regularised
from vidact.models.attention import FrameWeights, SpatioTemporalAttention, contrast, total_variation, unimodality
from vidact.models.layers import FrameDifferences, Gate, Normalisation, Sum, SumOver


def _network(**kwargs: object) -> SpatioTemporalAttention:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        chosen = {"num_classes": 5, "num_frames": 4, "size": 16, "widths": (4, 6, 8), "hidden_channels": 5, **kwargs}
        return SpatioTemporalAttention(**chosen)  # type: ignore[arg-type]


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("num_frames", "size", "channels", "differences"),
    [(1, 8, 1, False), (2, 8, 1, True), (5, (25, 16), 3, True)],
)
def test_any_shape_gives_a_score_per_class_and_a_gradient_per_frame(
    num_frames: int, size: int | tuple[int, int], channels: int, differences: bool
) -> None:
    network = _network(num_frames=num_frames, size=size, channels=channels, differences=differences).eval()
    height, width = (size, size) if isinstance(size, int) else size
    video = _random(2, channels, num_frames, height, width).requires_grad_()
    scores = network(video)
    assert scores.shape == (2, 5)
    scores[:, 0].sum().backward()
    assert video.grad is not None
    assert (video.grad.abs().sum(dim=(1, 3, 4)) > 0).all(), "a frame gets no gradient"


def test_each_layer_with_weights_is_called_once_in_the_order_of_definition() -> None:
    network = _network()
    leaves = [module for module in network.modules() if not [*module.children()] and [*module.parameters()]]
    calls: list[nn.Module] = []
    for leaf in leaves:
        leaf.register_forward_hook(lambda module, *_: calls.append(module))
    network(_random(2, 1, 4, 16, 16))
    assert [*map(id, calls)] == [*map(id, leaves)]


def test_frames_that_are_too_small_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"frames of 8 pixels or more, got size = \(7, 7\)"):
        _network(size=7)


def test_the_context_is_the_weighted_mean_of_the_hidden_states() -> None:
    """The network again from its parts, with plain arithmetic where it has modules."""
    network, video = _network().eval(), _random(2, 1, 4, 16, 16)
    found: dict[str, Tensor] = {}
    for name in ("memory", "frame_weights"):
        network.get_submodule(name).register_forward_hook(
            lambda *passed, name=name: found.update({name: passed[2], f"{name}_input": passed[1][0]})  # type: ignore[misc]
        )
    scores = network(video)
    features = torch.stack([network.features(network.input(video)[:, :, t]) for t in range(4)], dim=1)
    masks = torch.stack([network.mask(features[:, t]) for t in range(4)], dim=1)
    torch.testing.assert_close(found["memory_input"], features * masks)
    hidden, weights = found["memory"], found["frame_weights"]
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    context = sum(weights[:, t, None] * hidden[:, t].mean(dim=(2, 3)) for t in range(4))
    torch.testing.assert_close(scores, network.head[-1](context))


def test_frame_weights_are_the_softmax_of_two_linear_scores() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = FrameWeights(3, 2)
    hidden, features = _random(2, 4, 2, 5, 5), _random(2, 4, 3, 5, 5, seed=1)
    of_hidden, of_features = layer.score_hidden[-1], layer.score_features[-1]
    scores = torch.tensor(
        [
            [
                (of_hidden.weight[0] @ hidden[b, t].mean(dim=(1, 2)) + of_hidden.bias[0]).item()
                + (of_features.weight[0] @ features[b, t].mean(dim=(1, 2))).item()
                for t in range(4)
            ]
            for b in range(2)
        ]
    )
    torch.testing.assert_close(layer(hidden, features), scores.exp() / scores.exp().sum(dim=1, keepdim=True))


def test_attention_maps_lie_on_the_video_and_are_at_most_the_frames_weight() -> None:
    network, video = _network(size=(16, 24)).eval(), _random(2, 1, 4, 16, 24)
    found: list[Tensor] = []
    network.frame_weights.register_forward_hook(lambda *passed: found.append(passed[2]))
    maps = network.attention_maps(video)
    assert maps.shape == (2, 4, 16, 24)
    assert (maps >= 0).all()
    assert (maps.amax(dim=(2, 3)) <= found[0] + 1e-6).all()


def test_a_mask_that_is_one_everywhere_leaves_the_frames_weights() -> None:
    network, video = _network().eval(), _random(2, 1, 4, 16, 16)
    with torch.no_grad():
        network.mask[3].weight.zero_()
        network.mask[3].bias.fill_(50)
    maps = network.attention_maps(video)
    torch.testing.assert_close(maps, maps.mean(dim=(2, 3), keepdim=True).expand_as(maps))
    torch.testing.assert_close(maps[:, :, 0, 0].sum(dim=1), torch.ones(2))


def test_it_is_regularised_and_attentive() -> None:
    assert isinstance(_network(), Regularised)
    assert isinstance(_network(), Attentive)


def test_the_penalties_are_the_losses_times_their_weights() -> None:
    network, video = _network(total_variation=0.5, contrast=2.0, unimodality=3.0).eval(), _random(2, 1, 4, 16, 16)
    found: dict[str, Tensor] = {}
    for name in ("mask", "frame_weights"):
        network.get_submodule(name).register_forward_hook(
            lambda *passed, name=name: found.update({name: passed[2]})  # type: ignore[misc]
        )
    scores, penalties = network.scores_and_penalties(video)
    torch.testing.assert_close(scores, network(video))
    masks = found["mask"].reshape(2, 4, 2, 2)
    torch.testing.assert_close(penalties["total_variation"], 0.5 * total_variation(masks))
    torch.testing.assert_close(penalties["contrast"], 2 * contrast(masks))
    torch.testing.assert_close(penalties["unimodality"], 3 * unimodality(found["frame_weights"]))


def test_a_penalty_of_weight_zero_is_absent() -> None:
    network = _network(total_variation=0.0, unimodality=0.0)
    assert [*network.scores_and_penalties(_random(1, 1, 4, 16, 16))[1]] == ["contrast"]


def _composite(clip: Tensor) -> LayerMapComposite:
    """z⁺ for convolutions, also in the ConvLSTM, ε for the rest; biases take no part."""
    layer_map = [
        (Gate, SignalTakesAll()),
        (FrameDifferences, EvenSplit()),
        ((Normalisation, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.BatchNorm2d), Pass()),
        ((Sum, SumOver, nn.AdaptiveAvgPool2d), Norm()),
        (nn.Conv2d, ZPlus(zero_params=["bias"])),
        (nn.Linear, Epsilon(zero_params=["bias"])),
    ]
    return LayerMapComposite(layer_map, canonizers=build_canonizers(clip))


def _relevance(network: nn.Module, video: Tensor) -> Tensor:
    """Explain class 0."""
    network, leaf = copy.deepcopy(network).requires_grad_(requires_grad=False), video.clone().requires_grad_()
    with _composite(video).context(network) as hooked:
        scores = hooked(leaf)
        start = scores.detach() * torch.tensor([1.0, 0, 0, 0, 0])
        (relevance,) = torch.autograd.grad(scores, leaf, start)
    return relevance


class _Constant(nn.Module):
    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def forward(self, *_: Tensor) -> Tensor:
        return self.values


def test_masks_and_weights_get_no_relevance() -> None:
    """Relevance is that of the network whose masks and weights are constants."""
    network, video = _network().eval().double(), _random(2, 1, 4, 16, 16).double()
    fixed = copy.deepcopy(network)
    for name in ("mask", "frame_weights"):
        network.get_submodule(name).register_forward_hook(
            lambda *passed, name=name: setattr(fixed, name, _Constant(passed[2].detach()))  # type: ignore[misc]
        )
    network(video)
    for name in ("mask", "frame_weights"):
        network.get_submodule(name)._forward_hooks.clear()
    torch.testing.assert_close(_relevance(network, video), _relevance(fixed, video), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("num_frames", "differences"), [(1, False), (16, True)])
def test_relevance_adds_up_to_the_score(num_frames: int, differences: bool) -> None:
    network = _network(num_frames=num_frames, differences=differences).eval()
    video = _random(2, 1, num_frames, 16, 16)
    relevance, scores = _relevance(network, video), network(video)[:, 0].detach()
    assert (relevance.sum(dim=(1, 2, 3, 4)) / scores - 1).abs().max() < 1e-3


def test_a_network_that_has_run_can_be_copied() -> None:
    network = _network()
    scores, penalties = network.scores_and_penalties(_random(2, 1, 4, 16, 16))
    (scores.sum() + sum(penalties.values())).backward()
    other = copy.deepcopy(network).eval()
    torch.testing.assert_close(other(_random(2, 1, 4, 16, 16)), network.eval()(_random(2, 1, 4, 16, 16)))
    assert len({id(step.gates.weight) for step in other.memory.steps}) == 1


def _naive_total_variation(masks: Tensor) -> float:
    total = 0.0
    num_clips, num_frames, height, width = masks.shape
    for b in range(num_clips):
        for t in range(num_frames):
            for y in range(height):
                for x in range(width):
                    total += abs(masks[b, t, y, x] - masks[b, t, y - 1, x]).item() if y else 0
                    total += abs(masks[b, t, y, x] - masks[b, t, y, x - 1]).item() if x else 0
    return total / num_clips


def _naive_contrast(masks: Tensor) -> float:
    return sum(-m / 2 if m > 0.5 else m / 2 for m in masks.flatten().tolist()) / len(masks)


def _naive_unimodality(weights: Tensor) -> float:
    rows = weights.tolist()
    return sum(max(0, w[t - 1] * w[t + 1] - w[t] ** 2) for w in rows for t in range(1, len(w) - 1)) / len(rows)


@pytest.mark.parametrize(
    ("loss", "naive"), [(total_variation, _naive_total_variation), (contrast, _naive_contrast)], ids=["tv", "contrast"]
)
def test_a_loss_of_masks_is_its_formula_in_loops(
    loss: Callable[[Tensor], Tensor], naive: Callable[[Tensor], float]
) -> None:
    masks = _random(2, 3, 4, 5).double()
    assert loss(masks).item() == pytest.approx(naive(masks))


@pytest.mark.parametrize("num_frames", [1, 2, 8])
def test_the_loss_of_frame_weights_is_its_formula_in_loops(num_frames: int) -> None:
    weights = _random(3, num_frames).double().softmax(dim=1)
    assert unimodality(weights).item() == pytest.approx(_naive_unimodality(weights))


def test_a_constant_mask_has_no_variation() -> None:
    assert total_variation(torch.full((2, 3, 4, 5), 0.3)).item() == 0


def test_the_variation_of_a_bright_column_is_its_two_sides() -> None:
    mask = torch.zeros(1, 1, 6, 5)
    mask[..., 2] = 1
    assert total_variation(mask).item() == 12


def test_contrast_is_least_where_the_mask_is_clear() -> None:
    for clear, unclear in ((1.0, 0.6), (0.0, 0.4)):
        assert contrast(torch.full((1, 1, 4, 4), clear)) < contrast(torch.full((1, 1, 4, 4), unclear))


def test_contrast_draws_masks_away_from_one_half() -> None:
    masks = torch.tensor([0.2, 0.49, 0.51, 0.9]).reshape(1, 1, 2, 2).requires_grad_()
    contrast(masks).backward()
    assert masks.grad is not None
    assert masks.grad.flatten().tolist() == [0.5, 0.5, -0.5, -0.5]


@settings(deadline=None, max_examples=50)
@given(peak=st.floats(0, 15), width=st.floats(0.5, 20))
def test_a_course_with_one_peak_costs_nothing(peak: float, width: float) -> None:
    """A Gaussian is log-concave, wherever its peak is."""
    time = torch.arange(16, dtype=torch.float64)
    assert unimodality((-(((time - peak) / width) ** 2)).softmax(dim=0)[None]).item() < 1e-12


def test_a_course_with_two_peaks_costs_something() -> None:
    assert unimodality(torch.tensor([[0.4, 0.1, 0.5]])).item() == pytest.approx(0.2 - 0.01)
