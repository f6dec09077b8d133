"""While a network trains, one sees whether explanations of it are right, and training goes on as it would."""

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import nn
from unexplainable import Twice
from untouched import CLASSES
from wandb_offline import find_offline_runs, read_offline_run

from vidact.attribution.registry import build_explainer
from vidact.core.clips import ClipBatch, as_float
from vidact.core.errors import ConfigError, ExplanationError
from vidact.data.datamodule import VideoDataModule
from vidact.evaluation.measures.units import TUBE_SIZE, tubes
from vidact.models.stacked import StackedFramesCNN
from vidact.runs.loggers.wandb import build_loggers, finish_wandb
from vidact.training.callbacks.faithfulness.callback import CONTROLS, FaithfulnessCallback, curves_panel, summary
from vidact.training.callbacks.faithfulness.findings import Faithfulness, fill_for, measure_clips, shares_replaced
from vidact.training.classifier import ActionClassifier

METHOD = "lrp:epsilon_plus"
KEYS = {f"val/faithfulness/{method}/abpc" for method in (METHOD, *CONTROLS)}
SHARES = {f"val/faithfulness/{method}/rma" for method in (METHOD, *CONTROLS, "chance")}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
    pytest.mark.filterwarnings("ignore:Precision bf16-mixed is not supported by the model summary"),
]


def _data(small_set: Path, **settings: Any) -> VideoDataModule:
    return VideoDataModule(
        str(small_set), list(CLASSES), num_frames=8, size=16, batch_size=9, num_workers=0, **settings
    )


def _model() -> ActionClassifier:
    seed_everything(3, verbose=False)
    return ActionClassifier(StackedFramesCNN(3, num_frames=8, size=16, head="pooled"), CLASSES)


def _trainer(folder: Path, callbacks: list[Callback], **kwargs: Any) -> Trainer:
    settings: dict[str, Any] = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": False,
        "default_root_dir": folder,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return Trainer(callbacks=callbacks, **(settings | kwargs))


def _clips(data: VideoDataModule) -> ClipBatch:
    data.prepare_data()
    data.setup("validate")
    return data.example_clips("validate", 2)


def _logged(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    return [row for row in rows if any(name.startswith("val/faithfulness/") for name in row)]


def test_a_run_logs_each_measure_of_the_method_and_of_two_controls(small_set: Path, tmp_path: Path) -> None:
    loggers = build_loggers(tmp_path / "runs")
    callback = FaithfulnessCallback(every_n_epochs=2)
    trainer = _trainer(tmp_path, [callback], logger=loggers, max_epochs=3)
    for logger in loggers:
        logger.log_hyperparams({"seed_everything": 3})
    trainer.fit(_model(), datamodule=_data(small_set, masks=True))
    assert finish_wandb(trainer).startswith("wandb sync ")
    wandb.teardown()
    folder = tmp_path / "runs" / "version_0"
    rows = _logged(folder)
    assert [row["epoch"] for row in rows] == [1, 2], "every second epoch, and the last"
    for row in rows:
        assert row.keys() - {"epoch", "step"} == KEYS | SHARES
    drawn = sorted((folder / "faithfulness").glob("*.png"))
    assert [path.name for path in drawn] == ["epoch_001.png", "epoch_002.png"]
    (path,) = find_offline_runs(folder)
    run = read_offline_run(path)
    for key in KEYS:
        assert run.values(key) == pytest.approx([row[key] for row in rows])
    assert {p.read_bytes() for p in run.images("faithfulness/curves")} == {p.read_bytes() for p in drawn}


@pytest.mark.parametrize(("every_n_epochs", "expected"), [(0, []), (10, ["epoch_001.png"])])
def test_it_measures_after_the_last_epoch_or_never(
    small_set: Path, tmp_path: Path, every_n_epochs: int, expected: list[str]
) -> None:
    """Without masks, no share on them is logged."""
    logger, _ = build_loggers(tmp_path / "runs")
    callback = FaithfulnessCallback(every_n_epochs, clips_per_class=1, num_steps=1)
    trainer = _trainer(tmp_path, [callback], limit_train_batches=1, logger=logger)
    trainer.fit(_model(), datamodule=_data(small_set))
    folder = tmp_path / "runs" / "version_0"
    assert [path.name for path in folder.glob("faithfulness/*.png")] == expected
    assert [row.keys() - {"epoch", "step"} for row in _logged(folder)] == [KEYS] * len(expected)


@pytest.mark.parametrize("verb", ["validate", "test"])
def test_outside_of_training_it_does_nothing(small_set: Path, tmp_path: Path, verb: str) -> None:
    trainer = _trainer(tmp_path, [FaithfulnessCallback(every_n_epochs=1)])
    getattr(trainer, verb)(_model(), datamodule=_data(small_set), verbose=False)
    assert not (tmp_path / "faithfulness").exists()


def test_shares_of_clips_make_the_whole(small_set: Path) -> None:
    """Two processes find what one does: a clip's numbers do not depend on the clips beside it."""
    clips, network = _clips(_data(small_set, masks=True)), _model().network
    for method in ("lrp", *CONTROLS):

        def measure(positions: range, method: str = method) -> list[Faithfulness]:
            explainer = build_explainer(method, network)
            return measure_clips(explainer, clips, positions=positions, device=torch.device("cpu"), num_steps=4)

        whole = {one.position: one for one in measure(range(6))}
        parts = {one.position: one for rank in range(2) for one in measure(range(rank, 6, 2))}
        assert whole.keys() == parts.keys() == set(range(6))
        for position, one in whole.items():
            other = parts[position]
            for name in ("abpc", "rma", "chance"):
                assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-4, abs=1e-5, nan_ok=True)


