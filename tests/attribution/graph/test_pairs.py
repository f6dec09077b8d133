from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vidact.attribution.graph.pairs import batch_norm_pairs, unmergeable_pairs
from vidact.attribution.lrp.checks import find_obstacles
from vidact.attribution.lrp.explainer import LayerwiseRelevance
from vidact.models.layers import InputLayers, Sum

TARGET = torch.tensor([0, 1])


def _video(num_clips: int = 2) -> Tensor:
    return torch.rand(num_clips, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def _layers() -> tuple[list[nn.Module], list[nn.Module]]:
    """Convolutions and BatchNorms as a training could leave them: half of γ is negative."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolutions = [nn.Conv3d(1, 6, 3, padding=1), nn.Conv3d(6, 6, 3, padding=1)]
        norms = [nn.BatchNorm3d(6), nn.BatchNorm3d(6)]
        for norm in norms:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            norm.weight.data[::2] *= -1
            nn.init.normal_(norm.running_mean, std=0.3)  # type: ignore[arg-type]
    return convolutions, norms  # type: ignore[return-value]


class _Net(nn.Module):
    """The body of a network, to which the same head is put."""

    def __init__(self) -> None:
        super().__init__()
        self.input, self.relu = InputLayers(1), nn.ReLU()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.head = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 3))

    def body(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.body(self.input(video)))  # type: ignore[no-any-return]


class _Sequential(_Net):
    def __init__(self) -> None:
        super().__init__()
        (first, second), (one, two) = _layers()
        self.parts = nn.Sequential(first, one, nn.ReLU(), second, two, nn.ReLU())

    def body(self, x: Tensor) -> Tensor:
        return self.parts(x)  # type: ignore[no-any-return]


class _Lists(_Net):
    def __init__(self) -> None:
        super().__init__()
        self.convolutions, self.norms = map(nn.ModuleList, _layers())

    def body(self, x: Tensor) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = self.relu(norm(convolution(x)))
        return x


class _OutOfOrder(_Net):
    """A BatchNorm is defined right after a convolution that it does not follow."""

    def __init__(self) -> None:
        super().__init__()
        (self.first, self.second), (self.one, self.two) = _layers()

    def body(self, x: Tensor) -> Tensor:
        return self.relu(self.two(self.second(self.relu(self.one(self.first(x))))))


class _ByName(_Lists):
    def body(self, x: Tensor) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = self.relu(input=norm(input=nn.functional.dropout(convolution(input=x), training=self.training)))
        return x


def _relevance(network: nn.Module, composite: str) -> Tensor:
    with LayerwiseRelevance(network.eval(), composite=composite, dtype=torch.float64) as explain:
        return explain(_video(), TARGET).relevance


@pytest.mark.parametrize(
    ("build", "composite"),
    [(_Lists, "epsilon_plus"), (_OutOfOrder, "epsilon_alpha2_beta1"), (_ByName, "epsilon_gamma")],
)
def test_one_function_has_one_explanation_however_its_modules_are_defined(
    build: Callable[[], nn.Module], composite: str
) -> None:
    network = build().eval()
    torch.testing.assert_close(network(_video()), _Sequential().eval()(_video()))
    assert find_obstacles(network, _video(1)) == ()
    expected = _relevance(_Sequential(), composite)
    assert (_relevance(network, composite) - expected).abs().max() < 1e-5 * expected.abs().max()


class _SeenByOthers(_Lists):
    """The convolution's output is added to what the BatchNorm makes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = Sum()

    def body(self, x: Tensor) -> Tensor:
        hidden = self.convolutions[0](x)
        return self.sum(hidden, self.norms[0](hidden))  # type: ignore[no-any-return]


class _Moved(_Lists):
    """Between both, height and width change places."""

    def body(self, x: Tensor) -> Tensor:
        return self.relu(self.norms[0](self.convolutions[0](x).transpose(3, 4)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("build", [_SeenByOthers, _Moved])
def test_a_batch_norm_that_cannot_be_merged_with_its_layer_is_named_with_it(build: Callable[[], nn.Module]) -> None:
    network = build().eval()
    assert [pair for pair in batch_norm_pairs(network, _video(1)) if pair.batch_norm is network.norms[0]] == []
    assert unmergeable_pairs(network, _video(1)) == [("convolutions.0", "norms.0")]
    (obstacle,) = [obstacle for obstacle in find_obstacles(network, _video(1)) if obstacle.hides_relevance]
    assert (obstacle.kind, obstacle.module) == ("not_merged", "norms.0")
    assert "call it right after convolutions.0" in obstacle.remedy


class _Before(_Lists):
    """A BatchNorm of pixels, and one behind a ReLU: there is no layer to merge them with."""

    def body(self, x: Tensor) -> Tensor:
        return self.norms[1](self.relu(self.convolutions[0](x)))  # type: ignore[no-any-return]


def test_a_batch_norm_without_a_layer_before_it_is_explainable() -> None:
    network = _Before().eval()
    assert batch_norm_pairs(network, _video(1)) == []
    assert not [obstacle for obstacle in find_obstacles(network, _video(1)) if obstacle.hides_relevance]


def test_channels_of_a_linear_map_that_stands_elsewhere_are_not_merged() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval()
    values = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert batch_norm_pairs(network, values) == []
    assert unmergeable_pairs(network, values) == [("0", "1")]


def test_looking_leaves_no_hook_and_no_random_number() -> None:
    network, before = _Lists().eval(), torch.get_rng_state()
    with torch.no_grad():
        assert len(batch_norm_pairs(network, _video(1))) == 2
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module._forward_hooks for module in network.modules())
