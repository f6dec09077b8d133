"""Concepts of networks whose channels are known: their relevance, what they look at, and what happens without them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vidact.attribution.registry import build_explainer
from vidact.audit.asking import CLEAN, Candidate
from vidact.audit.factors.clips import with_plate
from vidact.audit.relevance.channels import ablated, find_layer, follow, logits_without, why_not
from vidact.audit.relevance.concepts import (
    ABLATED,
    CONCEPTS,
    Ablate,
    Concepts,
    ConceptTable,
    ablation_changes,
    choose_ablations,
    mean_inside,
    most_relevant,
    table_of,
    top_channels,
)
from vidact.audit.relevance.prototypes import find_prototypes
from vidact.core.errors import ConfigError
from vidact.models.transformer import VideoTransformer

EPSILON = {"rules": [], "otherwise": "epsilon", "zero_biases": False}
GAINS = torch.tensor([2.0, -1.0, 0.5])  # of the channels
WEIGHTS = torch.tensor([[1.0, 0.5, 0.0], [-1.0, 2.0, 0.0]])  # of the classes; no class uses the last channel


class ThreeChannels(nn.Module):
    """Channel k is a known multiple of each voxel, and each class a known sum of the channels' means."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv3d(1, 3, 1, bias=False)
        self.norm = nn.BatchNorm3d(3, eps=0)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.head = nn.Linear(3, 2)
        self.maps.weight.data = GAINS.reshape(3, 1, 1, 1, 1).clone()
        self.head.weight.data, self.head.bias.data = WEIGHTS.clone(), torch.tensor([0.3, -0.2])

    def forward(self, video: Tensor) -> Tensor:
        scores: Tensor = self.head(self.pool(self.norm(self.maps(video))))
        return scores


def _network() -> ThreeChannels:
    network = ThreeChannels().eval()
    network.requires_grad_(requires_grad=False)
    return network


def _video(*, count: int = 1) -> Tensor:
    return torch.rand(count, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def _state(network: nn.Module) -> dict[str, Any]:
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()]
    return {
        "modes": [module.training for module in network.modules()],
        "hooks": hooks,
        **{name: value.clone() for name, value in network.state_dict().items()},
    }


def _is_same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return before.keys() == after.keys() and all(
        torch.equal(own, after[name]) if isinstance(own, Tensor) else own == after[name] for name, own in before.items()
    )


@pytest.mark.parametrize(("method", "settings"), [("lrp", {"composite": EPSILON}), ("lrp:attnlrp", {}), ("lrp", {})])
def test_channels_have_their_share_of_the_logit_and_their_maps_add_up(method: str, settings: dict[str, Any]) -> None:
    network, video = _network(), _video()
    layer = find_layer(network, video)
    assert (layer.name, layer.channels) == ("norm", 3)
    before = _state(network)
    with build_explainer(method, network, **settings, dtype=torch.float64) as explain:
        found = follow(explain, video, 1, layer)
        whole = explain(video, torch.tensor([1])).relevance
        maps = [found.conditional(channel) for channel in range(3)]
        assert torch.allclose(sum(maps), whole, atol=1e-6 * float(whole.abs().max()), rtol=0)  # type: ignore[arg-type]
    assert _is_same(before, _state(network))
    if method == "lrp" and not settings:
        return  # epsilon_plus ignores biases
    share = WEIGHTS[1] * GAINS * video.mean()
    assert torch.allclose(layer.sums(found.relevance), share.double(), atol=1e-5)
    assert float(found.relevance.sum()) == pytest.approx(found.score + 0.2, abs=1e-5), "the logit less its bias"
    for channel in range(3):
        expected = WEIGHTS[1, channel] * GAINS[channel] * video.double() / video.numel()
        assert torch.allclose(maps[channel], expected, atol=1e-8), "one voxel makes one value of a channel"


