import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vidact.attribution.lrp import rules
from vidact.attribution.lrp.composites import COMPOSITES, SUITED, build_composite, read_recipe
from vidact.attribution.lrp.explainer import LayerwiseRelevance
from vidact.attribution.lrp.first_layer import find_first_layer
from vidact.attribution.lrp.recipes import check_names
from vidact.core.errors import ConfigError
from vidact.models.attention import SpatioTemporalAttention
from vidact.models.fusion import EarlyFusion, LateFusion, SingleFrame, SlowFusion
from vidact.models.layers import FrameDifferences, FramesAsChannels, Gate, InputLayers, Sum
from vidact.models.recurrent import CNNLSTM
from vidact.models.residual import SlimResNet3D
from vidact.models.stacked import StackedFramesCNN

FAMILY: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "StackedFramesCNN": (StackedFramesCNN, 16),
    "SingleFrame": (SingleFrame, 40),
    "EarlyFusion": (EarlyFusion, 40),
    "LateFusion": (LateFusion, 40),
    "SlowFusion": (SlowFusion, 40),
    "SlimResNet3D": (SlimResNet3D, 16),
    "CNNLSTM": (CNNLSTM, 16),
    "SpatioTemporalAttention": (SpatioTemporalAttention, 16),
}


class _Net(nn.Module):
    """One of each layer that a rule is for."""

    def __init__(self, *, differences: bool = False) -> None:
        super().__init__()
        self.input = InputLayers(1, differences=differences)
        self.stem = nn.Conv3d(1, 4, 3, padding=1)
        self.body = nn.Sequential(nn.ReLU(), nn.Conv3d(4, 4, 3, padding=1))
        self.add, self.gate, self.pool = Sum(), Gate(), nn.AdaptiveAvgPool3d(1)
        self.relu = nn.ReLU()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))

    def forward(self, video: Tensor) -> Tensor:
        stem = self.stem(self.input(video))
        features = self.relu(self.add(stem, self.body(stem)))
        return self.head(self.pool(self.gate(features, features.sigmoid())))  # type: ignore[no-any-return]


