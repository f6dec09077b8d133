import copy
import json
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import untouched_explaining
from torch import Tensor, nn
from torch.nn import functional as F
from zennit.composites import EpsilonPlusFlat

from vidact.attribution.hotspots import frame_relevance
from vidact.attribution.lrp.explainer import LayerwiseRelevance
from vidact.attribution.registry import build_explainer
from vidact.core.errors import ConfigError, ExplanationError, NetworkError
from vidact.models.layers import PIXEL_MEAN, PIXEL_STD
from vidact.models.stacked import StackedFramesCNN

STABILIZER = 1e-6  # Zennit's default


def _network(head: str = "dense", seed: int = 0, num_frames: int = 16, size: int = 20) -> StackedFramesCNN:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return StackedFramesCNN(num_classes=5, num_frames=num_frames, size=size, head=head)  # type: ignore[arg-type]


def _video(num_clips: int = 3, num_frames: int = 16, size: int = 20) -> Tensor:
    return torch.rand(num_clips, 1, num_frames, size, size, generator=torch.Generator().manual_seed(1))


def _explain(network: nn.Module, video: Tensor, target: Tensor, composite: str = "epsilon_plus") -> Tensor:
    with LayerwiseRelevance(network, composite=composite) as explain:
        return explain(video, target).relevance