def test_tokens_of_a_transformer_are_followed() -> None:
    torch.manual_seed(0)
    network = VideoTransformer(3, 4, 1, 16, tubelet=(2, 8, 8), width=8, depth=1, heads=2).eval()
    video = torch.rand(1, 1, 4, 16, 16)
    layer = find_layer(network, video)
    assert (layer.name, layer.axis, layer.channels) == ("norm", 2, 8)
    with build_explainer("lrp", network, dtype=torch.float64) as explain:
        found = follow(explain, video, 2, layer)
        tokens = network.double().embedding(network.input(video.double())).flatten(2).mT + network.positions
        features = network.norm(network.blocks(tokens))
        parts = torch.cat([features.mean(dim=1)[0] * network.head.weight[2], network.head.bias[2:]])
        parts = parts + 0.05 * parts.clamp(max=0)  # γ, for a score below 0 (Andéol et al. 2021)
        share = found.score * parts / parts.sum()
        assert found.score < 0
        assert torch.allclose(layer.sums(found.relevance), share[:8], rtol=1e-4, atol=0)
        whole = explain(video, torch.tensor([2])).relevance
        total = sum(found.conditional(channel) for channel in range(8))
        assert torch.allclose(total, whole, atol=1e-9)  # type: ignore[arg-type]


