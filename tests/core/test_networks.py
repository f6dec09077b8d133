"""What vidact requires of a network that a user wrote, and what it says where one does not comply."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from made_windows import made_batch
from torch import Tensor, nn
from torchvision.models import video as torchvision_video

from vidact.cli.main import main
from vidact.core import networks
from vidact.core.errors import ConfigError, NetworkError
from vidact.core.networks import OneClipError, accepted_settings, builds_networks, require_logits, unwrapped
from vidact.models.stacked import StackedFramesCNN
from vidact.runs.run import open_run
from vidact.training.classifier import ActionClassifier

OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, channels=1, width=4):
        super().__init__()
        pool = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.BatchNorm1d(width))
        self.layers = nn.Sequential(nn.Conv3d(channels, width, 3), nn.ReLU(), pool, nn.Linear(width, num_classes))

    def forward(self, video):
        return self.layers(video)

def build(width: int = 6, **kwargs) -> Net:
    return Net(width=width, **kwargs)

def unannotated(num_classes):
    return Net(num_classes)
"""
SMALL = ["--data.num_frames", "8", "--data.size", "16", "--data.num_workers", "0", "--report", "false"]
SMALL += ["--data.classes", "[left, right, up]", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]


@pytest.fixture
def folder(tmp_path: Path, elsewhere: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of one's own, in which one works."""
    (tmp_path / "own_functions.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_functions", raising=False)
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_function_that_builds_a_network_serves_from_fit_to_explain(
    folder: Path, small_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its constructor's settings come through `**kwargs`; the loss has weights of classes."""
    weights = "--model.loss={class_path: torch.nn.CrossEntropyLoss, init_args: {weight: [1, 2.5, 3]}}"
    network = ["--model.network", "own_functions.build", "--model.network.init_args.width", "5"]
    settings = [*SMALL, *network, weights, "--data.root", str(small_set), "--data.batch_size", "4"]
    assert main(["fit", *settings, "--relevance.clips_per_class", "1"]) == 0
    run = open_run(folder / "runs" / "version_0", trust=["own_functions"])
    assert run.network.layers[0].weight.shape == (5, 1, 3, 3, 3)
    assert run.network.layers[3].out_features == 3
    assert run.config["model"]["loss"]["init_args"]["weight"] == [1.0, 2.5, 3.0]
    content = torch.load(run.checkpoint, weights_only=True)
    assert content["state_dict"]["loss.weight"].tolist() == [1.0, 2.5, 3.0]
    assert list((folder / "runs" / "version_0" / "explanations").rglob("*.overlay.png"))
    clip = next(small_set.rglob("*.avi"))
    for args in (
        ["test", "--ckpt_path", "runs/version_0/checkpoints/best.ckpt", "--trust", "own_functions"],
        ["explain", "runs/version_0", str(clip), "--out", "why", "--trust", "own_functions"],
        [
            *("inspect", "own_functions.build", "--init", '{"width": 5}', "--num_classes", "3", "--num_frames", "8"),
            *("--size", "16", "--ckpt_path", "runs/version_0/checkpoints/best.ckpt"),
        ],
    ):
        capsys.readouterr()
        code = main(args)
        # The shift of its BatchNorm makes a part of the score, which inspect says.
        assert code == 0 or (args[0] == "inspect" and "explainable" in capsys.readouterr().out), args


@pytest.mark.usefixtures("folder")
def test_a_function_without_a_return_type_is_refused_with_the_remedy(
    small_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *SMALL, "--data.root", str(small_set), "--model.network", "own_functions.unannotated"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "own_functions.unannotated does not correspond to a subclass of Module; a function that builds" in line


@pytest.mark.parametrize("name", ["r3d_18", "s3d", "mvit_v1_b", "swin3d_t"])
def test_the_settings_of_torchvisions_functions_are_those_of_what_they_build(name: str) -> None:
    build = getattr(torchvision_video, name)
    assert builds_networks(build)
    assert {"weights", "progress", "num_classes"} <= accepted_settings(build)
    assert "size" not in accepted_settings(build)


def test_names_are_those_that_a_constructor_has() -> None:
    assert accepted_settings(StackedFramesCNN) >= {"num_classes", "num_frames", "size", "channels", "head"}
    assert accepted_settings(nn.Module) == frozenset()
    assert not builds_networks(print)
    assert not builds_networks(lambda num_classes: nn.Linear(1, num_classes))
    assert not builds_networks(int)
    assert not builds_networks(None)


class _Two(NamedTuple):
    aux: Tensor
    scores: Tensor


class _Output:
    def __init__(self, logits: Tensor) -> None:
        self.logits, self.loss = logits, None


@pytest.mark.parametrize("made", [dict, tuple, list, _Two, _Output])
def test_what_a_refusal_advises_gives_logits(made: type) -> None:
    """Whatever a network gives, its forward can return what the message names."""
    logits, aux, video = torch.zeros(2, 3), torch.zeros(2, 7), torch.zeros(2, 1, 4, 8, 8)
    given: dict[type, Any] = {dict: {"aux": aux, "logits": logits}, _Two: _Two(aux, logits), _Output: _Output(logits)}
    output = given[made] if made in given else made([aux, logits])
    with pytest.raises(NetworkError, match="expected one tensor of logits of shape") as error:
        require_logits(output, nn.Identity(), video, num_classes=3)
    advised = str(error.value).partition("as output")[2].partition(", or wrap")[0]
    assert eval(f"output{advised}", {"output": output}) is logits
    assert require_logits(logits, nn.Identity(), video, num_classes=3) is logits


def test_scores_with_empty_axes_are_flattened_as_advised() -> None:
    scores, video = torch.zeros(2, 3, 1, 1, 1), torch.zeros(2, 1, 4, 8, 8)
    with pytest.raises(NetworkError, match=r"let forward return scores.flatten\(1\)"):
        require_logits(scores, nn.Identity(), video, num_classes=3)
    require_logits(scores.flatten(1), nn.Identity(), video, num_classes=3)


class _OneClip(nn.Module):
    """Normalises over the clips of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))

    def forward(self, video: Tensor) -> Tensor:
        return self.layers(video)  # type: ignore[no-any-return]


def _classifier(batch_size: int, num_batches: int, monkeypatch: pytest.MonkeyPatch) -> ActionClassifier:
    model = ActionClassifier(_OneClip(), ("a", "b"))
    monkeypatch.setattr(ActionClassifier, "log", lambda *args, **kwargs: None)
    monkeypatch.setattr(Trainer, "num_training_batches", num_batches)
    monkeypatch.setattr(Trainer, "train_dataloader", torch.utils.data.DataLoader([0], batch_size=batch_size))
    model.trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    return model


def test_a_last_batch_of_one_clip_teaches_nothing_and_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _classifier(3, 4, monkeypatch)
    one = made_batch(np.array([[1, 2]]), [0], [0], [0])
    with pytest.warns(UserWarning, match="batches of one clip are skipped.*--data.batch_size 2 or more"):
        loss = model.training_step(one)
    loss.backward()
    assert all(not parameter.grad.any() for parameter in model.parameters())  # type: ignore[union-attr]
    assert model.training_step(one) == 0
    three = made_batch(np.array([[1, 2], [3, 1], [2, 2]]), [0, 1, 0], [0, 1, 2], [0, 1, 2])
    assert model.training_step(three) > 0
    model.on_train_epoch_end()


@pytest.mark.parametrize(("batch_size", "num_batches"), [(1, 9), (4, 1)])
def test_a_network_that_would_never_learn_is_refused(
    batch_size: int, num_batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _classifier(batch_size, num_batches, monkeypatch)
    with pytest.raises(OneClipError, match="normalises over the clips of a batch"):
        model.training_step(made_batch(np.array([[1, 2]]), [0], [0], [0]))


def test_weights_of_classes_are_as_many_as_classes() -> None:
    loss = nn.CrossEntropyLoss(weight=torch.ones(2))
    with pytest.raises(ConfigError, match=r"--model.loss.init_args.weight: expected 3 numbers.*got \[1.0, 1.0\]"):
        ActionClassifier(StackedFramesCNN(3, num_frames=4, size=12), ("a", "b", "c"), loss=loss)


def test_lazy_layers_are_named_before_training() -> None:
    with pytest.raises(NetworkError, match=r"1 \(LazyLinear\) has no weights before a clip"):
        ActionClassifier(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), ("a", "b"))


def test_what_is_compiled_or_wrapped_is_found_inside() -> None:
    network = nn.Linear(2, 2)
    assert unwrapped(nn.DataParallel(torch.compile(network))) is network  # type: ignore[arg-type]
    assert unwrapped(network) is network


def test_what_memory_or_the_device_says_is_not_taken_for_the_networks_fault() -> None:
    class Ending(nn.Module):
        def forward(self, video: Tensor) -> Tensor:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    model = ActionClassifier(nn.Sequential(nn.Linear(1, 1), Ending()), ("a", "b"))
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        model(torch.zeros(1, 1, 1, 1, 1, dtype=torch.uint8))


class _Broken(nn.Module):
    def __init__(self) -> None:
        raise RuntimeError("my own\nmistake")


def test_what_a_constructor_raises_is_reported_in_one_line() -> None:
    name = f"{__name__}._Broken"
    with pytest.raises(RuntimeError) as raised:
        _Broken()
    told = str(networks.reword_build_error(raised.value, name))
    assert told.startswith(f"--model.network: {name} cannot be built, in {__file__}, line ")
    assert told.endswith("RuntimeError: my own mistake")
    assert networks.reword_build_error(raised.value, "torch.nn.Linear") is None
