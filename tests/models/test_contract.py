"""The contract that every network of the family keeps, so that LRP explains it correctly."""

import copy
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from zennit.core import Composite

import vidact.models
from vidact.attribution.gradient_form.explainer import GradientForm
from vidact.attribution.graph.canonizers import build_canonizers
from vidact.attribution.lrp.checks import find_obstacles
from vidact.attribution.lrp.composites import build_composite
from vidact.attribution.lrp.explainer import LayerwiseRelevance
from vidact.attribution.names import DEFAULT_COMPOSITE
from vidact.core.errors import ConfigError
from vidact.models.attention import SpatioTemporalAttention
from vidact.models.fusion import EarlyFusion, LateFusion, SingleFrame, SlowFusion
from vidact.models.huggingface import HuggingFaceVideoNet
from vidact.models.layers import Gate, Normalisation
from vidact.models.pretrained import TorchvisionVideoNet
from vidact.models.recurrent import CNNLSTM
from vidact.models.residual import SlimResNet3D
from vidact.models.stacked import StackedFramesCNN

NUM_CLASSES = 5
Build = Callable[..., nn.Module]


def _torchvision(name: Any) -> Build:
    return lambda **settings: TorchvisionVideoNet(name=name, **settings)


def _hugging_face(kind: str) -> Build:
    def build(differences: bool = False, **settings: Any) -> nn.Module:  # it has no such setting
        return HuggingFaceVideoNet(source={"model_type": kind, **_SOURCES[kind]}, **settings)

    return build


# Name: how it is built, and the side of its frames here.
FAMILY: dict[str, tuple[Build, int]] = {
    "stacked, dense": (lambda **settings: StackedFramesCNN(head="dense", **settings), 20),
    "stacked, pooled": (lambda **settings: StackedFramesCNN(head="pooled", **settings), 20),
    "single frame": (SingleFrame, 48),
    "early fusion": (EarlyFusion, 48),
    "late fusion": (LateFusion, 48),
    "slow fusion": (SlowFusion, 48),
    "CNN + LSTM": (CNNLSTM, 32),
    "attention": (SpatioTemporalAttention, 32),
    "r3d_18": (_torchvision("r3d_18"), 32),
    "mc3_18": (_torchvision("mc3_18"), 32),
    "r2plus1d_18": (_torchvision("r2plus1d_18"), 32),
    "s3d": (_torchvision("s3d"), 32),
    "slim residual": (SlimResNet3D, 32),
    "slim residual, time stride 2": (lambda **settings: SlimResNet3D(time_stride=2, **settings), 32),
}


# Networks whose steps are no modules, as those of attention: relevance goes through them in gradient form alone.
TRANSFORMERS: dict[str, tuple[Build, int]] = {
    "swin3d_t": (_torchvision("swin3d_t"), 32),
    "mvit_v2_s": (_torchvision("mvit_v2_s"), 32),
}
_ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_POSITIONS = {"image_size": 32, "num_frames": 8} | _ENCODER
_SOURCES = {
    "videomae": {"patch_size": 16, "tubelet_size": 2} | _POSITIONS,
    "timesformer": {"patch_size": 16} | _POSITIONS,
    "vivit": {"tubelet_size": [2, 16, 16]} | _POSITIONS,
    "vjepa2": {"crop_size": 32, "frames_per_clip": 8, "patch_size": 16, "num_pooler_layers": 1} | _ENCODER,
}
TRANSFORMERS |= {kind: (_hugging_face(kind), 32) for kind in _SOURCES}
FAMILY |= TRANSFORMERS


def _networks() -> Iterator[type[nn.Module]]:
    """Find the classes of vidact.models that take a number of classes."""
    for found in pkgutil.iter_modules(vidact.models.__path__, "vidact.models."):
        own = [kind for kind in vars(importlib.import_module(found.name)).values() if inspect.isclass(kind)]
        own = [kind for kind in own if issubclass(kind, nn.Module) and kind.__module__ == found.name]
        own = [kind for kind in own if "num_classes" in inspect.signature(kind).parameters]
        yield from (kind for kind in own if not set(kind.__subclasses__()) & set(own))  # no base of others in its file


