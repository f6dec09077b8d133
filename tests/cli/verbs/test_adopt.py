"""A network that was trained elsewhere becomes a run, on which the other verbs work."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import transformers
from torch import nn

import vidact
from vidact.cli.main import main
from vidact.core.errors import NetworkError
from vidact.runs.adopting import Adaptation, ClipsOfNetwork
from vidact.runs.run import open_run

OWN = '''
import torch
import torchvision
import transformers
from torch import nn


class TwoPathways(nn.Module):
    """Takes a slow and a fast clip [B, T, C, H, W], adds and averages without modules, returns a dictionary."""

    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.slow, self.fast = nn.Conv3d(3, width, 3, padding=1), nn.Conv3d(3, width, 3, padding=1)
        self.head = nn.Linear(width, num_classes)

    def forward(self, pathways):
        slow, fast = (one.transpose(1, 2) for one in pathways)
        features = torch.relu(self.slow(slow)).mean((2, 3, 4)) + torch.relu(self.fast(fast)).mean((2, 3, 4))
        return {"features": features, "logits": self.head(features)}


class Square(nn.Module):
    def __init__(self, num_classes: int, size: int = 8) -> None:
        super().__init__()
        self.head = nn.Linear(3 * size * size, num_classes)

    def forward(self, video):
        return self.head(video.mean(2).flatten(1))


class Nan(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, video):
        return video.mean((1, 2, 3, 4))[:, None] + self.bias
'''
CLASSES = ("left", "right", "up")
ADAPTED = ("--layout", "BTCHW", "--pathways", "[4, 1]", "--output", "logits")
NORMALISED = ("--mean", "[0.4, 0.4, 0.5]", "--std", "[0.2, 0.3, 0.2]")
CLIPS = ("--num_frames", "8", "--size", "[16, 16]", "--fps", "15")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_pathways.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_pathways", raising=False)


def _network(width: int = 4) -> nn.Module:
    import own_pathways

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = own_pathways.TwoPathways(3, width)
    return network.eval()


def _adopt(*args: str) -> int:
    return main(["adopt", "own_pathways.TwoPathways", "out", "--weights", "state.pt", "--classes", "labels.txt", *args])


def test_the_run_scores_as_the_network_and_the_other_verbs_work_on_it(
    small_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = _network(width=6)
    # As a training script saves a network that DistributedDataParallel wraps.
    torch.save(
        {"epoch": 7, "model_state": {f"module.{key}": own for key, own in network.state_dict().items()}}, "state.pt"
    )
    assert _adopt(*ADAPTED, *NORMALISED, *CLIPS, "--init", '{"width": 6}', "--root", str(small_set)) == 0
    said = capsys.readouterr().out
    assert said == "out  python -m vidact explain out VIDEO --trust own_pathways\n"

    run = open_run("out", trust=["own_pathways"])
    assert run.class_names == CLASSES
    assert run.frame_rates is not None
    assert run.frame_rates.usual == 15
    video = torch.rand(2, 3, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    seen = (video - torch.tensor([0.4, 0.4, 0.5]).reshape(3, 1, 1, 1)) / torch.tensor([0.2, 0.3, 0.2]).reshape(
        3, 1, 1, 1
    )
    seen = seen.transpose(1, 2)
    expected = network([seen[:, [0, 7]], seen])["logits"]
    torch.testing.assert_close(run.network(video), expected)

    trusting = ("--trust", "own_pathways")
    clip = str(min(small_set.rglob("*.avi")))
    assert main(["explain", "out", clip, *trusting, "--accelerator", "cpu"]) == 0
    (found,) = Path("explanations").glob("*/*.json")
    assert json.loads(found.read_text(encoding="utf-8"))["method"] == "lrp:cp_lrp"
    assert main(["inspect", "out", *trusting]) == 0
    assert "the account closes" in capsys.readouterr().out
    assert main(["accuracy", "out", *trusting, "--accelerator", "cpu"]) == 0
    assert main(["report", "out", *trusting, "--accelerator", "cpu", "--methods", "[lrp]"]) == 0
    assert "own_pathways.TwoPathways, 3 classes; it was trained elsewhere" in Path("report.html").read_text(
        encoding="utf-8"
    )
    assert main(["evaluate", "out", *trusting, "--accelerator", "cpu", "--methods", "[lrp]", "--num_steps", "2"]) == 0
    assert Path("out/evaluation/evaluation.md").is_file()


def test_without_clips_the_verbs_that_need_some_say_so(small_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(_network().state_dict(), "state.pt")
    assert _adopt(*ADAPTED, *CLIPS) == 0
    capsys.readouterr()
    assert main(["evaluate", "out", "--trust", "own_pathways", "--accelerator", "cpu"]) == 2
    assert "out has no clips to measure: evaluate it with --root FOLDER" in capsys.readouterr().err
    options = ("--root", str(small_set), "--num_clips", "3", "--num_steps", "2", "--methods", "[lrp]")
    assert main(["evaluate", "out", "--trust", "own_pathways", "--accelerator", "cpu", *options]) == 0


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--classes", "none.txt"), "--classes none.txt: cannot be read"),
        (("--classes", "twice.txt"), "--classes twice.txt: names up twice; expected a class in each line"),
        (("--weights", "none.pt"), "weights none.pt: no such file"),
        (("--weights", "labels.txt"), "weights labels.txt: not a whole state_dict"),
        (("--weights", "whole.pt"), "it holds Python objects, which could be code"),
        (("--weights", "other.pt"), "other.pt: not the weights of this network: 5 entries are missing, unknown or of"),
        (("--output", "scores"), "the network's output has no part 'scores'; it returns features, logits"),
        (("--pathways", "[4, 0]"), "pathways are numbers of 1 or more, such as [4, 1], got [4, 0]"),
        (("--pathways", "null"), "fails on clips of shape [1, 3, 8, 16, 16]"),
        (("--size", "0"), "expected num_frames, stride, fps and size above 0, got 8, 1, 15"),
        (("--mean", "[110, 110, 110]", "--std", "[60, 60, 60]"), "are of pixels in [0, 1]"),
        (("--root", "nowhere"), "nowhere"),
        (("--classes", "two.txt"), "not the weights of this network: 2 entries"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(
    args: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("twice.txt").write_text("up\nup\n", encoding="utf-8")
    Path("two.txt").write_text("up\nleft\n", encoding="utf-8")
    torch.save(_network().state_dict(), "state.pt")
    torch.save(_network(), "whole.pt")
    torch.save(
        {"head.scale": torch.ones(1), **{f"module.{key}": own for key, own in _network(5).state_dict().items()}},
        "other.pt",
    )
    assert _adopt(*ADAPTED, *CLIPS, *args) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert expected in line
    assert not Path("out").exists()


def test_a_folder_that_is_there_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(_network().state_dict(), "state.pt")
    Path("out").mkdir()
    (Path("out") / "mine.txt").write_text("kept", encoding="utf-8")
    assert _adopt(*ADAPTED, *CLIPS) == 2
    assert "out: is there already; name a new folder" in capsys.readouterr().err
    assert [path.name for path in Path("out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("tensorflow:net", "out"), "expected torchvision:NAME, hf:FOLDER-OR-ID or a class path"),
        (("own_pathways.TwoPathways", "out"), "give --classes, a file with the name of a class in each line"),
        (("own_pathways.TwoPathways", "out", "--classes", "labels.txt"), "give --weights, the file of its state_dict"),
        (("torchvision:r3d_18", "out", "--layout", "BTCHW"), "is adapted by itself: leave out layout"),
        (("own_pathways.None", "out", "--classes", "labels.txt", "--weights", "x"), "own_pathways has no class None"),
    ],
)
def test_what_is_missing_is_said(args: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adopt", *args]) == 2
    assert expected in capsys.readouterr().err


def test_scores_that_are_not_finite_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"bias": torch.full((3,), torch.nan)}, "state.pt")
    args = ("--weights", "state.pt", "--classes", "labels.txt", *CLIPS)
    assert main(["adopt", "own_pathways.Nan", "out", *args]) == 2
    assert "the scores of the network are not finite" in capsys.readouterr().err


def test_a_network_in_memory_is_adopted_in_python(small_set: Path) -> None:
    network = _network().train()
    clips = ClipsOfNetwork(num_frames=8, size=16)
    adaptation = Adaptation(layout="BTCHW", pathways=(4, 1), output="logits")
    run = vidact.adopt(network, CLASSES, clips=clips, adaptation=adaptation)
    why = vidact.explain(run, min(small_set.rglob("*.avi")), target="up")
    assert why.found.method == "lrp:cp_lrp"
    assert why.relevance.shape[1:] == (16, 16)
    assert network.training
    with pytest.raises(NetworkError, match="for 2 classes"):
        vidact.adopt(network, CLASSES[:2], clips=clips, adaptation=adaptation)


def test_defaults_of_a_constructor_that_are_classes_are_left_to_python() -> None:
    """jsonargparse would hand torchvision's patch merging its layer norm twice."""
    from vidact.runs.building import build_network

    settings: dict[str, Any] = {"num_classes": 2, "weights": None}
    network = build_network("torchvision.models.video.swin3d_t", given={}, settings=settings)
    assert type(network).__name__ == "SwinTransformer3d"


