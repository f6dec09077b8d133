import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from any_network import ANY_NETWORK
from torch import Tensor, nn
from torch.nn import functional as F

from vidact.attribution.lrp.conservation import conservation_table, is_negligible
from vidact.attribution.lrp.explainer import LayerwiseRelevance
from vidact.attribution.names import PREDICTED
from vidact.attribution.registry import build_explainer
from vidact.core.errors import ConfigError, ExplanationError
from vidact.models.layers import Gate, Sum
from vidact.training.callbacks.relevance.findings import Finding, most_lost

TARGET = torch.tensor([0, 2])


@pytest.fixture
def unchecked_shapes() -> Any:
    """What users have: no shape is checked."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _video() -> Tensor:
    return torch.rand(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def _made(build: Callable[[], nn.Module], *, seed: int = 0) -> Any:
    """Build a network, with the sizes of its lazy layers found."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build().eval()
        network(_video())
        return network


def _small(*middle: nn.Module, bias: bool = True) -> nn.Sequential:
    first = nn.Conv3d(1, 4, 3, padding=1, bias=bias)
    return nn.Sequential(first, nn.ReLU(), *middle, nn.Flatten(), nn.LazyLinear(3, bias=bias))


@pytest.mark.parametrize("upsampling", [{"size": (1, 1, 1), "mode": "area"}, {"scale_factor": 2, "mode": "trilinear"}])
def test_lrp_0_is_gradient_times_input_through_upsampling(upsampling: dict[str, Any]) -> None:
    network = _made(lambda: _small(nn.Upsample(**upsampling), bias=False)).double()
    video = _video().double()
    with build_explainer("lrp:lrp_0", network, dtype=torch.float64) as explain:
        found = explain(video, TARGET).relevance
    with build_explainer("gradient_x_input", network, baseline=0.0, dtype=torch.float64) as explain:
        torch.testing.assert_close(found, explain(video, TARGET).relevance)


def test_area_upsampling_to_one_pixel_gets_the_relevance_of_average_pooling() -> None:
    found = []
    for layer in (nn.Upsample(size=(1, 1, 1), mode="area"), nn.AdaptiveAvgPool3d(1)):
        with build_explainer("lrp", _made(lambda layer=layer: _small(layer))) as explain:
            found.append(explain(_video(), TARGET).relevance)
    torch.testing.assert_close(found[0], found[1])


def test_a_composite_that_fits_no_name_is_refused_again() -> None:
    network = _made(_small)
    composite = {"rules": [{"name": "nothing*", "rule": "epsilon"}]}
    with LayerwiseRelevance(network, composite=composite) as explain:
        for _ in range(2):
            with pytest.raises(ConfigError, match="nothing"):
                explain(_video(), TARGET)


class _Averaging(nn.Module):
    """A mean that is no module."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv3d(1, 4, 3), nn.Linear(4, 3)

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.body(video).mean(dim=(2, 3, 4)))  # type: ignore[no-any-return]


def test_a_network_against_the_law_is_refused_again() -> None:
    with LayerwiseRelevance(_made(_Averaging)) as explain:
        for _ in range(2):
            with pytest.raises(ExplanationError):
                explain(_video(), TARGET)


class _OutOfOrder(nn.Module):
    """Its BatchNorm is defined after a convolution that it does not follow."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu = nn.Conv3d(1, 4, 3), nn.ReLU()
        self.body, self.norm = nn.Conv3d(4, 4, 3, padding=1), nn.BatchNorm3d(4)
        self.relu_2, self.add, self.flat, self.head = nn.ReLU(), Sum(), nn.Flatten(), nn.LazyLinear(3)
        nn.init.uniform_(self.norm.bias, 1, 2)

    def forward(self, video: Tensor) -> Tensor:
        x = self.relu(self.stem(video))
        return self.head(self.flat(self.add(x, self.norm(self.relu_2(self.body(x))))))  # type: ignore[no-any-return]