# A new network keeps the contract without a row here, unless it needs frames of another size.
LISTED = {StackedFramesCNN, SingleFrame, EarlyFusion, LateFusion, SlowFusion, CNNLSTM, SpatioTemporalAttention}
LISTED |= {TorchvisionVideoNet, SlimResNet3D, HuggingFaceVideoNet}
FAMILY |= {kind.__name__: (kind, 32) for kind in _networks() if kind not in LISTED}
ATTENDING = {*TRANSFORMERS, "VideoTransformer"}
GATED = {"CNN + LSTM", "attention"}
LARGE = {"r3d_18", "mc3_18", "r2plus1d_18", "s3d", "swin3d_t", "mvit_v2_s"}
ALL = [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in FAMILY]
NAMES = [parameter for parameter in ALL if parameter.values[0] not in ATTENDING]
# With differences, and without, but for large networks, whose layers are the same behind the simpler input.
INPUTS = [pytest.param(*own.values, True, marks=own.marks) for own in ALL]
INPUTS += [pytest.param(name, False) for name in FAMILY if name not in LARGE]
RELU_NETWORKS = [parameter for parameter in NAMES if parameter.values[0] not in GATED]
IN_GRADIENT_FORM = [pytest.param(*own.values, "attnlrp", marks=own.marks) for own in ALL]
IN_GRADIENT_FORM += [pytest.param(*own.values, "cp_lrp", marks=own.marks) for own in ALL if own not in NAMES]
CHANNELS = 3
NUM_FRAMES = 8


def _network(name: str, *, differences: bool = False) -> nn.Module:
    """Copy a network in eval mode whose biases and BatchNorm statistics are not the trivial ones of a new one."""
    return copy.deepcopy(_built(name, differences))


@lru_cache
def _built(name: str, differences: bool) -> nn.Module:
    build, size = FAMILY[name]
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(
            num_classes=NUM_CLASSES, num_frames=NUM_FRAMES, channels=CHANNELS, size=size, differences=differences
        )
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 1.0
        with torch.no_grad():
            network.train()(torch.rand(4, CHANNELS, NUM_FRAMES, size, size, generator=generator))
            for key, value in network.named_parameters():
                if "bias" in key:
                    value.add_(torch.randn(value.shape, generator=generator), alpha=0.02)
    return network.eval()


def _video(name: str, num_clips: int = 2) -> Tensor:
    size = FAMILY[name][1]
    return torch.rand(num_clips, CHANNELS, NUM_FRAMES, size, size, generator=torch.Generator().manual_seed(1))


@contextmanager
def _canonized(network: nn.Module, clip: Tensor) -> Iterator[nn.Module]:
    """A copy as LRP sees it: BatchNorm merged, blocks of other libraries rewritten, recurrence unrolled."""
    with Composite(canonizers=build_canonizers(clip)).context(copy.deepcopy(network)) as canonized:
        yield canonized


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(("name", "differences"), INPUTS)
def test_it_scores_each_class_and_every_frame_has_a_gradient(name: str, differences: bool) -> None:
    video = _video(name).requires_grad_()
    scores = _network(name, differences=differences)(video)
    assert scores.shape == (2, NUM_CLASSES)
    (gradient,) = torch.autograd.grad(scores[:, 0].sum(), video)
    assert (gradient.abs().amax(dim=(1, 3, 4)) > 0).all(), "a frame without gradient"


def test_another_input_shape_is_named() -> None:
    for name in set(FAMILY) - LARGE:
        size = FAMILY[name][1]
        with pytest.raises(ConfigError, match=rf"takes videos of shape \[B, 3, 8, {size}, {size}\], got \(2, 3, 7, "):
            _network(name)(_video(name)[:, :, 1:])


def test_the_law_finds_nothing_and_each_weighted_leaf_is_called_once(name: str) -> None:
    network = _network(name)
    assert find_obstacles(network, _video(name, 1)) == ()
    calls: dict[str, int] = {}
    with _canonized(network, _video(name).to(next(network.parameters()))) as canonized, torch.no_grad():
        for key, module in canonized.named_modules():
            if not list(module.children()) and list(module.parameters()):
                calls[key] = 0
                module.register_forward_hook(lambda *_, key=key: calls.update({key: calls[key] + 1}))
        canonized(_video(name, 1))
    assert calls, "no layer has weights"
    assert set(calls.values()) == {1}, {key: count for key, count in calls.items() if count != 1}


def test_what_lrp_sees_scores_as_the_network_does(name: str) -> None:
    network, video = _network(name).double(), _video(name).double()
    with _canonized(network, _video(name).to(next(network.parameters()))) as canonized, torch.no_grad():
        found, expected = canonized(video), network(video)
    assert (found - expected).abs().max() < 1e-10


@pytest.mark.parametrize("name", RELU_NETWORKS)
def test_lrp_0_is_gradient_times_input_where_biases_are_zero(name: str) -> None:
    """Ancona et al. 2018: so it is for networks of ReLU, max-pooling and linear layers; to float64 rounding."""
    network = _network(name, differences=True).double()
    with _canonized(network, _video(name).to(next(network.parameters()))) as canonized:
        bare = copy.deepcopy(canonized)
    with torch.no_grad():
        for module in bare.modules():
            if isinstance(module, Normalisation):
                module.mean.zero_()
            elif getattr(module, "bias", None) is not None:
                module.bias.zero_()  # type: ignore[operator, union-attr]
    video = _video(name).double().requires_grad_()
    (gradient,) = torch.autograd.grad(bare(video)[:, 1].sum(), video)
    expected = (gradient * video).detach()
    with LayerwiseRelevance(bare, composite="lrp_0", dtype=torch.float64) as explain:
        found = explain(video.detach(), torch.tensor([1, 1])).relevance
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


