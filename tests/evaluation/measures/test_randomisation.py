import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantus_measures import import_quantus
from scipy import stats
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from vidact.attribution.methods.random_weights import cascade, layers_top_down, randomised
from vidact.attribution.registry import build_explainer
from vidact.core.errors import VidactError
from vidact.evaluation.measures.randomisation import (
    draw_other_class,
    emprt,
    histogram_entropy,
    random_logit,
    spearman,
    ssim,
)
from vidact.models.recurrent import CNNLSTM
from vidact.models.residual import SlimResNet3D
from vidact.models.stacked import StackedFramesCNN


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _maps(seed: int = 0, *, clips: int = 3, shape: tuple[int, ...] = (4, 8, 9)) -> Tensor:
    return torch.randn(clips, *shape, generator=_generator(seed))


class _Net(nn.Module):
    """All kinds of layers: with and without `reset_parameters`, statistics alone, shared and single parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(2, 4, 3, padding=1)
        self.norm, self.plain_norm = nn.BatchNorm3d(4), nn.BatchNorm3d(4, affine=False)
        self.relu, self.flat = nn.ReLU(), nn.Flatten()
        self.scale = _Scale()
        self.head = nn.Linear(4 * 4 * 5 * 5, 3)
        self.again = nn.Linear(4 * 4 * 5 * 5, 3)
        self.again.weight, self.again.bias = self.head.weight, self.head.bias

    def forward(self, video: Tensor) -> Tensor:
        features = self.flat(self.scale(self.relu(self.plain_norm(self.norm(self.first(video))))))
        return self.head(features) + self.again(features)  # type: ignore[no-any-return]


class _Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.gain = nn.Parameter(torch.linspace(1, 2, 4)), nn.Parameter(torch.tensor(3.0))

    def forward(self, features: Tensor) -> Tensor:
        return features * self.weight[:, None, None, None] * self.gain


def _made(build: Callable[[], nn.Module] = _Net) -> nn.Module:
    """Build a network that has seen clips: its statistics are none of a new one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build()
        if isinstance(network, _Net):
            nn.init.uniform_(network.norm.weight, 1, 2)
            nn.init.uniform_(network.norm.bias)
            network.train()(torch.rand(4, 2, 4, 5, 5))
        return network.eval()


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _changed(before: dict[str, Tensor], network: nn.Module) -> set[str]:
    after = network.state_dict()
    return {name.rpartition(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}


def test_layers_are_named_from_the_output_to_the_input_those_that_share_all_once() -> None:
    assert layers_top_down(_made()) == ("again", "scale", "plain_norm", "norm", "first")


def test_each_step_makes_one_more_layer_random_and_no_other() -> None:
    network = _made()
    before = _state(network)
    expected: set[str] = set()
    for name, copied in cascade(network, generator=_generator()):
        expected |= {name} | ({"head"} if name == "again" else set())  # they share their parameters
        assert _changed(before, copied) == expected
        assert copied is not network
        assert not copied.training
    assert expected == {*layers_top_down(network), "head"}
    assert _changed(before, network) == set()


def test_the_networks_of_a_cascade_are_each_its_own() -> None:
    found = [copied for _, copied in cascade(_made(), generator=_generator())]
    assert len({id(parameter) for copied in found for parameter in copied.parameters()}) == len(found) * len(
        list(found[0].parameters())
    )
    assert not torch.equal(found[0].first.weight, found[-1].first.weight)


def test_the_whole_network_at_once_is_where_the_cascade_ends() -> None:
    network = _made()
    *_, (_, last) = cascade(network, generator=_generator(4))
    whole = randomised(network, generator=_generator(4))
    assert _changed(_state(whole), last) == set()
    assert _changed(_state(randomised(network, generator=_generator(5))), last) >= {"first", "head", "scale"}


def test_layers_are_initialised_as_new_ones_and_others_keep_their_values_in_another_order() -> None:
    network = _made()
    found = randomised(network, generator=_generator())
    assert torch.equal(found.norm.weight, torch.ones(4))
    assert torch.equal(found.norm.bias, torch.zeros(4))
    for norm in (found.norm, found.plain_norm):
        assert torch.equal(norm.running_mean, torch.zeros(4))
        assert torch.equal(norm.running_var, torch.ones(4))
        assert int(norm.num_batches_tracked) == 0
    bound = 1 / math.sqrt(2 * 27)
    assert found.first.weight.abs().max() <= bound
    assert float(found.first.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.15)
    assert not torch.equal(found.scale.weight, network.scale.weight)
    assert torch.equal(found.scale.weight.sort().values, network.scale.weight.sort().values)
    assert torch.equal(found.scale.gain, network.scale.gain)
    assert found.head.weight is found.again.weight


@pytest.mark.parametrize("mode", ["plain", "no_grad", "inference"])
def test_neither_the_network_nor_any_global_random_number_is_touched(mode: str) -> None:
    network = _made()
    before, parameters = _state(network), [(id(p), p.requires_grad) for p in network.parameters()]
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    contexts = {"plain": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}
    with contexts[mode]():
        found = randomised(network, generator=_generator())
        list(cascade(network, generator=_generator()))
    assert _changed(before, network) == set()
    assert [(id(p), p.requires_grad) for p in network.parameters()] == parameters
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[union-attr]
    found(torch.rand(1, 2, 4, 5, 5, generator=_generator())).sum().backward()  # it can be differentiated


@pytest.mark.parametrize(
    "build",
    [
        lambda: StackedFramesCNN(num_classes=3, num_frames=4, channels=2, size=16, head="pooled"),
        lambda: SlimResNet3D(3, num_frames=8, channels=3, size=32, widths=(4, 8)),
        lambda: CNNLSTM(3, num_frames=4, channels=1, size=32),
        lambda: parametrizations.weight_norm(nn.Linear(5, 30)),
    ],
    ids=["stacked", "residual", "recurrent", "weight_norm"],
)
def test_networks_of_the_family_become_other_ones_altogether(build: Callable[[], nn.Module]) -> None:
    network = _made(build)
    found = randomised(network, generator=_generator())
    for (name, mine), new in zip(network.named_parameters(), found.parameters(), strict=True):
        if mine.numel() > 1 and mine.std() > 0:
            assert not torch.equal(mine, new), name
        assert torch.isfinite(new).all()


def test_explanations_of_a_learnt_network_and_its_random_copies_differ_more_and_more() -> None:
    network, video, target = _made(), torch.rand(3, 2, 4, 5, 5, generator=_generator(1)), torch.tensor([0, 1, 2])

    def explained(net: nn.Module) -> Tensor:
        with build_explainer("gradient_x_input", net) as explain:
            return explain(video, target).relevance.sum(dim=1)

    own = explained(network)
    torch.testing.assert_close(spearman(own, explained(network)), torch.ones(3, dtype=torch.float64))
    found = [float(spearman(own, explained(net)).mean()) for _, net in cascade(network, generator=_generator())]
    assert found[-1] < 0.5


def test_a_network_without_parameters_is_told() -> None:
    with pytest.raises(VidactError, match="Flatten has no parameters that could be made random"):
        randomised(nn.Flatten(), generator=_generator())
    network = _made()
    network.kept = network.first(torch.rand(1, 2, 4, 5, 5))
    with pytest.raises(VidactError, match=r"the network _Net cannot be copied \(") as found:
        randomised(network, generator=_generator())
    assert "\n" not in str(found.value)


@given(st.integers(0, 10_000), st.booleans(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_correlation_of_ranks_is_scipys_also_where_values_tie(seed: int, absolute: bool, ties: bool) -> None:
    first, second = _maps(seed), _maps(seed + 1)
    if ties:
        first, second = first.round(), (first + second).round()
    found = spearman(first, second, absolute=absolute)
    for row in range(3):
        pair = [each[row].flatten().abs() if absolute else each[row].flatten() for each in (first, second)]
        assert float(found[row]) == pytest.approx(float(stats.spearmanr(*pair).statistic), abs=1e-9)


def _naive_ssim(first: np.ndarray, second: np.ndarray, data_range: float) -> float:
    """SSIM of two pictures, window by window (Wang et al. 2004, eq. 13); mirrored at the edges."""
    places = np.arange(-5, 6)
    window = np.exp(-(places**2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    padded = [np.pad(each, 5, mode="reflect") for each in (first, second)]
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    found = []
    for row in range(first.shape[0]):
        for column in range(first.shape[1]):
            x, y = (each[row : row + 11, column : column + 11] for each in padded)
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * x * x).sum() - mx**2, (window * y * y).sum() - my**2
            cov = (window * x * y).sum() - mx * my
            found.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(found))


@pytest.mark.parametrize("absolute", [True, False])
def test_structural_similarity_is_the_mean_over_frames_of_wangs(absolute: bool) -> None:
    first, second = _maps(0), _maps(0) + 0.5 * _maps(1)
    found = ssim(first, 7 * second, absolute=absolute)
    for row in range(3):
        pair = [(each[row] / each[row].abs().max()).double().numpy() for each in (first, second)]
        if absolute:
            pair = [np.abs(each) for each in pair]
        frames = [_naive_ssim(x, y, 1.0 if absolute else 2.0) for x, y in zip(*pair, strict=True)]
        assert float(found[row]) == pytest.approx(float(np.mean(frames)), abs=1e-5)


def _naive_entropy(values: Tensor, num_bins: int) -> float:
    count, _ = np.histogram(values.double().numpy(), bins=num_bins)
    return float(stats.entropy(count))


@given(st.integers(0, 10_000), st.sampled_from([1, 7, 100]))
@settings(max_examples=30, deadline=None)
def test_the_entropy_is_that_of_numpys_histogram(seed: int, num_bins: int) -> None:
    maps = _maps(seed) ** 3
    found = histogram_entropy(maps, num_bins=num_bins)
    for row in range(3):
        assert float(found[row]) == pytest.approx(_naive_entropy(maps[row], num_bins), abs=1e-9)


def test_the_efficient_test_is_quantus() -> None:
    """Quantus draws its own random network; what it is shown of it is measured by ours."""
    network, video, target = _made(), torch.rand(4, 2, 4, 5, 5, generator=_generator(1)), torch.tensor([0, 1, 2, 1])
    shown: list[Tensor] = []

    def explain(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
        with build_explainer("gradient_x_input", model) as work:
            found = work(torch.as_tensor(inputs), torch.as_tensor(targets)).relevance
        shown.append(found)
        return found.numpy()

    quantus = import_quantus()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = quantus.EfficientMPRT(disable_warnings=True)
        with torch.random.fork_rng():
            found = metric(
                model=network,
                x_batch=video.numpy(),
                y_batch=target.numpy(),
                explain_func=explain,
                channel_first=True,
                device="cpu",
            )
    expected = torch.tensor(np.array(found))
    torch.testing.assert_close(emprt(shown[0], shown[-1]), expected, atol=1e-6, rtol=1e-6)
    assert not torch.equal(shown[0], shown[-1])


def test_the_efficient_test_is_the_relative_rise_of_entropy() -> None:
    first, second = _maps(0) ** 5, _maps(1)
    expected = [
        (_naive_entropy(b, 100) - _naive_entropy(a, 100)) / _naive_entropy(a, 100)
        for a, b in zip(first, second, strict=True)
    ]
    torch.testing.assert_close(emprt(first, second), torch.tensor(expected, dtype=torch.float64))
    assert bool((emprt(first, second) > 0).all())


def test_the_random_logit_is_the_cosine_of_two_maps() -> None:
    first, second = _maps(0), _maps(1) + _maps(0)
    expected = [
        float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))
        for a, b in zip(first.flatten(1).double().numpy(), second.flatten(1).double().numpy(), strict=True)
    ]
    torch.testing.assert_close(random_logit(first, second), torch.tensor(expected, dtype=torch.float64))


@given(st.integers(2, 6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_other_class_is_another_and_a_class(num_classes: int, seed: int) -> None:
    target = torch.randint(num_classes, (50,), generator=_generator(seed))
    found = draw_other_class(target, num_classes=num_classes, generator=_generator(seed))
    assert bool((found != target).all())
    assert set(found.tolist()) <= set(range(num_classes))


def test_every_other_class_is_drawn_equally_often() -> None:
    found = draw_other_class(torch.full((4000,), 2), num_classes=5, generator=_generator())
    share = torch.bincount(found, minlength=5) / 4000
    torch.testing.assert_close(share, torch.tensor([0.25, 0.25, 0, 0.25, 0.25]), atol=0.03, rtol=0)
    with pytest.raises(VidactError, match="at least 2 of them, got 1"):
        draw_other_class(torch.zeros(2, dtype=torch.long), num_classes=1, generator=_generator())


COMPARE = {
    "spearman": spearman,
    "ssim": ssim,
    "emprt": emprt,
    "random_logit": random_logit,
}


@pytest.mark.parametrize("name", COMPARE)
def test_a_map_is_like_itself_and_the_unit_of_relevance_does_not_matter(name: str) -> None:
    first, second = _maps(0).double(), _maps(1).double()
    itself = torch.full((3,), 0.0 if name == "emprt" else 1.0, dtype=torch.float64)
    rounding = {"rtol": 0, "atol": 1e-5 if name == "ssim" else 1e-9}
    torch.testing.assert_close(COMPARE[name](first, first), itself, **rounding)
    expected = COMPARE[name](first, second)
    for factor in (1e-25, 0.3, 1e25):
        torch.testing.assert_close(COMPARE[name](first * factor, second), expected, **rounding)
        torch.testing.assert_close(COMPARE[name](first, second * factor), expected, **rounding)


@pytest.mark.parametrize("name", COMPARE)
def test_two_maps_of_noise_are_not_alike(name: str) -> None:
    found = COMPARE[name](_maps(0, clips=8, shape=(8, 20, 20)), _maps(1, clips=8, shape=(8, 20, 20)))
    bound = {"ssim": 0.5}.get(name, 0.1)
    assert float(found.abs().max()) < bound


@pytest.mark.parametrize("name", COMPARE)
def test_where_a_map_says_nothing_nothing_is_compared(name: str) -> None:
    first, second = _maps(0), _maps(1)
    first[1] = 0
    found = COMPARE[name](first, second)
    assert found.isnan().tolist() == [False, True, False]
    if name != "emprt":
        torch.testing.assert_close(COMPARE[name](second, first), found, equal_nan=True, rtol=1e-5, atol=1e-5)
    assert COMPARE[name](first[:0], second[:0]).shape == (0,)
    alone = torch.cat([COMPARE[name](first[row : row + 1], second[row : row + 1]) for row in range(3)])
    torch.testing.assert_close(alone, found, equal_nan=True, rtol=1e-5, atol=1e-5)


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """What users have: no shape is checked."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (_maps(), _maps()[:, :3], r"expected a second map of shape \[3, 4, 8, 9\], as the map, got \[3, 3, 8, 9\]"),
        (_maps(), _maps() / 0, "not finite"),
        (_maps().long(), _maps(), "floating point"),
    ],
)
def test_maps_that_do_not_fit_each_other_are_refused(first: Tensor, second: Tensor, message: str) -> None:
    for compare in COMPARE.values():
        with pytest.raises(VidactError, match=message):
            compare(first, second)


def test_frames_smaller_than_the_window_allows_are_refused() -> None:
    with pytest.raises(VidactError, match="frames of at least 6×6 pixels, got 5×9"):
        ssim(_maps(shape=(4, 5, 9)), _maps(shape=(4, 5, 9)))
    assert torch.isfinite(ssim(_maps(shape=(1, 6, 6)), _maps(1, shape=(1, 6, 6)))).all()
    with pytest.raises(VidactError, match="at least 1 bin, got 0"):
        histogram_entropy(_maps(), num_bins=0)
