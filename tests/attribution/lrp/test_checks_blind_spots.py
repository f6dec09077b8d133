from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import activation
from torch.nn.utils import parametrizations

from vidact.attribution.graph.unrolling import UnrollLSTM
from vidact.attribution.lrp.checks import find_obstacles
from vidact.attribution.lrp.obstacles import Obstacle
from vidact.core.errors import ExplanationError
from vidact.models.layers import Gate, Sum

FRAMES, SIZE = 2, 4


def _video() -> Tensor:
    return torch.rand(1, 1, FRAMES, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


class _Net(nn.Module):
    """An explainable network with a place for what is tested."""

    def __init__(self, between: Callable[..., Any] | None = None, **modules: nn.Module) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv, self.relu = nn.Conv3d(1, 4, 3, padding=1), nn.ReLU()
            self.pool, self.flatten, self.head = nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3)
        self.sum, self.gate, self.between = Sum(), Gate(), between
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, video: Tensor) -> Tensor:
        x = self.relu(self.conv(video))
        x = x if self.between is None else self.between(self, x)
        return self.head(self.flatten(self.pool(x)))


def _hiding(network: nn.Module) -> list[Obstacle]:
    return [obstacle for obstacle in find_obstacles(network.eval(), _video()) if obstacle.hides_relevance]


@pytest.mark.parametrize("mode", ["nearest", "trilinear", "area"])
def test_upsampling_with_a_mean_is_explainable(mode: str) -> None:
    assert find_obstacles(_Net(relu=nn.Upsample(size=(2, 2, 2), mode=mode)), _video()) == ()