def _share(x: Tensor, relevance: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
    """Hand relevance down a bias-free linear map: R_i = x_i Σ_j w_ij R_j / (z_j ± ε) (Bach et al. 2015, eq. 58)."""
    x = x.detach().requires_grad_()
    z = forward(x)
    (gradient,) = torch.autograd.grad(z, x, relevance / (z + STABILIZER * torch.where(z < 0, -1, 1)))
    return (x * gradient).detach()


def _naive_epsilon_plus(network: StackedFramesCNN, video: Tensor, target: int) -> Tensor:
    """z⁺ for convolutions, ε for dense layers, winner takes all in pooling, written out without hooks."""
    w = {name: value.double() for name, value in network.named_parameters()}
    x0 = (video.double().flatten(1, 2) - PIXEL_MEAN) / PIXEL_STD
    a1 = F.conv2d(x0, w["features.1.weight"], w["features.1.bias"]).relu()
    a2 = F.conv2d(a1, w["features.3.weight"], w["features.3.bias"]).relu()
    pooled, where = F.max_pool2d(a2, 2, return_indices=True)
    flat = pooled.flatten(1)
    hidden = F.linear(flat, w["head.1.weight"], w["head.1.bias"]).relu()
    scores = F.linear(hidden, w["head.3.weight"], w["head.3.bias"])
    relevance = torch.zeros_like(scores)
    relevance[:, target] = scores[:, target]
    relevance = _share(hidden, relevance, lambda x: F.linear(x, w["head.3.weight"]))
    relevance = _share(flat, relevance, lambda x: F.linear(x, w["head.1.weight"]))
    relevance = F.max_unpool2d(relevance.reshape(pooled.shape), where, 2, output_size=a2.shape)
    for x, name in ((a1, "features.3.weight"), (x0, "features.1.weight")):
        relevance = _naive_z_plus(x, w[name], relevance)
    return relevance.reshape(video.shape)


def _naive_z_plus(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """R_i = Σ_j (x_i w_ij)⁺ / Σ_i' (x_i' w_i'j)⁺ R_j, patch by patch with unfolded pictures."""
    patches = F.unfold(x, 3)  # [B, C·9, L]
    contributions = (weight.flatten(1)[None, :, :, None] * patches[:, None]).clamp(min=0)  # [B, J, C·9, L]
    total = contributions.sum(dim=2, keepdim=True)
    handed = contributions / (total + STABILIZER) * relevance.flatten(2)[:, :, None]
    return F.fold(handed.sum(dim=1), x.shape[2:], 3)


def test_epsilon_plus_equals_the_rules_written_out() -> None:
    network, video = _network(num_frames=4, size=12).double(), _video(2, 4, 12)
    for target in range(5):
        expected = _naive_epsilon_plus(network, video, target)
        found = _explain(network, video, torch.full((2,), target))
        difference = (found - expected).abs().amax() / expected.abs().amax()
        assert difference < 1e-4, difference


def test_relevance_adds_up_for_the_reports_network_at_full_size() -> None:
    network, video = _network(size=100), _video(1, 16, 100)
    with LayerwiseRelevance(network) as explain:
        explanation = explain(video, torch.tensor([2]))
    assert (explanation.conservation - 1).abs().max() < 1e-3


def _with_dark_second_half() -> Tensor:
    video = _video(2)
    video[:, :, 8:] = PIXEL_MEAN  # nothing to see: zero after normalisation
    return video


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_alpha2_beta1"])
def test_relevance_varies_over_frames(composite: str) -> None:
    positive, negative = frame_relevance(
        _explain(_network(), _with_dark_second_half(), torch.tensor([0, 1]), composite)
    )
    share = (positive - negative) / (positive - negative).sum(dim=1, keepdim=True)
    assert (share[:, 8:] < 1e-6).all(), "empty frames have relevance"
    assert share[:, :8].std(dim=1).min() > 1e-3, "all frames have the same relevance"


def test_a_flat_first_layer_gives_every_frame_the_same_relevance() -> None:
    """The trap: why no composite here has the flat rule in the first layer."""
    network, video = _network(), _with_dark_second_half()
    with EpsilonPlusFlat().context(network) as hooked:
        leaf = video.clone().requires_grad_()
        scores = hooked(leaf)
        (relevance,) = torch.autograd.grad(scores[:, 0].sum(), leaf)
    share = relevance.sum(dim=(1, 3, 4)) / relevance.sum(dim=(1, 2, 3, 4))[:, None]
    torch.testing.assert_close(share, torch.full_like(share, 1 / 16), rtol=1e-3, atol=1e-6)


def test_explaining_leaves_network_and_random_numbers_as_they_were() -> None:
    """For every method and composite: weights, statistics, optimizer, hooks, modes, all generators."""
    output = subprocess.run([sys.executable, untouched_explaining.__file__], check=True, capture_output=True, text=True)
    changed = json.loads(output.stdout.splitlines()[-1])
    assert set(changed) == set(untouched_explaining.NAMES)
    assert {name: keys for name, keys in changed.items() if keys} == {}


def test_it_works_in_inference_mode_and_under_autocast_with_the_same_result() -> None:
    network, video, target = _network(), _video(), torch.tensor([0, 1, 2])
    expected = _explain(network, video, target)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = _explain(network, video.clone(), target.clone())
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_a_network_in_half_precision_is_explained_in_float32() -> None:
    relevance = _explain(_network().bfloat16(), _video().bfloat16(), torch.tensor([0, 1, 2]))
    assert relevance.dtype == torch.float32


def test_batch_norm_is_merged_in_the_copy_only() -> None:
    """Against the same network with its BatchNorm folded into the convolution by hand."""
    network = _network("pooled")
    network.eval()
    normed = copy.deepcopy(network)
    norm = nn.BatchNorm2d(32).eval()
    norm.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
    norm.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    normed.features.insert(2, norm)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()  # type: ignore[operator]
    convolution = network.features[1]
    convolution.weight.data *= scale[:, None, None, None]
    convolution.bias.data = (convolution.bias - norm.running_mean) * scale + norm.bias  # type: ignore[operator]
    target = torch.tensor([0, 1, 2])
    torch.testing.assert_close(_explain(normed, _video(), target), _explain(network, _video(), target))


def test_a_target_that_is_no_class_is_named() -> None:
    with pytest.raises(ExplanationError, match="class numbers from 0 to 4"):
        _explain(_network("pooled"), _video(1), torch.tensor([5]))


def _lost_sum(network: nn.Module) -> nn.Module:
    class Unexplainable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network

        def forward(self, video: Tensor) -> Tensor:
            scores = self.body(video)
            return scores + scores  # type: ignore[no-any-return]

    return Unexplainable()


def test_a_network_that_breaks_the_law_is_refused_by_lrp_alone() -> None:
    network, video, target = _lost_sum(_network("pooled")), _video(1), torch.tensor([0])
    with LayerwiseRelevance(network) as explain, pytest.raises(ExplanationError, match="gradient"):
        explain(video, target)
    with LayerwiseRelevance(network) as explain, pytest.raises(ExplanationError, match="gradient"):
        explain.prepare(video)
    with LayerwiseRelevance(network, check_network=False) as explain:
        assert torch.isfinite(explain(video, target).relevance).all()
    with build_explainer("gradient", network) as explain:
        assert torch.isfinite(explain(video, target).relevance).all()


@pytest.mark.parametrize("composite", ["epsilon_plus", "lrp_0"])
def test_against_a_class_is_the_difference_of_two_explanations_where_rules_are_linear(composite: str) -> None:
    """Every rule divides what arrives, so two relevances that start apart may be added."""
    network, video = _network(num_frames=4, size=12), _video(3, 4, 12)
    first, second = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 0])
    with LayerwiseRelevance(network, composite=composite, dtype=torch.float64) as explain:
        found = explain(video, first, against=second)
        a, b = explain(video, first), explain(video, second)
    torch.testing.assert_close(found.relevance, a.relevance - b.relevance, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.score, a.score - b.score)
    assert found.against is second


