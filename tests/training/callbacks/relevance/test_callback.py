import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import untouched
import wandb
from lightning.pytorch import Callback, Trainer, seed_everything
from PIL import Image
from torch import nn
from unexplainable import Twice
from untouched import CLASSES
from wandb_offline import find_offline_runs, read_offline_run

from vidact.attribution.lrp.explainer import LayerwiseRelevance
from vidact.core.errors import ConfigError, ExplanationError
from vidact.data.datamodule import VideoDataModule
from vidact.models.stacked import StackedFramesCNN
from vidact.runs.loggers.metrics_csv import read_rows
from vidact.runs.loggers.wandb import build_loggers, finish_wandb
from vidact.training.callbacks.confusion import ConfusionMatrix
from vidact.training.callbacks.relevance.callback import RelevanceCallback
from vidact.training.callbacks.relevance.findings import TABLE_COLUMNS, explain_clips
from vidact.training.callbacks.step_log import StepLog
from vidact.training.classifier import ActionClassifier

PICTURES = ("overlay", "heatmap", "frame_relevance", "hotspots")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
    pytest.mark.filterwarnings("ignore:Precision bf16-mixed is not supported by the model summary"),
]


def _data(small_set: Path) -> VideoDataModule:
    return VideoDataModule(str(small_set), list(CLASSES), num_frames=8, size=16, batch_size=9, num_workers=0)


def _model() -> ActionClassifier:
    seed_everything(3, verbose=False)
    network = StackedFramesCNN(3, num_frames=8, size=16, head="pooled")
    return ActionClassifier(network, CLASSES)


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


