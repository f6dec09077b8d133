"""What relevance cannot follow is refused, once for each place, with its line."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from functional_networks import TanhGELU, build, video
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vidact.attribution.gradient_form import explainer
from vidact.attribution.gradient_form.explainer import GradientForm
from vidact.attribution.gradient_form.steps import let_activations_pass
from vidact.core.errors import ConfigError, ExplanationError
from vidact.core.explanation import Explanation
from vidact.models.layers import Normalisation


class Around(nn.Module):
    """A network around one step."""

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.head, self.step = nn.Conv3d(3, 4, 3), nn.Linear(4, 3), step

    def forward(self, clip: Tensor) -> Tensor:
        hidden = self.step(self.conv(clip))
        return self.head(hidden.mean((2, 3, 4)))  # type: ignore[no-any-return]


def _explain(step: Callable[[Tensor], Tensor] | nn.Module, composite: Any = "attnlrp") -> Explanation:
    torch.manual_seed(0)
    network = step if isinstance(step, nn.Module) else Around(step).double()
    with GradientForm(network, composite=composite, dtype=torch.float64) as explain:
        return explain(video(), torch.tensor([0, 2]))


def _gap(found: Explanation) -> float:
    assert found.account is not None
    return float(((found.score - found.account.total) / found.score).abs().max())


class _Doubling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * 2


@pytest.mark.parametrize(
    ("step", "function", "remedy"),
    [
        (lambda x: x.exp(), "exp", "softmax"),
        (lambda x: F.softplus(x), "softplus", "relu"),
        (lambda x: x.log_softmax(1), "log_softmax", "logits"),
        (lambda x: x.prod(dim=2, keepdim=True), "prod", "sums, products"),
        (lambda x: 2.0**x, "pow", "sums, products"),
        (lambda x: torch.fft.fftn(x).real, "fft_fftn", "sums, products"),
        (lambda x: F.batch_norm(x, None, None, training=True), "batch_norm", "running statistics"),
        (lambda x: torch.batch_norm(x, None, None, None, None, True, 0.1, 1e-5, False), "batch_norm", "nn.functional"),
        (lambda x: torch.mul(x, x, out=torch.empty_like(x)), "mul", "without out="),
        (_Doubling.apply, "_Doubling", "its steps cannot be seen"),
    ],
)
def test_a_function_without_a_rule_is_refused_with_its_line(
    step: Callable[[Tensor], Tensor], function: str, remedy: str
) -> None:
    with pytest.raises(ExplanationError) as caught:
        _explain(step)
    told = str(caught.value)
    assert f"relevance cannot follow `{function}`" in told
    assert remedy in told
    assert "\n" not in told
    line = 0 if function == "_Doubling" else step.__code__.co_firstlineno
    assert function == "_Doubling" or re.search(rf"{Path(__file__).name}:{line}\b", told), told


def _tripled(values: Tensor) -> Tensor:
    return values.exp() * 3


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_a_scripted_function_is_refused() -> None:
    scripted = torch.jit.script(_tripled)
    with pytest.raises(ExplanationError, match="its steps cannot be seen"):
        _explain(lambda values: scripted(values))


def test_what_is_overwritten_after_a_step_that_needs_it_is_refused() -> None:
    def step(values: Tensor) -> Tensor:
        found = F.gelu(values)
        values += 1
        return found

    with pytest.raises(ExplanationError, match="overwritten .* work on a clone"):
        _explain(step)


@pytest.mark.parametrize(
    "step",
    [
        lambda x: F.conv3d(x, x.mean((0, 2, 3, 4)).reshape(1, 4, 1, 1, 1)).expand(-1, 4, -1, -1, -1),
        lambda x: F.layer_norm(x, (14,), weight=x.mean((0, 1, 2, 3)), bias=x.amax((0, 1, 2, 3))),
        lambda x: F.group_norm(x, 2, weight=x.mean((0, 2, 3, 4)), bias=x.amax((0, 2, 3, 4))),
    ],
    ids=["filter", "layer norm", "group norm"],
)
def test_weights_that_the_clip_makes_take_their_share(step: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    with GradientForm(Around(step).double(), dtype=torch.float64, batch_size=1) as explain:
        assert _gap(explain(video(), torch.tensor([0, 2]))) <= 1e-9


def test_a_place_is_named_once() -> None:
    def step(values: Tensor) -> Tensor:
        for _ in range(3):
            values = values.exp()
        return values.prod(2, keepdim=True)

    with pytest.raises(ExplanationError, match=r"`exp` .*\(and 1 more: python -m vidact inspect\)"):
        _explain(step)


class _Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, clip: Tensor) -> Tensor:
        return self.head(clip.detach().mean((2, 3, 4)))  # type: ignore[no-any-return]


def test_scores_without_a_gradient_are_refused() -> None:
    with pytest.raises(ExplanationError, match="no relevance goes from the network's scores to the clip; return"):
        _explain(_Detached().double())


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x.mul_(x.mean((2, 3, 4), keepdim=True)),
        lambda x: x.tanh_(),
        lambda x: F.silu(x, inplace=True),
        lambda x: x.clone().sigmoid_() * x,
        lambda x: x.add_(0.5).relu_(),
        lambda x: (1 - x) / 2 - x / x.abs().amax((1, 2, 3, 4), keepdim=True),
        lambda x: x[:, :, :1].add_(1.0) + x,
        lambda x: x**2 + x.pow(3) + x.abs().sqrt() + x.square(),
        lambda x: x + torch.arange(4).view(4, 1, 1, 1),
        lambda x: x.clamp(0.1, 0.4) + x.clamp(min=-0.1) + F.hardtanh(x, 0.1, 0.3) + F.hardtanh(x),
        lambda x: torch.maximum(x, torch.full_like(x, 0.1)) + x.min(torch.zeros_like(x)) + torch.max(x, x.flip(2)),
        lambda x: torch.ones_like(x)[:, :2].copy_(x[:, :2])._base,
        lambda x: torch.ones_like(x)[:, :2].mul_(x[:, :2])._base,
        lambda x: (
            torch.add(input=x, other=0.5) + F.gelu(input=x) + torch.div(input=x, other=2) + torch.clamp(input=x, min=0)
        ),
        lambda x: F.glu(torch.cat([x, x.flip(1)], 1), dim=1),
        lambda x: F.prelu(x.relu(), torch.full((4,), 0.2).double()),
        lambda x: x.movedim(1, -1) @ torch.full((4, 4), 0.3).double() @ torch.eye(4).double(),
        lambda x: torch.where(x > 0, x, 0.25),
        lambda x: F.pad(x, (1, 1), value=0.7),
        lambda x: torch.addcmul(x, x, x, value=0.5),
        lambda x: torch.stack([x, torch.ones_like(x)]).sum(0),
        lambda x: x / x.std((1, 2, 3, 4), keepdim=True) + x.var((2, 3, 4), keepdim=True),
        lambda x: F.instance_norm(x) + F.group_norm(x, 2),
        lambda x: torch.einsum("bcthw,bc->bthw", x, x.mean((2, 3, 4)))[:, None],
        lambda x: x.index_fill(2, torch.tensor([0]), 0.3),
        lambda x: F.interpolate(x, scale_factor=2.0, mode="trilinear"),
        lambda x: torch.baddbmm(torch.ones(1, 1, 1).double(), x.flatten(2), x.flatten(2).transpose(1, 2))[
            ..., None, None
        ],
        lambda x: F.conv_transpose3d(x, torch.ones(4, 2, 2, 2, 2).double(), torch.ones(2).double(), stride=2),
        lambda x: checkpoint(lambda y: F.layer_norm(torch.tanh(y) * y, (14,)), x, use_reentrant=False),
        lambda x: checkpoint(lambda y: F.layer_norm(torch.tanh(y) * y, (14,)), x, use_reentrant=True),
    ],
    ids=lambda step: str(step.__code__.co_firstlineno),
)
def test_code_of_every_kind_closes(step: Callable[[Tensor], Tensor]) -> None:
    def four_channels(values: Tensor) -> Tensor:
        found = step(values)
        return found if found.shape[1] == 4 else found.mean(1, keepdim=True).expand(-1, 4, -1, -1, -1)

    torch.manual_seed(0)
    expected = Around(four_channels).double()(video().requires_grad_().clone()).detach()
    found = _explain(four_channels)
    assert _gap(found) <= 1e-9
    torch.testing.assert_close(found.score, expected[[0, 1], [0, 2]], rtol=1e-10, atol=1e-12)


def test_an_activation_of_ones_own_passes_relevance_on() -> None:
    network = nn.Sequential(TanhGELU(), nn.ReLU(), nn.Flatten(), _Detached())
    assert let_activations_pass(network) == ["0"]
    given = torch.randn(5, dtype=torch.float64, requires_grad=True)
    network[0](given).sum().backward()
    torch.testing.assert_close(given.grad, TanhGELU()(given.detach()) / given.detach())


def test_lines_go_to_modules_by_name() -> None:
    network = build("timm")
    plain = _explain(network, "cp_lrp")
    lines = [{"name": "mlp.*", "rule": "gamma", "gamma": 5.0}]
    changed = _explain(network, {"rules": lines, "otherwise": "cp_lrp"})
    assert not torch.allclose(plain.relevance, changed.relevance, rtol=1e-3)
    assert _gap(changed) <= 1e-9
    with pytest.raises(ConfigError, match="no module with weights fits"):
        _explain(network, {"rules": [{"name": "nothing.*", "rule": "gamma"}], "otherwise": "cp_lrp"})


@pytest.mark.parametrize(
    ("composite", "said"),
    [
        ("epsilon_plus", "no composite in gradient form; try cp_lrp or attnlrp"),
        ({"rules": [{"layer": "sum", "rule": "norm"}], "otherwise": "cp_lrp"}, "in gradient form there are the rules"),
        ({"rules": [], "otherwise": "attnlrp", "zero_biases": True}, "in gradient form biases are counted"),
    ],
)
def test_a_composite_that_it_cannot_use_is_refused(composite: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GradientForm(build("timm"), composite=composite)


class Tokens(nn.Module):
    """A network of tokens [B, 8, 4] around one step."""

    def __init__(self, step: Callable[["Tokens", Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.qkv, self.head = nn.Conv3d(3, 4, (2, 8, 8), stride=(2, 8, 8)), nn.Linear(4, 12), nn.Linear(4, 3)
        self.attention, self.relative = nn.MultiheadAttention(4, 2, batch_first=True), nn.Parameter(torch.randn(4, 8))
        self.lstm, self.gru, self.step = nn.LSTM(4, 4, batch_first=True), nn.GRU(4, 4, batch_first=True), step

    def forward(self, clip: Tensor) -> Tensor:
        tokens = self.conv(clip).flatten(2).transpose(1, 2)
        return self.head(self.step(self, tokens).mean(1))  # type: ignore[no-any-return]


def _relative(net: Tokens, tokens: Tensor, *, fused: bool) -> Tensor:
    query, key, value = net.qkv(tokens).chunk(3, dim=-1)
    mask = query @ net.relative
    if fused:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return torch.softmax(query * 0.5 @ key.transpose(-1, -2) + mask, dim=-1) @ value


def _of_tokens(step: Callable[[Tokens, Tensor], Tensor], composite: Any = "attnlrp") -> Explanation:
    torch.manual_seed(0)
    return _explain(Tokens(step).double(), composite)


@pytest.mark.parametrize("composite", ["attnlrp", "cp_lrp"])
@pytest.mark.parametrize(
    "step",
    [
        lambda net, x: net.attention(x, x, x, attn_mask=torch.ones(8, 8).triu(1).bool(), is_causal=True)[0],
        lambda net, x: net.attention(x, x, x)[1] @ x,
        lambda net, x: net.lstm(x)[0] + net.gru(x)[0],
        lambda net, x: F.linear(x, net.qkv.weight[:4], net.qkv.bias[:4]),
    ],
    ids=["mask", "returned weights", "recurrent", "borrowed weights"],
)
def test_networks_of_tokens_close(step: Callable[[Tokens, Tensor], Tensor], composite: str) -> None:
    assert _gap(_of_tokens(step, composite)) <= 1e-9


@pytest.mark.parametrize("composite", ["attnlrp", "cp_lrp"])
def test_a_mask_from_the_clip_is_explained_as_the_same_written_out(composite: str) -> None:
    fused, plain = (_of_tokens(lambda net, x, f=f: _relative(net, x, fused=f), composite) for f in (True, False))
    assert _gap(fused) <= 1e-9
    torch.testing.assert_close(fused.relevance, plain.relevance, rtol=1e-9, atol=1e-12)


def test_weights_that_attention_returns_are_explained_as_the_same_written_out() -> None:
    def written_out(net: Tokens, x: Tensor) -> Tensor:
        query, key, _ = F.linear(x, net.attention.in_proj_weight, net.attention.in_proj_bias).chunk(3, dim=-1)
        query, key = (part.unflatten(-1, (2, 2)).transpose(1, 2) for part in (query, key))
        return torch.softmax(query * 2**-0.5 @ key.transpose(-1, -2), dim=-1).mean(1) @ x

    found, expected = _of_tokens(lambda net, x: net.attention(x, x, x)[1] @ x), _of_tokens(written_out)
    torch.testing.assert_close(found.relevance, expected.relevance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["attention", "attention.out_proj", "qkv"])
def test_a_line_goes_to_the_module_that_has_the_weights(name: str) -> None:
    """Attention hands its weights to a function, and Swin those of a layer: no module of theirs runs."""

    def step(net: Tokens, x: Tensor) -> Tensor:
        return net.attention(x, x, x)[0] + F.linear(x, net.qkv.weight[:4])

    plain = _of_tokens(step, "cp_lrp")
    changed = _of_tokens(step, {"rules": [{"name": name, "rule": "gamma", "gamma": 5.0}], "otherwise": "cp_lrp"})
    assert not torch.allclose(plain.relevance, changed.relevance, rtol=1e-3)


def test_a_product_with_a_parameter_is_a_linear_layer() -> None:
    plain = _of_tokens(lambda net, x: F.linear(x, net.qkv.weight[:4]), "cp_lrp")
    product = _of_tokens(lambda net, x: x @ net.qkv.weight[:4].t(), "cp_lrp")
    torch.testing.assert_close(product.relevance, plain.relevance)


def test_a_step_that_only_other_clips_take_is_refused_then() -> None:
    torch.manual_seed(0)
    network = Around(lambda x: x.exp() if x.shape[2] > 2 else x).double()
    with GradientForm(network, dtype=torch.float64) as explain:
        explain(video(), torch.tensor([0, 2]))
        with pytest.raises(ExplanationError, match="cannot follow `exp`"):
            explain(torch.cat([video(), video()], dim=2), torch.tensor([0, 2]))


@pytest.mark.parametrize("bright_first", [True, False])
def test_clips_that_take_other_steps_keep_their_own_accounts(bright_first: bool) -> None:
    def step(values: Tensor) -> Tensor:
        return values + 0.3 if bool((values.abs().amax((1, 2, 3, 4)) < 0.2).any()) else values

    torch.manual_seed(0)
    network = Around(step).double()
    network.conv.bias.data.zero_()
    clips = torch.cat([video(), video() / 100])
    clips = clips if bright_first else clips.flip(0)
    target = torch.tensor([0, 2, 1, 1])
    with GradientForm(network, dtype=torch.float64) as explain:
        first, second = explain(clips[:2], target[:2]), explain(clips[2:], target[2:])
    assert max(_gap(first), _gap(second)) <= 1e-9


def test_an_account_that_does_not_close_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers = {**explainer.HANDLERS, "tanh": lambda walk, call: call.run()}
    monkeypatch.setattr(explainer, "HANDLERS", handlers)
    with pytest.raises(ExplanationError, match="the account does not close, .* try a method that only"):
        _explain(torch.tanh)


def test_an_own_activation_may_work_in_place_and_be_called_by_name() -> None:
    class Swish(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values.mul_(values.sigmoid())

    torch.manual_seed(0)
    network = Around(lambda x: x).double()
    network.swish = Swish()
    network.step = lambda x: x
    network.forward = lambda clip: network.head(network.swish(values=network.conv(clip)).mean((2, 3, 4)))  # type: ignore[method-assign]
    given = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert let_activations_pass(network) == ["swish"]
    network.swish(values=given.clone()).sum().backward()
    torch.testing.assert_close(given.grad, given.detach().sigmoid())


def test_an_empty_batch_has_an_empty_explanation() -> None:
    with GradientForm(build("timm", dtype=torch.float32)) as explain:
        assert explain(video(0, dtype=torch.float32), torch.zeros(0, dtype=torch.long)).relevance.shape[0] == 0


def test_what_follows_the_normalisation_may_work_in_place() -> None:
    class Normalised(Around):
        def forward(self, clip: Tensor) -> Tensor:
            return super().forward(self.normalise(clip).add_(0.1))

    torch.manual_seed(0)
    network = Normalised(torch.relu)
    network.normalise = Normalisation([0.3] * 3, [0.2] * 3)
    assert _gap(_explain(network.double())) <= 1e-9


def _constant_product(values: Tensor) -> Tensor:
    with torch.no_grad():
        scale = (values * values).mean() + (values.flatten(2) @ values.flatten(2).transpose(1, 2)).mean()
    return values * scale


@pytest.mark.parametrize(
    "step",
    [
        lambda values: torch.mul(values, other=values.sin()),
        lambda values: torch.matmul(values, other=values.transpose(-1, -2)),
        lambda values: torch.mul(values, values.sin()).add_(1),
        _constant_product,
    ],
    ids=["mul by name", "matmul by name", "overwritten", "without gradient"],
)
def test_products_are_followed_however_they_are_called(step: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    assert _gap(_explain(Around(step).double())) <= 1e-9


def test_a_network_that_does_otherwise_where_gradients_are_on_is_refused() -> None:
    network = Around(lambda values: values * (2.0 if torch.is_grad_enabled() else 1.0)).double()
    with pytest.raises(ExplanationError, match="gives other scores where relevance is followed"):
        _explain(network)