def test_torchvisions_weights_in_a_file_are_adopted_with_their_classes(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torchvision.models.video.swin3d_t(num_classes=3).eval()
    torch.save(theirs.state_dict(), "swin.pth")
    args = ("--weights", "swin.pth", "--num_frames", "4", "--size", "32", "--classes")
    assert main(["adopt", "torchvision:swin3d_t", "out", *args, "labels.txt"]) == 0
    Path("swin.pth").unlink()  # the run has the weights
    run = open_run("out")
    assert run.class_names == CLASSES
    assert run.frame_rates is not None
    assert run.frame_rates.usual == 15  # as torchvision's documentation says
    video = torch.rand(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(values).reshape(3, 1, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        torch.testing.assert_close(run.network(video), theirs((video - mean) / std), rtol=1e-4, atol=1e-5)


def test_a_last_layer_of_other_classes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """It would be new, with random weights."""
    torch.save(torchvision.models.video.r3d_18(num_classes=5).state_dict(), "r3d.pth")
    args = ("--weights", "r3d.pth", "--classes", "labels.txt", "--num_frames", "2", "--size", "16")
    assert main(["adopt", "torchvision:r3d_18", "out", *args]) == 2
    assert "its weights have no last layer for 3 classes; give as many --classes as it was" in capsys.readouterr().err
    assert main(["adopt", "torchvision:r3d_18", "out", *args[:2]]) == 2
    assert "its weights do not name its classes; give --classes" in capsys.readouterr().err


def test_a_folder_of_hugging_face_is_adopted_with_its_classes_and_its_clips(
    tmp_path: Path, small_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    own = {"image_size": 32, "num_frames": 4, "patch_size": 16, "id2label": dict(enumerate(CLASSES)), **sizes}
    config = transformers.AutoConfig.for_model("videomae", **own)
    transformers.AutoModelForVideoClassification.from_config(config).save_pretrained(tmp_path / "hub")
    pixels = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "hub" / "preprocessor_config.json").write_text(json.dumps(pixels), encoding="utf-8")
    assert main(["adopt", "hf:hub", "out"]) == 0
    capsys.readouterr()
    (tmp_path / "hub").rename(tmp_path / "gone")
    run = open_run("out")
    assert run.class_names == CLASSES
    assert (run.data_settings["num_frames"], run.data_settings["size"]) == (4, [32, 32])
    assert main(["explain", "out", str(min(small_set.rglob("*.avi"))), "--accelerator", "cpu"]) == 0
    assert main(["adopt", "hf:hub", "other"]) == 2
    assert "source hub: no such folder; expected one with config.json" in capsys.readouterr().err


FAULTY = '''
import torch
from torch import nn
from torch.nn import functional as F


class Faulty(nn.Module):
    """A network with one fault."""

    def __init__(self, num_classes: int, fault: str = "none") -> None:
        super().__init__()
        self.fault, self.conv, self.norm = fault, nn.Conv3d(3, 4, 3), nn.BatchNorm1d(4)
        self.head = nn.Linear(4, num_classes)
        if fault == "random buffer":
            self.register_buffer("scale", torch.rand(4), persistent=False)

    def forward(self, video):
        if self.fault == "in place":
            video.sub_(0.45).div_(0.225)
        features = self.conv(video).relu().mean((2, 3, 4))
        if self.fault == "dropout":
            features = F.dropout(features)
        if self.fault == "random buffer":
            features = features * self.scale
        if self.fault == "training mode":
            self.norm.train()
        scores = self.head(self.norm(features) if self.fault in ("training mode", "none") else features)
        return scores.softmax(1) if self.fault == "softmax" else scores
'''


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("dropout", "the scores of a clip change from call to call, or with the clip beside it; is there dropout"),
        ("training mode", "normalises over the clips of a batch"),
        ("random buffer", "gives other scores when it is built again with the same weights; keep all that it needs in"),
        ("softmax", "the network returns probabilities; let it return logits, without softmax"),
        ("in place", None),
    ],
)
def test_a_network_whose_scores_are_not_the_clips_alone_is_refused(
    fault: str,
    expected: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "own_faulty", raising=False)
    (tmp_path / "own_faulty.py").write_text(FAULTY, encoding="utf-8")
    import own_faulty

    torch.manual_seed(0)
    torch.save(own_faulty.Faulty(3, fault).state_dict(), "state.pt")
    args = ("--weights", "state.pt", "--classes", "labels.txt", *CLIPS, "--init", json.dumps({"fault": fault}))
    assert main(["adopt", "own_faulty.Faulty", "out", *args]) == (2 if expected else 0)
    assert (expected or "") in capsys.readouterr().err
    assert Path("out").exists() == (expected is None)


def test_classes_in_another_order_than_the_weights_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("reversed.txt").write_text("up\nright\nleft\n", encoding="utf-8")
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    own = {"image_size": 32, "num_frames": 4, "patch_size": 16, "id2label": dict(enumerate(CLASSES)), **sizes}
    config = transformers.AutoConfig.for_model("videomae", **own)
    transformers.AutoModelForVideoClassification.from_config(config).save_pretrained("hub")
    assert main(["adopt", "hf:hub", "out", "--classes", "reversed.txt"]) == 2
    assert "--classes names the classes of its weights in another order" in capsys.readouterr().err


def test_a_checkpoint_of_lightning_with_a_loss_that_has_weights_is_read(tmp_path: Path) -> None:
    state = {f"model._orig_mod.{key}": own for key, own in _network().state_dict().items()}
    torch.save({"state_dict": state | {"loss.weight": torch.ones(3)}, "epoch": 1}, "state.pt")
    assert _adopt(*ADAPTED, *CLIPS) == 0
    kept = open_run("out", trust=["own_pathways"]).network.state_dict()
    assert all(torch.equal(kept[f"network.{key}"], own) for key, own in _network().state_dict().items())


@pytest.mark.filterwarnings("ignore")
def test_an_adopted_network_is_tested_as_a_trained_one(small_set: Path) -> None:
    """Its config has settings of `fit` alone."""
    torch.save(_network().state_dict(), "state.pt")
    assert _adopt(*ADAPTED, "--num_frames", "8", "--size", "16", "--root", str(small_set)) == 0
    args = ["--ckpt_path", "out/checkpoints/best.ckpt", "--trust", "own_pathways", "--trainer.accelerator", "cpu"]
    assert main(["test", *args]) == 0


def test_a_network_gets_its_size_as_it_was_given() -> None:
    import own_pathways

    torch.save(own_pathways.Square(3, 16).state_dict(), "square.pt")
    named = ("--weights", "square.pt", "--classes", "labels.txt", "--num_frames", "4", "--size", "16")
    assert main(["adopt", "own_pathways.Square", "square", *named]) == 0
    assert open_run("square", trust=["own_pathways"]).data_settings["size"] == 16
