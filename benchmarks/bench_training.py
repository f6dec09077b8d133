"""How fast networks train: Lightning's loop beside a bare one, the share of explaining, each network, each setting.

Run by `make bench`, not by `make test`. Processor time of all threads of this process, so that what else the machine
does plays little part; on a GPU, time on the clock after waiting for it. Each number is worth something only beside
the others of its run.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.nn.functional import cross_entropy

from vidact.core.clips import as_float
from vidact.data.datamodule import VideoDataModule
from vidact.data.synthetic.clips import SyntheticSettings
from vidact.data.synthetic.files import synthesize
from vidact.models.attention import SpatioTemporalAttention
from vidact.models.fusion import EarlyFusion, LateFusion, SingleFrame, SlowFusion
from vidact.models.pretrained import TorchvisionVideoNet
from vidact.models.recurrent import CNNLSTM
from vidact.models.residual import SlimResNet3D
from vidact.models.stacked import StackedFramesCNN
from vidact.training.callbacks.relevance.callback import RelevanceCallback
from vidact.training.classifier import ActionClassifier

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LEAST_RATE = 0.97  # of the bare loop's
MOST_EXPLAINING = 0.05  # of training with the defaults
RECIPE = "network and size of `hmdb51_slim`, 480 clips twice, every 10 epochs (default)"
REPORT_JOB = (1687, 20, 100)  # datapoints, epochs, batch size of the 2020 report
REPORT_SECONDS = 39 * 60  # that it took there

pytestmark = pytest.mark.filterwarnings("ignore")


def now() -> float:
    """Seconds of work so far."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Print a Markdown table, whatever becomes of the test."""
    rows: list[tuple[str, ...]] = []
    yield lambda *cells: rows.append(tuple(map(str, cells)))
    rows.insert(1, ("---", *["--:"] * (len(rows[0]) - 1)))
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n\n{request.node.function.__doc__}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> VideoDataModule:
    """Clips as the demo has them, decoded into the cache."""
    folder = tmp_path_factory.mktemp("clips") / "set"
    synthesize(folder, settings=SyntheticSettings(num_sources=60, num_frames=20, size=(64, 64)))
    data = VideoDataModule(str(folder), num_frames=16, stride=1, size=48, num_workers=0)
    data.prepare_data()
    data.setup("fit")
    return data


def _slim() -> nn.Module:
    torch.manual_seed(0)
    return SlimResNet3D(8, size=48, widths=(8, 16, 32, 64), differences=True)


class _Clock(Callback):
    """Says how long each epoch's training took, from its first batch to its last."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = now()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs.append(now() - self.start)


def _trainer(callback: Callback, folder: Path, *, epochs: int, **settings: Any) -> Trainer:
    return Trainer(
        callbacks=[callback],
        max_epochs=epochs,
        accelerator=DEVICE.type,
        devices=1,
        logger=CSVLogger(folder),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **settings,
    )


def _with_lightning(data: VideoDataModule, folder: Path, *, epochs: int) -> list[float]:
    clock = _Clock()
    trainer = _trainer(clock, folder, epochs=epochs, limit_val_batches=0, log_every_n_steps=10)
    adam = partial(torch.optim.AdamW, fused=True)
    trainer.fit(ActionClassifier(_slim(), data.class_names, optimizer=adam), datamodule=data)
    return clock.epochs


def _bare(data: VideoDataModule, *, epochs: int) -> list[float]:
    network = _slim().to(DEVICE).train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    loader, taken = data.train_dataloader(), []
    for _ in range(epochs):
        start = now()
        for batch in loader:
            on_device = batch.to(DEVICE)
            loss = cross_entropy(network(as_float(on_device.video)), on_device.label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        taken.append(now() - start)
    return taken


def test_lightnings_loop_beside_a_bare_one(data: VideoDataModule, tmp_path: Path, table: Callable[..., None]) -> None:
    """The demo's network on the same cached batches of 32: an epoch, median of ten by turns."""
    lightning, bare = [], []
    for turn in range(5):
        bare += _bare(data, epochs=3)[1:]
        lightning += _with_lightning(data, tmp_path / str(turn), epochs=3)[1:]
    rate = median(bare) / median(lightning)
    table("", "ms per clip", "rate of the bare loop")
    clips = len(data.train_dataloader().dataset)  # type: ignore[arg-type]
    table("bare PyTorch", f"{1000 * median(bare) / clips:.2f}", "1.000")
    table("Lightning, `ActionClassifier`, CSV logger", f"{1000 * median(lightning) / clips:.2f}", f"{rate:.3f}")
    assert rate >= LEAST_RATE