def test_training_is_bit_identical_with_and_without_it(small_set: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(untouched.__file__)), str(small_set), str(tmp_path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(output.splitlines()[-1])
    for name in untouched.TRAININGS:
        assert found[name]["differing"] == []
        assert found[name]["records"] == 8, "two epochs of two steps, three validations and the end"
        assert found[name]["states"] == 5, "the fingerprint sees every step"
        assert list((tmp_path / name).rglob("*.overlay.png"))
        assert len(list((tmp_path / name / "faithfulness").glob("epoch_*.png"))) == 2


@pytest.mark.parametrize(("verb", "precision"), [("validate", "bf16-mixed"), ("test", "32-true")])
def test_it_works_in_validate_and_test_where_inference_mode_reigns(
    small_set: Path, tmp_path: Path, verb: str, precision: str
) -> None:
    trainer = _trainer(tmp_path, [RelevanceCallback(), ConfusionMatrix()], precision=precision)
    getattr(trainer, verb)(_model(), datamodule=_data(small_set), verbose=False)
    folder = tmp_path / "explanations" / verb
    for picture in PICTURES:
        assert len(list(folder.rglob(f"*.predicted.{picture}.png"))) == 3
    for path in folder.rglob("*.png"):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape[1] >= 700, path
        assert pixels.std() > 5, path
    assert len(list(tmp_path.glob("confusion_*.png"))) == 1


def test_wrong_clips_are_explained_for_both_classes(small_set: Path) -> None:
    data, model = _data(small_set), _model()
    data.prepare_data()
    data.setup("validate")
    clips = data.example_clips("validate", 1)
    findings = explain_clips(LayerwiseRelevance(model.network), clips, positions=range(3), device=model.device)
    by_clip = {position: [f for f in findings if f.position == position] for position in range(3)}
    for position, found in by_clip.items():
        label = int(clips.label[position])
        assert found[0].kind == "predicted"
        assert [f.target for f in found] == ([label] if found[0].target == label else [found[0].target, label])
        for finding in found:
            assert finding.relevance_sum == pytest.approx(finding.score, rel=1e-3)
            assert finding.relevance.sum() == pytest.approx(finding.score, rel=1e-3)


# As long as the longest official names of HMDB51, which differ only at their ends; a capital letter, signs.
LONG_NAMES = (
    "Increase_the_length_of_your_steps_by_running_up_stairs__all_about_speed_and_how_to_develop_it_left_f_cm_np1_le_med_",
    "Self_defence_as_taught_in_schools_-_how_to_meet_a_stab_from_the_front_and_from_behind_(part_2)_Left_u_cm_np1_fr_bad_",
    "Someone_waves_to_the_photographers_while_fleeing_the_city_on_a_concert's_day,_&_nobody_follows_left_u_cm_np1_fr_med_",
)


@pytest.fixture(scope="module")
def offline_run(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A run of three epochs on clips of such names, with wandb offline, ended as the command line ends it."""
    folder = tmp_path_factory.mktemp("offline")
    for name in CLASSES:
        for number, path in enumerate(sorted((small_set / "videos" / name).iterdir())):
            target = folder / "set" / name / f"{LONG_NAMES[number % 3]}{number}{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    data = VideoDataModule(
        str(folder / "set"), list(CLASSES), num_frames=8, size=16, batch_size=9, num_workers=0, follow_links=True
    )
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("VIDACT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        loggers = build_loggers(folder / "runs")
        callbacks = [RelevanceCallback(every_n_epochs=2), ConfusionMatrix(), StepLog(chooses_rate=True)]
        trainer = _trainer(folder, callbacks, logger=loggers, max_epochs=3)
        for logger in loggers:
            logger.log_hyperparams({"data": {"root": str(small_set), "size": 16}, "seed_everything": 3})
        trainer.fit(_model(), datamodule=data)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        assert finish_wandb(trainer).startswith("wandb sync ")
        wandb.teardown()
    return folder / "runs" / "version_0", metrics | {"steps": trainer.global_step}


def test_an_offline_wandb_run_holds_config_metrics_images_and_table(
    offline_run: tuple[Path, dict[str, float]],
) -> None:
    folder, metrics = offline_run
    (path,) = find_offline_runs(folder)
    run = read_offline_run(path)
    assert run.finished
    assert run.config["data"]["size"] == 16
    assert run.config["seed_everything"] == 3
    assert len(run.values("val/clip_accuracy")) == 3
    assert run.values("val/clip_accuracy")[-1] == pytest.approx(metrics["val/clip_accuracy"])
    assert run.values("val/loss")[-1] == pytest.approx(metrics["val/loss"])
    epochs = sorted(path.name for path in (folder / "explanations").iterdir())
    assert epochs == ["epoch_001", "epoch_002"], "every second one, and the last"
    logged_pictures = {p.read_bytes() for picture in PICTURES for p in run.images(f"explanation/{picture}")}
    assert logged_pictures == {p.read_bytes() for p in (folder / "explanations").rglob("*.png")}
    for epoch, name in ((0, "epoch_001"), (1, "epoch_002")):
        written = sorted((folder / "explanations" / name).rglob("*.png"))
        for picture in PICTURES:
            logged = run.values(f"explanation/{picture}")[epoch]
            assert logged["count"] == len([p for p in written if p.name.endswith(f".{picture}.png")])
            assert len(logged["captions"]) == logged["count"]
        videos = run.values("explanation/overlay_video")[epoch]
        assert len(videos["videos"]) == len(list((folder / "explanations" / name).rglob("*.overlay.mp4"))) >= 3
        columns, rows = run.table("explanation/clips", epoch)
        assert tuple(columns) == (*TABLE_COLUMNS, "overlay", "overlay video")
        assert len(rows) == 3
        for row in rows:
            assert row[0].split("/")[0] == row[1]
            assert row[5] == pytest.approx(1, abs=1e-3)
    (name,) = [name for name in run.artifacts if "-explanationclips-" in name]
    assert all(path.is_relative_to(folder) and path.is_file() for path in run.artifacts[name])
    kept = {path.read_bytes() for path in run.artifacts[name]}
    predicted = [path.read_bytes() for path in (folder / "explanations" / "epoch_002").rglob("*.predicted.overlay.*")]
    assert len(predicted) == 6
    assert kept >= set(predicted), "the table's pictures and videos"
    charts = {key for row in run.history for key in row if key.startswith(("frame_relevance/", "frame_hotspots/"))}
    assert len(charts) == 6, "two for each clip"
    for key in charts:
        columns, rows = run.table(key, -1)
        assert columns[0] == "frame"
        assert "units of the logit" in columns[1] or "voxels" in columns[1]
        assert len(rows) == 8
        assert len(run.values(key)) == 2, "once in each epoch that was explained, for the slider"
    assert run.images("val/confusion")[0].read_bytes() == (folder / "confusion_val.png").read_bytes()


def test_clips_of_the_longest_official_names_are_logged_with_all_metrics(
    offline_run: tuple[Path, dict[str, float]],
) -> None:
    folder, metrics = offline_run
    (path,) = find_offline_runs(folder)
    run = read_offline_run(path)
    assert [len(run.values(key)) for key in ("val/clip_accuracy", "val/loss", "train/loss_epoch")] == [3, 3, 3]
    steps = int(metrics["steps"])
    assert steps >= 6
    assert (len(run.values("train/loss")), run.values("train/learning_rate")) == (steps, [pytest.approx(1e-3)] * steps)
    charts = {key for row in run.history for key in row if key.startswith(("frame_relevance/", "frame_hotspots/"))}
    assert len(charts) == 6
    assert max(map(len, charts)) <= len("_table") + 64
    assert all(len(run.values(key)) == 2 and len(run.table(key)[1]) == 8 for key in charts)
    clips = {f"{row[0]}" for row in run.table("explanation/clips")[1]}
    assert min(map(len, clips)) > 110, "whole names in cells"
    captions = run.values("explanation/overlay")[-1]["captions"]
    assert all(any(clip in caption for caption in captions) for clip in clips)
    names, rows = read_rows(folder / "metrics.csv")
    assert "train/learning_rate" in names
    assert not [row for row in rows if row["train/loss"] and not row["train/learning_rate"]], "in one row"


def test_an_early_end_is_explained_too(small_set: Path, tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, [RelevanceCallback(every_n_epochs=4)], max_epochs=9, max_steps=1)
    trainer.fit(_model(), datamodule=_data(small_set))
    assert [folder.name for folder in (tmp_path / "explanations").iterdir()] == ["epoch_000"]


def test_relevance_that_does_not_add_up_is_said(small_set: Path, tmp_path: Path) -> None:
    seed_everything(0, verbose=False)
    model = ActionClassifier(Twice(), CLASSES)
    trainer = _trainer(tmp_path, [RelevanceCallback(composite="epsilon_plus")])
    with (
        pytest.warns(
            UserWarning, match=r"do not add up to the whole score, .* between layers, .*: a module .* do not trust it"
        ),
        pytest.warns(UserWarning, match="layer-wise relevance would be wrong for this network"),
    ):
        trainer.validate(model, datamodule=_data(small_set), verbose=False)


class _SeesTheDark(nn.Sequential):
    """All of its score comes from the bias of a layer that nothing in the picture speaks for."""

    def __init__(self) -> None:
        super().__init__(nn.Conv3d(1, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(1, 3))
        with torch.no_grad():
            self[0].weight.fill_(-1.0)
            self[0].bias.fill_(2.0)
            self[4].weight.fill_(1.0)


def test_where_relevance_is_lost_is_said_once(small_set: Path, tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, [RelevanceCallback(every_n_epochs=1)], max_epochs=2)
    with pytest.warns(UserWarning, match="the voxels do not add up to the whole score") as caught:
        trainer.fit(ActionClassifier(_SeesTheDark(), CLASSES), datamodule=_data(small_set))
    (line,) = [str(one.message) for one in caught if "whole score" in str(one.message)]
    assert "0.0 % on voxels, 100.0 % on the bias of 0: where no input of a layer contributes to its output" in line


def test_a_network_that_cannot_be_explained_is_refused_before_it_is_trained(small_set: Path, tmp_path: Path) -> None:
    model = ActionClassifier(Twice(), CLASSES)
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(ExplanationError, match="--relevance.every_n_epochs 0, .*--relevance.method gradient") as caught:
        _trainer(tmp_path, [RelevanceCallback(composite="epsilon_plus")]).fit(model, datamodule=_data(small_set))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("settings", [{"every_n_epochs": 0}, {"method": "gradient"}])
def test_it_is_trained_without_lrp(small_set: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    callback = RelevanceCallback(**settings)
    trainer = _trainer(tmp_path, [callback], max_epochs=1, limit_train_batches=1)
    trainer.fit(ActionClassifier(Twice(), CLASSES), datamodule=_data(small_set))
    assert (tmp_path / "explanations").exists() == ("method" in settings)


@pytest.mark.parametrize("method", ["grad_cam:features.3", "lrp:epsilon_gamma"])
def test_another_method_makes_pictures(small_set: Path, tmp_path: Path, method: str) -> None:
    _trainer(tmp_path, [RelevanceCallback(method=method)]).validate(
        _model(), datamodule=_data(small_set), verbose=False
    )
    for picture in PICTURES:
        assert len(list(tmp_path.rglob(f"*.predicted.{picture}.png"))) == 3


def test_an_explanation_that_fails_does_not_end_training(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ExplanationError("one clip alone does not fit into memory")

    monkeypatch.setattr("vidact.training.callbacks.relevance.callback.explain_clips", fail)
    trainer = _trainer(tmp_path, [RelevanceCallback()], max_epochs=1, limit_train_batches=1)
    with pytest.warns(UserWarning, match="no explanations: one clip alone"):
        trainer.fit(_model(), datamodule=_data(small_set))
    assert trainer.state.finished


def test_the_composite_may_be_a_file_or_a_mapping(small_set: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("rules: [{layer: convolution, rule: gamma, gamma: 0.1}]")
    for composite in (str(path), {"rules": [{"layer": "linear", "rule": "epsilon", "epsilon": 1e-5}]}):
        callback = RelevanceCallback(composite=composite)
        _trainer(tmp_path, [callback]).validate(_model(), datamodule=_data(small_set), verbose=False)
    assert list(tmp_path.rglob("*.overlay.png"))


def test_a_flat_first_layer_that_is_blind_to_time_is_refused_before_training(small_set: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="every frame exactly the same relevance"):
        _trainer(tmp_path, [RelevanceCallback(composite="epsilon_plus_flat")]).fit(
            _model(), datamodule=_data(small_set)
        )


def test_a_sweeps_run_goes_on_as_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_RUN_ID", "sweep123")
    csv, logger = build_loggers(tmp_path)
    monkeypatch.delenv("WANDB_RUN_ID")
    _, later = build_loggers(tmp_path, folder=Path(str(csv.log_dir)))
    assert logger._wandb_init["id"] == later._wandb_init["id"] == "sweep123"  # type: ignore[attr-defined]


def test_two_runs_in_one_folder_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    folders = [Path(build_loggers(tmp_path)[0].log_dir) for _ in range(2)]  # type: ignore[arg-type]
    assert folders[0] != folders[1]
    assert all(folder.is_dir() for folder in folders)


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": 0.0},
        {"every_n_epochs": -1},
        {"clips_per_class": 0},
        {"composite": "x"},
        {"method": "x"},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--relevance|composite 'x'|method 'x'"):
        RelevanceCallback(**settings)