def test_bicubic_upsampling_has_no_rule() -> None:
    class Pictures(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Upsample(scale_factor=2, mode="bicubic")

        def forward(self, x: Tensor) -> Tensor:
            return self.up(x.flatten(1, 2)).unflatten(1, x.shape[1:3])

    assert [(obstacle.kind, obstacle.module) for obstacle in _hiding(_Net(relu=Pictures()))] == [("no_rule", "relu.up")]


def _pooled(values: Tensor) -> Tensor:
    return values.mean(dim=[2, 3, 4], keepdim=True)


def _scaled(values: Tensor) -> Tensor:
    return torch.add(torch.ones_like(values), values, alpha=3)


def _accumulated(values: Tensor) -> Tensor:
    return torch.index_put(values, [torch.arange(1)], values.flip(2), accumulate=True)


def _swish(values: Tensor) -> Tensor:
    return values * torch.sigmoid(values)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("function", [_pooled, _swish, _scaled, _accumulated])
def test_a_scripted_function_is_seen(function: Callable[[Tensor], Tensor]) -> None:
    scripted = torch.jit.script(function)
    found = _hiding(_Net(lambda net, x: scripted(x)))
    assert found
    assert {obstacle.kind for obstacle in found} == {"functional"}


def _without_gradient(net: _Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        flipped = 2 * x.flip(2)
    return torch.cat([x, flipped], 2)


def _into_a_buffer(net: _Net, x: Tensor) -> Tensor:
    buffer = torch.zeros_like(x)
    buffer[:, :2] = x.detach()[:, :2]
    return net.sum(x, buffer)


DETACHED: dict[str, Callable[[_Net, Tensor], Tensor]] = {
    "plus": lambda net, x: x + (2 * x).detach(),
    "data": lambda net, x: torch.cat([x, x.data], 2),
    "no_grad": _without_gradient,
    "module": lambda net, x: net.sum(x, x.detach()),
    "buffer": _into_a_buffer,
}


@pytest.mark.parametrize("name", DETACHED)
def test_a_detached_part_of_the_video_is_no_constant(name: str) -> None:
    (obstacle,) = _hiding(_Net(DETACHED[name]))
    assert obstacle.kind == "functional"
    assert "let gradients through" in obstacle.remedy


def test_a_detached_gate_and_new_tensors_are_fine() -> None:
    def between(net: _Net, x: Tensor) -> Tensor:
        return net.sum(net.gate(x, x.detach().sigmoid()), torch.ones(1).type_as(x).expand_as(x) + torch.zeros_like(x))

    assert _hiding(_Net(between)) == []


def test_a_backbone_without_gradient_is_named_in_one_line() -> None:
    class Frozen(_Net):
        def forward(self, video: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.pool(self.relu(self.conv(video)))
            return self.head(self.flatten(x))

    (obstacle,) = _hiding(Frozen())
    assert obstacle.kind == "unseen_frames"


class _Standardised(nn.Conv3d):
    def forward(self, values: Tensor) -> Tensor:
        return F.conv3d(values, self.weight - self.weight.mean(), self.bias, padding=1)


class _Own(nn.Conv3d):
    def forward(self, values: Tensor) -> Tensor:
        return F.conv3d(values, weight=self.weight, bias=self.bias, padding=1)


def test_a_weight_that_is_computed_is_named() -> None:
    network = _Net(conv=_Standardised(1, 4, 3))
    assert [(obstacle.kind, obstacle.module) for obstacle in _hiding(network)] == [("no_rule", "conv")]
    for conv in (_Own(1, 4, 3), parametrizations.weight_norm(nn.Conv3d(1, 4, 3, padding=1))):
        assert _hiding(_Net(conv=conv)) == []  # torch's own way to compute one is followed


def test_a_batch_norm_that_gives_zero_is_judged_as_any_other() -> None:
    norm, inner = nn.BatchNorm3d(4), nn.Conv3d(4, 4, 1)
    nn.init.zeros_(norm.weight)

    def both(net: _Net, x: Tensor) -> Tensor:
        x = net.inner(x)
        return net.sum(x, net.norm(x))

    assert [(obstacle.kind, obstacle.module) for obstacle in _hiding(_Net(both, inner=inner, norm=norm))] == [
        ("not_merged", "norm")
    ]
    after_relu = _Net(lambda net, x: net.sum(x, net.norm(net.relu(net.inner(x)))), inner=inner, norm=norm)
    assert _hiding(after_relu) == []


def _index_put(net: _Net, x: Tensor) -> Tensor:
    return x.index_put((torch.arange(len(x)),), net.relu(x), accumulate=True)


def _index_put_by_place(net: _Net, x: Tensor) -> Tensor:
    return torch.index_put(x, (torch.arange(len(x)),), net.relu(x), True)


ADDING: dict[str, tuple[Callable[[_Net, Tensor], Tensor], str]] = {
    "scaled": (lambda net, x: torch.add(torch.ones(1), x, alpha=3), "Sum, and put the factor into the weights"),
    "scaled by a method": (lambda net, x: torch.ones_like(x).add(x, alpha=3), "put the factor into the weights"),
    "scaled by name": (lambda net, x: torch.add(torch.ones(1), other=x, alpha=0.5), "put the factor into the weights"),
    "index_put": (_index_put, "layers.Sum"),
    "index_put by place": (_index_put_by_place, "layers.Sum"),
}


@pytest.mark.parametrize("name", ADDING)
def test_an_addition_that_looks_harmless_is_named(name: str) -> None:
    between, remedy = ADDING[name]
    (obstacle,) = _hiding(_Net(between))
    assert obstacle.kind == "functional"
    assert "test_checks_blind_spots.py:" in obstacle.why
    assert remedy in obstacle.remedy


def test_numbers_may_be_moved_and_constants_added_by_a_module() -> None:
    assert _hiding(_Net(lambda net, x: torch.zeros_like(x).index_put((torch.arange(len(x)),), x))) == []
    network = _Net(lambda net, x: net.offset(x, torch.ones(1)))
    network.offset = Sum()
    assert _hiding(network) == []
    for between in (
        lambda net, x: torch.add(x, torch.ones(1), alpha=3),
        lambda net, x: torch.sub(x, torch.ones(1), alpha=3),
    ):
        assert len(_hiding(_Net(between))) == 1


def _doubling(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output * 2


def _doubling_in_place(module: nn.Module, inputs: Any, output: Tensor) -> None:
    output.mul_(2)


def _doubling_before(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return inputs[0] * 2


def _looking(module: nn.Module, inputs: Any, output: Tensor) -> None:
    output.mean()


@pytest.mark.parametrize("layer", ["conv", "relu", "flatten"])
def test_a_hook_that_changes_what_a_module_gives_or_gets_is_named(layer: str) -> None:
    for hook in (_doubling, _doubling_in_place):
        network = _Net()
        network.get_submodule(layer).register_forward_hook(hook)
        *_, obstacle = _hiding(network)
        assert obstacle.kind == "functional"
        assert f"test_checks_blind_spots.py:{hook.__code__.co_firstlineno + 1}" in obstacle.why
    network = _Net()
    network.get_submodule(layer).register_forward_pre_hook(_doubling_before)
    assert [obstacle.kind for obstacle in _hiding(network)] == ["functional"]
    network = _Net()
    network.get_submodule(layer).register_forward_hook(_looking)
    assert _hiding(network) == []


class _StandardisedInside(nn.Conv3d):
    def _conv_forward(self, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(values, weight - weight.mean(), bias)  # type: ignore[arg-type]


class _OtherDefaults(nn.Conv3d):
    def __init__(self, *args: int) -> None:
        super().__init__(*args, padding=1)

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)


class _AnyNorm(nn.BatchNorm3d):
    def _check_input_dim(self, values: Tensor) -> None:
        pass


def test_a_subclass_that_replaces_what_forward_calls_is_looked_into() -> None:
    (obstacle,) = _hiding(_Net(conv=_StandardisedInside(1, 4, 3, padding=1)))
    assert (obstacle.kind, obstacle.module) == ("no_rule", "conv")
    assert "uses a weight that is not its own" in obstacle.why
    replaced = nn.Conv3d(1, 4, 3, padding=1)
    replaced._conv_forward = lambda values, weight, bias: F.conv3d(values, 2 * weight, bias, padding=1)  # type: ignore
    assert [(obstacle.kind, obstacle.module) for obstacle in _hiding(_Net(conv=replaced))] == [("no_rule", "conv")]
    assert _hiding(_Net(lambda net, x: net.norm(x), conv=_OtherDefaults(1, 4, 3), norm=_AnyNorm(4))) == []


def test_activations_have_a_rule_or_a_remedy_that_is_not_themselves() -> None:
    needs = {"Threshold": (0.1, 0.0), "MultiheadAttention": (4, 2)} | dict.fromkeys(["Softmax", "Softmin"], (1,))
    needs["LogSoftmax"] = (1,)
    places = {"MultiheadAttention": _SelfAttention, "Softmax2d": _Pictures}
    for name in activation.__all__:
        module = getattr(nn, name)(*needs.get(name, ()))
        found = _hiding(_Net(relu=places[name](module) if name in places else module))
        if name in {"GLU", "MultiheadAttention", "Softmax", "Softmax2d", "Softmin", "LogSoftmax"}:
            assert {obstacle.kind for obstacle in found} == {"no_rule"}, name
            assert all(f"nn.{name}" not in obstacle.remedy for obstacle in found), name
            assert not any("build it of modules" in obstacle.remedy for obstacle in found), name
        else:
            assert found == [], name


class _Pictures(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.flatten(2, 3)).unflatten(2, x.shape[2:4])


class _SelfAttention(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        steps = x.flatten(2).movedim(2, 0)
        return self.module(steps, steps, steps)[0].movedim(0, 2).unflatten(2, x.shape[2:])


def test_a_line_of_torchvision_is_named_as_it_is_of_use() -> None:
    network = _Net(relu=torchvision.ops.SqueezeExcitation(4, 2, activation=nn.ReLU))
    network.relu.avgpool, network.relu.fc1, network.relu.fc2 = (  # type: ignore[assignment]
        nn.AdaptiveAvgPool3d(1),
        nn.Conv3d(4, 2, 1),
        nn.Conv3d(2, 4, 1),
    )
    assert any("torchvision/ops/misc.py:" in obstacle.why for obstacle in _hiding(network))


def test_an_unrolled_lstm_may_be_told_to_flatten_its_parameters() -> None:
    network = nn.Sequential(nn.LSTM(2, 2))
    UnrollLSTM().apply(network)
    network[0].flatten_parameters()  # type: ignore[operator]


def _plus(x: Tensor) -> None:
    x += 1.0


def _set(x: Tensor) -> None:
    x[:, :, 0] = 0


@pytest.mark.parametrize(
    ("write", "relu"), [(_plus, nn.ReLU()), (_plus, nn.Identity()), (_set, nn.ReLU()), (torch.relu_, nn.Identity())]
)
def test_what_a_module_gives_is_not_written_into(write: Callable[[Tensor], Any], relu: nn.Module) -> None:
    def between(net: _Net, x: Tensor) -> Tensor:
        write(x)
        return x

    found = _hiding(_Net(between, relu=relu))
    assert any("not in place" in obstacle.remedy for obstacle in found)


def test_a_constant_that_no_module_adds_is_named() -> None:
    """Its relevance would end on voxels: behind a dead ReLU it would be all of the score."""
    for between in (lambda net, x: torch.ones(1) + x, lambda net, x: torch.ones(1) - x, lambda net, x: x - 0.5):
        assert len(_hiding(_Net(between))) == 1
    assert len(_hiding(_Net(relu=nn.ConstantPad3d(1, 0.5)))) == 1


def test_what_cannot_be_copied_or_run_is_said_in_one_line() -> None:
    network = _Net()
    network.kept = [network.conv(_video())]
    with pytest.raises(ExplanationError, match="cannot be copied") as error:
        find_obstacles(network, _video())
    assert "\n" not in str(error.value)
    with pytest.raises(ExplanationError, match="fails on clips of shape .*channels"):
        find_obstacles(_Net(conv=nn.Conv3d(2, 4, 1)), _video())
    assert _hiding(nn.Sequential(nn.ReLU(inplace=True), _Net())) == []
