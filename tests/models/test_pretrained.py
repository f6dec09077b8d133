import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.transforms.v2.functional import normalize

from vidact.core.errors import ConfigError
from vidact.models.pretrained import TorchvisionVideoNet

NAMES = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d")


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
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = None  # plain averages
            for values in (module.weight, module.bias):
                values.data.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    with torch.no_grad():
        body = network.get_submodule("features") if name == "s3d" else network
        body.train()(torch.randn(2, 3, 16, 32, 32, generator=generator))
    return network.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with weights of mc3_18, for five classes."""
    path = tmp_path_factory.mktemp("weights") / "mc3_18.pth"
    torch.save(_trained("mc3_18").state_dict(), path)
    return str(path)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_as_many_parameters_as_is_published(name: Any) -> None:
    published = get_model_weights(name).KINETICS400_V1.meta["num_params"]
    with torch.device("meta"):
        whole, few = TorchvisionVideoNet(400, name=name), TorchvisionVideoNet(7, name=name)
    count = {network: sum(p.numel() for p in network.parameters()) for network in (whole, few)}
    features = 1024 if name == "s3d" else 512
    assert count[whole] == published
    assert count[few] == published - (400 - 7) * (features + 1)


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "num_frames", "size"),
    [
        ("r3d_18", 8, (40, 56)),
        ("mc3_18", 8, (40, 56)),
        ("r2plus1d_18", 8, (40, 56)),
        ("s3d", 24, (224, 224)),  # the least size of torchvision's pooling, and two windows in time that overlap
    ],
)
def test_with_its_weights_it_gives_torchvisions_logits(
    name: Any, num_frames: int, size: tuple[int, int], tmp_path: Path
) -> None:
    theirs, video = _trained(name), _video(1, 3, num_frames, *size)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = _build(num_frames=num_frames, size=size, name=name, weights=str(tmp_path / "weights.pth"))
    transforms = get_model_weights(name).KINETICS400_V1.transforms()
    frames = normalize(video.transpose(1, 2), mean=list(transforms.mean), std=list(transforms.std))
    with torch.no_grad():
        expected, found = theirs(frames.transpose(1, 2)), ours(video)
        assert (ours(video.flip(2)) - found).abs().max() > 1e-3 * found.abs().max(), "the logits say nothing"
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


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


def test_gray_clips_score_as_their_three_equal_colours_but_for_the_means(weights: str) -> None:
    settings: dict[str, Any] = {"num_frames": 4, "size": 32, "name": "mc3_18", "weights": weights}
    gray, coloured, video = _build(channels=1, **settings), _build(channels=3, **settings), _video(2, 1, 4, 32, 32)
    coloured.input[0].mean.fill_(gray.input[0].mean.item())
    torch.testing.assert_close(gray(video), coloured(_equal_colours(video)), rtol=1e-4, atol=1e-5)


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(("name", "frozen"), [("mc3_18", 0), ("mc3_18", 2), ("s3d", 5)])
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
        for key, value in stage.state_dict().items():
            assert torch.equal(value, before[number][key]) == is_frozen, key
    assert all(parameter.grad is not None for parameter in network.head.parameters())


def test_five_named_stages_hold_the_network() -> None:
    resnet, s3d = _build(name="mc3_18"), _build(name="s3d")
    assert [name for name, _ in resnet.stages.named_children()] == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert [name for name, _ in s3d.stages.named_children()] == ["conv1", "conv2", "mixed3", "mixed4", "mixed5"]
    assert [len(stage) for stage in s3d.stages] == [2, 3, 3, 6, 2]  # type: ignore[arg-type]


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