def _made(build: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return build(*args, **settings).eval()


def _settled(network: nn.Module, video: Tensor) -> nn.Module:
    """Give BatchNorm the statistics of a clip, so that activations are neither tiny nor huge, as after training."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.cat([video, video.flip(2)]))
    return network.eval()


def _video(size: int = 8, num_frames: int = 4, num_clips: int = 2) -> Tensor:
    return torch.rand(num_clips, 1, num_frames, size, size, generator=torch.Generator().manual_seed(1))


def _rules_of(network: nn.Module, spec: Any, video: Tensor | None = None) -> dict[str, Any]:
    """Give the hook of each module, by name."""
    found: dict[str, Any] = {}
    recipe = read_recipe(spec)
    first = find_first_layer(network, (_video() if video is None else video)[:1]) if recipe.needs_first else None
    composite = build_composite(spec, clip=(_video() if video is None else video)[:1], first=first)
    context: dict[str, Any] = {}
    for canonizer in composite.canonizers:
        canonizer.apply(network)
    for name, module in network.named_modules():
        found[name] = composite.module_map(context, name, module)
    return found


@pytest.mark.parametrize(
    ("composite", "stem", "body", "head"),
    [
        ("epsilon_plus", rules.ZPlus, rules.ZPlus, rules.Epsilon),
        ("epsilon_alpha2_beta1", rules.AlphaBeta, rules.AlphaBeta, rules.Epsilon),
        ("epsilon_gamma", rules.Gamma, rules.Gamma, rules.Epsilon),
        ("epsilon", rules.Epsilon, rules.Epsilon, rules.Epsilon),
        ("epsilon_plus_box", rules.Box, rules.ZPlus, rules.Epsilon),
        ("epsilon_gamma_box", rules.Box, rules.Gamma, rules.Epsilon),
        ("epsilon_plus_w_square", rules.WSquare, rules.ZPlus, rules.Epsilon),
        ("epsilon_plus_flat", rules.Flat, rules.ZPlus, rules.Epsilon),
    ],
)
def test_each_layer_gets_its_rule(composite: str, stem: type, body: type, head: type) -> None:
    found = _rules_of(_made(_Net, differences=True), composite)
    assert (type(found["stem"]), type(found["body.1"]), type(found["head.1"])) == (stem, body, head)
    assert type(found["input.0"]) is rules.Pass
    assert type(found["input.1"]) is rules.EvenSplit
    assert type(found["body.0"]) is rules.Pass
    assert type(found["gate"]) is rules.SignalTakesAll
    assert type(found["add"]) is rules.Norm
    assert type(found["pool"]) is rules.Norm
    assert found["head.0"] is None


def test_inside_a_recurrence_the_rule_is_epsilon() -> None:
    network = _made(SpatioTemporalAttention, 3, num_frames=4, size=16)
    found = _rules_of(network, "epsilon_plus", video=_video(16))
    assert type(found["memory.steps.2.gates"]) is rules.Epsilon
    assert type(found["features.0"]) is rules.ZPlus
    found = _rules_of(_made(CNNLSTM, 3, num_frames=4, size=16), "epsilon_plus", video=_video(16))
    steps = [hook for name, hook in found.items() if name.startswith("lstm.") and name.endswith("gates")]
    assert steps
    assert {type(hook) for hook in steps} == {rules.Epsilon}


YAML = """
rules:
  - {layer: first, rule: box}
  - {name: "body.*", rule: gamma, gamma: 1e-1}
  - {layer: Linear, name: "head.*", rule: epsilon, epsilon: 0.5}
  - {layer: sum, rule: norm, stabilizer: 0.25}
otherwise: epsilon_alpha2_beta1
zero_biases: false
"""


def test_a_mapping_says_rule_by_rule_what_applies(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(YAML)
    network = _made(_Net)
    found = _rules_of(network, str(path))
    assert type(found["stem"]) is rules.Box
    assert type(found["body.1"]) is rules.Gamma
    assert type(found["body.0"]) is rules.Pass, "a rule for weights is not for a ReLU whose name fits"
    assert type(found["head.1"]) is rules.Epsilon
    recipe = read_recipe(str(path))
    assert [dict(line.settings) for line in recipe.own_lines] == [
        {},
        {"gamma": 0.1},
        {"epsilon": 0.5},
        {"stabilizer": 0.25},
    ]
    assert not recipe.zero_biases


def test_a_mapping_and_the_same_file_and_name_give_the_same_relevance(tmp_path: Path) -> None:
    mapping = {"rules": [{"layer": "convolution", "rule": "z_plus"}, {"layer": "linear", "rule": "epsilon"}]}
    path = tmp_path / "same.yaml"
    path.write_text("rules: [{layer: convolution, rule: z_plus}, {layer: linear, rule: epsilon}]")
    network, video, target = _made(_Net), _video(), torch.tensor([0, 2])
    found, methods = [], []
    for composite in (mapping, str(path), "epsilon_plus"):
        with LayerwiseRelevance(network, composite=composite, check_network=False) as explain:
            found.append(explain(video, target).relevance)
            methods.append(explain.method)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert methods == ["lrp:own", "lrp:same", "lrp:epsilon_plus"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: [{layer: convolution, rule: zplus}]", "rule 1: rule 'zplus' is unknown; nearest: z_plus"),
        ("rules: [{layer: convolutoin, rule: z_plus}]", "layer 'convolutoin' is unknown; nearest: convolution"),
        ("rules: [{layer: linear, rule: epsilon, eps: 1}]", "eps is unknown; there are epsilon, layer, name, rule"),
        ("rules: [{layer: linear, rule: epsilon, epsilon: big}]", "epsilon is a number above 0, got 'big'"),
        ("rules: [{layer: linear, rule: alpha_beta, alpha: 2, beta: 2}]", "rule 1: .*alpha - beta"),
        ("rules: [{layer: null, rule: epsilon}]", "expected rule, and layer or name or both"),
        ("rules: []\nrules: []", r"mine.yaml, line 2: rules is given twice"),
        ("rules:\n- {rule: gamma, layer: linear,\n   gamma: 1, gamma: 5}", r"line 3: gamma is given twice"),
        ("rules: [epsilon]", "expected rule, and layer or name or both, got 'epsilon'"),
        ("rules: [{name: 3, rule: epsilon}]", "name is a pattern"),
        ("rules: []\notherwise: zplus", "otherwise 'zplus' is unknown; nearest: epsilon"),
        ("rules: []\nzero_biases: maybe", "zero_biases is true or false, got 'maybe'"),
        ("rulez: []", "expected a mapping with a list of rules"),
        ("rules: []\nextra: 1", "extra is unknown; there are otherwise, rules, zero_biases"),
        ("rules: [", "is no YAML"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_answered_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        LayerwiseRelevance(_made(_Net), composite=str(path))
    assert "\n" not in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_a_name_that_fits_no_module_is_answered() -> None:
    mapping = {"rules": [{"name": "stemm", "rule": "epsilon"}]}
    with pytest.raises(ConfigError, match=r"no module fits {name: stemm, rule: epsilon}; nearest names: stem"):
        check_names(read_recipe(mapping), _made(_Net))
    with (
        LayerwiseRelevance(_made(_Net), composite=mapping, check_network=False) as explain,
        pytest.raises(ConfigError, match="no module fits"),
    ):
        explain.prepare(_video())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"name": "add", "rule": "epsilon"}, r"names add (Sum), but epsilon is for layers with weights"),
        ({"name": "stem", "rule": "norm"}, r"names stem (Conv3d), but norm is for layers without weights"),
        ({"name": "st*", "layer": "linear", "rule": "gamma"}, "and none there is one of layer linear"),
    ],
)
def test_a_name_that_fits_only_layers_of_another_kind_is_answered(line: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_names(read_recipe({"rules": [line]}), _made(_Net))


def test_every_rule_finds_layers_by_any_name_of_its_kind() -> None:
    for layer in ("Module", "Conv3d", "LazyLinear", "weighted", "recurrent", "first"):
        assert read_recipe({"rules": [{"layer": layer, "rule": "epsilon"}]}).own_lines
    for layer in ("Module", "sum", "ReLU", "AvgPool3d", "upsampling"):
        assert read_recipe({"rules": [{"layer": layer, "rule": "norm"}]}).own_lines


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"composite nowhere\.yaml: No such file"):
        read_recipe("nowhere.yaml")


def test_an_unknown_composite_is_named() -> None:
    with pytest.raises(ConfigError, match="'epsilonplus' is unknown; there are epsilon_plus, .*or give a .yaml file"):
        build_composite("epsilonplus", clip=_video())


@pytest.mark.parametrize("differences", [False, True])
@pytest.mark.parametrize("stacked", [False, True])
def test_the_boxs_bounds_are_those_of_the_pixels_at_the_first_layer(differences: bool, stacked: bool) -> None:
    """Every pixel black or white: what comes in at the first layer reaches the bounds, and never passes them."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.input = InputLayers(2, differences=differences)
            self.input[0].mean.copy_(torch.tensor([0.2, 0.6]).reshape(1, 2, 1, 1, 1))
            self.input[0].std.copy_(torch.tensor([0.5, 0.1]).reshape(1, 2, 1, 1, 1))
            self.stack = FramesAsChannels() if stacked else nn.Identity()
            self.conv = nn.Conv2d(8, 1, 1) if stacked else nn.Conv3d(2, 1, 1)

        def forward(self, video: Tensor) -> Tensor:
            return self.conv(self.stack(self.input(video))).flatten(1)  # type: ignore[no-any-return]

    network = _made(Two)
    first = find_first_layer(network, torch.rand(1, 2, 4, 5, 5, generator=torch.Generator().manual_seed(0)))
    assert first.module is network.conv
    generator = torch.Generator().manual_seed(0)
    seen = []
    network.conv.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    for _ in range(40):
        network(torch.randint(0, 2, (1, 2, 4, 5, 5), generator=generator).float())
    values = torch.cat(seen)
    least, greatest = values.amin(dim=0), values.amax(dim=0)
    for found, expected in ((first.low, least), (first.high, greatest)):
        torch.testing.assert_close(found, expected[None])


@pytest.mark.parametrize("composite", ["epsilon_plus_box", "epsilon_plus_flat"])
def test_a_normalisation_alone_gives_the_first_layer_the_same_bounds(composite: str) -> None:
    class Alone(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.input, self.conv = layer, nn.Conv3d(1, 4, 3)
            self.head = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3))

        def forward(self, video: Tensor) -> Tensor:
            return self.head(self.conv(self.input(video)))  # type: ignore[no-any-return]

    found = []
    for layer in (InputLayers(1), InputLayers(1)[0]):
        with LayerwiseRelevance(_made(Alone, layer), composite=composite) as explain:
            found.append(explain(_video(), torch.tensor([0, 2])).relevance)
    torch.testing.assert_close(found[0], found[1])


