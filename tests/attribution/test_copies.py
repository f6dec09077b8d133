import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vidact.attribution.copies import SAME, differ, differentiable, private_copy, scores_of
from vidact.attribution.lrp import checks, explainer
from vidact.attribution.registry import METHODS, build_explainer
from vidact.core.errors import ExplanationError
from vidact.models.layers import Sum

TARGET = torch.tensor([0, 2])
CUDNN: Any = torch.backends.cudnn
PLACES = (CUDNN.conv, CUDNN.rnn, torch.backends.cuda.matmul)


def _video(num_clips: int = 2) -> Tensor:
    return torch.rand(num_clips, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def _precisions() -> list[str]:
    return [place.fp32_precision for place in PLACES]


@pytest.fixture(params=["highest", "high"])
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


def test_inside_nothing_is_rounded_to_tf32_and_afterwards_all_is_as_it_was(precision: str) -> None:
    before = _precisions()
    assert "tf32" in before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with differentiable(torch.device("cpu")):
            assert _precisions() == ["ieee"] * 3
        with pytest.raises(ValueError, match="no"), differentiable(torch.device("cpu")):
            raise ValueError("no")
    assert _precisions() == before
    assert torch.get_float32_matmul_precision() == precision


class _Watching(nn.Module):
    """Notes how convolutions would be rounded each time that it runs."""

    def __init__(self, seen: set[str]) -> None:
        super().__init__()
        self.conv, self.flatten, self.head = nn.Conv3d(1, 2, 3), nn.Flatten(), nn.LazyLinear(3)
        self.see = lambda: seen.update(_precisions())

    def forward(self, video: Tensor) -> Tensor:
        self.see()
        return self.head(self.flatten(self.conv(video)))  # type: ignore[no-any-return]


def test_law_and_explainers_run_networks_in_full_precision_only() -> None:
    seen: set[str] = set()
    network = _Watching(seen)
    network(_video())
    seen.clear()
    checks.find_obstacles(network, _video(1))
    with build_explainer("lrp", network) as explain:
        explain.scores(_video())
        explain(_video(), TARGET)
    assert seen == {"ieee"}


def test_one_tolerance_holds_on_all_devices() -> None:
    scores = torch.tensor([[1.0, -2.0]])
    assert not differ(scores, scores + 0.9 * SAME)
    assert differ(scores, scores + 3 * SAME)
    assert differ(scores * torch.nan, scores)
    explainer._refuse_other_scores(scores, scores + 0.9 * SAME)
    with pytest.raises(ExplanationError, match="other scores"):
        explainer._refuse_other_scores(scores, scores + 3 * SAME)


class _Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.memory = kind(64, 6, num_layers=2, dropout=0.9, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.memory(video.transpose(1, 2).flatten(2))[0][:, -1])  # type: ignore[no-any-return]


class _Refused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError("cudnn RNN backward can only be called in training mode")


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_are_differentiated_as_cudnn_can(
    kind: type[nn.RNNBase], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = kind.forward

    def forward(layer: nn.RNNBase, values: Tensor, *state: Any) -> Any:
        output, last = plain(layer, values, *state)
        refused = values.requires_grad and torch.is_grad_enabled() and not layer.training
        return (_Refused.apply(output) if refused else output), last  # type: ignore[no-untyped-call]

    monkeypatch.setattr(kind, "forward", forward)
    network = _Recurrent(kind).eval()
    assert not [obstacle for obstacle in checks.find_obstacles(network, _video(1)) if obstacle.hides_relevance]
    for method in ("gradient", "lrp"):
        with build_explainer(method, network) as explain:
            explain(_video(), TARGET)
    assert not network.memory.training
    assert network.memory.dropout == 0.9


class _Keeping(nn.Module):
    def __init__(self, kept: Any) -> None:
        super().__init__()
        self.kept, self.head = kept, nn.Linear(256, 3)

    def forward(self, video: Tensor) -> Tensor:
        return self.head(video.flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kept", ["a generator", "graphs"])
def test_what_cannot_be_copied_is_answered_alike_by_all(kept: str) -> None:
    graphs = [torch.ones(1, requires_grad=True) * 2]
    network = _Keeping((number for number in range(3)) if kept == "a generator" else graphs)
    said = []
    for use in (
        lambda: private_copy(network),
        lambda: checks.find_obstacles(network, _video(1)),
        lambda: build_explainer("gradient", network).__enter__(),
    ):
        with pytest.raises(ExplanationError, match="cannot be copied") as error:
            use()
        said.append(str(error.value))
    assert len(set(said)) == 1
    assert "\n" not in said[0]


class _Overwriting(nn.Module):
    """Adds to what its ReLU was given; in place, that is what the ReLU gave."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self.conv, self.mix = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
        self.signed = nn.Conv3d(4, 4, 1)
        self.first, self.relu, self.sum = nn.ReLU(inplace=True), nn.ReLU(inplace=inplace), Sum()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.head = nn.Linear(4, 3)

    def forward(self, video: Tensor) -> Tensor:
        x = self.signed(self.first(self.conv(video)))
        return self.head(self.pool(self.sum(x, self.mix(self.relu(x)))))  # type: ignore[no-any-return]

    def attention_maps(self, video: Tensor) -> Tensor:
        return video.mean(dim=1)


def _made(*, inplace: bool) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _Overwriting(inplace=inplace).eval()


@pytest.mark.parametrize("method", METHODS)
def test_a_network_that_reads_what_was_overwritten_is_refused_by_every_method(method: str) -> None:
    with build_explainer(method, _made(inplace=True)) as explain:
        for use in (explain.prepare, explain.scores, lambda video: explain(video, TARGET)):
            with pytest.raises(ExplanationError, match=r"^relu: ReLU\(inplace=True\) overwrites .* leave out inplace"):
                use(_video())


def test_the_law_names_what_another_module_reads_overwritten() -> None:
    (obstacle,) = [each for each in checks.find_obstacles(_made(inplace=True), _video(1)) if each.hides_relevance]
    assert (obstacle.kind, obstacle.module) == ("in_place", "relu")
    assert not [each for each in checks.find_obstacles(_made(inplace=False), _video(1)) if each.hides_relevance]


def test_in_place_modules_that_nobody_minds_are_explained_out_of_place() -> None:
    network = _made(inplace=False)
    with build_explainer("lrp", network) as explain:
        scores = explain.scores(_video())
        assert not any(getattr(module, "inplace", False) for module in explain.network.modules())
    torch.testing.assert_close(scores, scores_of(network, _video()))
    assert network.first.inplace, "the network itself stays as it is"


class _Small(nn.Module):
    """Takes two clips at most, as a card with little memory."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.head = nn.Flatten(), nn.Linear(256, 3)

    def forward(self, video: Tensor) -> Tensor:
        if len(video) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.head(self.flatten(video))  # type: ignore[no-any-return]


@pytest.mark.parametrize("method", ["gradient", "lrp"])
def test_scores_are_computed_in_parts_that_fit_as_explanations_are(method: str) -> None:
    network, video = _Small().eval(), _video(7)
    with build_explainer(method, network) as explain:
        scores = explain.scores(video)
        assert explain(video, torch.zeros(7, dtype=torch.long)).relevance.shape == video.shape
        assert explain.scores(video[:0]).shape == (0, 3)
    expected = torch.cat([network(video[row : row + 1]) for row in range(7)])
    torch.testing.assert_close(scores, expected.detach())