class _Explaining(RelevanceCallback):
    """Says how long explaining took."""

    seconds = 0.0

    def _explain(self, *args: Any, **settings: Any) -> None:
        start = now()
        super()._explain(*args, **settings)
        self.seconds += now() - start


def _explained_training(
    data: VideoDataModule, network: nn.Module, callback: _Explaining, folder: Path, *, epochs: int
) -> tuple[int, float]:
    """Train; give how often clips were explained, and the seconds of all."""
    trainer = _trainer(callback, folder, epochs=epochs, num_sanity_val_steps=0)
    start = now()
    trainer.fit(ActionClassifier(network, data.class_names), datamodule=data)
    took = now() - start
    return len(list(folder.rglob("explanations/epoch_*"))), took


def test_the_share_of_explaining(data: VideoDataModule, tmp_path: Path, table: Callable[..., None]) -> None:
    """What `RelevanceCallback` takes of a training, one clip of each of 8 classes at a time."""
    folder = tmp_path / "set"
    synthesize(folder, settings=SyntheticSettings(num_sources=100, num_frames=24, size=(64, 64)))
    like_hmdb51 = VideoDataModule(str(folder), num_frames=16, stride=1, size=64, num_windows=2, num_workers=0)
    like_hmdb51.prepare_data()
    like_hmdb51.setup("fit")
    table("", "epochs explained", "seconds each", "share of training")
    torch.manual_seed(0)
    recipe = SlimResNet3D(8, size=64, differences=True, time_stride=2)
    rows = {
        RECIPE: (like_hmdb51, recipe, _Explaining(), 10),
        "the demo's network, 288 clips, every 4 epochs": (data, _slim(), _Explaining(every_n_epochs=4), 10),
    }
    shares = {}
    for number, (title, (clips, network, callback, epochs)) in enumerate(rows.items()):
        count, took = _explained_training(clips, network, callback, tmp_path / str(number), epochs=epochs)
        shares[title] = callback.seconds / took
        table(title, f"{count} of {epochs}", f"{callback.seconds / count:.2f}", f"{shares[title]:.1%}")
    assert shares[RECIPE] <= MOST_EXPLAINING


def _torchvision(name: str) -> Callable[..., nn.Module]:
    return partial(TorchvisionVideoNet, name=name)


# Name: network, its further settings, colour channels.
NETWORKS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any], int]] = {
    "stacked frames, pooled": (StackedFramesCNN, {"head": "pooled"}, 1),
    "stacked frames, dense (the report's)": (StackedFramesCNN, {}, 1),
    "single frame": (SingleFrame, {}, 1),
    "early fusion": (EarlyFusion, {}, 1),
    "late fusion": (LateFusion, {}, 1),
    "slow fusion": (SlowFusion, {}, 1),
    "CNN + LSTM": (CNNLSTM, {}, 1),
    "attention": (SpatioTemporalAttention, {}, 1),
    "slim residual": (SlimResNet3D, {}, 1),
    "slim residual, time stride 2": (SlimResNet3D, {"time_stride": 2}, 1),
    "r3d_18": (_torchvision("r3d_18"), {}, 3),
    "r2plus1d_18": (_torchvision("r2plus1d_18"), {}, 3),
}