def test_differences_outside_of_the_input_layers_give_no_bounds() -> None:
    network = nn.Sequential(InputLayers(1)[0], FrameDifferences(), nn.Conv3d(1, 2, 3), nn.Flatten())
    with pytest.raises(ConfigError, match="values are computed before it"):
        find_first_layer(network, _video(num_clips=1))


def test_the_first_layer_is_the_first_that_is_called() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.stem = nn.Linear(64, 3), nn.Conv3d(1, 1, 1)

        def forward(self, video: Tensor) -> Tensor:
            return self.head(self.stem(video).flatten(1))  # type: ignore[no-any-return]

    network = _made(Backwards)
    first = find_first_layer(network, _video(4, 4, 1))
    assert first.module is network.stem
    assert float(first.low.min()) == 0
    assert float(first.high.max()) == 1
    assert not network.stem._forward_pre_hooks


def test_a_first_layer_that_sees_no_pixels_is_refused() -> None:
    network = nn.Sequential(nn.AvgPool3d((2, 1, 1)), nn.Conv3d(1, 1, 1), nn.Flatten())
    with pytest.raises(ConfigError, match="sees the pixels themselves"):
        find_first_layer(network, _video(4, 4, 1))
    with pytest.raises(ConfigError, match="no convolution and no linear layer"):
        find_first_layer(nn.Flatten(), _video(4, 4, 1))


