import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import video as video_models

from vidact.attribution.lrp.checks import find_obstacles, require_explainable
from vidact.attribution.lrp.obstacles import Obstacle
from vidact.core.errors import ConfigError, ExplanationError
from vidact.models.layers import Gate, InputLayers, Sum, SumOver
from vidact.models.stacked import StackedFramesCNN

FRAMES, SIZE = 4, 12


def _video(num_frames: int = FRAMES, channels: int = 1, size: int = SIZE, num_clips: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(num_clips, channels, num_frames, size, size, generator=generator)


def _seeded(build: Callable[..., nn.Module], *args: object, **kwargs: object) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(*args, **kwargs)


class _Net(nn.Module):
    """An explainable 3-D network; what is to be tested replaces one step of it."""

    def __init__(self) -> None:
        super().__init__()
        self.input = InputLayers(1)
        self.conv = nn.Conv3d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm3d(4)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(4, 3)

    def features(self, video: Tensor) -> Tensor:
        return self.relu(self.norm(self.conv(self.input(video))))

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.flatten(self.pool(self.features(video))))


class _LoopOverFrames(_Net):
    def features(self, video: Tensor) -> Tensor:
        x = self.input(video)
        return torch.stack([self.relu(self.norm(self.conv(x[:, :, t : t + 1]))) for t in range(x.shape[2])], 2)[
            :, :, :, 0
        ]


class _Mean(_Net):
    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.features(video).mean(dim=(2, 3, 4)))


class _TorchMean(_Net):
    def forward(self, video: Tensor) -> Tensor:
        return self.head(torch.mean(self.features(video), dim=(2, 3, 4)))


class _Plus(_Net):
    def features(self, video: Tensor) -> Tensor:
        x = super().features(video)
        return x + self.pool(x)


class _InPlacePlus(_Net):
    def features(self, video: Tensor) -> Tensor:
        x = super().features(video)
        out = x.clone()
        out += x
        return out


class _PlusIntoAView(_Net):
    def features(self, video: Tensor) -> Tensor:
        x = super().features(video).clone()
        x[:, :2] += x[:, 2:]
        return x


class _FunctionalReLU(_Net):
    def features(self, video: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(self.input(video))))


class _Attention(_Net):
    def forward(self, video: Tensor) -> Tensor:
        x = self.features(video).mean(dim=(3, 4)).transpose(1, 2)
        weights = torch.softmax(x @ x.transpose(1, 2), dim=-1)
        return self.head((weights @ x).sum(dim=1))


class _Scaled(_Net):
    def features(self, video: Tensor) -> Tensor:
        return super().features(video * 255)


class _Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return 2 * values

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return 2 * gradient


class _Custom(_Net):
    def features(self, video: Tensor) -> Tensor:
        features: Tensor = _Double.apply(super().features(video))
        return features


class _OwnConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 1, 3, 3, 3))

    def forward(self, video: Tensor) -> Tensor:
        return F.conv3d(video, self.weight, padding=1)


class _CustomLeaf(_Net):
    def __init__(self) -> None:
        super().__init__()
        self.conv = _OwnConvolution()  # type: ignore[assignment]


class _SoftmaxScores(_Net):
    def forward(self, video: Tensor) -> Tensor:
        return super().forward(video).softmax(dim=1)


class _Resized(_Net):
    def features(self, video: Tensor) -> Tensor:
        return super().features(F.interpolate(video, scale_factor=2.0))


class _OldDropout(_Net):
    def features(self, video: Tensor) -> Tensor:
        return F.dropout(super().features(video), 0.5)  # not off in eval mode


HIDING: dict[str, tuple[Callable[[], nn.Module], list[str], str]] = {
    "mean": (_Mean, ["mean"], "AdaptiveAvgPool3d"),
    "torch.mean": (_TorchMean, ["mean"], "AdaptiveAvgPool3d"),
    "plus": (_Plus, ["add"], "layers.Sum"),
    "in-place plus": (_InPlacePlus, ["add"], "layers.Sum"),
    "plus into a view": (_PlusIntoAView, ["add"], "layers.Sum"),
    "relu": (_FunctionalReLU, ["relu"], "nn.ReLU"),
    "attention": (_Attention, ["mean", "matmul", "softmax", "matmul", "sum"], "SumOver"),
    "scaled": (_Scaled, ["mul"], "InputLayers"),
    "own autograd function": (_Custom, ["_Double"], "does the same"),
    "own leaf": (_CustomLeaf, ["conv3d"], "nn.Conv3d"),
    "softmax": (_SoftmaxScores, ["softmax"], "logits"),
    "interpolate": (_Resized, ["interpolate"], "nn.Upsample"),
    "dropout": (_OldDropout, ["dropout"], "nn.Dropout"),
}


