"""Against relevance written out as R, token by token, from the papers' formulas."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import normalize

from vidact.attribution.gradient_form.explainer import GradientForm
from vidact.attribution.lrp.explainer import LayerwiseRelevance
from vidact.core.errors import ConfigError, ExplanationError
from vidact.models.layers import InputLayers, Normalisation
from vidact.models.stacked import StackedFramesCNN

WIDTH, HEADS, TOKENS = 6, 2, 4
PART = WIDTH // HEADS


class Block(nn.Module):
    """One block of a transformer without any constant, on a video [1, 4, 6, 1, 1] as 4 tokens of 6 numbers."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.fused, self.norm, self.head = fused, nn.LayerNorm(WIDTH, bias=False), nn.Linear(WIDTH, 3, bias=False)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, bias=False, batch_first=True)
        self.up, self.down = nn.Linear(WIDTH, 8, bias=False), nn.Linear(8, WIDTH, bias=False)

    def forward(self, video: Tensor) -> Tensor:
        tokens = video.flatten(2)
        hidden = self.norm(tokens)
        if self.fused:
            tokens = tokens + self.attention(hidden, hidden, hidden, need_weights=False)[0]
        else:
            tokens = tokens + self._written_out(hidden)
        tokens = tokens + self.down(nn.functional.gelu(self.up(self.norm(tokens))))
        return self.head(tokens.mean(1))  # type: ignore[no-any-return]

    def _written_out(self, hidden: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (HEADS, PART)).transpose(1, 2)
            for part in nn.functional.linear(hidden, self.attention.in_proj_weight).chunk(3, dim=-1)
        )
        weights = torch.softmax(query / PART**0.5 @ key.transpose(-1, -2), dim=-1)
        return self.attention.out_proj((weights @ value).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def _linear(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """R_i = Σ_j w_ji x_i R_j / Σ_i' w_ji' x_i' (ε with ε = 0)."""
    found = torch.zeros_like(x)
    for token in range(len(x)):
        for j, row in enumerate(weight):
            found[token] += row * x[token] * relevance[token, j] / (row @ x[token])
    return found


def _norm(x: Tensor, norm: nn.LayerNorm, relevance: Tensor) -> Tensor:
    """Centring is linear, and the deviation a constant: ε on (I − 1/N)."""
    found = torch.zeros_like(x)
    centre = torch.eye(WIDTH, dtype=x.dtype) - 1 / WIDTH
    for token in range(len(x)):
        found[token] = _linear(x[token : token + 1], centre, relevance[token : token + 1])[0]
    return found


def _sum(first: Tensor, second: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    return first * relevance / (first + second), second * relevance / (first + second)


def _attention(x: Tensor, block: Block, relevance: Tensor, *, constant: bool) -> Tensor:
    """AttnLRP: half of A V to each factor, softmax R_i = x_i (R_i' − s_i Σ R'), half of q k to each; CP: all to V."""
    weight = block.attention.in_proj_weight
    query, key, value = (x @ part.T for part in weight.chunk(3))
    attended, parts = torch.zeros_like(x), [torch.zeros_like(x) for _ in range(3)]
    softmaxes = []
    for head in range(HEADS):
        own = slice(head * PART, (head + 1) * PART)
        logits = query[:, own] @ key[:, own].T / PART**0.5
        softmaxes.append(logits.softmax(-1))
        attended[:, own] = softmaxes[-1] @ value[:, own]
    arriving = _linear(attended, block.attention.out_proj.weight, relevance)
    for head, weights in enumerate(softmaxes):
        own = slice(head * PART, (head + 1) * PART)
        logits = query[:, own] @ key[:, own].T / PART**0.5
        to_weights = torch.zeros_like(weights)
        for i in range(TOKENS):
            for j in range(TOKENS):
                terms = weights[i, j] * value[j, own] * arriving[i, own] / attended[i, own]
                parts[2][j, own] += terms if constant else terms / 2
                to_weights[i, j] = 0 if constant else terms.sum() / 2
        to_logits = logits * (to_weights - weights * to_weights.sum(-1, keepdim=True))
        for i in range(TOKENS):
            for j in range(TOKENS):
                share = query[i, own] * key[j, own] / PART**0.5 / logits[i, j] * to_logits[i, j] / 2
                parts[0][i, own] += share
                parts[1][j, own] += share
    return sum(
        (_linear(x, own, part) for own, part in zip(weight.chunk(3), parts, strict=True)), start=torch.zeros_like(x)
    )


def _explicit(block: Block, tokens: Tensor, target: int, *, constant: bool) -> Tensor:
    hidden = block.norm(tokens)
    attended = block.attention(hidden[None], hidden[None], hidden[None], need_weights=False)[0][0]
    middle = tokens + attended
    inner = block.up(block.norm(middle))
    grown = block.down(nn.functional.gelu(inner))
    pooled = (middle + grown).mean(0)
    relevance = block.head.weight[target] * pooled  # R of the target's logit, by ε
    relevance = (middle + grown) * relevance / pooled / TOKENS
    straight, through = _sum(middle, grown, relevance)
    through = _linear(nn.functional.gelu(inner), block.down.weight, through)  # GELU passes it on
    straight = straight + _norm(middle, block.norm, _linear(block.norm(middle), block.up.weight, through))
    straight, through = _sum(tokens, attended, straight)
    return straight + _norm(tokens, block.norm, _attention(hidden, block, through, constant=constant))


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "written out"])
@pytest.mark.parametrize("composite", ["attnlrp", "cp_lrp"])
def test_a_block_is_explained_as_the_papers_say(composite: str, fused: bool) -> None:
    torch.manual_seed(0)
    block = Block(fused=fused).double().requires_grad_(requires_grad=False).eval()
    video = torch.rand(1, TOKENS, WIDTH, 1, 1, dtype=torch.float64)
    rules = {"rules": [{"layer": "weighted", "rule": "lrp_0"}], "otherwise": composite}
    with GradientForm(block, composite=rules, dtype=torch.float64) as explain:
        found = explain(video, torch.tensor([1])).relevance[0, :, :, 0, 0]
    expected = _explicit(block, video[0, :, :, 0, 0], 1, constant=composite == "cp_lrp")
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


class Convolutions(nn.Module):
    """A network that both engines follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(4, 5, (1, 3, 3), stride=2), nn.ReLU()
        )
        self.head = nn.Linear(20, 3)

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.layers(video).flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "lines",
    [
        [{"layer": "convolution", "rule": "z_plus"}, {"layer": "linear", "rule": "epsilon"}],
        [
            {"layer": "convolution", "rule": "gamma", "gamma": 0.4, "stabilizer": 1e-6},
            {"layer": "linear", "rule": "epsilon"},
        ],
        [{"layer": "convolution", "rule": "alpha2_beta1"}, {"layer": "linear", "rule": "gamma", "stabilizer": 1e-6}],
        [
            {"name": "layers.0", "rule": "alpha_beta", "alpha": 1.5, "beta": 0.5},
            {"layer": "weighted", "rule": "epsilon"},
        ],
        [{"layer": "weighted", "rule": "lrp_0"}],
    ],
    ids=lambda lines: lines[0]["rule"],
)
def test_a_network_of_modules_is_explained_as_by_rules_on_modules(lines: list[dict[str, object]]) -> None:
    torch.manual_seed(1)
    network = Convolutions().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    video = torch.rand(2, 2, 4, 10, 10, dtype=torch.float64)
    target = torch.tensor([0, 2])
    found = []
    explainers: list[tuple[Callable[..., LayerwiseRelevance | GradientForm], dict[str, object]]] = [
        (GradientForm, {"rules": lines, "otherwise": "cp_lrp"}),
        (LayerwiseRelevance, {"rules": lines, "zero_biases": False}),
    ]
    for build, composite in explainers:
        with build(network, composite=composite, dtype=torch.float64) as explain:
            found.append(explain(video, target))
    torch.testing.assert_close(found[0].relevance, found[1].relevance, rtol=1e-7, atol=1e-12)
    own, other = (one.account for one in found)
    assert own is not None
    assert other is not None
    assert own.biases.keys() == other.biases.keys()
    for name, taken in own.biases.items():
        torch.testing.assert_close(taken, other.biases[name], rtol=1e-7, atol=1e-12)


def test_where_pixels_are_normalised_and_subtracted_relevance_is_the_voxels() -> None:
    """As by rules on modules, also where a pixel is black."""
    torch.manual_seed(0)
    network = StackedFramesCNN(3, num_frames=4, size=16, head="dense").double()
    video = torch.rand(2, 1, 4, 16, 16, dtype=torch.float64)
    video[:, :, :, :5] = 0
    lines = [{"layer": "convolution", "rule": "z_plus"}, {"layer": "linear", "rule": "epsilon"}]
    with GradientForm(network, composite={"rules": lines, "otherwise": "cp_lrp"}, dtype=torch.float64) as explain:
        found = explain(video, torch.tensor([0, 2]))
    with LayerwiseRelevance(
        network, composite={"rules": lines, "zero_biases": False}, dtype=torch.float64
    ) as explain_modules:
        expected = explain_modules(video, torch.tensor([0, 2]))
    assert expected.relevance[:, :, :, :5].abs().max() > 0
    torch.testing.assert_close(found.relevance, expected.relevance, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("rule", ["box", "w_square", "flat"])
@pytest.mark.parametrize("differences", [True, False])
def test_the_first_layer_has_its_own_rule_as_by_rules_on_modules(rule: str, differences: bool) -> None:
    """With black pixels, and a padded convolution, which sees what is no pixel."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *(InputLayers(1, differences=differences), nn.Conv3d(1, 4, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv3d(4, 6, 2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 7 * 7, 3)),
    ).double()
    video = torch.rand(2, 1, 4, 16, 16, dtype=torch.float64)
    video[:, :, :, :5] = 0
    lines = [
        {"layer": "first", "rule": rule},
        {"layer": "convolution", "rule": "z_plus"},
        {"layer": "linear", "rule": "epsilon"},
    ]
    composite = {"rules": lines, "otherwise": "cp_lrp"}
    with GradientForm(network, composite=composite, dtype=torch.float64) as explain:
        found = explain(video, torch.tensor([0, 2]))
    with LayerwiseRelevance(network, composite={"rules": lines, "zero_biases": False}, dtype=torch.float64) as explain:
        expected = explain(video, torch.tensor([0, 2]))
    torch.testing.assert_close(found.relevance, expected.relevance, rtol=1e-6, atol=1e-10)
    assert found.account is not None
    assert found.account.gap(found.score).max() < 1e-9


