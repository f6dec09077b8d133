"""An account says where a score has gone, and each of its parts is computed: it closes because the rules are right."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vidact.attribution.account import in_words, parts_of, warning_of
from vidact.attribution.lrp import backward as standing_in
from vidact.attribution.lrp.book import Book
from vidact.attribution.lrp.composites import COMPOSITES
from vidact.attribution.lrp.explainer import LayerwiseRelevance
from vidact.attribution.names import DEFAULT_COMPOSITE, LRP
from vidact.attribution.registry import build_explainer
from vidact.core.explanation import Account, Explanation
from vidact.models.layers import InputLayers, Sum
from vidact.models.recurrent import CNNLSTM
from vidact.models.residual import SlimResNet3D

EXACT, SINGLE = 1e-9, 1e-4  # of the largest number in an account, in float64 and in float32


@pytest.fixture(autouse=True)
def _same_weights_each_time() -> None:
    torch.manual_seed(0)


def _made(build: Callable[[], nn.Module], seed: int = 4) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build().eval()
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for value, low in ((module.running_mean, -0.5), (module.running_var, 0.5), (module.bias, -0.5)):
                    assert value is not None
                    value.data.uniform_(low, low + 1)
    return network


def _clips(num_frames: int = 6, size: int = 16, channels: int = 1) -> Tensor:
    """Give a clip of noise, one that stands still in its second half, one that stands still, and a disc that moves."""
    shape = (channels, num_frames, size, size)
    clips = torch.rand(4, *shape, generator=torch.Generator().manual_seed(1))
    clips[1, :, num_frames // 2 :] = clips[1, :, num_frames // 2, None]
    clips[2] = clips[2, :, :1]
    clips[3] = 0.5
    for frame in range(num_frames):
        clips[3, :, frame, 4:8, frame : frame + 4] = 1.0
    return clips


def _explained(network: nn.Module, video: Tensor, composite: Any = "epsilon_plus", **own: Any) -> Explanation:
    own = {"dtype": torch.float64, "check_network": False, **own}
    with LayerwiseRelevance(network, composite=composite, **own) as explain:
        return explain(video, torch.arange(len(video)) % 3)


def _account(found: Explanation) -> Account:
    assert found.account is not None
    return found.account


def _gap(found: Explanation) -> float:
    return float(_account(found).gap(found.score).max())


class _Net(nn.Module):
    """Merged and unmerged BatchNorm, a skip connection, a pooling: all with biases."""

    def __init__(self, *, differences: bool = True) -> None:
        super().__init__()
        self.input = InputLayers(1, differences=differences)
        self.stem = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.BatchNorm3d(4))
        self.body = nn.Sequential(nn.Conv3d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 4, 1))
        self.sum, self.relu = Sum(), nn.ReLU()
        self.head = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, video: Tensor) -> Tensor:
        stem = self.stem(self.input(video))
        return self.head(self.relu(self.sum(stem, self.body(stem))))  # type: ignore[no-any-return]


@pytest.mark.parametrize("composite", COMPOSITES)
def test_it_closes_by_every_composite_on_clips_that_move_and_that_stand_still(composite: str) -> None:
    differences = "flat" not in composite and "box" not in composite
    network = _made(lambda: _Net(differences=differences))
    assert _gap(_explained(network, _clips(), composite, zero_biases=True)) < EXACT
    assert _gap(_explained(network, _clips(), composite, zero_biases=False)) < EXACT
    assert _gap(_explained(network, _clips(), composite, zero_biases=False, dtype=torch.float32)) < SINGLE


@pytest.mark.parametrize(
    ("rule", "zero_biases"),
    [
        *(("lrp_0", False), ("epsilon", False), ("gamma", True), ("gamma", False), ("z_plus", True)),
        *(("z_plus", False), ("alpha2_beta1", False), ("w_square", True), ("flat", False)),
    ],
)
def test_it_closes_by_every_rule_in_every_layer(rule: str, zero_biases: bool) -> None:
    recipe = {"rules": [{"layer": "weighted", "rule": rule}], "zero_biases": zero_biases}
    assert _gap(_explained(_made(lambda: _Net()), _clips(), recipe)) < EXACT


@pytest.mark.parametrize("against", [None, "rest", torch.tensor([1, 2, 0, 1])])
def test_it_closes_whatever_is_explained(against: Any) -> None:
    with LayerwiseRelevance(_made(lambda: _Net()), check_network=False, dtype=torch.float64, batch_size=3) as explain:
        found = explain(_clips(), torch.tensor([0, 1, 2, 0]), against=against)
    assert _gap(found) < EXACT
    torch.testing.assert_close(_account(found).total, found.score)


_PIECES: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Conv3d(3, 3, 3, padding=1),
    "batch norm": lambda: nn.BatchNorm3d(3),
    "ReLU": nn.ReLU,
    "GELU": nn.GELU,
    "sigmoid": nn.Sigmoid,
    "pooling": lambda: nn.AvgPool3d(2, stride=1, padding=1),
    "winner": lambda: nn.MaxPool3d(2, stride=1, padding=1),
}


@settings(deadline=None, max_examples=25)
@given(
    pieces=st.lists(st.sampled_from(sorted(_PIECES)), min_size=1, max_size=6),
    seed=st.integers(0, 2**16),
    differences=st.booleans(),
    composite=st.sampled_from(["epsilon_plus", "epsilon_alpha2_beta1", "epsilon_gamma"]),
)
def test_it_closes_whatever_the_layers(pieces: list[str], seed: int, differences: bool, composite: str) -> None:
    def build() -> nn.Module:
        body = [_PIECES[piece]() for piece in pieces]
        head = [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 3)]
        return nn.Sequential(InputLayers(1, differences=differences), nn.Conv3d(1, 3, 3), *body, *head)

    assert _gap(_explained(_made(build, seed), _clips(size=8), composite)) < 1e-6


def test_by_lrp_0_biases_take_bias_times_gradient() -> None:
    """f = Σ x ∂f/∂x + Σ b ∂f/∂b in networks of ReLU (Srinivas and Fleuret 2019, prop. 1), bias by bias."""
    network = _made(lambda: _Net(differences=False)).double()
    video = _clips().double().requires_grad_()
    plain, norm = network.stem[0], network.stem[3]
    merged = network.stem[1]
    scores = network(video).gather(1, (torch.arange(4) % 3)[:, None]).squeeze(1)
    found = _account(_explained(network, _clips(), "lrp_0", zero_biases=False))

    def scale(module: Any) -> Tensor:
        return module.weight * (module.running_var + module.eps).rsqrt()  # type: ignore[no-any-return]

    constants = {  # the constant that a layer adds, and the parameter that has its gradient
        "stem.0": (merged.bias + (plain.bias - merged.running_mean) * scale(merged), merged.bias),
        "stem.3": (norm.bias - norm.running_mean * scale(norm), norm.bias),
        "body.0": (network.body[0].bias, network.body[0].bias),
        "body.2": (network.body[2].bias, network.body[2].bias),
        "head.2": (network.head[2].bias, network.head[2].bias),
    }
    assert set(found.biases) == set(constants)
    for layer, (constant, parameter) in constants.items():
        for clip in range(4):
            (gradient,) = torch.autograd.grad(scores[clip], parameter, retain_graph=True)
            assert float(found.biases[layer][clip]) == pytest.approx(
                float((constant * gradient).sum().detach()), rel=1e-8
            )
    (gradient,) = torch.autograd.grad(scores.sum(), video)
    mean, std = network.input[0].mean, network.input[0].std
    expected = (gradient * std * (video - mean) / std).sum(dim=(1, 2, 3, 4))
    torch.testing.assert_close(found.voxels, expected.detach(), rtol=1e-9, atol=1e-12)


def test_what_a_bias_alone_has_made_is_its_own() -> None:
    """z⁺ rule by hand: the second channel sees −0.5 and is 1.5 by its bias; three quarters of the score are there."""
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 3))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1, 1))
        network[0].bias.copy_(torch.tensor([0.0, 2.0]))
        network[4].weight.fill_(1.0)
        network[4].bias.zero_()
    found = _explained(network, torch.full((1, 1, 4, 8, 8), 0.5))
    assert float(found.score) == pytest.approx(2.0)
    assert float(_account(found).voxels) == pytest.approx(0.5, abs=1e-5)
    assert float(_account(found).biases["0"]) == pytest.approx(1.5, abs=1e-5)
    assert in_words(parts_of(_account(found), 0), 2.0) == "25.0 % on voxels, 75.0 % on the bias of 0"


def test_where_nothing_speaks_for_an_output_nothing_is_blamed() -> None:
    """α2β1 by hand: with parts of one sign only, the −β half of the relevance finds no part to take it."""
    network = nn.Sequential(nn.Conv3d(1, 1, 1, bias=False), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(1, 3))
    nn.init.ones_(network[0].weight)  # type: ignore[arg-type]
    nn.init.ones_(network[3].weight)  # type: ignore[arg-type]
    nn.init.zeros_(network[3].bias)  # type: ignore[arg-type]
    found = _explained(network, torch.full((1, 1, 4, 8, 8), 0.5), "epsilon_alpha2_beta1")
    score = float(found.score)
    assert float(_account(found).voxels) == pytest.approx(2 * score, rel=1e-4)
    assert [float(taken) for taken in _account(found).others.values()] == [pytest.approx(-score, rel=1e-4)]


def _with_a_dead_channel(activation: nn.Module) -> nn.Module:
    """Build conv → activation → BatchNorm, whose second channel is the same for every video in [0, 1]."""
    conv, norm, last = nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        conv.weight.fill_(1.0)
        conv.bias.copy_(torch.tensor([0.0, -30.0]))  # type: ignore[union-attr]
        norm.running_mean.copy_(torch.tensor([0.0, 1.0]))  # type: ignore[union-attr]
        norm.weight.copy_(torch.tensor([1.0, -1.0]))
        last.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]))
    return nn.Sequential(conv, activation, norm, nn.AdaptiveAvgPool3d(1), nn.Flatten(), last).eval()


@pytest.mark.parametrize(
    ("composite", "activation"),
    [
        *((name, nn.GELU) for name in COMPOSITES),
        *((DEFAULT_COMPOSITE, kind) for kind in (nn.ReLU, nn.SiLU, nn.Sigmoid, nn.Softplus)),
    ],
)
def test_a_channel_that_is_dead_for_every_video_explains_nothing(composite: str, activation: type[nn.Module]) -> None:
    network, video = _with_a_dead_channel(activation()), _clips()
    with LayerwiseRelevance(network, composite=composite, dtype=torch.float64) as explain:
        found = explain(video, torch.zeros(4, dtype=torch.long))
    assert (_account(found).voxels / found.score).abs().max() < 1e-4
    assert (_account(found).biases["2"] / found.score - 1).abs().max() < 1e-4
    assert _gap(found) < EXACT


def test_a_shift_and_an_input_that_speak_for_the_same_share_in_proportion() -> None:
    """s x = 0.5 and t = 1.5 make y = 2: a quarter is the input's, by ε and by the rule that never grows."""
    norm = nn.BatchNorm3d(1, eps=0.0)
    nn.init.constant_(norm.bias, 1.5)
    network = nn.Sequential(nn.ReLU(), norm, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(1, 3, bias=False)).eval()
    nn.init.ones_(network[4].weight)
    for composite in ("epsilon_plus", "epsilon", "lrp_0"):
        found = _explained(network, torch.full((1, 1, 2, 4, 4), 0.5), composite)
        assert float(found.conservation) == pytest.approx(0.25, abs=1e-5), composite


