"""Networks as people have them: checkpointed, compiled, wrapped, with weights that are computed. Same explanation."""

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from any_network import ANY_NETWORK
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from vidact.attribution.lrp.checks import find_obstacles
from vidact.attribution.lrp.composites import COMPOSITES
from vidact.attribution.lrp.conservation import conservation_table
from vidact.attribution.registry import build_explainer
from vidact.core.errors import ExplanationError, NetworkError
from vidact.models.layers import InputLayers, Sum

TARGET = torch.tensor([0, 2])
SETTINGS: dict[str, dict[str, Any]] = {
    "grad_cam": {"layer": "inner.0"},
    "occlusion": {"tube": (2, 4, 4)},
    "extremal": {"num_steps": 10},
}
HOW = ("plain", "reentrant", "not reentrant", "nested", "sequential")


class _Net(nn.Module):
    """A branch, a BatchNorm and a skip connection; its inner part may be run under activation checkpoints."""

    def __init__(self, how: str = "plain") -> None:
        super().__init__()
        self.how = how
        self.input, self.first = InputLayers(1), nn.Conv3d(1, 4, 3, padding=1)
        self.inner = nn.Sequential(nn.Conv3d(4, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 4, 1))
        self.relu, self.sum = nn.ReLU(), Sum()
        self.pool, self.head = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten()), nn.Linear(4, 3)

    def attention_maps(self, video: Tensor) -> Tensor:
        return video.mean(dim=1)

    def forward(self, video: Tensor) -> Tensor:
        x = self.relu(self.first(self.input(video)))
        if self.how == "plain":
            x = self.sum(x, self.inner(x))
        elif self.how == "sequential":
            x = self.sum(x, checkpoint_sequential(self.inner, 2, x, use_reentrant=False))
        elif self.how == "nested":
            x = checkpoint(
                lambda y: self.sum(y, checkpoint(self.inner, y, use_reentrant=False)), x, use_reentrant=False
            )
        else:
            x = checkpoint(lambda y: self.sum(y, self.inner(y)), x, use_reentrant=self.how == "reentrant")
        return self.head(self.pool(x))  # type: ignore[no-any-return]


def _net(how: str = "plain", build: Callable[..., nn.Module] = _Net) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = build(how)
        network.train()(_video(4))  # statistics of its own
    return network.eval()


