"""On networks as people write them, the account closes, nothing changes, and a missing rule shows."""

import copy
from typing import Any

import pytest
import torch
from functional_networks import NETWORKS, build, video
from torch import nn

from vidact.attribution.gradient_form import explainer
from vidact.attribution.gradient_form.explainer import GradientForm
from vidact.attribution.gradient_form.handlers import HANDLERS
from vidact.core.explanation import Explanation

LINES = [{"layer": "convolution", "rule": "z_plus"}, {"layer": "linear", "rule": "alpha2_beta1"}]
COMPOSITES: dict[str, Any] = {
    "attnlrp": "attnlrp",
    "cp_lrp": "cp_lrp",
    "attnlrp, no rule": {"rules": [{"layer": "weighted", "rule": "lrp_0"}], "otherwise": "attnlrp"},
    "cp_lrp, own lines": {"rules": LINES, "otherwise": "cp_lrp"},
}
TARGET = torch.tensor([0, 2])


def _explain(network: nn.Module, composite: Any = "attnlrp", *, num_clips: int = 2, **settings: Any) -> Explanation:
    with GradientForm(network, composite=composite, dtype=torch.float64, **settings) as explain:
        return explain(video(num_clips), TARGET[:num_clips])


def _gap(found: Explanation) -> float:
    assert found.account is not None
    return float(((found.score - found.account.total) / found.score).abs().max())


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_account_closes_and_the_scores_are_the_networks(name: str, composite: str) -> None:
    network = build(name)
    found = _explain(network, COMPOSITES[composite])
    assert _gap(found) <= 1e-9
    assert found.relevance.abs().amax(dim=(1, 3, 4)).min() > 0, "every frame of these networks takes part"
    with torch.no_grad():
        expected = network(video()).gather(1, TARGET[:, None])[:, 0]
    torch.testing.assert_close(found.score, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_gives_what_its_clips_give_singly(name: str) -> None:
    network = build(name)
    together, singly = _explain(network), _explain(network, batch_size=1)
    torch.testing.assert_close(together.relevance, singly.relevance, rtol=1e-8, atol=1e-12)
    assert together.account is not None
    assert singly.account is not None
    assert together.account.parts.keys() == singly.account.parts.keys()
    for part, taken in together.account.parts.items():
        torch.testing.assert_close(taken, singly.account.parts[part], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_stays_as_it_is(name: str) -> None:
    network = build(name, dtype=torch.float32).train()
    before, state = copy.deepcopy(network.state_dict()), torch.random.get_rng_state()
    _explain(network)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert network.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_single_precision_gives_nearly_the_same(name: str) -> None:
    network = build(name)
    exact = _explain(network, "cp_lrp")
    with GradientForm(network, composite="cp_lrp", refine=False) as explain:
        found = explain(video(dtype=torch.float32), TARGET)
    assert found.account is not None
    assert float(found.account.gap(found.score).max()) <= 1e-4
    scale = exact.relevance.abs().amax()
    assert float((found.relevance - exact.relevance).abs().max() / scale) <= 1e-4


# What goes wrong where a rule is missing, and a network that has such a step.
MISSING = {
    "layer_norm": "encoder",
    "rms_norm": "modern",
    "rsqrt": "modern",
    "group_norm": "efficient",
    "normalize": "attention pooling",
    "gelu": "encoder",
    "silu": "modern",
    "hardswish": "efficient",
    "tanh": "shifting",
    "elu": "pathways",
    "sigmoid": "efficient",
    "clamp": "pathways",
    "matmul": "timm",
    "mul": "modern",
    "softmax": "timm",
    "scaled_dot_product_attention": "modern",
    "multi_head_attention_forward": "encoder",
    "batch_norm": "efficient",
    "linear": "encoder",
    "conv3d": "encoder",
}


@pytest.mark.parametrize("rule", MISSING)
def test_a_missing_rule_shows(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its rule, a step has its own gradient and notes nothing."""
    monkeypatch.setattr(explainer, "HANDLERS", {**HANDLERS, rule: lambda walk, call: call.run()})
    monkeypatch.setattr(explainer, "LARGEST_GAP", float("inf"))
    assert _gap(_explain(build(MISSING[rule]), COMPOSITES["attnlrp, no rule"])) > 1e-6


def test_what_is_added_has_to_be_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidact.attribution.gradient_form.walk.constant_part", lambda call: None)
    monkeypatch.setattr(explainer, "LARGEST_GAP", float("inf"))
    for name in ("encoder", "modern", "pathways", "mvit"):
        assert _gap(_explain(build(name))) > 1e-6, name


@pytest.mark.parametrize("name", ["encoder", "shifting", "mvit"])
def test_a_batch_is_explained_at_once(name: str) -> None:
    """Clips are told apart in every tensor that is noted, also where time or windows are folded into the batch."""
    calls = []
    network = build(name)
    handle = network.register_forward_hook(lambda *given: calls.append(len(given[1][0])))
    with GradientForm(network, dtype=torch.float64) as explain:
        explain.prepare(video())
        calls.clear()
        explain(video(2), TARGET)
    handle.remove()
    assert calls[-1] == 2


class FromClipToClip(nn.Module):
    """As TimeSformer of Hugging Face: the class token of a clip is taken from a row that belongs to another clip."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.token, self.head = (
            nn.Conv2d(3, 4, 4, stride=4),
            nn.Parameter(torch.randn(1, 1, 4)),
            nn.Linear(4, 3),
        )

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        num_clips, num_frames = len(clips), clips.shape[2]
        tokens = self.conv(clips.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], dim=1)
        first = tokens[:num_clips, :1]
        rest = tokens[:, 1:].reshape(num_clips, num_frames * 16, 4)
        return self.head(torch.tanh(torch.cat([first, rest], dim=1)).mean(1))  # type: ignore[no-any-return]


def test_where_constants_go_from_clip_to_clip_each_is_explained_alone() -> None:
    torch.manual_seed(0)
    network = FromClipToClip().double()
    found = _explain(network)
    assert _gap(found) <= 1e-9
    torch.testing.assert_close(found.relevance, _explain(network, batch_size=1).relevance)
