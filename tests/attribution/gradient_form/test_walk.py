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

from vidact.attribution.gradient_form.activations import let_activations_pass
from vidact.attribution.gradient_form.explainer import GradientForm
from vidact.core.errors import ConfigError, ExplanationError
from vidact.core.explanation import Explanation


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


def test_a_filter_that_the_clip_makes_takes_half() -> None:
    """As a product: of w x, half goes to x and half to w."""
    torch.manual_seed(0)
    network = Around(lambda x: F.conv3d(x, x.mean((0, 2, 3, 4)).reshape(1, 4, 1, 1, 1)).expand(-1, 4, -1, -1, -1))
    with GradientForm(network.double(), composite="attnlrp", dtype=torch.float64, batch_size=1) as explain:
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
    with pytest.raises(ExplanationError, match="no gradient goes from the network's scores to the clip"):
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
        lambda x: x**2 + x.pow(3) + x.sqrt() if bool((x > 0).all()) else x**2 + x.square(),
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
        lambda x: checkpoint(lambda y: F.gelu(y) * y, x, use_reentrant=False),
        lambda x: checkpoint(lambda y: F.gelu(y) * y, x, use_reentrant=True),
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
    with pytest.raises(ConfigError, match="no module fits"):
        _explain(network, {"rules": [{"name": "nothing.*", "rule": "gamma"}], "otherwise": "cp_lrp"})


@pytest.mark.parametrize(
    ("composite", "said"),
    [
        ("epsilon_plus", "no composite in gradient form; try cp_lrp or attnlrp"),
        ({"rules": [{"layer": "first", "rule": "box"}], "otherwise": "cp_lrp"}, "in gradient form there are the rules"),
        ({"rules": [], "otherwise": "attnlrp", "zero_biases": True}, "in gradient form biases are counted"),
    ],
)
def test_a_composite_that_it_cannot_use_is_refused(composite: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        GradientForm(build("timm"), composite=composite)