class _TimeFirst(nn.Module):
    """A linear layer on [T, B, D], with as many frames as there are clips; and time folded into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.linear = nn.Conv2d(1, 2, 4), nn.ReLU(), nn.Linear(50, 5)
        self.head = nn.Linear(20, 3)

    def forward(self, video: Tensor) -> Tensor:
        frames = self.relu(self.conv(video.permute(2, 0, 1, 3, 4).flatten(0, 1))).flatten(1)  # [T B, D]
        steps = self.relu(self.linear(frames.unflatten(0, (4, -1))))  # [T, B, 5]
        return self.head(steps.transpose(0, 1).flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "network",
    [_TimeFirst, lambda: CNNLSTM(3, num_frames=4, size=8, differences=True), lambda: SlimResNet3D(3, 4, size=16)],
)
def test_each_clip_of_a_batch_has_the_account_that_it_has_alone(network: Callable[[], nn.Module]) -> None:
    made, video = _made(network), _clips(num_frames=4, size=16 if network is not _TimeFirst else 8)
    if isinstance(made, CNNLSTM):
        video = video[..., :8, :8]
    with LayerwiseRelevance(made, zero_biases=False, check_network=False, dtype=torch.float64) as explain:
        together = explain(video, torch.tensor([0, 1, 2, 1]))
        alone = [explain(video[row : row + 1], together.target[row : row + 1]) for row in range(4)]
    assert _gap(together) < EXACT
    for row, one in enumerate(alone):
        own, expected = parts_of(_account(together), row), parts_of(_account(one), 0)
        for name in {**own, **expected}:
            assert own.get(name, 0.0) == pytest.approx(expected.get(name, 0.0), rel=1e-7, abs=1e-12), name


class _Swapped(nn.Module):
    """Gives clips and features back in a way in which they cannot be told apart by shape or order."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.head = nn.Linear(256, 4), nn.Linear(4, 3)

    def forward(self, video: Tensor) -> Tensor:
        hidden = self.linear(video.flatten(1)).flip(0)
        mixed = self.head(hidden.roll(1, 0)) if len(video) > 2 else self.head(hidden)
        return mixed.roll(-1, 0).flip(0) if len(video) > 2 else mixed.flip(0)