def test_a_batch_norm_that_is_defined_elsewhere_keeps_the_scores() -> None:
    network = _made(_OutOfOrder)
    with LayerwiseRelevance(network) as explain:
        torch.testing.assert_close(explain.scores(_video()), network(_video()).detach())


class _SeenAside(_OutOfOrder):
    """The output of its convolution is also used without its gradient."""

    def forward(self, video: Tensor) -> Tensor:
        x = self.body(self.stem(video))
        return self.head(self.flat(self.norm(x) + x.detach()))  # type: ignore[no-any-return]


def test_other_scores_after_merging_are_refused() -> None:
    with LayerwiseRelevance(_made(_SeenAside), check_network=False) as explain:
        for _ in range(2):
            with pytest.raises(ExplanationError, match="gives other scores .* used without its gradient"):
                explain.scores(_video())


class _Named(nn.Module):
    """Hands everything over by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.squash, self.sum = nn.Conv3d(1, 4, 1), Gate(), nn.Sigmoid(), Sum()
        self.pool, self.flat = nn.AdaptiveAvgPool3d((None, 1, 1)), nn.Flatten(2)
        self.memory, self.head = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 3)
        self.by_name = True

    def forward(self, video: Tensor) -> Tensor:
        names = {"conv": "input", "pool": "input", "flat": "input", "squash": "input", "memory": "input"}

        def call(layer: str, value: Tensor) -> Any:
            module = self.get_submodule(layer)
            return module(**{names.get(layer, "input"): value}) if self.by_name else module(value)

        x = call("conv", video)
        gate = call("squash", x)
        x = self.gate(signal=x, gate=gate) if self.by_name else self.gate(x, gate)
        x = call("flat", call("pool", self.sum(first=x) if self.by_name else self.sum(x)))
        return call("head", call("memory", x.transpose(1, 2))[0][:, -1])  # type: ignore[no-any-return]


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_plus_box"])
def test_modules_that_are_called_by_name_get_the_same_relevance(composite: str) -> None:
    network, found = _made(_Named), []
    for network.by_name in (True, False):
        with LayerwiseRelevance(network, composite=composite) as explain:
            found.append(explain(_video(), TARGET).relevance)
    assert found[0].abs().max() > 0
    torch.testing.assert_close(*found)


def test_the_table_follows_modules_that_are_called_by_name() -> None:
    network, tables = _made(_Named), []
    for network.by_name in (True, False):
        tables.append(str(conservation_table(network, _video(), target=TARGET, composite="epsilon_plus")))
    assert tables[0] == tables[1]


def test_class_numbers_of_any_width_are_taken() -> None:
    against = torch.tensor([1, 0])
    with build_explainer("lrp", _made(_small)) as explain:
        expected = explain(_video(), TARGET, against=against)
        for dtype in (torch.int8, torch.int32):
            found = explain(_video(), TARGET.to(dtype), against=against.to(dtype))
            torch.testing.assert_close(found.relevance, expected.relevance)


@pytest.mark.usefixtures("unchecked_shapes")
def test_class_numbers_that_are_not_whole_are_refused() -> None:
    with build_explainer("gradient", _made(_small)) as explain:
        for dtype in (torch.float32, torch.bool):
            with pytest.raises(ExplanationError, match="targets are class numbers, got a tensor of torch"):
                explain(_video(), TARGET.to(dtype))
            with pytest.raises(ExplanationError, match="explain against are class numbers"):
                explain(_video(), TARGET, against=torch.tensor([1, 0]).to(dtype))


def test_a_merged_batch_norm_keeps_the_scores() -> None:
    network = _made(lambda: _small(nn.Conv3d(4, 4, 3), nn.BatchNorm3d(4), nn.ReLU()))
    nn.init.uniform_(network[3].bias, 1, 2, generator=torch.Generator().manual_seed(0))
    with LayerwiseRelevance(network) as explain:
        torch.testing.assert_close(explain.scores(_video()), network(_video()).detach())


@pytest.mark.parametrize("method", [name for name in ANY_NETWORK if name != "attention"])
def test_a_first_layer_that_works_in_place_does_not_overwrite_the_clip(method: str) -> None:
    in_place = _made(lambda: nn.Sequential(nn.Hardtanh(0.4, 0.6, inplace=True), _small()))
    plain = copy.deepcopy(in_place)
    plain[0].inplace = False
    found = []
    for network in (in_place, plain):
        with build_explainer(method, network) as explain:
            found.append(explain(_video(), TARGET).relevance)
    torch.testing.assert_close(found[0], found[1])
    assert in_place[0].inplace


def test_explainers_can_be_entered_twice_and_keep_no_copy() -> None:
    copies: list[tuple[str, Any]] = []
    explainers = {name: build_explainer(name, _made(_small)) for name in ANY_NETWORK if name != "attention"}
    for method, explainer in explainers.items():
        found = []
        for _ in range(2):
            with explainer as explain:
                found.append(explain(_video(), TARGET).relevance)
                copies.append((method, weakref.ref(explain.network)))
        torch.testing.assert_close(found[0], found[1], msg=method)
    gc.collect()
    assert [method for method, copied in copies if copied() is not None] == []


def test_guided_backpropagation_without_a_relu_leaves_no_copy() -> None:
    explainer = build_explainer("guided_backpropagation", _made(lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3))))
    with pytest.raises(ConfigError, match=r"nn\.ReLU"), explainer:
        pass
    with pytest.raises(AttributeError):
        _ = explainer.network


class _AlwaysDropping(nn.Module):
    """Draws random numbers even in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.head = nn.Flatten(), nn.Linear(256, 3)

    def forward(self, video: Tensor) -> Tensor:
        return self.head(F.dropout(self.flat(video)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("method", ["gradient", "lrp", "occlusion", "smoothgrad", "integrated_gradients"])
def test_a_network_that_draws_leaves_the_global_generator_as_it_was(method: str) -> None:
    network = _made(_AlwaysDropping)
    settings = {"check_network": False} if method == "lrp" else {}
    before = torch.get_rng_state()
    with build_explainer(method, network, **settings) as explain:
        explain(_video(), TARGET)
        explain.scores(_video())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("method", ["gradient", "lrp"])
def test_targets_that_do_not_match_the_clips_are_refused_in_one_line(method: str) -> None:
    with build_explainer(method, _made(_small)) as explain:
        for number in (torch.tensor([1]), torch.tensor([0, 1, 2]), torch.tensor(1)):
            with pytest.raises(ExplanationError, match="targets for 2 clips"):
                explain(_video(), number)
            with pytest.raises(ExplanationError, match="against for 2 clips"):
                explain(_video(), TARGET, against=number)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_whether_a_score_is_near_zero_does_not_depend_on_the_unit_of_logits(scale: float) -> None:
    score, largest = torch.tensor([0.5, 0.005, 0.0, -0.02]), torch.tensor([1.0, 1.0, 0.0, 1.0])
    assert is_negligible(score * scale, largest * scale).tolist() == [False, True, True, False]
    findings = [
        Finding(
            0, PREDICTED, 0, one * scale, beside * scale, 0.0, np.zeros((1, 1, 1), dtype=np.float32), "lrp:epsilon_plus"
        )
        for one, beside in zip(score.tolist(), largest.tolist(), strict=True)
    ]
    assert [finding.is_negligible for finding in findings] == [False, True, True, False]


def test_small_logits_that_lose_relevance_are_found() -> None:
    nothing = np.zeros((1, 1, 1), dtype=np.float32)
    kept, lost, worst = (
        Finding(0, PREDICTED, 0, 0.04, 0.04, total, nothing, "lrp:epsilon_plus")
        for total in (0.0399, 0.02, float("nan"))
    )
    assert most_lost([kept]) is None
    assert most_lost([kept, lost]) is lost
    assert most_lost([kept, lost, worst]) is worst


def test_the_table_says_which_biases_it_counts() -> None:
    table = conservation_table(_made(_small), _video(), target=TARGET, composite="epsilon")
    assert "biases: those of convolutions and linear layers with a rule" in str(table)
    assert not any("near zero" in line for line in table.warnings())
