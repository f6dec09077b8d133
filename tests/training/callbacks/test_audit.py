"""While a network trains, one sees what it begins to lean on, and training goes on as it would."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import untouched
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor, nn
from untouched import CLASSES

from vidact.audit.results.first_leans import first_leans
from vidact.core.clips import ClipBatch
from vidact.core.errors import ConfigError, DataError
from vidact.data.datamodule import VideoDataModule
from vidact.models.stacked import StackedFramesCNN
from vidact.runs.loggers.wandb import build_loggers
from vidact.training.callbacks.audit import AskedClips, AuditCallback
from vidact.training.classifier import ActionClassifier

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]


def _data(small_set: Path, **settings: Any) -> VideoDataModule:
    shape: dict[str, Any] = {"num_frames": 8, "size": 16, "batch_size": 9, "num_workers": 0}
    return VideoDataModule(str(small_set), list(CLASSES), **shape, **settings)


def _fit(small_set: Path, folder: Path, callback: AuditCallback, *, max_epochs: int = 3, **settings: Any) -> Trainer:
    seed_everything(3, verbose=False)
    model = ActionClassifier(StackedFramesCNN(3, num_frames=8, size=16, head="pooled"), CLASSES)
    trainer = Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=build_loggers(folder / "runs")[0],
        default_root_dir=folder,
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(model, datamodule=_data(small_set, **settings))
    return trainer


def _logged(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return [row for row in rows if any(name.startswith("val/audit/") for name in row)]


def test_a_run_logs_leans_and_the_drift_of_explanations(small_set: Path, tmp_path: Path) -> None:
    callback = AuditCallback(every_n_epochs=2)
    trainer = _fit(small_set, tmp_path, callback, masks=True)
    first, second = _logged(tmp_path / "runs" / "version_0")
    assert [first["epoch"], second["epoch"]] == [1, 2], "every second epoch, and the last"
    drift = {f"val/audit/drift/{name}" for name in ("initial", "previous", "rma")}
    leans = {f"val/audit/{name}/lean" for name in ("background", "time.order", "time.when")}
    assert drift <= first.keys() & second.keys()
    assert first.keys() | second.keys() <= drift | leans | {"epoch", "step"}, "too few sources for an interval"
    assert first["val/audit/drift/initial"] == first["val/audit/drift/previous"] > 0
    assert second["val/audit/drift/initial"] != second["val/audit/drift/previous"] > 0
    restored = AuditCallback(every_n_epochs=2)
    restored.load_state_dict(callback.state_dict())
    module, clips = trainer.lightning_module, callback.example_clips(trainer)
    again = restored._drift(trainer, module, clips)
    assert again["val/audit/drift/previous"] == pytest.approx(0, abs=1e-6), "the weights are those of the end"
    assert again["val/audit/drift/initial"] == pytest.approx(second["val/audit/drift/initial"])
    sources = list(zip(clips.label.tolist(), clips.source, strict=True))
    assert len(sources) == len(set(sources)), "clips of a class are of different sources"


def test_it_is_off_by_default(small_set: Path, tmp_path: Path) -> None:
    _fit(small_set, tmp_path, AuditCallback(), max_epochs=1)
    assert not _logged(tmp_path / "runs" / "version_0")


def test_training_is_bit_identical_with_and_without_it(small_set: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(untouched.__file__)), str(small_set), str(tmp_path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for found in json.loads(output.splitlines()[-1]).values():
        assert found["differing"] == []
        assert found["maps"] == ["initial", "previous"]


class _Brightness(nn.Module):
    """Tells three classes by how bright a part of the first frame is, and by nothing else."""

    def __init__(self, place: slice) -> None:
        super().__init__()
        self.place = place

    def forward(self, video: Tensor) -> Tensor:
        level = video[:, 0, 0, self.place, self.place].mean(dim=(1, 2))
        return -1e3 * (level[:, None] - torch.tensor([0.2, 0.5, 0.8])).square()


def _batch() -> ClipBatch:
    """Four clips of each class, whose actor (the middle) and background are as bright as the class says."""
    label = torch.arange(3).repeat_interleave(4)
    level = torch.tensor([51, 127, 204], dtype=torch.uint8)[label]
    mask = torch.zeros(12, 4, 16, 16, dtype=torch.bool)
    mask[:, :, 5:11, 5:11] = True
    return ClipBatch(
        video=level[:, None, None, None, None].expand(12, 1, 4, 16, 16).contiguous(),
        label=label,
        clip_id=tuple(map(str, range(12))),
        clip_index=torch.arange(12),
        window_index=torch.arange(12),
        frame_numbers=torch.arange(4).expand(12, 4),
        times_seconds=torch.arange(4.0).expand(12, 4),
        mask=mask,
        source=tuple(f"film {number}" for number in range(12)),
    )


@pytest.mark.parametrize(("place", "lean"), [(slice(0, 2), 1.0), (slice(7, 9), 0.0)], ids=["background", "actor"])
def test_a_network_that_looks_at_one_place_leans_on_that_alone(place: slice, lean: float) -> None:
    asked = AskedClips(_batch(), ["background", "time"], donors=2)
    network = _Brightness(place).eval()
    records = [asked.ask(network, number, device=torch.device("cpu")) for number in range(12)]
    found = asked.leans(records)
    assert found["val/audit/background/lean"] == pytest.approx(lean)
    assert found["val/audit/background/low"] <= lean <= found["val/audit/background/high"], "there are twelve sources"
    assert found["val/audit/time.order/lean"] == 0, "all frames are alike"


def test_the_first_epoch_above_the_margin_is_named(tmp_path: Path) -> None:
    rows = ["0,0.02,,1", "4,0.31,0.05,", "9,0.05,0.12,", "14,0.4,0.5,"]
    header = "epoch,val/audit/background/lean,val/audit/time.order/lean,val/audit/drift/rma"
    (tmp_path / "metrics.csv").write_text("\n".join([header, *rows]))
    assert [one.sentence() for one in first_leans(tmp_path)] == [
        "lean on the background passed 0.10 in epoch 4",
        "lean on the order of frames passed 0.10 in epoch 9",
    ]
    assert first_leans(tmp_path, margin=0.5) == ()
    assert first_leans(tmp_path / "nowhere") == ()
    (tmp_path / "metrics.csv").write_text(f"{header}\n1,x,,\n")
    with pytest.raises(DataError, match="a table of numbers"):
        first_leans(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"every_n_epochs": -1},
        {"clips_per_class": 1},
        {"donors": 0},
        {"sections": ("backgrund",)},
        {"sections": ("tags",)},
    ],
)
def test_settings_that_make_no_sense_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--audit"):
        AuditCallback(**settings)