def _step_seconds(
    network: nn.Module, video: torch.Tensor, *, bf16: bool = False, fused: bool = True, rounds: int = 3
) -> float:
    """Time one training step, the best of some after a first."""
    network = network.to(DEVICE).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=fused)
    label, taken = torch.zeros(len(video), dtype=torch.int64, device=DEVICE), []
    for _ in range(rounds + 1):
        start = now()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
            loss = cross_entropy(network(as_float(video)), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        taken.append(now() - start)
    return min(taken[1:])


def _clips(count: int, channels: int, side: int) -> torch.Tensor:
    shape = (count, channels, 16, side, side)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(DEVICE)


def test_networks(table: Callable[..., None]) -> None:
    """A training step of 16 frames of 64x64, batches of 16, float32, fused Adam."""
    table("", "parameters", "clips per second", "ms per clip")
    for title, (build, settings, channels) in NETWORKS.items():
        network = build(num_classes=7, num_frames=16, channels=channels, size=64, **settings)
        seconds = _step_seconds(network, _clips(16, channels, 64), rounds=2) / 16
        count = sum(parameter.numel() for parameter in network.parameters())
        table(title, f"{count / 1e6:.2f} M", f"{1 / seconds:.0f}", f"{1000 * seconds:.1f}")


def test_the_reports_network(table: Callable[..., None]) -> None:
    """The 2020 report's job (1,687 clips of 16 x 100 x 100, 20 epochs, batches of 100): a step, and what all take."""
    clips, epochs, batch = REPORT_JOB
    table("", "seconds per step", "the job, minutes", "times the report's 39")
    video = _clips(batch, 1, 100)
    for title, change in REPORT_SETTINGS.items():
        network = StackedFramesCNN(num_classes=8)
        if "channels last" in title:
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    module.to(memory_format=torch.channels_last)
        if "compile" in title:
            network = torch.compile(network)  # type: ignore[assignment]
        seconds = _step_seconds(network, video, **change)
        job = seconds * epochs * clips / batch
        table(title, f"{seconds:.3f}", f"{job / 60:.1f}", f"{job / REPORT_SECONDS:.3f}")


STEP = """
import sys
sys.path.insert(0, {folder!r})
import bench_training
from vidact.cli.memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
network = bench_training.StackedFramesCNN(num_classes=8)
print(bench_training._step_seconds(network, bench_training._clips({batch}, 1, 100), bf16=True))
"""


@pytest.mark.skipif(DEVICE.type == "cuda", reason="torch keeps a GPU's memory itself")
def test_kept_memory(table: Callable[..., None]) -> None:
    """The recipe's step of the report's job, where freed memory goes back to the system, and where it is kept."""
    table("", "seconds per step", "gain")
    seconds = {}
    for title, keep in {"given back (glibc's way)": False, "kept (`python -m vidact`)": True}.items():
        script = STEP.format(folder=str(Path(__file__).parent), keep=keep, batch=REPORT_JOB[2])
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        seconds[title] = float(found.stdout.split()[-1])
        table(title, f"{seconds[title]:.3f}", f"{next(iter(seconds.values())) / seconds[title]:.2f}")


REPORT_SETTINGS: dict[str, dict[str, Any]] = {
    "float32": {"fused": False},
    "float32, fused": {},
    "bf16": {"bf16": True, "fused": False},
    "bf16, fused (the recipe)": {"bf16": True},
    "bf16, fused, channels last": {"bf16": True},
    "bf16, fused, compile": {"bf16": True},
}


def test_compile(table: Callable[..., None]) -> None:
    """`torch.compile`, a training step of 16 clips of 16 frames of 64x64, float32, beside the same without it."""
    table("", "ms per clip", "compiled", "gain", "seconds to compile")
    for title in ("stacked frames, pooled", "slow fusion", "slim residual, time stride 2"):
        build, settings, channels = NETWORKS[title]
        make = partial(build, num_classes=7, num_frames=16, channels=channels, size=64, **settings)
        video = _clips(16, channels, 64)
        plain = _step_seconds(make(), video)
        start = time.perf_counter()
        compiled = _step_seconds(torch.compile(make()), video)  # type: ignore[arg-type]
        took = time.perf_counter() - start
        table(title, f"{62.5 * plain:.1f}", f"{62.5 * compiled:.1f}", f"{plain / compiled:.2f}", f"{took:.0f}")
