from collections.abc import Callable
from itertools import product
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
import zennit.attribution
from any_network import ANY_NETWORK
from torch import Tensor, nn
from torch.nn import functional as F

from vidact.attribution.registry import build_explainer
from vidact.attribution.targets import contrast
from vidact.core.errors import ConfigError, ExplanationError
from vidact.core.explanation import Explanation
from vidact.models.attention import SpatioTemporalAttention
from vidact.models.layers import PIXEL_MEAN, PIXEL_STD, Gate, InputLayers
from vidact.models.pretrained import TorchvisionVideoNet
from vidact.models.residual import SlimResNet3D
from vidact.models.stacked import StackedFramesCNN

TARGET = torch.tensor([0, 2, 1, 2, 0])
SHAPE = (2, 4, 8, 8)  # C, T, H, W


class _Net(nn.Module):
    """Two 3-D convolutions; the ReLU is called twice and works in place; states an attention of its own."""

    def __init__(self, *, inplace: bool = True) -> None:
        super().__init__()
        self.input = InputLayers(2)
        self.first, self.second = nn.Conv3d(2, 3, 3, padding=1), nn.Conv3d(3, 4, 3, stride=(2, 2, 2))
        self.relu = nn.ReLU(inplace=inplace)
        self.gate, self.pool = Gate(), nn.AdaptiveAvgPool3d(1)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))

    def forward(self, video: Tensor) -> Tensor:
        features = self.relu(self.second(self.relu(self.first(self.input(video)))))
        return self.head(self.pool(features))  # type: ignore[no-any-return]

    def attention_maps(self, video: Tensor) -> Tensor:
        return video.mean(dim=1) * torch.arange(video.shape[2]).to(video)[:, None, None]