def _video(num_clips: int = 2) -> Tensor:
    return torch.rand(num_clips, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def _relevance(network: nn.Module, method: str) -> Tensor:
    settings = SETTINGS.get(method.partition(":")[0], {})
    with build_explainer(method, network, dtype=torch.float64, **settings) as explain:
        return explain(_video(), TARGET).relevance


NAMES = [*(f"lrp:{name}" for name in COMPOSITES), *(name for name in ANY_NETWORK if name != "lrp")]


@pytest.mark.filterwarnings("ignore:.*None of the inputs have requires_grad")
@pytest.mark.parametrize("method", NAMES)
def test_a_checkpointed_network_is_explained_as_the_plain_one(method: str) -> None:
    expected = _relevance(_net(), method)
    for how in HOW[1:] if not method.startswith("lrp:") or method == "lrp:epsilon_plus" else ("reentrant", "nested"):
        torch.testing.assert_close(_relevance(_net(how), method), expected, rtol=1e-10, atol=1e-12, msg=how)


@pytest.mark.parametrize("how", HOW[1:])
def test_law_and_conservation_of_a_checkpointed_network_are_those_of_the_plain_one(how: str) -> None:
    assert find_obstacles(_net(how), _video(1)) == find_obstacles(_net(), _video(1))
    found, expected = (
        conservation_table(_net(each), _video(), target=TARGET, composite="epsilon_plus") for each in (how, "plain")
    )
    assert str(found) == str(expected)


class _Chain(nn.Sequential):
    """Nothing but torch's own layers: the tests check the types in vidact's, which torch.compile cannot follow."""

    def __init__(self, how: str) -> None:
        inner = nn.Sequential(nn.Conv3d(4, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU())
        pool = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())
        parts = {"first": nn.Conv3d(1, 4, 3, padding=1), "relu": nn.ReLU(), "inner": inner, "pool": pool}
        super().__init__(OrderedDict({**parts, "head": nn.Linear(4, 3)}))


def _compiled(network: nn.Module) -> nn.Module:
    return torch.compile(network, backend="eager")  # type: ignore[return-value]


def _compiled_in_part(network: nn.Module) -> nn.Module:
    network.inner = _compiled(network.inner)  # type: ignore[arg-type]
    return network


def _compiled_in_place(network: nn.Module) -> nn.Module:
    network.inner.compile(backend="eager")  # type: ignore[operator]
    return network


def _traced_by_fx(network: nn.Module) -> nn.Module:
    network.inner = torch.fx.symbolic_trace(network.inner)  # type: ignore[arg-type]
    return network


def _wrapped(network: nn.Module) -> nn.Module:
    network.inner = nn.DataParallel(network.inner)  # type: ignore[arg-type]
    return nn.DataParallel(network)


@pytest.mark.filterwarnings("ignore")  # of torch's own, while it compiles
@pytest.mark.parametrize("wrap", [_compiled, _compiled_in_part, _compiled_in_place, _traced_by_fx, _wrapped])
def test_a_wrapped_network_is_explained_as_the_plain_one(wrap: Callable[[nn.Module], nn.Module]) -> None:
    network = wrap(_net(build=_Chain))
    network(_video())  # as training has run it before
    for method in ("lrp", "lrp:epsilon_gamma_box", "gradient", "grad_cam", "guided_backpropagation", "occlusion"):
        found, expected = _relevance(network, method), _relevance(_net(build=_Chain), method)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12, msg=method)
    assert not [obstacle for obstacle in find_obstacles(network, _video(1)) if obstacle.hides_relevance]
    network(_video())


def _normed(network: nn.Module) -> nn.Module:
    parametrizations.weight_norm(network.first)  # type: ignore[arg-type]
    parametrizations.spectral_norm(network.head)  # type: ignore[arg-type]
    return network


def _normed_as_before(network: nn.Module) -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        torch.nn.utils.weight_norm(network.first)  # type: ignore[arg-type]
        torch.nn.utils.spectral_norm(network.head)  # type: ignore[arg-type]
    return network


def _pruned(network: nn.Module) -> nn.Module:
    prune.l1_unstructured(network.first, "weight", amount=0.5)  # type: ignore[no-untyped-call]
    return network


def _orthogonal(network: nn.Module) -> nn.Module:
    parametrizations.orthogonal(network.head)  # type: ignore[arg-type]
    return network


@pytest.mark.parametrize("compute", [_normed, _normed_as_before, _pruned, _orthogonal])
def test_computed_weights_are_explained_as_the_weights_that_they_come_to(
    compute: Callable[[nn.Module], nn.Module],
) -> None:
    network = compute(_net()).train()
    network(_video()).sum().backward()  # leaves weights with a history on the modules
    network.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    plain = _net()
    for name in ("first", "head"):
        with torch.no_grad():
            network(_video())
            getattr(plain, name).weight.copy_(getattr(network, name).weight)
    plain.inner.load_state_dict(network.inner.state_dict())  # type: ignore[operator, union-attr]
    torch.testing.assert_close(plain(_video()), network(_video()))
    for method in ("lrp", "gradient"):
        torch.testing.assert_close(_relevance(network, method), _relevance(plain, method))
    assert not [obstacle for obstacle in find_obstacles(network, _video(1)) if obstacle.hides_relevance]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_lrp_says_of_torchscript_what_to_do_and_other_methods_explain_it() -> None:
    with warnings.catch_warnings(action="ignore"):
        scripted = _net()
        scripted.inner = torch.jit.trace(scripted.inner, torch.rand(1, 4, 4, 8, 8))  # type: ignore[arg-type]
    with pytest.raises(ExplanationError, match="inner is TorchScript.*gradient"):
        _relevance(scripted, "lrp")
    for method in ("gradient", "integrated_gradients", "occlusion"):  # as the refusal advises
        found = _relevance(scripted.float(), method)
        torch.testing.assert_close(found, _relevance(_net(), method), rtol=1e-10, atol=1e-12)