@pytest.mark.parametrize("name", HIDING)
def test_an_operation_that_is_no_module_is_named(name: str) -> None:
    build, operations, remedy = HIDING[name]
    found = [obstacle for obstacle in find_obstacles(_seeded(build), _video()) if obstacle.hides_relevance]
    assert [obstacle.kind for obstacle in found] == ["functional"] * len(operations)
    for obstacle, operation in zip(found, operations, strict=True):
        assert f"`{operation}`" in obstacle.why
        assert obstacle.module == ("conv" if name == "own leaf" else build.__name__)  # type: ignore[attr-defined]
        assert name == "own autograd function" or "test_checks.py:" in obstacle.why
    assert any(remedy in obstacle.remedy for obstacle in found)
    with pytest.raises(ExplanationError, match=r"would be wrong for this network: .*`.*instead: .*gradient") as error:
        require_explainable(_seeded(build), _video())
    assert "\n" not in str(error.value)


def test_the_line_of_an_operation_is_right() -> None:
    (obstacle,) = find_obstacles(_seeded(_Mean), _video())
    line = _Mean.forward.__code__.co_firstlineno + 1  # the path is short outside the current folder, relative within it
    assert obstacle.why.startswith("`mean` in ")
    assert obstacle.why.endswith(f"attribution/lrp/test_checks.py:{line} is no module")


def test_a_layer_called_for_each_frame_is_counted_and_noted() -> None:
    found = find_obstacles(_seeded(_LoopOverFrames), _video())
    assert [(obstacle.kind, obstacle.module, obstacle.why) for obstacle in found] == [
        ("called_twice", "conv", f"Conv3d is called {FRAMES} times")
    ]
    assert not found[0].hides_relevance
    require_explainable(_seeded(_LoopOverFrames), _video())


def test_an_operation_in_a_loop_is_said_once() -> None:
    class Net(_Net):
        def features(self, video: Tensor) -> Tensor:
            x = super().features(video)
            for _ in range(5):
                x = x * 0.5
            return x

    (obstacle,) = find_obstacles(_seeded(Net), _video())
    assert "(5 times)" in obstacle.why


def test_an_explainable_network_is_clean() -> None:
    """Of vidact's networks, and those of torchvision within them, test_contract.py says it."""
    s3d = _seeded(video_models.s3d, num_classes=3)
    s3d.avgpool = nn.AvgPool3d((1, 2, 2), stride=1)
    for network, video in ((_seeded(_Net), _video()), (s3d, _video(16, 3, 64))):
        assert find_obstacles(network, video) == ()


def test_a_fresh_network_of_kinetics_is_as_explainable_as_a_trained_one() -> None:
    network = _seeded(_Net)
    nn.init.uniform_(network.norm.running_var, 0.5, 2.0, generator=torch.Generator().manual_seed(0))  # type: ignore
    assert find_obstacles(network, _video()) == ()


class _Busy(_Net):
    """Moves numbers in many ways, and computes what no score depends on."""

    def forward(self, video: Tensor) -> Tensor:
        x = self.features(video)
        assert x.mean() < 1e9
        assert (x > 0).any()
        side = F.relu(x * 2).sum() + x.amax()
        del side
        x = torch.cat([x[:, :, :2], x[:, :, 2:]], dim=2).permute(0, 2, 1, 3, 4).flatten(0, 1)
        x = x.reshape(video.shape[0], video.shape[2], *x.shape[1:]).movedim(1, 2).contiguous()
        x = torch.stack(x.unbind(2), dim=2)
        x = F.pad(x, (1, 1)) if x.shape[-1] < 100 else x
        x = F.dropout(x, 0.5, training=self.training)
        first, second = x.chunk(2, dim=1)
        half = torch.zeros_like(x)
        half[:, :2], half[:, 2:] = first, second
        return self.head(self.flatten(self.pool(half.roll(1, 2).expand(-1, -1, -1, -1, -1))))


def test_moving_numbers_is_no_obstacle_and_neither_is_what_no_score_depends_on() -> None:
    assert find_obstacles(_seeded(_Busy), _video()) == ()


class _Gated(_Net):
    """Attention over time; its weights are made by functions, and reach the scores through a gate only."""

    def __init__(self, *, as_signal: bool = False) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool3d((None, 1, 1))
        self.gate, self.sum, self.as_signal = Gate(), SumOver(2), as_signal

    def forward(self, video: Tensor) -> Tensor:
        x = self.pool(self.features(video)).flatten(2)  # [B, C, T]
        weights = torch.softmax(x.mean(dim=1, keepdim=True) * 3, dim=2).expand_as(x)
        gated = self.gate(weights, x) if self.as_signal else self.gate(x, gate=weights)
        return self.head(self.sum(gated))