def _still_and_moving(name: str) -> Tensor:
    """Give a clip of noise, one that stands still in its second half, and one that stands still."""
    clips = _video(name, 3)
    clips[1, :, NUM_FRAMES // 2 :] = clips[1, :, NUM_FRAMES // 2, None]
    clips[2] = clips[2, :, :1]
    return clips


@pytest.mark.parametrize("differences", [False, True])
def test_the_account_closes_on_moving_and_on_still_clips(name: str, differences: bool) -> None:
    """Voxels + biases + stabiliser = score; where the network sees no difference, all of it is on biases."""
    network, clips = _network(name, differences=differences), _still_and_moving(name)
    limits = {torch.float32: 1e-4} | ({} if name in LARGE and not differences else {torch.float64: 1e-6})
    for dtype, limit in limits.items():
        with LayerwiseRelevance(network, composite=DEFAULT_COMPOSITE, check_network=False, dtype=dtype) as explain:
            found = explain(clips, torch.tensor([0, 1, 2]))
        assert found.account is not None
        assert found.account.gap(found.score).max() < limit
        torch.testing.assert_close(found.account.voxels, found.relevance_sum)
        if differences:
            assert not found.relevance[2].any()
            on_biases = float(sum(taken[2] for taken in found.account.biases.values()) / found.score[2])
            assert 0.98 < on_biases < 1.02  # the rest is the stabiliser's, where a score is small
        elif name not in GATED:
            assert (found.conservation - 1).abs().max() < 1e-3


@pytest.mark.parametrize(("name", "composite"), IN_GRADIENT_FORM)
def test_the_account_closes_in_gradient_form_too(name: str, composite: str) -> None:
    """With biases counted, and without a module for each step."""
    network, clips = _network(name), _still_and_moving(name)
    limits = {torch.float32: 1e-4} | ({torch.float64: 1e-9} if name in ATTENDING else {})
    for dtype, limit in limits.items():
        with GradientForm(network, composite=composite, refine=False, dtype=dtype) as explain:
            found = explain(clips, torch.tensor([0, 1, 2]))
        assert found.account is not None
        assert found.account.gap(found.score).max() < limit
        with torch.no_grad():
            expected = network.to(dtype)(clips.to(dtype)).diagonal()
        torch.testing.assert_close(found.score, expected, rtol=limit, atol=limit / 10)


def _record_relevance(gate: nn.Module, found: dict[str, Tensor]) -> None:
    """Note the relevance that arrives at a gate's output and that leaves by its two inputs."""

    def note(key: str, value: Tensor) -> Tensor:
        own = value.view_as(value)  # others may read the same tensor; this view is the gate's alone
        if own.requires_grad:
            own.register_hook(lambda relevance: found.update({key: relevance}))
        return own

    gate.register_forward_pre_hook(lambda _, inputs: tuple(map(note, ("signal", "gate"), inputs)), prepend=True)
    gate.register_forward_hook(lambda _, inputs, output: note("output", output))


@pytest.mark.parametrize("name", sorted(GATED))
def test_gates_hand_all_relevance_to_their_signal(name: str) -> None:
    with (
        _canonized(_network(name), _video(name)) as canonized,
        build_composite(DEFAULT_COMPOSITE, clip=_video(name)).context(canonized) as hooked,
    ):
        records: dict[str, dict[str, Tensor]] = {}
        for key, gate in hooked.named_modules():
            if isinstance(gate, Gate):
                _record_relevance(gate, records.setdefault(key, {}))
        hooked(_video(name).requires_grad_())[:, 0].sum().backward()
    reached = {key: found for key, found in records.items() if {"output", "signal"} <= set(found)}
    assert len(reached) >= NUM_FRAMES, "relevance did not pass through the gates"
    for key, found in reached.items():
        assert torch.equal(found["signal"], found["output"].expand_as(found["signal"])), key
        assert found.get("gate") is None or not found["gate"].any(), key


@pytest.mark.parametrize("name", ALL)
def test_two_targets_have_different_explanations_and_the_network_stays_bit_identical(name: str) -> None:
    network, video = _network(name).train(), _video(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    keys, hooks = list(dict(network.named_parameters())), [len(m._forward_hooks) for m in network.modules()]
    with (GradientForm if name in ATTENDING else LayerwiseRelevance)(network) as explain:
        first, second = (explain(video, torch.full((2,), target)).relevance for target in (0, 1))
    assert not torch.allclose(first / first.abs().max(), second / second.abs().max(), atol=1e-3)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert list(dict(network.named_parameters())) == keys
    assert [len(m._forward_hooks) for m in network.modules()] == hooks
    assert all(module.training for module in network.modules())
