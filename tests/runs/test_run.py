import contextlib
import shutil
from pathlib import Path

import pytest
import torch
import torchvision
import wandb
import yaml

from vidact.cli.main import main
from vidact.core.errors import CheckpointError, ConfigError, DataError
from vidact.data.video.timeline import FrameRates
from vidact.models.pretrained import TorchvisionVideoNet
from vidact.models.residual import SlimResNet3D
from vidact.runs.run import open_run, warn_of_other_rates
from vidact.training.classifier import ActionClassifier


def test_a_run_folder_gives_the_network_as_it_was_trained(small_run: Path) -> None:
    run = open_run(small_run)
    content = torch.load(small_run / "checkpoints" / "best.ckpt", weights_only=True)
    weights = {f"network.{name}": value for name, value in run.network.state_dict().items()}
    assert weights.keys() == {name for name in content["state_dict"] if name.startswith("network.")}
    assert all(torch.equal(value, content["state_dict"][name]) for name, value in weights.items())
    assert isinstance(run.network, SlimResNet3D)
    assert not run.network.training
    assert run.class_names == ("left", "right", "up")
    assert run.name == small_run.name
    assert run.build_data().class_names == run.class_names


def test_a_checkpoint_alone_says_everything(small_run: Path, tmp_path: Path) -> None:
    path = shutil.copy(small_run / "checkpoints" / "best.ckpt", tmp_path / "sent.ckpt")
    run = open_run(path)
    assert (run.name, run.folder) == ("sent", None)
    video = torch.rand(2, 1, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(run.network(video), open_run(small_run).network(video))
    assert run.frame_rates == FrameRates(30.0, 30.0, 30.0)


def test_a_run_that_kept_no_frame_rates_is_opened_without(small_run: Path, tmp_path: Path) -> None:
    """As those of earlier versions are; where their config names a rate, that is it."""
    content = torch.load(small_run / "checkpoints" / "best.ckpt", weights_only=True)
    del content["VideoDataModule"]
    torch.save(content, tmp_path / "old.ckpt")
    assert open_run(tmp_path / "old.ckpt").frame_rates is None
    config = yaml.safe_load(content["vidact_config"])
    config["data"]["fps"] = 15
    torch.save(content | {"vidact_config": yaml.safe_dump(config)}, tmp_path / "named.ckpt")
    assert open_run(tmp_path / "named.ckpt").frame_rates == FrameRates(15.0, 15.0, 15.0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_opens_and_is_measured_where_the_weights_that_it_began_with_are_gone(
    small_run: Path, small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "r3d.pth"
    torch.save(torchvision.models.video.r3d_18(num_classes=3).state_dict(), begun)
    network = TorchvisionVideoNet(3, num_frames=8, channels=1, size=16, weights=str(begun)).eval()
    data = yaml.safe_load((small_run / "config.yaml").read_text(encoding="utf-8"))["data"]
    named = {"class_path": "vidact.models.pretrained.TorchvisionVideoNet", "init_args": {"weights": str(begun)}}
    model = ActionClassifier(network, class_names=["left", "right", "up"])
    model.run_config = yaml.safe_dump({"data": data, "model": {"network": named}})
    content = {"pytorch-lightning_version": "2.6.6", "state_dict": model.state_dict()}
    model.on_save_checkpoint(content)
    torch.save(content, tmp_path / "sent.ckpt")
    begun.unlink()
    video = torch.rand(2, 1, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(open_run(tmp_path / "sent.ckpt").network(video), network(video))
    monkeypatch.chdir(tmp_path)
    settings = ["--data.root", str(small_set), "--data.classes", "[left, right, up]", "--data.num_frames", "8"]
    settings += ["--data.size", "16", "--model.network", named["class_path"], "--trainer.accelerator", "cpu"]
    settings += ["--model.network.init_args.weights", str(begun), "--relevance.every_n_epochs", "0"]
    assert main(["test", *settings, "--ckpt_path", "sent.ckpt"]) == 0
    wandb.finish()


def test_the_last_checkpoint_serves_where_there_is_no_best_one(small_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    (run / "checkpoints" / "best.ckpt").unlink()
    assert open_run(run).checkpoint.name == "last.ckpt"


def test_what_is_no_run_is_told_in_one_line(small_run: Path, tmp_path: Path) -> None:
    cases = {
        "no such run folder or checkpoint": tmp_path / "none",
        "addresses are refused": "https://example.org/best.ckpt",
        "expected checkpoints/best.ckpt or last.ckpt in it, found none; there are runs in it": small_run.parent,
    }
    for message, path in cases.items():
        with pytest.raises(CheckpointError, match=message):
            open_run(path)


def test_a_damaged_checkpoint_is_told_in_one_line(small_run: Path, tmp_path: Path) -> None:
    whole = (small_run / "checkpoints" / "best.ckpt").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content in (b"", whole[: len(whole) // 2], bytes(flipped), b"text"):
        (path := tmp_path / "bad.ckpt").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"bad\.ckpt: (not a whole checkpoint|the part .* is damaged)"):
            open_run(path)


def _with_config(small_run: Path, tmp_path: Path, text: str) -> Path:
    content = torch.load(small_run / "checkpoints" / "best.ckpt", weights_only=True)
    torch.save(content | {"vidact_config": text}, path := tmp_path / "other.ckpt")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_path": "vidact.models.stacked.None_", "init_args": {}}, r"stacked has no class None_"),
        (
            {"class_path": "vidact.models.stacked.StackedFramesCNN", "init_args": {"hed": "pooled"}},
            "'hed' is not accepted",
        ),
        ({"class_path": "vidact.models.fusion.SlowFusion", "init_args": {}}, "frames of|other network"),
        (None, "expected class_path and init_args"),
    ],
)
def test_a_config_that_cannot_be_built_is_told(
    small_run: Path, tmp_path: Path, change: dict[str, object] | None, message: str
) -> None:
    config = yaml.safe_load((small_run / "config.yaml").read_text())
    config["model"]["network"] = change
    with pytest.raises((ConfigError, CheckpointError), match=message):
        open_run(_with_config(small_run, tmp_path, yaml.safe_dump(config)))


def test_a_config_without_what_the_network_needs_is_told(small_run: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((small_run / "config.yaml").read_text())
    del config["data"]["size"], config["data"]["gray"]
    with pytest.raises(ConfigError, match=r"other\.ckpt: its config lacks data\.size, data\.gray; expected all"):
        open_run(_with_config(small_run, tmp_path, yaml.safe_dump(config)))


def test_a_config_that_is_no_text_is_told(small_run: Path, tmp_path: Path) -> None:
    path = _with_config(small_run, tmp_path, "")
    path.with_name("config.yaml").write_bytes(b"data: \xff")
    with pytest.raises(ConfigError, match=r"config\.yaml: cannot be read \(.*0xff"):
        open_run(path)


def test_a_network_without_annotations_is_built_as_fit_builds_it(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "untyped_net.py").write_text(
        "from vidact.models.residual import SlimResNet3D\n"
        "class Net(SlimResNet3D):\n"
        "    def __init__(self, num_classes, num_frames, size, channels, widths=(8, 16, 32, 64)):\n"
        "        super().__init__(num_classes, num_frames=num_frames, size=size, channels=channels, widths=widths)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = yaml.safe_load((small_run / "config.yaml").read_text())
    config["model"]["network"] = {"class_path": "untyped_net.Net", "init_args": {}}
    path = _with_config(small_run, tmp_path, yaml.safe_dump(config))
    assert type(open_run(path, trust=["untyped_net"]).network).__name__ == "Net"


@pytest.mark.parametrize("rate", ["fast", 0.0, float("nan"), float("inf")])
def test_frame_rates_that_are_none_are_told(small_run: Path, tmp_path: Path, rate: object) -> None:
    content = torch.load(small_run / "checkpoints" / "best.ckpt", weights_only=True)
    content["VideoDataModule"] = {"frame_rates": {"lowest": 30.0, "usual": rate, "highest": 30.0}}
    torch.save(content, path := tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"frame rates are .*; expected three numbers above 0"):
        open_run(path)


def test_data_that_is_gone_is_told_when_it_is_wanted(small_run: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((small_run / "config.yaml").read_text())
    config["data"]["root"] = str(tmp_path / "moved")
    run = open_run(_with_config(small_run, tmp_path, yaml.safe_dump(config)))
    with pytest.raises(DataError, match="moved"):
        run.build_data()


@pytest.mark.parametrize(("now", "told"), [(30.0, ""), (29.0, ""), (60.0, "trained on clips of 30 .* these have 60")])
def test_clips_of_other_rates_are_told_before_they_are_measured(now: float, told: str) -> None:
    content = {"VideoDataModule": {"frame_rates": {"lowest": 30.0, "usual": 30.0, "highest": 30.0}}}
    with pytest.warns(UserWarning, match=told) if told else contextlib.nullcontext():
        warn_of_other_rates(content, FrameRates(now, now, now))
    warn_of_other_rates(content, None)
    warn_of_other_rates({}, FrameRates(now, now, now))