def test_how_a_gate_is_computed_is_free() -> None:
    assert find_obstacles(_seeded(_Gated), _video()) == ()
    found = find_obstacles(_seeded(_Gated, as_signal=True), _video())
    assert [obstacle.kind for obstacle in found if obstacle.hides_relevance] == ["functional"] * 3


class _Constant(_Net):
    def features(self, video: Tensor) -> Tensor:
        x = super().features(video) + torch.ones(1)
        return x - 0.5


def test_adding_a_constant_needs_a_module_and_taking_the_largest_is_a_note() -> None:
    found = find_obstacles(_seeded(_Constant), _video())
    assert [(obstacle.kind, obstacle.hides_relevance) for obstacle in found] == [("functional", True)] * 2
    assert all("Sum(values, constant): the constant takes its share" in obstacle.remedy for obstacle in found)

    class Net(_Net):
        def forward(self, video: Tensor) -> Tensor:
            return self.head(self.features(video).flatten(2).amax(dim=2))

    assert [obstacle.hides_relevance for obstacle in find_obstacles(_seeded(Net), _video())] == [False]

    class Turned(_Net):
        def features(self, video: Tensor) -> Tensor:
            return super().features(1 - video)

    assert [obstacle.hides_relevance for obstacle in find_obstacles(_seeded(Turned), _video())] == [True]


class _OutOfOrder(_Net):
    def features(self, video: Tensor) -> Tensor:
        return self.conv(self.relu(self.norm(self.input(video).expand(-1, 4, -1, -1, -1))))

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(4, 4, 3, padding=1)


class _NormTwice(_Net):
    def features(self, video: Tensor) -> Tensor:
        x = self.conv(self.input(video))
        return self.sum(self.norm(x), x)

    def __init__(self) -> None:
        super().__init__()
        self.sum = Sum()


def test_a_batch_norm_whose_layer_is_seen_by_others_too_is_named() -> None:
    """Also where it is fresh: then it changes nothing yet, and training would make the explanation wrong."""
    found = [obstacle for obstacle in find_obstacles(_seeded(_NormTwice), _video()) if obstacle.hides_relevance]
    assert [(obstacle.kind, obstacle.module) for obstacle in found] == [("not_merged", "norm")]
    assert "the output of conv" in found[0].why


class _NormSeenAside(_NormTwice):
    def features(self, video: Tensor) -> Tensor:
        x = self.conv(self.input(video))
        return self.gate(self.norm(x), x.detach().sigmoid())

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()


def test_a_batch_norm_whose_layer_is_seen_without_gradient_is_named() -> None:
    found = [obstacle for obstacle in find_obstacles(_seeded(_NormSeenAside), _video()) if obstacle.hides_relevance]
    assert ("not_merged", "norm") in [(obstacle.kind, obstacle.module) for obstacle in found]


def test_a_batch_norm_of_what_no_layer_gives_is_explainable_wherever_it_is_defined() -> None:
    assert not [obstacle for obstacle in find_obstacles(_seeded(_OutOfOrder), _video()) if obstacle.hides_relevance]


def _with(**modules: nn.Module) -> nn.Module:
    network = _seeded(_Net)
    for name, module in modules.items():
        setattr(network, name, module)
    return network


class _Sequence(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        found = self.layer(values.flatten(2).transpose(1, 2))
        return (found[0] if isinstance(found, tuple) else found).transpose(1, 2)[..., None, None]


class _SelfAttention(nn.MultiheadAttention):
    def forward(self, values: Tensor) -> tuple[Tensor, Tensor | None]:  # type: ignore[override]
        return super().forward(values, values, values)


@pytest.mark.parametrize(
    ("network", "module", "remedy"),
    [
        (_with(norm=nn.GroupNorm(2, 4)), "norm", "nn.BatchNorm"),
        (_with(norm=nn.InstanceNorm3d(4)), "norm", "nn.BatchNorm"),
        pytest.param(
            *(_with(norm=_Sequence(nn.LSTM(4, 8, proj_size=4, batch_first=True))), "norm.layer", "proj_size"),
            marks=pytest.mark.filterwarnings("ignore:LSTM with projections"),
        ),
        (_with(norm=_Sequence(nn.RNN(4, 4, batch_first=True))), "norm.layer", "nn.LSTM"),
        (_with(norm=_Sequence(nn.LayerNorm(4))), "norm.layer", "nn.BatchNorm"),
        (_with(relu=nn.Softmax(dim=1)), "relu", "Gate"),
    ],
    ids=["group norm", "instance norm", "projected lstm", "rnn", "layer norm", "softmax"],
)
def test_a_layer_without_a_rule_is_named(network: nn.Module, module: str, remedy: str) -> None:
    (obstacle,) = [obstacle for obstacle in find_obstacles(network, _video()) if obstacle.hides_relevance]
    assert (obstacle.kind, obstacle.module) == ("no_rule", module)
    assert remedy in obstacle.remedy


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
def test_a_recurrent_layer_that_is_unrolled_is_fine(layer: Callable[..., nn.Module]) -> None:
    network = _with(norm=_Sequence(_seeded(layer, 4, 4, batch_first=True)))
    assert not any(obstacle.hides_relevance for obstacle in find_obstacles(network, _video(num_frames=2, size=2)))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_script_is_refused() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Conv3d(4, 4, 1), nn.ReLU()))
    with pytest.raises(ExplanationError, match="norm is TorchScript"):
        find_obstacles(_with(norm=scripted), _video())