class _Corner(nn.Module):
    """Scores class 0 by how bright a corner is after all frames, and by nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.linear = nn.Flatten(), nn.Linear(8 * 16 * 16, 3)
        weight = torch.zeros(3, 8, 16, 16)
        weight[:, ::2, :10, :10], weight[:, 1::2, :10, :10] = 1.0, -1.0  # what changes there, in two frames of a tube
        self.linear.weight = nn.Parameter(weight.flatten(1))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return self.linear(self.flatten(video))  # type: ignore[no-any-return]


def test_the_area_is_that_of_the_definition(small_set: Path) -> None:
    clips, network = _clips(_data(small_set)), _Corner()
    device = torch.device("cpu")
    found = measure_clips(
        build_explainer("gradient_x_input", network), clips, positions=range(6), device=device, num_steps=100
    )
    video = as_float(clips.video)
    units = tubes((8, 16, 16), size=TUBE_SIZE)
    weight = network.linear.weight[0].reshape(8, 16, 16)
    for one in found:
        clip = video[one.position, 0]
        relevance = [float((weight * clip)[units.number == u].sum().detach()) for u in range(units.count)]
        for order, curve in ((1, one.least_first), (-1, one.most_first)):
            changed, expected = clip.clone(), [sum(relevance)]
            for unit in sorted(range(units.count), key=lambda u, sign=order: (sign * relevance[u], u)):  # type: ignore[misc]
                where = units.number == unit
                mean = clip.masked_fill(~where, 0).reshape(4, 2, 16, 16).mean(dim=1).repeat_interleave(2, dim=0)
                changed = torch.where(where, mean, changed)
                expected.append(float((weight * changed).sum().detach()))
            bias = float(network.linear.bias[0].detach()) if int(clips.label[one.position]) == 0 else None
            if bias is not None:
                assert curve == pytest.approx(np.array(expected) + bias, abs=1e-3)
        assert one.abpc == pytest.approx(float((one.least_first - one.most_first).mean()), abs=1e-6)
        assert math.isnan(one.rma), "no masks were asked for"


def test_tubes_of_a_single_frame_are_blurred() -> None:
    units = tubes((1, 16, 16), size=(1, 10, 10))
    assert fill_for(units) == "blur"
    assert fill_for(tubes((4, 16, 16))) == "temporal_mean"
    assert shares_replaced(units, num_steps=2).tolist() == [0, 0.5, 1]


def _one(method: str, **values: float) -> Faithfulness:
    curve = np.array([2.0, 1.0, 0.0])
    numbers = {"abpc": 1.0, "rma": math.nan, "chance": math.nan} | values
    return Faithfulness(0, method, most_first=curve, least_first=curve + 1, **numbers)


def test_what_is_defined_of_no_clip_is_not_logged() -> None:
    found = [_one("a"), replace(_one("a", abpc=2.0, rma=0.5, chance=0.1), position=1), _one("b", abpc=math.nan)]
    assert summary(found) == {
        "val/faithfulness/a/abpc": 1.5,
        "val/faithfulness/a/rma": 0.5,
        "val/faithfulness/chance/rma": 0.1,
    }


def test_the_random_order_is_drawn_as_a_line_of_its_own(small_set: Path) -> None:
    clips = _clips(_data(small_set))
    panel = curves_panel([_one("a"), _one("motion_energy"), _one("random")], clips, num_steps=2)
    assert [one.method for one in panel.methods] == ["a", "motion_energy"]
    assert panel.random_order is not None
    assert panel.random_order.mean.tolist() == [2.5, 1.5, 0.5]


def test_a_network_that_cannot_be_explained_is_refused_before_it_is_trained(small_set: Path, tmp_path: Path) -> None:
    callback = FaithfulnessCallback(every_n_epochs=1, composite="epsilon_plus")
    with pytest.raises(ExplanationError, match="--faithfulness.every_n_epochs 0, .*--relevance.method gradient"):
        _trainer(tmp_path, [callback]).fit(ActionClassifier(Twice(), CLASSES), datamodule=_data(small_set))


def test_a_measure_that_fails_does_not_end_training(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ExplanationError("relevance of tubes holds values that are not finite")

    monkeypatch.setattr("vidact.training.callbacks.faithfulness.callback.measure_clips", fail)
    trainer = _trainer(tmp_path, [FaithfulnessCallback(every_n_epochs=1)], max_epochs=1, limit_train_batches=1)
    with pytest.warns(UserWarning, match="faithfulness of .* is not measured: relevance of tubes"):
        trainer.fit(_model(), datamodule=_data(small_set))
    assert trainer.state.finished


@pytest.mark.parametrize(
    "settings", [{"every_n_epochs": -1}, {"clips_per_class": 0}, {"num_steps": 0}, {"method": "x"}, {"composite": "x"}]
)
def test_settings_that_make_no_sense_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--faithfulness|composite 'x'|method 'x'"):
        FaithfulnessCallback(**settings)