class _Folded(nn.Module):
    """Frames as pictures of their own, the time outermost: [T·B, C, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.ReLU())
        self.head = nn.Linear(4 * 4, 3)

    def forward(self, video: Tensor) -> Tensor:
        frames = video.permute(2, 0, 1, 3, 4).flatten(0, 1)
        pooled = self.features(frames).mean(dim=(2, 3)).unflatten(0, (video.shape[2], -1))  # [T, B, F]
        return self.head(pooled.transpose(0, 1).flatten(1))  # type: ignore[no-any-return]


def _made(build: Callable[..., nn.Module], **settings: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build(**settings)


def _video(num_clips: int = 5) -> Tensor:
    return torch.rand(num_clips, *SHAPE, generator=torch.Generator().manual_seed(1))


def _explain(method: str, network: nn.Module, video: Tensor, target: Tensor, **settings: Any) -> Explanation:
    against = settings.pop("against", None)
    with build_explainer(method, network, **settings) as explain:
        return explain(video, target, against=against)


def _gradient(network: nn.Module, video: Tensor, target: Tensor, against: Tensor | None = None) -> Tensor:
    leaf = video.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(contrast(network(leaf), target, against).sum(), leaf)
    return gradient


NEEDS: dict[str, dict[str, Any]] = {
    "grad_cam": {"layer": "second"},
    "occlusion": {"tube": (2, 3, 3)},
    "integrated_gradients": {"num_steps": 8},
    "extremal": {"num_steps": 10},
}
AGAINST = {"logit": None, "class": torch.tensor([1, 0, 2, 1, 2]), "rest": torch.full((5,), -1)}


@pytest.mark.parametrize(
    ("method", "against"),
    [*((name, "rest") for name in ANY_NETWORK), *product(["lrp", "occlusion"], ["logit", "class"])],
)
def test_a_clips_explanation_is_the_same_in_any_batch(method: str, against: str) -> None:
    network, video = _made(_Net), _video()
    settings = {**NEEDS.get(method, {}), "against": AGAINST[against], "dtype": torch.float64}
    together = _explain(method, network, video, TARGET, **settings)
    for batch_size in (1, 2):
        divided = _explain(method, network, video, TARGET, batch_size=batch_size, **settings)
        torch.testing.assert_close(divided.relevance, together.relevance, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(divided.score, together.score)
    order = torch.tensor([3, 1, 4, 0, 2])
    other = None if AGAINST[against] is None else AGAINST[against][order]
    turned = _explain(method, network, video[order], TARGET[order], **{**settings, "against": other})
    torch.testing.assert_close(turned.relevance, together.relevance[order], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("method", ANY_NETWORK)
def test_every_method_gives_what_an_explanation_holds(method: str) -> None:
    network, video = _made(_Net), _video()
    found = _explain(method, network, video, TARGET, **NEEDS.get(method, {}))
    assert found.relevance.shape == video.shape
    assert found.relevance.dtype == torch.float32
    assert not found.relevance.requires_grad
    assert torch.isfinite(found.relevance).all()
    assert found.method.split(":")[0] == method
    torch.testing.assert_close(found.score, network(video).gather(1, TARGET[:, None]).squeeze(1).detach())


@pytest.mark.parametrize("method", ANY_NETWORK)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_method_takes_an_input_that_is_not_finite(method: str, value: float) -> None:
    video = _video()
    video[1, 0, 2, 3, 3] = value
    with pytest.raises(ExplanationError, match="not finite"):
        _explain(method, _made(_Net), video, TARGET)


@pytest.mark.parametrize("method", ANY_NETWORK)
def test_no_method_takes_a_target_that_is_no_class(method: str) -> None:
    with pytest.raises(ExplanationError, match="class numbers from 0 to 2"):
        _explain(method, _made(_Net), _video(), TARGET + 1)


@pytest.mark.parametrize("against", AGAINST)
def test_the_gradient_is_autograds(against: str) -> None:
    network, video = _made(_Net).double(), _video().double()
    other = AGAINST[against]
    found = _explain("gradient", network, video, TARGET, dtype=torch.float64, against=other)
    torch.testing.assert_close(found.relevance, _gradient(network, video, TARGET, other))


def test_gradient_times_input_is_captums_of_what_the_network_sees() -> None:
    network, video = _made(_Net, inplace=False).double(), _video().double()
    seen = ((video - PIXEL_MEAN) / PIXEL_STD).requires_grad_()
    behind = nn.Sequential(network.first, network.relu, network.second, network.relu, network.pool, *network.head)
    expected = captum.attr.InputXGradient(behind).attribute(seen, target=TARGET)
    found = _explain("gradient_x_input", network, video, TARGET, dtype=torch.float64)
    torch.testing.assert_close(found.relevance, expected.detach())
    plain = _explain("gradient_x_input", network, video, TARGET, baseline=0.0, dtype=torch.float64)
    torch.testing.assert_close(plain.relevance, video * _gradient(network, video, TARGET))


@pytest.mark.parametrize(("against", "baseline"), [("logit", None), ("class", 0.0), ("rest", 0.7)])
def test_integrated_gradients_add_up_to_what_changed_from_the_baseline(against: str, baseline: float | None) -> None:
    network, video = _made(_Net).double(), _video().double()
    other = AGAINST[against]
    settings = {"num_steps": 300, "baseline": baseline, "against": other, "dtype": torch.float64}
    found = _explain("integrated_gradients", network, video, TARGET, **settings)
    start = torch.full_like(video, PIXEL_MEAN if baseline is None else baseline)
    expected = contrast(network(video), TARGET, other) - contrast(network(start), TARGET, other)
    torch.testing.assert_close(found.relevance_sum, expected.detach(), rtol=1e-2, atol=2e-4)


def test_integrated_gradients_are_the_mean_gradient_along_the_path() -> None:
    network, video = _made(_Net).double(), _video().double()
    points, weights = np.polynomial.legendre.leggauss(6)
    path = [float((1 + point) / 2) for point in points]
    steps = [_gradient(network, PIXEL_MEAN + a * (video - PIXEL_MEAN), TARGET) for a in path]
    mean = torch.stack([float(w) / 2 * step for w, step in zip(weights, steps, strict=True)]).sum(dim=0)
    found = _explain("integrated_gradients", network, video, TARGET, num_steps=6, dtype=torch.float64)
    torch.testing.assert_close(found.relevance, (video - PIXEL_MEAN) * mean)


def test_smoothgrad_without_noise_is_the_gradient() -> None:
    network, video = _made(_Net), _video()
    found = _explain("smoothgrad", network, video, TARGET, noise_level=0.0, num_samples=2)
    torch.testing.assert_close(found.relevance, _gradient(network, video, TARGET))


def test_smoothgrad_comes_to_what_zennits_comes_to() -> None:
    network, video = _made(_Net), _video(2)
    found = _explain("smoothgrad", network, video, TARGET[:2], noise_level=0.2, num_samples=1500).relevance
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pick = F.one_hot(TARGET[:2], 3).float()
        attributor = zennit.attribution.SmoothGrad(network, noise_level=0.2, n_iter=1500)
        _, expected = attributor(video.clone(), pick)
    assert (found - expected).norm() < 0.1 * expected.norm()


def test_smoothgrads_noise_is_of_its_seed() -> None:
    network, video = _made(_Net), _video()
    runs = [_explain("smoothgrad", network, video, TARGET, num_samples=2, seed=seed).relevance for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.allclose(runs[0], runs[2])


def test_guided_backpropagation_is_the_rule_written_out() -> None:
    """Springenberg et al. 2015: at each ReLU, what is negative on the way back stops."""
    network, video = _made(_Net).double(), _video().double()
    x = (video - PIXEL_MEAN) / PIXEL_STD
    leaf = x.requires_grad_()
    a = network.first(leaf)
    b = network.second(a.relu())
    scores = network.head(network.pool(b.relu()))
    (gradient,) = torch.autograd.grad(scores.gather(1, TARGET[:, None]).sum(), b, retain_graph=True)
    weight = network.head[1].weight[TARGET] / b[0, 0].numel()  # what arrives at the second ReLU, behind the pooling
    arriving = weight[:, :, None, None, None].expand_as(b)
    assert torch.allclose(gradient, arriving * (b > 0))
    guided = arriving.clamp(min=0) * (b > 0)
    (arriving,) = torch.autograd.grad(network.second(hidden := a.relu().detach().requires_grad_()), hidden, guided)
    guided = arriving.clamp(min=0) * (a > 0)
    (expected,) = torch.autograd.grad(a, leaf, guided)
    found = _explain("guided_backpropagation", network, video, TARGET, dtype=torch.float64)
    torch.testing.assert_close(found.relevance, expected / PIXEL_STD)


def test_guided_backpropagation_is_captums_where_modules_are_called_once() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv3d(2, 3, 3), nn.ReLU(), nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten())
        network.append(nn.Linear(4 * 2 * 6 * 6, 3))
    video = _video()
    found = _explain("guided_backpropagation", network, video, TARGET)
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU"):
        expected = captum.attr.GuidedBackprop(network).attribute(video.clone().requires_grad_(), target=TARGET)
    torch.testing.assert_close(found.relevance, expected)


def test_guided_backpropagation_needs_a_relu() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(512, 3))
    with pytest.raises(ConfigError, match=r"needs nn\.ReLU"):
        _explain("guided_backpropagation", network, _video(), TARGET)


@pytest.mark.parametrize(("tube", "fill"), [((2, 3, 3), None), ((9, 4, 5), 0.5), ((3, 20, 20), None)])
def test_occlusion_is_what_a_loop_over_tubes_gives(tube: tuple[int, int, int], fill: float | None) -> None:
    network, video = _made(_Net).double(), _video(2).double()
    against = AGAINST["rest"][:2]
    expected = torch.zeros_like(video)
    score = contrast(network(video), TARGET[:2], against)
    for t in range(0, 4, tube[0]):
        for y in range(0, 8, tube[1]):
            for x in range(0, 8, tube[2]):
                place = (..., slice(t, t + tube[0]), slice(y, y + tube[1]), slice(x, x + tube[2]))
                covered = video.clone()
                covered[place] = PIXEL_MEAN if fill is None else fill
                fall = score - contrast(network(covered), TARGET[:2], against)
                expected[place] = fall[:, None, None, None, None].detach()
    settings = {"tube": tube, "fill": fill, "against": against, "dtype": torch.float64}
    found = _explain("occlusion", network, video, TARGET[:2], **settings)
    torch.testing.assert_close(found.relevance, expected)


def test_without_a_normalisation_each_clips_own_mean_covers_it() -> None:
    network = nn.Sequential(nn.Flatten(), _made(nn.Linear, in_features=512, out_features=3))
    video = _video(2)
    video[1] *= 0.2
    found = _explain("occlusion", network, video, TARGET[:2], tube=(4, 8, 8)).relevance
    for row in range(2):
        mean = video[row].mean(dim=(1, 2, 3), keepdim=True).expand_as(video[row])
        fall = (network(video[row][None]) - network(mean[None]))[0, TARGET[row]]
        torch.testing.assert_close(found[row], fall.expand_as(found[row]).detach())


def _by_hand(features: Tensor, gradient: Tensor) -> Tensor:
    weight = gradient.mean(dim=tuple(range(2, features.ndim)), keepdim=True)
    return (weight * features).sum(dim=1).relu().detach()


def test_grad_cam_is_the_one_made_by_hand() -> None:
    network, video = _made(_Net).double(), _video().double()
    features = network.second(network.first(network.input(video)).relu())
    scores = network.head(network.pool(features.relu()))
    (gradient,) = torch.autograd.grad(scores.gather(1, TARGET[:, None]).sum(), features)
    maps = _by_hand(features, gradient)
    expected = F.interpolate(maps[:, None], size=SHAPE[1:], mode="trilinear", align_corners=False)
    found = _explain("grad_cam", network, video, TARGET, dtype=torch.float64)
    torch.testing.assert_close(found.relevance.sum(dim=1, keepdim=True), expected)
    assert torch.equal(found.relevance[:, 0], found.relevance[:, 1])


@pytest.mark.parametrize("num_clips", [3, 4])
def test_grad_cam_finds_time_where_it_is_folded_into_the_batch(num_clips: int) -> None:
    """Also where the order is [T·B]; four clips of four frames could be mistaken."""
    network, video, target = _made(_Folded), _video(num_clips), TARGET[:num_clips]
    found = _explain("grad_cam", network, video, target)
    for row in range(num_clips):
        for frame in range(4):
            features = network.features[0](video[row : row + 1, :, frame])
            weight = network.head.weight[target[row]].unflatten(0, (4, 4))[frame] / features[0, 0].numel()
            gradient = (features > 0) * weight[None, :, None, None]
            small = _by_hand(features, gradient)[None]
            expected = F.interpolate(small, size=(8, 8), mode="bilinear", align_corners=False)[0, 0]
            torch.testing.assert_close(found.relevance[row, :, frame].sum(dim=0), expected)


def test_grad_cam_says_nothing_about_time_where_frames_are_channels() -> None:
    network = _made(StackedFramesCNN, num_classes=3, num_frames=4, channels=2, size=8, head="pooled")
    found = _explain("grad_cam", network, _video(), TARGET).relevance
    assert found.abs().sum() > 0
    assert torch.equal(found, found[:, :, :1].expand_as(found))


def test_grad_cams_layer_can_be_named_and_a_wrong_name_is_answered() -> None:
    network, video = _made(_Net), _video()
    first = _explain("grad_cam:first", network, video, TARGET).relevance
    assert not torch.allclose(first, _explain("grad_cam", network, video, TARGET, layer="second").relevance)
    with pytest.raises(ConfigError, match="no layer 'secnd'; nearest: second"):
        _explain("grad_cam:secnd", network, video, TARGET)
    for name, reason in {"head": "gives", "relu": "called 2 times"}.items():
        with pytest.raises(ConfigError, match=reason):
            _explain("grad_cam", network, video, TARGET, layer=name)
    with pytest.raises(ConfigError, match="no convolution"):
        _explain("grad_cam", nn.Sequential(nn.Flatten(), nn.Linear(512, 3)), video, TARGET)


def test_grad_cam_looks_at_the_features_of_an_attention_network_not_at_its_mask() -> None:
    network = _made(SpatioTemporalAttention, num_classes=3, num_frames=4, channels=2, size=8)
    found = [
        _explain("grad_cam", network, _video(), TARGET, **chosen).relevance for chosen in ({}, {"layer": "features"})
    ]
    assert torch.equal(*found)
    assert found[0].sum(dim=(1, 3, 4)).std(dim=1).min() > 0, "every frame has its own map"


@pytest.mark.parametrize(
    "build",
    [
        lambda: TorchvisionVideoNet(3, num_frames=8, channels=3, size=32, name="s3d"),
        lambda: SlimResNet3D(3, num_frames=8, channels=3, size=32, widths=(4, 8)),
    ],
    ids=["s3d", "slim residual"],
)
def test_grad_cam_looks_at_the_features_that_the_head_sees(build: Callable[[], nn.Module]) -> None:
    """The last convolution of S3D is one branch of four, that of a residual block comes before the addition."""
    network, seen = _made(build).eval(), []
    video = torch.rand(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    network.stages.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        network(video)
    found, named = (
        _explain("grad_cam", network, video, TARGET[:2], rectified=False, **chosen).relevance
        for chosen in ({}, {"layer": "stages"})
    )
    torch.testing.assert_close(found, named)
    features = seen[0]
    with torch.enable_grad():
        leaf = features.detach().requires_grad_()
        head = nn.Sequential(network.pool, network.head) if hasattr(network, "pool") else network.head
        scores = head(leaf).gather(1, TARGET[:2, None]).sum()
        (gradient,) = torch.autograd.grad(scores, leaf)
    small = (gradient.mean(dim=(2, 3, 4), keepdim=True) * features).sum(dim=1, keepdim=True)
    expected = F.interpolate(small, size=(8, 32, 32), mode="trilinear", align_corners=False)
    torch.testing.assert_close(
        found.sum(dim=1, keepdim=True), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())
    )


def test_gradient_times_input_is_measured_from_nothing_where_no_mean_is_subtracted() -> None:
    network, video = _made(_Folded).double(), _video().double()
    found = _explain("gradient_x_input", network, video, TARGET, dtype=torch.float64).relevance
    torch.testing.assert_close(found, video * _gradient(network, video, TARGET))
    for layer in (network.features[0], network.head):
        nn.init.zeros_(layer.bias)
    found = _explain("gradient_x_input", network, video, TARGET, dtype=torch.float64)
    torch.testing.assert_close(found.relevance.sum(dim=(1, 2, 3, 4)), found.score)


def test_attention_is_the_networks_own() -> None:
    network, video = _made(_Net), _video()
    found = _explain("attention", network, video, TARGET).relevance
    torch.testing.assert_close(found.sum(dim=1), network.attention_maps(video))
    with pytest.raises(ConfigError, match="_Folded has no attention_maps"):
        build_explainer("attention", _made(_Folded))


def test_the_random_control_is_normal_noise_of_its_seed() -> None:
    network, video = _made(_Folded), torch.rand(2, 2, 8, 40, 40, generator=torch.Generator().manual_seed(0))
    network.head = nn.Linear(32, 3)
    found, again, other = (_explain("random", network, video, TARGET[:2], seed=s).relevance for s in (0, 0, 1))
    assert torch.equal(found, again)
    values = torch.stack([found.flatten(), other.flatten(), found.flip(0).flatten()])
    torch.testing.assert_close(torch.corrcoef(values), torch.eye(3), rtol=0, atol=0.03)
    assert abs(float(found.mean())) < 0.02
    assert abs(float(found.std()) - 1) < 0.02


def test_recurrent_layers_are_differentiated_without_dropout() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(2 * 64, 6, num_layers=2, dropout=0.9, batch_first=True)
            self.head = nn.Linear(6, 3)

        def forward(self, video: Tensor) -> Tensor:
            hidden, _ = self.lstm(video.transpose(1, 2).flatten(2))
            return self.head(hidden[:, -1])  # type: ignore[no-any-return]

    network, video = _made(Recurrent).eval(), _video()
    found = _explain("gradient", network, video, TARGET)
    torch.testing.assert_close(found.relevance, _gradient(network, video, TARGET))
    assert not network.lstm.training
    assert network.lstm.dropout == 0.9


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("gradcam", {}, "method 'gradcam' is unknown; nearest: grad_cam"),
        ("gradient:x", {}, "only lrp and grad_cam take a name"),
        ("gradient", {"num_steps": 3}, "gradient has no setting num_steps; there are batch_size, dtype"),
        ("integrated_gradients", {"num_steps": 0}, "num_steps must be at least 1"),
        ("smoothgrad", {"num_samples": 0}, "num_samples must be at least 1"),
        ("smoothgrad", {"noise_level": -0.1}, "noise_level is a share"),
        ("occlusion", {"tube": (0, 1, 1)}, "a tube is"),
        ("lrp:epsilon_pls", {}, "composite 'epsilon_pls' is unknown"),
    ],
)
def test_a_wrong_method_or_setting_is_named(method: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_explainer(method, _made(_Net), **settings)