class FoldedPatches(nn.Module):
    """Patches by reshaping and a linear layer, behind edges that are padded by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Linear(2 * 4 * 4, 8), nn.Linear(8, 3)

    def forward(self, video: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(video, (1, 3, 2, 2))  # 12 x 12 pixels
        tokens = padded.reshape(len(video), 2, 2, 3, 4, 3, 4).permute(0, 1, 3, 5, 2, 4, 6).flatten(4)
        return self.head(torch.relu(self.patches(tokens)).mean((1, 2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("rule", ["box", "w_square", "flat"])
def test_the_first_layer_is_found_behind_reshaping(rule: str) -> None:
    torch.manual_seed(0)
    network, video = FoldedPatches().double(), torch.rand(2, 1, 4, 8, 8, dtype=torch.float64)
    composite = {"rules": [{"layer": "first", "rule": rule}], "otherwise": "attnlrp"}
    with GradientForm(network, composite=composite, dtype=torch.float64) as explain:
        found = explain(video, torch.tensor([0, 2]))
    assert found.account is not None
    assert found.account.gap(found.score).max() < 1e-9
    if rule == "flat":  # within a patch, all pixels have the same; of 12 columns the last 3 and the first are no pixels
        assert (found.relevance[:, :, :2, :2, :3] == found.relevance[:, :, :1, :1, :1]).all()


def test_a_first_layer_that_does_not_see_the_pixels_has_no_rule_of_its_own() -> None:
    class Squared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(16, 3)

        def forward(self, video: Tensor) -> Tensor:
            return self.head((video * video).flatten(1))  # type: ignore[no-any-return]

    composite = {"rules": [{"layer": "first", "rule": "box"}], "otherwise": "cp_lrp"}
    video = torch.rand(1, 1, 1, 4, 4)
    with (
        GradientForm(Squared(), composite=composite) as explain,
        pytest.raises(ExplanationError, match="cannot follow `mul` .* box rule is for a layer with weights that sees"),
    ):
        explain(video, torch.tensor([0]))
    flat = {"rules": [{"layer": "first", "rule": "flat"}], "otherwise": "cp_lrp"}
    network = StackedFramesCNN(3, num_frames=4, size=16, head="pooled")
    with GradientForm(network, composite=flat) as explain, pytest.raises(ConfigError, match="every frame exactly the"):
        explain(torch.rand(1, 1, 4, 16, 16), torch.tensor([0]))
    with pytest.raises(ConfigError, match="and box, w_square, flat for layer: first alone; got epsilon for first"):
        GradientForm(network, composite={"rules": [{"layer": "first", "rule": "epsilon"}], "otherwise": "cp_lrp"})


class NormalisedInCode(nn.Module):
    """The same layers behind pixels that are normalised by a module, or by code in one of `WAYS`."""

    MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.5]

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.layer, self.head = way, nn.Conv3d(3, 4, (1, 3, 3)), nn.Linear(4, 3)
        self.module = Normalisation(self.MEAN, self.STD)
        self.register_buffer("mean", torch.tensor(self.MEAN))
        self.register_buffer("std", torch.tensor(self.STD))

    def forward(self, video: Tensor) -> Tensor:
        seen = self.module(video) if self.way == "module" else WAYS[self.way](video, self.mean, self.std)  # type: ignore[arg-type]
        return self.head(torch.relu(self.layer(seen)).mean((2, 3, 4)))  # type: ignore[no-any-return]


def _for_colours(values: Tensor, dims: int = 3) -> Tensor:
    return values.reshape(3, *[1] * dims)


def _in_code(video: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (video - _for_colours(mean)) / _for_colours(std)


def _frames_first(video: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return ((video.transpose(1, 2) - _for_colours(mean, 2)) / _for_colours(std, 2)).transpose(1, 2)


def _scaled_and_shifted(video: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return torch.add(video * _for_colours(1 / std), other=_for_colours(-mean / std), alpha=1)


def _by_torchvision(video: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return normalize(video.transpose(1, 2), mean.tolist(), std.tolist()).transpose(1, 2)


def _by_torchvision_on_a_view(video: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    normalize(video.transpose(1, 2), mean.tolist(), std.tolist(), inplace=True)
    return video


def _in_place(video: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return video.sub_(_for_colours(mean)).div_(_for_colours(std))


def _frame_by_frame(video: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    frames = [normalize(frame, mean.tolist(), std.tolist()) for frame in video.unbind(2)]
    return torch.stack(frames, dim=2)


def _colour_by_colour(video: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    for colour in range(3):
        video[:, colour] = (video[:, colour] - mean[colour]) / std[colour]
    return video


def _colour_by_colour_in_place(video: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    seen = video.transpose_(1, 2)
    for colour in range(3):
        seen[:, :, colour].sub_(mean[colour]).div_(std[colour])
    return seen.transpose(1, 2)


def _beside_raw_pixels(video: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    raw = video.clone()
    return torch.stack([raw, _in_code(video, mean, std)])[1]


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    way.__name__.strip("_").replace("_", " "): way
    for way in (
        *(_in_code, _frames_first, _scaled_and_shifted, _by_torchvision, _by_torchvision_on_a_view, _in_place),
        *(_frame_by_frame, _colour_by_colour, _colour_by_colour_in_place, _beside_raw_pixels),
    )
}


@pytest.mark.parametrize("rule", [None, "box"])
@pytest.mark.parametrize("way", WAYS)
def test_pixels_that_code_normalises_are_as_those_of_a_layer(way: str, rule: str | None) -> None:
    """Whoever writes the mean into forward gets the same explanation as who has a layer for it."""
    first = [] if rule is None else [{"layer": "first", "rule": rule}]
    network, expected = NormalisedInCode(way).double(), NormalisedInCode("module").double()
    expected.load_state_dict(network.state_dict())
    video = torch.rand(2, 3, 2, 6, 6, dtype=torch.float64)
    video[:, :, :, :3] = 0
    found = {}
    for one in (network, expected):
        with GradientForm(one, composite={"rules": first, "otherwise": "cp_lrp"}, dtype=torch.float64) as explain:
            found[one] = explain(video.clone(), torch.tensor([0, 2]))
    torch.testing.assert_close(found[network].relevance, found[expected].relevance, rtol=1e-9, atol=1e-12)
    assert found[expected].relevance[:, :, :, :3].any(), "black pixels have relevance, as they are not the mean"
    account = found[network].account
    assert account is not None
    assert account.gap(found[network].score).max() < 1e-12


def test_positions_that_are_added_to_pixels_are_not_the_pixels() -> None:
    """Frames as tokens: a constant that differs from place to place is no normalisation."""

    class FramesAsTokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions, self.head = nn.Parameter(torch.rand(4, 16)), nn.Linear(16, 3, bias=False)

        def forward(self, video: Tensor) -> Tensor:
            return self.head(video.flatten(3)[:, 0] + self.positions).mean(1)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    network, video = FramesAsTokens().double(), torch.zeros(1, 1, 4, 4, 4, dtype=torch.float64)
    with GradientForm(network, composite="attnlrp", dtype=torch.float64) as explain:
        found = explain(video, torch.tensor([0]))
    assert not found.relevance.any(), "black pixels have nothing to say here"
    assert found.account is not None
    assert sum(found.account.others.values()) == pytest.approx(float(found.score))
