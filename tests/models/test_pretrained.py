import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import get_model, get_model_weights

from vidact.attribution.methods.gradcam import GradCam
from vidact.core.errors import ConfigError
from vidact.models.pretrained import TorchvisionVideoNet

CONVOLVING = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d")
ATTENDING = ("swin3d_t", "swin3d_s", "swin3d_b", "mvit_v1_b", "mvit_v2_s")
LARGE = {"swin3d_s", "swin3d_b"}


def _video(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def _build(num_classes: int = 5, **settings: Any) -> TorchvisionVideoNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TorchvisionVideoNet(num_classes, **settings).eval()


def _trained(name: str, num_classes: int = 5) -> nn.Module:
    """One of torchvision's networks, with scales, shifts and statistics that an untrained one does not have."""
    generator = torch.Generator().manual_seed(3)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network: nn.Module = get_model(name, weights=None, num_classes=num_classes)
    if name in ATTENDING:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
        return network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = None  # plain averages
            for values in (module.weight, module.bias):
                values.data.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    with torch.no_grad():
        body = network.get_submodule("features") if name == "s3d" else network
        body.train()(torch.randn(2, 3, 16, 32, 32, generator=generator))
    return network.eval()


def _save(name: str, folder: Path) -> str:
    path = folder / f"{name}.pth"
    torch.save(_trained(name).state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with weights of mc3_18, for five classes."""
    return _save("mc3_18", tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize("name", CONVOLVING + ATTENDING)
def test_it_has_as_many_parameters_as_is_published(name: Any) -> None:
    published = get_model_weights(name).KINETICS400_V1.meta["num_params"]
    with torch.device("meta"):
        whole, few = (TorchvisionVideoNet(classes, name=name, size=224) for classes in (400, 7))
    count = {network: sum(p.numel() for p in network.parameters()) for network in (whole, few)}
    features = {"s3d": 1024, "swin3d_b": 1024, **dict.fromkeys(ATTENDING[:2] + ATTENDING[3:], 768)}.get(name, 512)
    assert count[whole] == published
    assert count[few] == published - (400 - 7) * (features + 1)


@pytest.mark.parametrize("name", [name for name in CONVOLVING + ATTENDING if name not in LARGE])
def test_a_small_oblong_gray_clip_gives_a_score_per_class_and_every_frame_counts(name: Any) -> None:
    """Of any other clip test_contract.py says it; no layer works in place."""
    network = _build(num_frames=9, channels=1, size=(17, 33), differences=True, name=name)
    assert not any(module.inplace for module in network.modules() if isinstance(module, nn.ReLU))
    video = _video(2, 1, 9, 17, 33).requires_grad_()
    scores = network(video)
    assert scores.shape == (2, 5)
    scores.sum().backward()
    assert video.grad is not None
    assert (video.grad.abs().sum(dim=(1, 3, 4)) > 0).all(), "a frame gets no gradient"


@pytest.mark.parametrize(
    ("name", "num_frames", "size"),
    [
        ("swin3d_t", 5, (38, 30)),  # patches and windows are filled up, and windows shift in height alone
        *(
            pytest.param(name, num_frames, size, marks=pytest.mark.slow)
            for name, num_frames, size in [
                ("r3d_18", 8, (40, 56)),
                ("mc3_18", 8, (40, 56)),
                ("r2plus1d_18", 8, (40, 56)),
                ("s3d", 24, (224, 224)),  # the least size of torchvision's pooling, and two windows that overlap
                ("swin3d_s", 18, (40, 64)),
                ("swin3d_b", 2, (4, 4)),
                ("mvit_v1_b", 16, (224, 224)),
                ("mvit_v2_s", 16, (224, 224)),
            ]
        ),
    ],
)
def test_with_its_weights_it_gives_torchvisions_logits(
    name: Any, num_frames: int, size: tuple[int, int], tmp_path: Path
) -> None:
    theirs, video = _trained(name).double(), _video(1, 3, num_frames, *size).double()
    ours = _build(num_frames=num_frames, size=size, name=name, weights=_save(name, tmp_path)).double()
    transforms = get_model_weights(name).KINETICS400_V1.transforms()
    # Our mean and deviation are numbers in float32.
    mean, std = (torch.tensor(values).double().reshape(3, 1, 1, 1) for values in (transforms.mean, transforms.std))
    with torch.no_grad():
        expected, found = theirs((video - mean) / std), ours(video)
        assert (ours(video.flip(2)) - found).abs().max() > 1e-3 * found.abs().max(), "the logits say nothing"
    assert (found - expected).abs().max() < 1e-10 * expected.abs().max()


def test_a_head_of_another_size_is_new(weights: str) -> None:
    kept, new = (_build(classes, name="mc3_18", weights=weights) for classes in (5, 3))
    torch.testing.assert_close(kept.head[-1].weight, torch.load(weights)["fc.weight"])
    assert new.head[-1].weight.shape == (3, 512)


def _equal_colours(gray: Tensor) -> Tensor:
    return gray.expand(-1, 3, -1, -1, -1)


def test_frame_differences_of_gray_clips_score_as_their_three_equal_colours(weights: str) -> None:
    settings: dict[str, Any] = {"num_frames": 4, "size": 32, "name": "mc3_18", "weights": weights, "differences": True}
    gray, coloured, video = _build(channels=1, **settings), _build(channels=3, **settings), _video(2, 1, 4, 32, 32)
    torch.testing.assert_close(gray(video), coloured(_equal_colours(video)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mc3_18", "swin3d_t"])
def test_gray_clips_score_as_their_three_equal_colours_but_for_the_means(name: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_frames": 4, "size": 32, "name": name, "weights": _save(name, tmp_path)}
    gray, coloured, video = _build(channels=1, **settings), _build(channels=3, **settings), _video(2, 1, 4, 32, 32)
    coloured.input[0].mean.fill_(gray.input[0].mean.item())
    torch.testing.assert_close(gray(video), coloured(_equal_colours(video)), rtol=1e-4, atol=1e-5)


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "frozen"), [("mc3_18", 0), ("mc3_18", 2), ("s3d", 5), ("swin3d_t", 2), ("mvit_v1_b", 4), ("mvit_v2_s", 5)]
)
def test_frozen_stages_stay_as_they_are_in_training(name: Any, frozen: int) -> None:
    network = _build(num_frames=8, size=33, name=name, frozen_stages=frozen).train()
    before = [_state(stage) for stage in network.stages]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(_video(2, 3, 8, 33, 33)).square().sum().backward()
    optimizer.step()
    for number, stage in enumerate(network.stages):
        is_frozen = number < frozen
        assert all((parameter.grad is None) == is_frozen for parameter in stage.parameters())
        assert all(module.training != is_frozen for module in stage.modules())
        changed = [key for key, value in stage.state_dict().items() if not torch.equal(value, before[number][key])]
        assert bool(changed) != is_frozen
        assert name in ATTENDING or len(changed) in (0, len(before[number]))
    assert all(parameter.grad is not None for parameter in network.head.parameters())


def _names_and_lengths(name: str) -> dict[str, int]:
    with torch.device("meta"):
        return {key: len(list(stage.children())) for key, stage in _build(name=name).stages.named_children()}


def test_five_named_stages_hold_the_network() -> None:
    assert list(_names_and_lengths("mc3_18")) == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert _names_and_lengths("s3d") == {"conv1": 2, "conv2": 3, "mixed3": 3, "mixed4": 6, "mixed5": 2}
    # Blocks and merging; blocks, norm and the change to pictures.
    assert _names_and_lengths("swin3d_t") == {"patches": 2, "blocks1": 2, "blocks2": 2, "blocks3": 2, "blocks4": 3}
    # MViT-B's scale stages have 1, 2, 11, 2 blocks (Fan et al. 2021, table 3), MViTv2-S's as well; and the norm.
    mvit = {"patches": 4, "blocks1": 1, "blocks2": 2, "blocks3": 11, "blocks4": 3}
    assert _names_and_lengths("mvit_v1_b") == _names_and_lengths("mvit_v2_s") == mvit


@pytest.mark.parametrize(("name", "layer"), [("swin3d_t", "stages"), ("mvit_v2_s", "stages.blocks4.1.pictures")])
def test_grad_cam_weighs_the_last_pictures_that_the_head_sees(name: str, layer: str) -> None:
    """Selvaraju et al. 2017: max(0, Σ_k α_k A_k), α the mean gradient; brought to the size of the video."""
    network, video = _build(num_frames=4, size=(64, 96), name=name), _video(1, 3, 4, 64, 96)
    with GradCam(network, batch_size=1) as explain:
        found = explain(video, torch.tensor([1])).relevance
    seen: list[Tensor] = []
    network.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output))
    score = network(video)[0, 1]
    assert seen[0].shape == (1, 768, 2, 2, 3)
    (gradient,) = torch.autograd.grad(score, seen[0])
    expected = (gradient.mean(dim=(2, 3, 4), keepdim=True) * seen[0]).sum(dim=1, keepdim=True).relu()
    expected = functional.interpolate(expected.detach(), size=(4, 64, 96), mode="trilinear") / 3
    assert expected.any()
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-3, atol=1e-5 * float(expected.max()))


def test_it_can_be_copied_and_its_state_loaded(weights: str) -> None:
    network, video = _build(name="mc3_18", weights=weights, num_frames=4, size=32), _video(1, 3, 4, 32, 32)
    again = TorchvisionVideoNet(5, name="mc3_18", num_frames=4, size=32).eval()  # without the file
    again.load_state_dict(network.state_dict())
    for other in (copy.deepcopy(network), again):
        torch.testing.assert_close(other(video), network(video))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "s3d", "num_frames": 7}, r"s3d needs 8 frames of 17 pixels or more, got num_frames = 7"),
        ({"name": "s3d", "size": 16}, r"s3d needs .* size = \(16, 16\)"),
        ({"name": "r3d_18", "size": (40, 15)}, r"r3d_18 needs 1 frames of 16 pixels or more.* size = \(40, 15\)"),
        ({"name": "swin3d_t", "num_frames": 1}, r"swin3d_t needs 2 frames of 4 pixels or more, got num_frames = 1"),
        ({"name": "mvit_v2_s", "size": (8, 64)}, r"mvit_v2_s needs 2 frames of 9 pixels or more.* size = \(8, 64\)"),
        (
            {"name": "mvit_v1_b", "weights": "kinetics400", "size": 112},
            r"weights of mvit_v1_b fit clips of \(16, 224, 224\) .* got \(16, 112, 112\); set num_frames and size so",
        ),
        ({"channels": 2}, r"takes gray \(1\) or coloured \(3\) videos, got channels = 2"),
        ({"frozen_stages": 6}, r"r3d_18 has 5 stages that can be frozen, got frozen_stages = 6"),
        ({"frozen_stages": -1}, "got frozen_stages = -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TorchvisionVideoNet(5, **settings)


def test_another_input_shape_is_named() -> None:
    with pytest.raises(ConfigError, match=r"takes videos of shape \[B, 3, 16, 112, 112\], got \(1, 3, 8, 32, 32\)"):
        _build(name="s3d")(_video(1, 3, 8, 32, 32))


@pytest.mark.parametrize("name", CONVOLVING + ATTENDING)
def test_a_name_says_what_its_weights_were_trained_on(name: str) -> None:
    """As torchvision's documentation states it; for weights of the user's own without names of classes."""
    found, own = TorchvisionVideoNet.trained(name, None), TorchvisionVideoNet.trained(name, "own.pt")
    meta = get_model_weights(name).KINETICS400_V1.meta
    assert found.class_names == tuple(meta["categories"])
    assert f"clip_len={found.num_frames}`" in meta["_docs"]
    assert f"frame_rate={found.fps:g}`" in meta["_docs"]
    assert found.size == tuple(get_model_weights(name).KINETICS400_V1.transforms().crop_size)
    assert (own.settings["weights"], own.class_names) == ("own.pt", None)