def test_channels_are_found_where_a_norm_or_the_classes_say_so() -> None:
    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.norm, self.head = nn.Conv3d(1, 5, 2, stride=2), nn.LayerNorm(5), nn.Linear(5, 2)

        def forward(self, video: Tensor) -> Tensor:
            scores: Tensor = self.head(self.norm(self.embed(video).movedim(1, -1)).mean(dim=(1, 2, 3)))
            return scores

    network = ChannelsLast()
    everywhere = nn.Sequential(nn.Conv3d(1, 3, 1), nn.Conv3d(3, 2, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    assert find_layer(everywhere, _video()).name == "0", "logits at each place are no concepts"
    assert find_layer(network, _video()).axis == 4
    assert find_layer(network, _video(), "embed").axis == 1
    assert network.training


def test_a_layer_that_does_not_suit_is_refused_in_a_line() -> None:
    network = _network()
    with pytest.raises(ConfigError, match="no layer 'map'; nearest: maps"):
        find_layer(network, _video(), "map")
    with pytest.raises(ConfigError, match=r"'head' is called 1 times and gives \[\[1, 2\]\]"):
        find_layer(network, _video(), "head")
    assert why_not("lrp") is why_not("lrp:epsilon_plus") is why_not("lrp:cp_lrp") is None
    assert "got gradient" in str(why_not("gradient"))
    with build_explainer("gradient", network) as explain, pytest.raises(ConfigError, match="got gradient"):
        follow(explain, _video(), 0, find_layer(network, _video()))


def test_a_clip_is_described_by_its_channels() -> None:
    network, video = _network(), 0.1 * _video()
    video[:, :, 2] *= 5
    mask = torch.zeros(1, 4, 8, 8, dtype=torch.bool)
    mask[..., :2] = True
    clip = with_plate(video, mask)
    with build_explainer("lrp", network, composite=EPSILON) as explain, torch.inference_mode():
        noted = Concepts()(clip, Candidate("x", 0, "s"), network=network, explain=explain)[CONCEPTS]
        assert Concepts()(clip, Candidate("x", 0, "s"), network=network, explain=None) == {}
    with build_explainer("gradient", network) as explain:
        assert Concepts()(clip, Candidate("x", 0, "s"), network=network, explain=explain) == {}
    assert noted["rho"] == pytest.approx([0.8, -0.2, 0.0], abs=1e-5)  # 2 · 1 and −1 · 0.5, of 2.5
    assert noted["activation"] == pytest.approx((GAINS * video.mean()).tolist(), rel=1e-4)
    assert list(noted["top"]) == ["0"], "the others do not speak for the class"
    assert noted["frames"][0] == 2
    assert noted["top"]["0"]["inside"] == pytest.approx(float(video[..., :4].sum() / video.sum()), rel=1e-4)
    assert mean_inside([{CONCEPTS: noted}, {}], 0) == noted["top"]["0"]["inside"]
    assert mean_inside([{CONCEPTS: noted}], 1) is None


def test_without_a_channel_only_what_it_gave_is_missing() -> None:
    network, video = _network(), _video(count=2)
    network.train()
    layer, before = find_layer(network, video), _state(network)
    clean = network.eval()(video)
    network.train()
    unused = logits_without(network, video, layer, {2: 7.0})
    assert torch.equal(unused, clean)
    used = logits_without(network, video, layer, {1: 0.25})
    mean = video.mean(dim=(1, 2, 3, 4))
    expected = clean + WEIGHTS[:, 1] * (0.25 - GAINS[1] * mean[:, None])
    assert torch.allclose(used, expected, atol=1e-5)
    with pytest.raises(ValueError, match="stop"), ablated(network, layer, {1: 0.0}):
        raise ValueError("stop")
    assert _is_same(before, _state(network))


def test_ablations_are_asked_clip_by_clip_and_gathered() -> None:
    network, clip = _network(), with_plate(_video(), torch.zeros(1, 4, 8, 8, dtype=torch.bool))
    ask = Ablate(None, {0: [(0,), (2,), (0, 2)]}, [-9.0, 0.0, 0.0])
    told = ask(clip, Candidate("x", 0, "s"), network=network, explain=None)
    assert ask(clip, Candidate("y", 1, "s"), network=network, explain=None) == {}
    scores = network(clip.video).double()[0].log_softmax(dim=0)
    record = {"clip": "x", "label": 0, "source": "s", "answers": {CLEAN: [[0, float(scores[0])]]}, **told}
    assert told[ABLATED]["0"][0] == 1, "without what speaks for it, the class is not seen"
    changes = ablation_changes([record])
    assert list(changes) == [(0, "0"), (0, "2"), (0, "0+2")]
    assert changes[0, "0"].right == changes[0, "0+2"].right == [-1.0]
    assert (changes[0, "2"].right, changes[0, "2"].sources) == ([0.0], ["s"])
    assert changes[0, "2"].log_p == pytest.approx([0.0])


def test_a_class_is_asked_without_its_top_channels_and_without_others() -> None:
    *top, others = choose_ablations(_table(np.array([[0.1, 0.4, -0.2, 0.0, 0.3, 0.0]]), ["s"]), seed=0, most=2)[0]
    assert top == [(1,), (4,), (1, 4)]
    assert len(set(others)) == 2
    assert not set(others) & {1, 4}
    assert choose_ablations(_table(np.array([[-0.1, -0.4]]), ["s"]), seed=0) == {0: []}


def _table(rho: np.ndarray, sources: list[str], wrong: tuple[int, ...] = ()) -> ConceptTable:
    records = [
        {
            "clip": f"clip {number:03}",
            "source": source,
            "label": 0,
            "answers": {CLEAN: [[int(number in wrong), 0.0]]},
            CONCEPTS: {"rho": own.tolist(), "activation": own.tolist(), "frames": [None] * len(own)},
        }
        for number, (own, source) in enumerate(zip(rho, sources, strict=True))
    ]
    found = table_of([*records, {"clip": "not explained"}])
    assert found is not None
    return found


def test_examples_are_the_most_relevant_clips_of_distinct_sources() -> None:
    draw = np.random.default_rng(0)
    rho, sources = draw.normal(size=(60, 2)), [f"s{number % 12}" for number in range(60)]
    found = most_relevant(_table(rho, sources), 1)
    best = sorted((float(rho[number::12, 1].max()) for number in range(12)), reverse=True)[:9]
    assert [one.rho for one in found] == best
    assert len({one.source for one in found}) == 9
    assert all(one.frame is None for one in found)
    assert top_channels(_table(np.array([[0.1, 0.3, -0.2]]), ["s"])) == {0: (1, 0)}
    assert table_of([]) is None


def test_two_planted_groups_are_two_prototypes_and_noise_is_one() -> None:
    draw = np.random.default_rng(0)
    noise, sources = 0.01 * draw.normal(size=(40, 64)), [f"s{number % 10}" for number in range(40)]
    truth = np.array([0] * 26 + [1] * 14)
    centres = np.zeros((2, 64))
    centres[0, :4], centres[1, 4:8] = 0.15, 0.15
    rho = noise + centres[truth]
    rho[3] += 0.05  # strange
    found = find_prototypes(_table(rho, sources, wrong=(3, 30)), 0, seed=0)
    assert found is not None
    assert (found.count, found.reason) == (2, "")
    assert (found.group == truth).all(), "the larger comes first"
    assert np.abs(found.means[1] - rho[truth == 1].mean(axis=0)).max() < 1e-9
    assert [int(name[-3:]) >= 26 for name in found.prototypes] == [False, True]
    assert found.ordinariness[3] < 0.1
    assert found.suspects == ("clip 030", "clip 003"), "wrong clips, the most ordinary first"
    assert found.stability is not None
    assert found.stability > 0.9
    alone = find_prototypes(_table(noise + centres[0], sources), 0, seed=0)
    assert alone is not None
    assert alone.count == 1
    assert alone.stability is not None
    assert alone.stability > 0.9
    assert find_prototypes(_table(rho[:11], sources[:11]), 0, seed=0) is None
