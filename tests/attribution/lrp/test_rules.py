import copy
import gc
import random
from collections.abc import Callable
from itertools import product
from types import MethodType
from typing import Any

import pytest
import torch
import zennit.rules
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from zennit.canonizers import AttributeCanonizer
from zennit.composites import LayerMapComposite
from zennit.core import Hook, Stabilizer
from zennit.types import Activation

import vidact.attribution.lrp.rules
from vidact.attribution.lrp.rules import (
    AlphaBeta,
    Box,
    Epsilon,
    EvenSplit,
    Flat,
    Gamma,
    Norm,
    Pass,
    SignalTakesAll,
    WSquare,
    ZPlus,
)
from vidact.core.errors import ExplanationError
from vidact.models.layers import FrameDifferences, Gate, Sum, SumOver

STABILIZER = 1e-6  # Zennit's default
LAYERS: dict[str, tuple[Callable[[bool], nn.Module], tuple[int, ...]]] = {
    "conv1d": (lambda bias: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2, bias=bias), (2, 4, 9)),
    "conv2d": (lambda bias: nn.Conv2d(3, 4, 3, padding="same", dilation=2, bias=bias), (2, 3, 5, 6)),
    "conv3d": (lambda bias: nn.Conv3d(2, 3, (3, 1, 2), (2, 1, 1), (1, 0, 2), bias=bias), (2, 2, 5, 3, 4)),
    "linear": (lambda bias: nn.Linear(7, 5, bias=bias), (3, 7)),
    "linear_in_time": (lambda bias: nn.Linear(7, 5, bias=bias), (2, 3, 7)),
}
MORE_LAYERS = {
    "circular": (lambda bias: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", bias=bias), (2, 3, 4, 5)),
    "depthwise": (lambda bias: nn.Conv3d(4, 4, 3, padding=1, groups=4, bias=bias), (1, 4, 3, 4, 4)),
    "transposed": (lambda bias: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, bias=bias), (2, 4, 3, 3)),
}
RULES: dict[str, dict[str, float]] = {
    "Epsilon": {"epsilon": 1e-3},
    "ZPlus": {},
    "Gamma": {"gamma": 0.3},
    "AlphaBeta": {"alpha": 2.0, "beta": 1.0},
    "WSquare": {},
    "Flat": {},
    "Box": {"low": -3.0, "high": 3.0},
}