def test_multi_head_attention_is_named_once() -> None:
    class Net(_Net):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, video: Tensor) -> Tensor:
            x = self.features(video).flatten(2).transpose(1, 2)
            x = self.attention(x, x, x)[0].transpose(1, 2)[..., None, None]
            return self.head(self.flatten(self.pool(x)))

    (obstacle,) = find_obstacles(_seeded(Net), _video(size=4))
    assert (obstacle.kind, obstacle.module) == ("no_rule", "attention")


def test_what_is_inside_a_transformer_is_seen() -> None:
    layer = _Sequence(_seeded(nn.TransformerEncoderLayer, 4, 2, 8, batch_first=True))
    found = [obstacle for obstacle in find_obstacles(_with(norm=layer), _video(size=4)) if obstacle.hides_relevance]
    assert {obstacle.module for obstacle in found} >= {"norm.layer", "norm.layer.self_attn", "norm.layer.norm1"}


def test_a_convolution_of_ones_own_may_pad_before_it_convolves() -> None:
    class Causal(nn.Conv3d):
        def forward(self, values: Tensor) -> Tensor:
            return super().forward(F.pad(values, (0, 0, 0, 0, 2, 0)))

    class WithReLU(nn.Conv3d):
        def forward(self, values: Tensor) -> Tensor:
            return F.relu(super().forward(values))

    assert find_obstacles(_with(conv=_seeded(Causal, 1, 4, 3), norm=nn.Identity()), _video()) == ()
    (obstacle,) = find_obstacles(_with(conv=_seeded(WithReLU, 1, 4, 3), norm=nn.Identity()), _video())
    assert (obstacle.module, "`relu`" in obstacle.why) == ("conv", True)


def test_weights_that_are_never_used_are_noted() -> None:
    found = find_obstacles(_with(spare=nn.Linear(2, 2)), _video())
    assert [(obstacle.kind, obstacle.module, obstacle.hides_relevance) for obstacle in found] == [
        ("never_called", "spare", False)
    ]


def test_batch_statistics_are_noted() -> None:
    found = find_obstacles(_with(norm=nn.BatchNorm3d(4, track_running_stats=False)), _video())
    assert [(obstacle.kind, obstacle.hides_relevance) for obstacle in found] == [("batch_statistics", False)]


def test_frames_without_gradient_are_noted() -> None:
    class Net(_Net):
        def features(self, video: Tensor) -> Tensor:
            return super().features(video[:, :, ::3])

    (obstacle,) = find_obstacles(_seeded(Net), _video())
    assert (obstacle.kind, obstacle.hides_relevance) == ("unseen_frames", False)
    assert "frames 1, 2 " in obstacle.why


def test_what_hides_relevance_comes_first() -> None:
    class Net(_Mean):
        def __init__(self) -> None:
            super().__init__()
            self.spare = nn.Linear(2, 2)

    assert [obstacle.hides_relevance for obstacle in find_obstacles(_seeded(Net), _video())] == [True, False]


def test_what_is_no_logit_is_refused() -> None:
    class Net(_Net):
        def forward(self, video: Tensor) -> Tensor:
            return self.features(video)

    with pytest.raises(
        ExplanationError, match=r"returns a tensor of .*shape \[1, 4.*expected .* logits of shape \[1, K\]"
    ):
        find_obstacles(_seeded(Net), _video())


def test_what_the_network_says_of_its_input_is_handed_on() -> None:
    with pytest.raises(ConfigError, match="takes videos of shape"):
        find_obstacles(_seeded(StackedFramesCNN, 3, num_frames=4, size=12), _video(num_frames=5))


@pytest.mark.parametrize("build", [_Net, _Mean, _NormTwice])
def test_looking_changes_neither_the_network_nor_the_random_numbers(build: Callable[[], nn.Module]) -> None:
    network, video = _seeded(build).train(), _video()
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        find_obstacles(network, video)
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_an_obstacle_reads_as_a_sentence() -> None:
    obstacle = Obstacle("functional", "block", "`add` in net.py:7 is no module", "instead: Sum", hides_relevance=True)
    assert str(obstacle) == "block: `add` in net.py:7 is no module; instead: Sum"