def _relevance_per_frame(network: nn.Module, composite: str, video: Tensor) -> Tensor:
    with LayerwiseRelevance(network, composite=composite, check_network=False) as explain:
        relevance = explain(video, torch.tensor([1])).relevance
    return relevance.sum(dim=(1, 3, 4)).squeeze(0)


@pytest.mark.parametrize("name", FAMILY)
def test_a_flat_first_layer_is_refused_exactly_where_it_is_blind_to_time(name: str) -> None:
    build, size = FAMILY[name]
    network, video = _made(build, 3, num_frames=8, size=size), _video(size, 8, 1)
    if "epsilon_plus_flat" in SUITED[name]:
        per_frame = _relevance_per_frame(network, "epsilon_plus_flat", video)
        assert per_frame.std() > 1e-3 * per_frame.abs().mean()
    else:
        with pytest.raises(ConfigError, match="every frame exactly the same relevance; try epsilon_plus"):
            _relevance_per_frame(network, "epsilon_plus_flat", video)


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("differences", [False, True])
def test_every_composite_that_suits_a_network_conserves_relevance(name: str, differences: bool) -> None:
    build, size = FAMILY[name]
    network = _made(build, 3, num_frames=8, size=size, differences=differences)
    video = _video(size, 8, 1)
    with torch.no_grad():
        target = _settled(network, video)(video).abs().argmax(dim=1)
    for composite in ("epsilon_plus", *SUITED[name]):
        with LayerwiseRelevance(network, composite=composite, check_network=False, dtype=torch.float64) as explain:
            found = explain(video, target)
        assert 0.999 < float(found.conservation) < 1.001, (composite, found.conservation)  # noise: nothing is still
        assert found.account is not None
        assert float(found.account.gap(found.score)) < 1e-6
        assert torch.isfinite(found.relevance).all()


def test_every_network_of_the_family_has_composites_that_suit_it() -> None:
    assert set(FAMILY) | {"TorchvisionVideoNet"} == set(SUITED)
    assert {name for names in SUITED.values() for name in names} <= set(COMPOSITES)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"layer": "convolution", "rule": "box"}, "expected layer: first, got 'convolution'"),
        ({"name": "head*", "rule": "box"}, "expected layer: first, got None"),
        ({"layer": "linear", "rule": "pass"}, "pass is for layers without weights, got layer: linear"),
        ({"layer": "sum", "rule": "epsilon"}, "epsilon is for layers with weights, got layer: sum; try norm"),
        ({"layer": "batch_norm", "rule": "epsilon"}, "layers with weights, got layer: batch_norm; try affine_plus"),
        ({"layer": "gate", "rule": "alpha_beta"}, "layers with weights, got layer: gate; try signal_takes_all"),
        ({"layer": "activation", "rule": "lrp_0"}, "layers with weights, got layer: activation; try pass"),
        ({"layer": "ReLU", "rule": "gamma"}, "layers with weights, got layer: ReLU; try norm or pass"),
        ({"layer": "Conv3d", "rule": "norm"}, "norm is for layers without weights, got layer: Conv3d"),
        (
            {"layer": "LSTM", "rule": "epsilon"},
            "LSTM is unrolled before it is explained; its maps are layer: recurrent",
        ),
        ({"layer": "GRU", "rule": "pass"}, "GRU is unrolled before it is explained; its maps are layer: recurrent"),
        ({"layer": "linear", "rule": "epsilon", "epsilon": 0}, "epsilon is a number above 0, got 0"),
        ({"layer": "linear", "rule": "gamma", "gamma": float("nan")}, "gamma is a number of 0 or more, got nan"),
        ({"layer": "linear", "rule": "gamma", "gamma": True}, "gamma is a number of 0 or more, got True"),
    ],
)
def test_a_line_that_makes_no_sense_is_refused(line: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_recipe({"rules": [line]})


@pytest.mark.parametrize("otherwise", [["a"], {"a": 1}])
def test_another_composite_for_the_rest_that_is_none_is_named(otherwise: object) -> None:
    with pytest.raises(ConfigError, match="otherwise .* is unknown"):
        read_recipe({"rules": [], "otherwise": otherwise})