class _Bound(_Net):
    """Keeps functions that know the network's own modules, which its copies know as well."""

    def __init__(self, how: str = "plain") -> None:
        super().__init__(how)
        if how == "compiled":
            self.forward = torch.compile(self.forward, backend="eager")  # type: ignore[method-assign]
        elif how == "lambda":
            self.pooled = lambda x: self.head(self.pool(x))

    def forward(self, video: Tensor) -> Tensor:
        x = self.first(self.input(video))
        return self.pooled(x) if self.how == "lambda" else self.head(self.pool(x))  # type: ignore[no-any-return]


@pytest.mark.parametrize("how", ["compiled", "lambda"])
@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_copy_that_would_run_on_the_networks_own_weights_is_refused(how: str, *, is_frozen: bool) -> None:
    network = _net(how, _Bound).requires_grad_(not is_frozen)
    for method in ("gradient", "lrp"):
        with pytest.raises(ExplanationError, match="still computes with the weights of the network itself"):
            _relevance(network.float(), method)


class _Counting(_Net):
    """A buffer changes with every call, also in eval mode."""

    def __init__(self, how: str = "plain") -> None:
        super().__init__(how)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, video: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * video.mean()
        return super().forward(video) * (1 + self.mean)


def test_a_network_that_remembers_its_last_call_is_refused() -> None:
    with pytest.raises(ExplanationError, match="same clip other scores in a second call"):
        _relevance(_net(build=_Counting), "gradient")


def test_a_tensor_that_a_forward_pass_has_left_is_no_hindrance() -> None:
    network, expected = _net(), _relevance(_net(), "lrp")
    network.kept = network.first(_video())
    torch.testing.assert_close(_relevance(network, "lrp"), expected)
    assert network.kept.grad_fn is not None


class _Giving(nn.Module):
    def __init__(self, give: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.give, self.head = give, nn.Linear(256, 3)

    def forward(self, video: Tensor) -> Any:
        return self.give(self.head(video.flatten(1)))


@pytest.mark.parametrize("method", ["lrp", "gradient", "occlusion", "random"])
def test_every_method_says_alike_what_a_network_gives_that_is_no_logits(method: str) -> None:
    for give, told in (
        (lambda scores: {"aux": scores[0], "logits": scores}, r"dict \(\['aux'\] .*output\['logits'\]|as output\['"),
        (lambda scores: (scores, scores), r"tuple \(\[0\] \[1, 3\].* as output\[0\]"),
        (lambda scores: scores[:, :, None, None], r"shape \[1, 3, 1, 1\].*flatten"),
        (lambda scores: scores[:, :0], r"shape \[1, 0\]"),
        (lambda scores: scores.argmax(dim=1), r"int64 of shape \[1\]"),
        (lambda scores: scores.shout(), r"fails on clips of shape \[1, 1, 4, 8, 8\].*test_as_people.*AttributeError"),
    ):
        with pytest.raises(NetworkError, match=told) as error:
            _relevance(_Giving(give), method)
        assert "\n" not in str(error.value)


def test_a_lazy_layer_is_named() -> None:
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(NetworkError, match=r"1 \(LazyLinear\) has no weights before a clip"):
        _relevance(network, "gradient")
    network(_video())
    assert copy.deepcopy(network)(_video()).shape == (2, 3)
    _relevance(network, "gradient")