def _made(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


def _random(*shape: int, seed: int = 1, signs: str = "mixed") -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x if signs == "mixed" else x.relu()  # with zeros


def _propagate(module: nn.Module, hook: Hook, x: Tensor, relevance: Tensor | None = None) -> Tensor:
    """Explain an output by x while the hook is on the module; by default the output itself."""
    handles = hook.register(module)
    x = x.detach().requires_grad_()
    output = module(x)
    (found,) = torch.autograd.grad(output, x, output.detach() if relevance is None else relevance)
    handles.remove()
    return found


def _matrix(layer: nn.Module, shape: torch.Size) -> Tensor:
    """Push a unit vector per input through a layer: [J, I]."""
    units = torch.eye(shape[1:].numel(), dtype=torch.float64).reshape(-1, *shape[1:])
    with torch.no_grad():
        return (layer(units) - layer(torch.zeros_like(units))).flatten(1).T


def _away(z: Tensor, epsilon: float = STABILIZER) -> Tensor:
    return torch.where(z < 0, z - epsilon, z + epsilon)


def _naive(rule: str, x: Tensor, w: Tensor, b: Tensor, r: Tensor) -> Tensor:
    """Hand r [B, J] down to x [B, I] by the paper's formula, with weights [J, I] and biases [J].

    γ takes r for the output, whose sign it needs: also where the bias is left out, it is the output with it.
    """
    p, n, x = w.clamp(min=0), w.clamp(max=0), x[:, None]  # x: [B, 1, I]
    xp, xn, bp, bn = x.clamp(min=0), x.clamp(max=0), b.clamp(min=0), b.clamp(max=0)

    def share(parts: Tensor, bias: Tensor, epsilon: float = STABILIZER) -> Tensor:  # parts: [B, J, I]
        return parts * (r / _away(parts.sum(dim=2) + bias, epsilon))[:, :, None]

    if rule == "Epsilon":
        handed = share(x * w, b, 1e-3)
    elif rule == "ZPlus":
        handed = share((x * w).clamp(min=0), bp)
    elif rule == "AlphaBeta":
        handed = 2 * share((x * w).clamp(min=0), bp) - share((x * w).clamp(max=0), bn)
    elif rule == "Gamma":
        positive = share(xp * (w + 0.3 * p) + xn * (w + 0.3 * n), b + 0.3 * bp)
        negative = share(xp * (w + 0.3 * n) + xn * (w + 0.3 * p), b + 0.3 * bn)
        handed = torch.where(r[:, :, None] > 0, positive, negative)
    elif rule == "WSquare":
        handed = share((w**2)[None].expand(len(x), -1, -1), b**2)
    elif rule == "Flat":
        handed = share((w != 0).double()[None].expand(len(x), -1, -1), torch.zeros_like(b))
    else:  # the bias cancels: b − b⁺ − b⁻ = 0
        handed = share(x * w - -3.0 * p - 3.0 * n, torch.zeros_like(b))
    return handed.sum(dim=1)


SIGNS = ("mixed", "non-negative")


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_equals_its_formula_on_the_layers_matrix(rule: str) -> None:
    for layer, bias, signs in [
        *product(["conv2d"], ["none", "kept", "zeroed"], SIGNS),
        *product(set(LAYERS) - {"conv2d"}, ["kept"], ["mixed"]),
        *product(set(LAYERS) - {"conv2d"}, ["zeroed"], ["non-negative"]),
    ]:
        build, shape = LAYERS[layer]
        module = _made(lambda build=build, bias=bias: build(bias != "none")).double()
        x = _random(*shape, signs=signs)
        if layer == "linear_in_time":  # the same matrix at every moment
            x = x.flatten(0, 1)
        matrix = _matrix(module, x.shape)
        with torch.no_grad():
            offset = module(torch.zeros_like(x[:1])).flatten() * (bias == "kept")
            relevance = module(x)
        expected = _naive(rule, x.flatten(1), matrix, offset, relevance.flatten(1))
        zero_params = ["bias"] if bias == "zeroed" else None
        hook = getattr(vidact.attribution.lrp.rules, rule)(**RULES[rule], zero_params=zero_params)
        if layer == "linear_in_time":
            x, relevance = x.reshape(shape), relevance.reshape(2, 3, 5)
        found = _propagate(module, hook, x, relevance).reshape(expected.shape)
        assert (found - expected).abs().max() < 1e-10 * expected.abs().max(), (layer, bias, signs)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_equals_zennits(rule: str) -> None:
    theirs = zennit.rules.ZBox if rule == "Box" else getattr(zennit.rules, rule)
    some = set(LAYERS | MORE_LAYERS) - {"conv1d"}
    for layer, zero_params, signs in [
        *product(["conv1d"], [None, "bias", ["bias"], ["weight"]], SIGNS),
        *product(some, [None], ["mixed"]),
        *product(some, ["bias"], ["non-negative"]),
    ]:
        build, shape = (LAYERS | MORE_LAYERS)[layer]
        for dtype, limit in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
            module = _made(lambda build=build: build(True)).to(dtype)
            x = _random(*shape, signs=signs).to(dtype)
            expected = _propagate(module, theirs(**RULES[rule], zero_params=zero_params), x)
            hook = getattr(vidact.attribution.lrp.rules, rule)(**RULES[rule], zero_params=zero_params)
            found = _propagate(module, hook, x)
            case = (layer, zero_params, signs, dtype)
            assert (found - expected).abs().max() <= limit * expected.abs().max(), case


@pytest.mark.parametrize(
    ("rule", "stabilizer"),
    [("Epsilon", Stabilizer(1e-2, clip=True)), ("ZPlus", Stabilizer(1e-2, norm_scale=True)), ("Norm", torch.cosh)],
)
def test_zennits_stabilizers_are_taken(rule: str, stabilizer: Callable[[Tensor], Tensor]) -> None:
    module, x = _made(lambda: nn.Linear(7, 5)).double(), _random(3, 7)
    expected, found = (
        _propagate(module, getattr(source, rule)(stabilizer), x)
        for source in (zennit.rules, vidact.attribution.lrp.rules)
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


def test_a_module_without_weights_hands_down_in_proportion() -> None:
    x = _random(2, 3, 4, 6, signs="non-negative")
    for module in (nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), SumOver(2)):
        matrix = _matrix(module, x.shape)
        relevance = module(x) * _random(*module(x).shape, seed=2)
        expected = _naive("Epsilon", x.flatten(1), matrix, torch.zeros(len(matrix)), relevance.flatten(1))
        found = _propagate(module, Norm(1e-3), x, relevance)
        torch.testing.assert_close(found.flatten(1), expected, rtol=1e-10, atol=1e-12)


class _LoopOverFrames(nn.Module):
    """A convolution that is called once per frame, or with time folded into the batch."""

    def __init__(self, *, folded: bool) -> None:
        super().__init__()
        self.folded = folded
        self.conv, self.relu, self.fc = nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Linear(256, 3)

    def forward(self, video: Tensor) -> Tensor:
        """Score [B, C, T, H, W]."""
        if self.folded:
            frames = video.transpose(1, 2)
            features = self.relu(self.conv(frames.flatten(0, 1))).unflatten(0, frames.shape[:2])
        else:
            features = torch.stack([self.relu(self.conv(frame)) for frame in video.unbind(2)], dim=1)
        scores: Tensor = self.fc(features.flatten(1))
        return scores


def _explain(network: nn.Module, rules: Any, convolution: Hook, video: Tensor) -> Tensor:
    composite = LayerMapComposite([(Activation, rules.Pass()), (nn.Conv2d, convolution), (nn.Linear, rules.Epsilon())])
    with composite.context(network):
        leaf = video.clone().requires_grad_()
        scores = network(leaf)
        (relevance,) = torch.autograd.grad(scores, leaf, scores.detach())
    return relevance


@pytest.mark.parametrize("rule", RULES)
def test_a_module_that_is_called_for_each_frame_is_explained_as_if_called_once(rule: str) -> None:
    folded, looped = (_made(lambda folded=folded: _LoopOverFrames(folded=folded)).double() for folded in (True, False))
    video = _random(2, 2, 4, 6, 6)
    ours = getattr(vidact.attribution.lrp.rules, rule)(**RULES[rule])
    expected = _explain(folded, vidact.attribution.lrp.rules, ours, video)
    torch.testing.assert_close(_explain(looped, vidact.attribution.lrp.rules, ours, video), expected)


def test_zennits_own_rules_are_wrong_there() -> None:
    """If this fails, Zennit has learnt it, and our own rules are for speed only."""
    folded, looped = (_made(lambda folded=folded: _LoopOverFrames(folded=folded)).double() for folded in (True, False))
    expected, found = (
        _explain(network, zennit.rules, zennit.rules.ZPlus(), _random(2, 2, 4, 6, 6)) for network in (folded, looped)
    )
    assert (found - expected).abs().max() > 0.1 * expected.abs().max()


class _Outer(nn.Module):
    """One module of several inputs, as a network of one."""

    def __init__(self, module: nn.Module, *sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.module, self.sizes = module, sizes

    def forward(self, joined: Tensor) -> Tensor:
        """Divide [B, N] into the module's inputs."""
        parts = joined.split([torch.Size(size).numel() for size in self.sizes], dim=1)
        output: Tensor = self.module(*(part.unflatten(1, size) for part, size in zip(parts, self.sizes, strict=True)))
        return output


@pytest.mark.parametrize("sizes", [((4,), (4,)), ((4,), (4,), (4,)), ((2, 3), (2, 1))])
def test_an_addition_hands_each_input_its_share(sizes: tuple[tuple[int, ...], ...]) -> None:
    network, x = _Outer(Sum(), *sizes), _random(3, sum(torch.Size(size).numel() for size in sizes))
    handles = Norm().register(network.module)
    leaf = x.clone().requires_grad_()
    output = network(leaf)
    relevance = _random(*output.shape, seed=2)
    (found,) = torch.autograd.grad(output, leaf, relevance)
    handles.remove()
    matrix = _matrix(network, x.shape)
    expected = (x[:, None] * matrix * (relevance / _away(output.detach())).flatten(1)[:, :, None]).sum(dim=1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("gate", [(2, 3), (2, 1)])
def test_the_signal_takes_all(gate: tuple[int, int]) -> None:
    network, x = _Outer(Gate(), (2, 3), gate), _random(2, 6 + gate[0] * gate[1])
    relevance = _random(2, 2, 3, seed=2)
    handles = SignalTakesAll().register(network.module)
    leaf = x.clone().requires_grad_()
    output = network(leaf)
    handles.remove()
    (found,) = torch.autograd.grad(output, leaf, relevance)
    torch.testing.assert_close(output.detach(), network(x))
    assert torch.equal(found[:, :6], relevance.flatten(1))
    assert (found[:, 6:] == 0).all()


def test_a_difference_of_frames_is_split_evenly() -> None:
    """The w² rule on the differences' own matrix."""
    x, relevance = _random(2, 1, 5, 1, 2), _random(2, 1, 5, 1, 2, seed=2)
    squared = _matrix(FrameDifferences(), x.shape) ** 2
    expected = (relevance.flatten(1) / squared.sum(dim=1)) @ squared
    found = _propagate(FrameDifferences(), EvenSplit(), x, relevance)
    torch.testing.assert_close(found.flatten(1), expected)


def test_relevance_passes_activations_in_place_ones_too() -> None:
    network = _made(lambda: nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(27, 2)))
    plain = copy.deepcopy(network)
    plain[1] = nn.ReLU()
    x = _random(2, 1, 4, 4).float()
    rules = vidact.attribution.lrp.rules
    assert torch.equal(_explain(network, rules, ZPlus(), x), _explain(plain, rules, ZPlus(), x))
    assert network[1].inplace
    assert torch.equal(network(x), plain(x))


class _ScaledColours(nn.Module):
    def forward(self, gray: Tensor) -> Tensor:
        """Make three channels of one."""
        return gray * torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1)


def test_relevance_that_passes_a_broadcast_is_added_up() -> None:
    x, relevance = _random(2, 1, 3, 3), _random(2, 3, 3, 3, seed=2)
    torch.testing.assert_close(_propagate(_ScaledColours(), Pass(), x, relevance), relevance.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("rule", RULES)
def test_two_targets_of_one_forward_are_explained_one_after_the_other(rule: str) -> None:
    module = _made(lambda: nn.Conv1d(2, 3, 2)).double().requires_grad_(rule in {"Epsilon", "ZPlus"})
    x = _random(2, 2, 5)
    hook = getattr(vidact.attribution.lrp.rules, rule)(**RULES[rule])
    handles = hook.register(module)
    leaf = x.clone().requires_grad_()
    output = module(leaf)
    targets = torch.eye(2, dtype=torch.float64)[:, None, None, :1].expand(2, 2, 3, 4) * output.detach()
    together = [torch.autograd.grad(output, leaf, target, retain_graph=True)[0] for target in targets]
    handles.remove()
    for found, target in zip(together, targets, strict=True):
        torch.testing.assert_close(found, _propagate(module, hook.copy(), x, target), rtol=1e-12, atol=0)


def test_a_clip_of_mixed_signs_does_not_change_another_clips_relevance() -> None:
    module, hook = _made(lambda: nn.Conv2d(2, 3, 2)).double(), ZPlus(zero_params=["bias"])
    x = torch.cat([_random(1, 2, 4, 4), _random(1, 2, 4, 4, signs="non-negative", seed=3)])
    together = _propagate(module, hook.copy(), x)
    alone = torch.cat([_propagate(module, hook.copy(), clip) for clip in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=0)


@pytest.mark.parametrize("rule", [*RULES, "Norm", "Pass"])
def test_a_hook_leaves_nothing_behind(rule: str) -> None:
    module = _made(lambda: nn.Conv1d(3, 3, 1))
    before, parameters = dict(vars(module)), dict(module._parameters)
    inner = {name: copy.copy(value) for name, value in before.items() if isinstance(value, dict)}
    state = random.getstate(), torch.get_rng_state()
    _propagate(module, getattr(vidact.attribution.lrp.rules, rule)(**RULES.get(rule, {})), _random(2, 3, 4).float())
    assert vars(module) == before
    assert {name: vars(module)[name] for name in inner} == inner
    assert all(module._parameters[name] is parameters[name] for name in parameters)
    assert all(parameter.grad is None for parameter in parameters.values())
    assert random.getstate() == state[0]
    assert torch.equal(torch.get_rng_state(), state[1])


@pytest.mark.parametrize("signs", ["mixed", "non-negative"])
def test_z_plus_keeps_no_clamped_weight_for_backward(signs: str) -> None:
    module = _made(lambda: nn.Linear(11, 13)).double()
    handles = ZPlus().register(module)
    output = module(_random(2, 11, signs=signs).requires_grad_())
    kept = [one for one in gc.get_objects() if type(one) in (Tensor, nn.Parameter) and one.shape == (13, 11)]
    assert {one.data_ptr() for one in kept} == {module.weight.data_ptr()}
    assert output.grad_fn is not None  # the graph is there still
    handles.remove()


def _doubled(name: str, module: nn.Module) -> dict[str, object] | None:
    if not isinstance(module, nn.Conv1d):
        return None
    return {"forward": MethodType(lambda self, x: 2 * nn.Conv1d.forward(self, x), module)}


def test_a_canonizers_forward_is_explained_and_may_be_removed_first() -> None:
    """Composites remove their canonizers before their hooks."""
    module, x = _made(lambda: nn.Conv1d(2, 3, 2, bias=False)).double(), _random(1, 2, 4)
    for rule in (Epsilon, ZPlus):
        composite = LayerMapComposite([(nn.Conv1d, rule())], canonizers=[AttributeCanonizer(_doubled)])
        leaf = x.clone().requires_grad_()
        with composite.context(module):
            output = module(leaf)
            (found,) = torch.autograd.grad(output, leaf, output.detach())
        torch.testing.assert_close(output, 2 * module(x))
        expected = 2 * _propagate(module, rule(), x)  # a factor common to all weights cancels, but for ε
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert "forward" not in vars(module)


def test_a_forward_that_fails_leaves_nothing_behind() -> None:
    module = nn.Linear(3, 2)
    bias, handles = module.bias, Epsilon(zero_params=["bias"]).register(module)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        module(torch.zeros(1, 4, requires_grad=True))
    handles.remove()
    assert module.bias is bias


def test_a_copy_of_a_registered_network_uses_its_own_weights() -> None:
    module, x = _made(lambda: nn.Linear(3, 2)).double(), _random(2, 3)
    handles = ZPlus().register(module)
    twin = copy.deepcopy(module)
    nn.init.ones_(module.weight)
    handles.remove()
    leaf = x.clone().requires_grad_()
    output = twin(leaf)
    (found,) = torch.autograd.grad(output, leaf, output.detach())
    del twin.forward
    torch.testing.assert_close(found, _propagate(twin, ZPlus(), x))


@pytest.mark.parametrize("rule", [*RULES, "Norm", "Pass"])
def test_an_inactive_composite_gives_the_gradient(rule: str) -> None:
    module, x = _made(lambda: nn.Conv1d(3, 3, 2)), _random(2, 3, 4).float().requires_grad_()
    (expected,) = torch.autograd.grad(module(x).square().sum(), x)
    composite = LayerMapComposite([(nn.Conv1d, getattr(vidact.attribution.lrp.rules, rule)(**RULES.get(rule, {})))])
    with composite.context(module):
        output = module(x)
        with composite.inactive():
            (made_before,) = torch.autograd.grad(output.square().sum(), x)
            (made_within,) = torch.autograd.grad(module(x).square().sum(), x)
    torch.testing.assert_close(made_before, expected)
    torch.testing.assert_close(made_within, expected)


@pytest.mark.parametrize("rule", RULES)
def test_the_gradient_of_relevance_is_zennits(rule: str) -> None:
    module, x, found = _made(lambda: nn.Conv1d(3, 4, 2)).double(), _random(2, 3, 4), []
    theirs = zennit.rules.ZBox if rule == "Box" else getattr(zennit.rules, rule)
    for hook in (theirs(**RULES[rule]), getattr(vidact.attribution.lrp.rules, rule)(**RULES[rule])):
        composite = LayerMapComposite([(nn.Conv1d, hook)])
        with composite.context(module):
            leaf = x.clone().requires_grad_()
            output = module(leaf)
            (relevance,) = torch.autograd.grad(output, leaf, output, create_graph=True)
            with composite.inactive():
                found.append(torch.autograd.grad(relevance.square().sum(), leaf)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-10)


def test_without_gradients_a_hook_does_nothing() -> None:
    module, x = _made(lambda: nn.Linear(3, 2)), _random(2, 3).float()
    expected = module(x)
    handles = Epsilon(zero_params=["bias"]).register(module)
    with torch.no_grad():
        assert torch.equal(module(x.requires_grad_()), expected)
    assert torch.equal(module(x.detach()), expected)
    handles.remove()


def test_what_no_rule_can_explain_is_named() -> None:
    module = nn.Linear(3, 2)
    Pass().register(module)
    with pytest.raises(ExplanationError, match="has a rule already"):
        Pass().register(module)
    with pytest.raises(ExplanationError, match="remove_parametrizations"):
        Flat().register(parametrizations.weight_norm(nn.Linear(3, 2)))
    module = nn.Linear(3, 2)
    module.forward = lambda x: x  # type: ignore[method-assign]
    with pytest.raises(ExplanationError, match="not its method"):
        Gamma().register(module)
    for hook in (AlphaBeta(), WSquare(), Box(0.0, 1.0), Pass()):
        module = Sum()
        hook.register(module)
        with pytest.raises(ExplanationError, match="one input.*Norm for an addition"):
            module(torch.ones(2, requires_grad=True), torch.ones(2))