def test_log_odds_are_handed_down_whole() -> None:
    network, video, target = _network(), _video(), torch.tensor([0, 1, 4])
    with LayerwiseRelevance(network) as explain:
        found = explain(video, target, against="rest")
        scores = explain.scores(video)
    assert (found.conservation - 1).abs().max() < 1e-3
    assert found.against is not None
    assert found.against.tolist() == [-1, -1, -1]
    for row in range(3):
        rest = [k for k in range(5) if k != target[row]]
        mean = (scores[row, rest].softmax(dim=0) * scores[row, rest]).sum()
        torch.testing.assert_close(found.score[row], scores[row, target[row]] - mean)


class _Narrow(nn.Module):
    """Has memory for so many clips and no more."""

    def __init__(self, capacity: int, error: str = "DefaultCPUAllocator: can't allocate memory: you tried") -> None:
        super().__init__()
        self.network, self.capacity, self.error = _network("pooled", num_frames=4, size=12), capacity, error
        self.sizes: list[int] = []

    def forward(self, video: Tensor) -> Tensor:
        self.sizes.append(len(video))
        if len(video) > self.capacity:
            raise RuntimeError(self.error)
        return self.network(video)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("method", "capacity", "num_clips"),
    [
        *(("gradient", 2, 5), ("lrp", 1, 2), ("occlusion", 3, 7)),
        *(("smoothgrad", 2, 5), ("integrated_gradients", 1, 2), ("grad_cam", 3, 7)),
    ],
)
def test_a_batch_that_does_not_fit_is_divided(method: str, capacity: int, num_clips: int) -> None:
    settings: dict[str, object] = {"check_network": False} if method == "lrp" else {}
    video, target = _video(num_clips, 4, 12), torch.arange(num_clips) % 5
    network = _Narrow(capacity)
    with build_explainer(method, network, **settings) as explain:
        found = explain(video, target)
        sizes = explain.network.sizes
        assert max(sizes[-2:]) <= capacity
        assert isinstance(sizes, list)
    with build_explainer(method, network.network, batch_size=1, **settings) as explain:
        expected = explain(video, target)
    torch.testing.assert_close(
        found.relevance, expected.relevance, rtol=1e-3, atol=1e-4 * float(expected.relevance.abs().max())
    )
    torch.testing.assert_close(found.score, expected.score)
    assert network.sizes == []


def test_a_clip_that_does_not_fit_alone_is_said() -> None:
    with build_explainer("gradient", _Narrow(0)) as explain, pytest.raises(ExplanationError, match="one clip alone"):
        explain(_video(2, 4, 12), torch.tensor([0, 1]))


def test_other_errors_of_a_network_are_not_taken_for_a_full_memory() -> None:
    explain = build_explainer("gradient", _Narrow(0, "mat1 and mat2 cannot be multiplied"))
    with explain, pytest.raises(NetworkError, match="cannot be multiplied"):
        explain(_video(2, 4, 12), torch.tensor([0, 1]))


def test_no_clips_give_no_relevance() -> None:
    with build_explainer("gradient", _network("pooled")) as explain:
        found = explain(_video(1)[:0], torch.zeros(0, dtype=torch.long))
    assert found.relevance.shape == (0, 1, 16, 20, 20)
    assert found.score.shape == (0,)


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch size of at least 1"):
        LayerwiseRelevance(_network("pooled"), batch_size=0)