def test_clips_that_cannot_be_told_apart_are_explained_one_by_one() -> None:
    network, video = _made(_Swapped), torch.rand(3, 1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    together = _explained(network, video)
    for row in range(3):
        with LayerwiseRelevance(network, check_network=False, dtype=torch.float64) as explain:
            alone = explain(video[row : row + 1], together.target[row : row + 1])
        assert parts_of(_account(together), row) == pytest.approx(parts_of(_account(alone), 0))


def _twice_the_input(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
    return 1.001 * ctx.saved_tensors[0] * gradients[0], None, None


@pytest.mark.parametrize(
    ("place", "name", "bug"),
    [
        (standing_in._TimesInput, "backward", staticmethod(_twice_the_input)),
        (Book, "bias", lambda *_: None),
        (Book, "per_clip", lambda self, module, values: 1.001 * values.sum().double()[None]),
    ],
)
def test_a_rule_that_is_wrong_shows(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, bug: Any) -> None:
    network, still = _made(lambda: _Net()), _clips()[2:3]
    before = _explained(network, still)
    assert _gap(before) < EXACT
    monkeypatch.setattr(place, name, bug)
    after = _explained(network, still)
    assert _gap(after) > 1e-4


def test_a_sum_without_a_rule_shows() -> None:
    class Functional(_Net):
        def forward(self, video: Tensor) -> Tensor:
            stem = self.stem(self.input(video))
            return self.head(self.relu(stem + self.body(stem)))  # type: ignore[no-any-return]

    found = _explained(_made(Functional), _clips()[:1])
    assert _gap(found) > 0.01
    words = in_words(parts_of(_account(found), 0), float(found.score))
    assert "lost where no rule applies" in words
    warning = warning_of(parts_of(_account(found), 0), float(found.score), method=LRP, largest_logit=0.0)
    assert warning is not None
    assert "do not trust it" in warning


def test_where_float32_rounds_too_much_float64_is_taken() -> None:
    network = _made(lambda: SlimResNet3D(3, 6, size=16, differences=True), seed=0)
    rough = _explained(network, _clips(), "epsilon", dtype=torch.float32, refine=False)
    fine = _explained(network, _clips(), "epsilon", dtype=torch.float32)
    exact = _explained(network, _clips(), "epsilon")
    assert _gap(rough) > SINGLE
    assert _gap(fine) < SINGLE
    assert fine.relevance.dtype == torch.float32
    bad = _account(rough).gap(rough.score) > SINGLE
    torch.testing.assert_close(fine.relevance[bad].double(), exact.relevance[bad], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["gradient_x_input", "integrated_gradients"])
def test_methods_without_rules_call_the_rest_unexplained(method: str) -> None:
    with build_explainer(method, _made(lambda: _Net())) as explain:
        found = explain(_clips(), torch.tensor([0, 1, 2, 0]))
    account = _account(found)
    torch.testing.assert_close(account.voxels, found.relevance_sum)
    torch.testing.assert_close(account.total, found.score.double())
    assert list(account.others) == ["nothing (unexplained)"]


def test_methods_that_hand_no_score_down_have_none() -> None:
    for method in ("gradient", "occlusion", "random"):
        with build_explainer(method, _made(lambda: _Net())) as explain:
            assert explain(_clips()[:1], torch.tensor([0])).account is None


def test_words_name_the_largest_parts_and_count_the_rest() -> None:
    parts = {"voxels": 1.5, "the bias of a": -0.1, "the bias of b": 0.3, "c": 0.2, "the bias of d": 0.06, "e": 0.04}
    told = in_words(parts, 2.0)
    assert told == "75.0 % on voxels, 15.0 % on the bias of b, 10.0 % on c, −5.0 % on the bias of a, 5.0 % on 2 others"
    assert in_words({"voxels": 1.9999, "the stabiliser": 0.0001}, 2.0) == "100.0 % on voxels"
    assert in_words({"voxels": 0.0}, 0.0) == "the score is 0: there are no shares of it"
    assert in_words({"voxels": 1.0, "the stabiliser": 0.0}, 2.0).endswith("50.0 % lost where no rule applies")


def test_a_warning_says_what_has_the_rest_and_only_where_it_is_much() -> None:
    parts = {"voxels": 1.4, "the bias of stem.0": 0.6, "the stabiliser": 0.0}
    told = warning_of(parts, 2.0, method=LRP, largest_logit=2.0)
    assert told is not None
    assert "70.0 % on voxels, 30.0 % on the bias of stem.0" in told
    assert "as where nothing moves" in told
    assert warning_of({**parts, "voxels": 1.92, "the bias of stem.0": 0.08}, 2.0, method=LRP, largest_logit=2.0) is None
    assert warning_of(parts, 2.0, method=LRP, largest_logit=1000.0) is None  # a score next to zero


def test_in_gradient_form_constants_have_shares_of_their_own_and_only_a_loss_is_told() -> None:
    parts = {"voxels": 0.8, "the bias of stem.0": 1.2, "the stabiliser": 0.0}
    assert warning_of(parts, 2.0, method="lrp:cp_lrp", largest_logit=2.0) is None
    told = warning_of({**parts, "voxels": 0.6}, 2.0, method="lrp:attnlrp", largest_logit=2.0)
    assert told is not None
    assert "10.0 % lost where no rule applies" in told
