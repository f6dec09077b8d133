import re
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from vidact.cli.main import main
from vidact.models.stacked import StackedFramesCNN

OWN = """
import torch
from torch import nn
from torch.nn import functional as F
from vidact.models.layers import Sum

class Explainable(nn.Module):
    def __init__(self, num_classes, channels=1):
        super().__init__()
        self.conv = nn.Conv3d(channels, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.mix = nn.Conv3d(4, 4, 3, padding=1)
        self.sum = Sum()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.head = nn.Linear(4, num_classes)

    def forward(self, video):
        x = self.relu(self.conv(video))
        return self.head(self.pool(self.sum(x, self.mix(x))))

class Unexplainable(Explainable):
    def forward(self, video):
        x = F.relu(self.conv(video))
        return self.head(
            (x + self.mix(x)).mean(dim=(2, 3, 4))
        )

class Exponential(Explainable):
    def forward(self, video):
        x = self.conv(video).exp()
        return self.head(x.flatten(2).prod(dim=2))

class Spare(Explainable):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.spare = nn.Linear(2, 2)

class Hooked(Explainable):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.conv.register_forward_hook(lambda module, inputs, output: output * 2)

class Broken(nn.Module):
    def __init__(self):
        raise ValueError("two\\nlines")

class NotLogits(nn.Module):
    def forward(self, video):
        return video

class NoModule:
    pass

def function():
    pass
"""
SMALL = ("--num_frames", 4, "--size", 8)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of one's own with a network in it."""
    (tmp_path / "own_network.py").write_text(textwrap.dedent(OWN), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    monkeypatch.delitem(sys.modules, "own_network", raising=False)


def _said(capsys: pytest.CaptureFixture[str], *args: object, status: int = 0) -> str:
    assert main(["inspect", *map(str, args)]) == status
    return capsys.readouterr().out


def _error(capsys: pytest.CaptureFixture[str], *args: object, status: int = 2) -> str:
    assert main(["inspect", *map(str, args)]) == status
    found = capsys.readouterr()
    (line,) = found.err.strip().splitlines()
    assert line.startswith("vidact: error: ")
    assert found.out == ""
    return line


def test_an_explainable_network_gives_status_0_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    said = _said(capsys, "own_network.Explainable", *SMALL)
    assert "own_network.Explainable: 573 weights; input [2, 1, 4, 8, 8] (noise)" in said
    assert "explainable: relevance rules can follow every step" in said
    assert "| sum | Sum |" in said
    (found,) = re.findall(r"ΣR / score: ([\d.]+)", said)
    assert float(found) == pytest.approx(1, abs=1e-3)


def test_obstacles_give_status_1_with_their_lines_and_remedies(capsys: pytest.CaptureFixture[str]) -> None:
    said = _said(capsys, "own_network.Unexplainable", *SMALL, "--composite", "epsilon_plus", status=1)
    assert "relevance would be wrong, for 3 reasons:" in said
    assert "try --composite cp_lrp" in said
    text = OWN.splitlines()
    for number, operation, remedy in (
        (text.index("        x = F.relu(self.conv(video))") + 1, "relu", "instead: nn.ReLU"),
        (
            text.index("            (x + self.mix(x)).mean(dim=(2, 3, 4))") + 1,
            "add",
            "instead: vidact.models.layers.Sum",
        ),
        (text.index("            (x + self.mix(x)).mean(dim=(2, 3, 4))") + 1, "mean", "instead: nn.AdaptiveAvgPool3d"),
    ):
        assert f"- Unexplainable: `{operation}` in own_network.py:{number} is no module; {remedy}" in said
    assert "warning: relevance adds up to" in said


def test_functional_code_is_followed_in_gradient_form(capsys: pytest.CaptureFixture[str]) -> None:
    said = _said(capsys, "own_network.Unexplainable", *SMALL)
    assert "rules on modules cannot follow it, for 3 reasons: see --composite epsilon_plus" in said
    assert "explainable: relevance in gradient form can follow every step" in said
    assert re.search(r"the predicted class's score, mean of 2 clips: .* % on voxels, .* % on the bias of ", said)
    assert float(re.findall(r"the account closes: .* by (\S+) of the largest", said)[0]) < 1e-9


def test_what_gradient_form_cannot_follow_is_listed_by_place(capsys: pytest.CaptureFixture[str]) -> None:
    said = _said(capsys, "own_network.Exponential", *SMALL, "--composite", "cp_lrp", status=1)
    line = next(number for number, text in enumerate(OWN.splitlines(), start=1) if ".exp()" in text)
    assert "relevance would be wrong, in 2 places:" in said
    assert f"- Exponential: relevance cannot follow `exp` in own_network.py:{line}; use torch.softmax" in said
    assert f"`prod` in own_network.py:{line + 1}" in said


def test_relevance_that_does_not_add_up_gives_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    """A forward hook doubles a convolution's output."""
    said = _said(capsys, "own_network.Hooked", *SMALL, "--composite", "epsilon_plus", status=1)
    line = next(number for number, text in enumerate(OWN.splitlines(), start=1) if "register_forward_hook" in text)
    assert f"- Hooked: `mul` in own_network.py:{line} is no module" in said
    assert "times the score instead of 1: conv (Conv3d)" in said


def test_a_note_gives_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    said = _said(capsys, "own_network.Spare", *SMALL)
    assert "notes:\n- spare: Linear has weights and is never called" in said


def test_networks_of_vidact_get_their_settings(capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        "--size",
        "[12, 14]",
        "--channels=3",
        "--num-frames",
        4,
        "--init",
        '{"head": "pooled"}',
        "--num_classes=7",
    )
    said = _said(capsys, "vidact.models.stacked.StackedFramesCNN", *options, "--composite=epsilon")
    expected = StackedFramesCNN(7, num_frames=4, channels=3, size=(12, 14), head="pooled")
    num_weights = sum(parameter.numel() for parameter in expected.parameters())
    assert f"{num_weights:,} weights; input [2, 3, 4, 12, 14] (noise)" in said
    assert "- lrp:epsilon, mean of 2 clips" in said
    assert "composites that suit it: epsilon_plus, epsilon, epsilon_alpha2_beta1, epsilon_gamma\n" in said


def test_what_it_says_can_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    first = _said(capsys, "own_network.Explainable", *SMALL)
    torch.rand(1)
    state = torch.get_rng_state()
    assert _said(capsys, "own_network.Explainable", *SMALL) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert _said(capsys, "own_network.Explainable", *SMALL, "--seed", 1) != first


def test_a_checkpoint_brings_its_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = StackedFramesCNN(3, num_frames=4, size=8, head="pooled")
    weights = {f"network.{name}": value for name, value in network.state_dict().items()} | {"other": torch.ones(1)}
    names = {"class_names": ["a", "b", "c"], "network": "vidact.models.stacked.StackedFramesCNN"}
    torch.save({"state_dict": weights, "vidact": names}, tmp_path / "best.ckpt")
    args = ("vidact.models.stacked.StackedFramesCNN", *SMALL, "--init", '{"head": "pooled"}', "--ckpt_path=best.ckpt")
    first = _said(capsys, *args, "--num_classes=3")
    with_other_weights = _said(capsys, *args[:-1], "--num_classes=3")
    assert first.splitlines()[0] == with_other_weights.splitlines()[0]
    assert first != with_other_weights
    line = _error(capsys, *args, "--num_classes=4")
    assert "best.ckpt is of another network (vidact.models.stacked.StackedFramesCNN, 3 classes)" in line
    assert "size mismatch" in line


def test_a_real_clip_is_read(capsys: pytest.CaptureFixture[str], small_set: Path) -> None:
    clip = min((small_set / "videos" / "up").glob("*.avi"))
    said = _said(capsys, "own_network.Explainable", *SMALL, "--video", clip)
    assert f"input [1, 1, 4, 8, 8] ({clip})" in said
    said = _said(capsys, "own_network.Explainable", *SMALL, "--video", clip, "--channels", 3)
    assert "input [1, 3, 4, 8, 8]" in said


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["own_network.Explainablee"], "own_network has no class Explainablee; networks in own_network: Explainable"),
        (
            ["own_network.Explainable", "--size", "[16]"],
            "inspect: --size: expected int | tuple[int, int], got [16]; see",
        ),
        (["no_such_module.Net"], "no_such_module cannot be imported from"),
        (["own_network"], "expected a class path, as my_module.Net"),
        (
            ["own_network.NoModule"],
            "is neither a torch.nn.Module nor a function annotated to return one (-> nn.Module); networks in",
        ),
        (
            ["own_network.function"],
            "is neither a torch.nn.Module nor a function annotated to return one (-> nn.Module); networks in",
        ),
        (["own_network.Broken"], "cannot be built with {}: ValueError: two lines"),
        (["own_network.Explainable", "--init", '{"depth": 3}'], "Option 'depth' is not accepted"),
        (["own_network.Explainable", "--size", "0"], "--size must be at least 1, got 0"),
        (["own_network.Explainable", "--composite", "none"], "composite 'none' is unknown"),
        (["own_network.Explainable", "--ckpt_path", "none.ckpt"], "--ckpt_path none.ckpt: no such file"),
        (["own_network.Explainable", "--ckpt_path", "own_network.py"], "not a whole checkpoint"),
        (["own_network.Explainable", "--video", "none.avi"], "none.avi: "),
        (["own_network.Explainable", "--video", "own_network.py"], "own_network.py: not a video"),
        (
            ["own_network.NotLogits"],
            "returns a tensor of float32 of shape [1, 1, 4, 8, 8] for 1 clips; expected one tensor of logits of",
        ),
        (
            ["torchvision.models.video.S3D", "--channels", "3"],
            "fails on clips of shape [1, 3, 4, 8, 8] (one tensor [B, C, T, H, W] in [0, 1]): RuntimeError",
        ),
        (["vidact.models.stacked.StackedFramesCNN", "--size", "4"], "needs frames of 6 pixels or more"),
        ([], "inspect: "),
    ],
)
def test_a_mistake_gives_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], args: list[str], expected: str
) -> None:
    assert expected in _error(capsys, *args, *(() if "--size" in args else SMALL))
