"""Settings of the trainer as people have them: each works on a small set, or is one line before training."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from vidact.cli.main import main

TINY = ["--data.num_frames", "4", "--data.size", "16", "--data.batch_size", "4", "--data.num_workers", "0"]
TINY += ["--data.classes", "[left, right]", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
TINY += ["--relevance.every_n_epochs", "0", "--report", "false"]
TINY += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
CALLBACKS, LOGGERS = "lightning.pytorch.callbacks", "lightning.pytorch.loggers"
SCHEDULES = "torch.optim.lr_scheduler"


def _callback(name: str, **settings: object) -> list[str]:
    words = [f"--trainer.callbacks+={CALLBACKS}.{name}"]
    return [*words, *(word for key, value in settings.items() for word in (f"--trainer.callbacks.{key}", str(value)))]


def _schedule(path: str, **settings: object) -> list[str]:
    words = ["--model.lr_scheduler", path]
    return [
        *words,
        *(word for key, value in settings.items() for word in (f"--model.lr_scheduler.init_args.{key}", str(value))),
    ]


@pytest.fixture
def fit(small_set: Path, elsewhere: None, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*args: str) -> tuple[int, str]:
        capsys.readouterr()
        network = [] if "hmdb51_pretrained" in args else ["--model.network.init_args.widths", "[4]"]
        status = main(["fit", "--data.root", str(small_set), *TINY, *network, *args])
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vidact: ")]
        assert len(lines) == (status != 0), lines
        return status, "".join(lines)

    return run


def _checkpoint(run: str = "version_0") -> dict[str, Any]:
    found: dict[str, Any] = torch.load(f"runs/{run}/checkpoints/last.ckpt", weights_only=True)
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "args",
    [
        [
            "--trainer.precision",
            "16-mixed",
            "--trainer.gradient_clip_val",
            "0.5",
            "--model.optimizer.init_args.fused=true",
        ],
        ["--trainer.max_epochs", "2", "--trainer.check_val_every_n_epoch", "2", "--relevance.every_n_epochs", "1"],
        ["--trainer.val_check_interval", "0.5", "--trainer.profiler", "simple", "--trainer.detect_anomaly", "true"],
        ["--trainer.val_check_interval", "99", "--trainer.check_val_every_n_epoch", "null"],
        ["--trainer.overfit_batches", "1", *_callback("Timer", duration="00:01:00:00")],
        ["--trainer.num_sanity_val_steps", "-1", "--trainer.reload_dataloaders_every_n_epochs", "1"],
        [
            *("--trainer.logger", f"{LOGGERS}.CSVLogger", "--trainer.logger.init_args.save_dir", "csv"),
            *("--trainer.max_time", "{minutes: 5}"),
            *(*_callback("TQDMProgressBar"), "--trainer.enable_progress_bar", "true"),
        ],
        [
            *_callback("EarlyStopping", monitor="val/clip_accuracy", mode="max"),
            *_callback("ModelCheckpoint", filename="least_loss", monitor="val/loss"),
            *_schedule("lightning.pytorch.cli.ReduceLROnPlateau", monitor="val/clip_accuracy", mode="max"),
        ],
        _callback("StochasticWeightAveraging", swa_lrs=0.01),
    ],
    ids=" ".join,
)
def test_settings_that_work(args: list[str], fit: Any) -> None:
    assert fit(*args) == (0, "")
    assert _checkpoint()["global_step"] > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (
            ["--trainer.limit_train_batches", "0.01"],
            2,
            "--trainer.limit_train_batches 0.01: less than one of 3 batches; try 1",
        ),
        (["--trainer.max_time", "00:00:00:00"], 2, "--trainer.max_time: expected a time above 0"),
        (["--trainer.max_time", "{minuets: 1}"], 2, "--trainer.max_time: expected a time above 0"),
        (["--trainer.min_epochs", "3"], 2, "--trainer.min_epochs 3: more than --trainer.max_epochs, which is 1"),
        (["--trainer.strategy", "foo"], 2, "--trainer.strategy: "),
        (["--trainer.strategy", "deepspeed"], 3, "--trainer: .*pip install"),
        (["--trainer.gradient_clip_algorithm", "foo"], 2, "--trainer.gradient_clip_algorithm: "),
        (_callback("BackboneFinetuning"), 2, "--trainer.callbacks: BackboneFinetuning: .*frozen_stages"),
        (_callback("BatchSizeFinder"), 2, "--trainer.callbacks: BatchSizeFinder: .* --data.batch_size"),
        (_callback("LearningRateFinder"), 2, "--trainer.callbacks: LearningRateFinder: .* --model.optimizer"),
        (_callback("Timer", duration="abc"), 2, r"--trainer.callbacks: `Timer\(duration='abc'\)` is not .*DD:HH:MM:SS"),
        (
            _callback("EarlyStopping", monitor="val/los"),
            2,
            "EarlyStopping: no metric val/los is logged; nearest: val/loss;",
        ),
        (
            _callback("ModelCheckpoint", monitor="accuracy"),
            2,
            "ModelCheckpoint: no metric accuracy is logged; nearest: val/",
        ),
        (
            _callback("ModelCheckpoint", filename="best"),
            2,
            "ModelCheckpoint: best.ckpt is a file of the run's own; give",
        ),
        (["--trainer.fast_dev_run", "-1"], 2, "--trainer.fast_dev_run: "),
        (_callback("EarlyStopping", monitor="val/loss", mode="mni"), 2, "`mode` can be min, max, got mni"),
        (
            _callback("EarlyStopping", monitor="val/clip_accuracy"),
            2,
            "with mode min would wait for its worst .* mode max",
        ),
        (_schedule(f"{SCHEDULES}.ReduceLROnPlateau", mode="max"), 2, "--model.lr_scheduler: val/loss with mode max"),
        (
            _schedule("lightning.pytorch.cli.ReduceLROnPlateau", monitor="val/lss"),
            *(2, "--model.lr_scheduler: no metric val/lss is logged; nearest: val/loss"),
        ),
        (
            [
                "--trainer.logger",
                f"{LOGGERS}.WandbLogger",
                "--trainer.logger.offline=true",
                "--trainer.logger.log_model=all",
            ],
            *(2, "--trainer.logger: Providing log_model=all and offline=True"),
        ),
        (
            [
                "--trainer.logger",
                f"[{{class_path: {LOGGERS}.CSVLogger, init_args: {{save_dir: a}}}}, {LOGGERS}.MLFlowLogger]",
            ],
            *(
                3,
                "--trainer.logger: Requirement 'mlflow.*pip install -U 'mlflow",
            ),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_settings_that_are_refused_in_one_line_before_training(
    args: list[str], status: int, said: str, fit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, line = fit(*args)
    assert found == status
    assert re.search(said, line), line
    assert not list(Path().glob("runs/*/checkpoints"))


@pytest.mark.filterwarnings("ignore")
def test_a_schedule_per_batch_makes_all_its_steps(fit: Any) -> None:
    assert fit(*_schedule(f"{SCHEDULES}.OneCycleLR", max_lr=0.01), "--trainer.max_epochs", "2") == (0, "")
    checkpoint = _checkpoint()
    (schedule,) = checkpoint["lr_schedulers"]
    assert schedule["last_epoch"] == schedule["total_steps"] == checkpoint["global_step"] == 6
    longer = [*_schedule(f"{SCHEDULES}.OneCycleLR", max_lr=0.01), "--ckpt_path", "last"]
    status, line = fit(*longer, "--trainer.max_epochs", "4")
    assert (status, "OneCycleLR can be resumed only for the 6 steps it began with" in line) == (2, True)


@pytest.mark.filterwarnings("ignore")
def test_a_recipes_schedule_scales_with_the_epochs(fit: Any) -> None:
    """Its warm-up of five epochs, too; what is advised for a schedule that cannot fall is taken."""
    own = ["--config", "hmdb51_slim", "--data.crop_from", "null", "--data.split", "source", "--trainer.precision", "32"]
    assert fit(*own, "--trainer.max_epochs", "1") == (0, "")
    assert _checkpoint()["lr_schedulers"][0]["_last_lr"][0] == pytest.approx(0, abs=1e-12)
    fixed = ["--model.lr_scheduler.init_args.max_epochs", "4", "--trainer.max_epochs", "4"]
    status, line = fit(*own, *fixed)
    assert (status, "got 5 and 4; without max_epochs (null), both fit the training" in line) == (2, True)
    assert fit(*own, *fixed, "--model.lr_scheduler.init_args.max_epochs", "null") == (0, "")
    assert _checkpoint("version_1")["lr_schedulers"][0]["_last_lr"][0] == pytest.approx(0, abs=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_what_is_advised_for_a_backbone_is_taken(fit: Any) -> None:
    network = ["--config", "hmdb51_pretrained", "--model.network.init_args.weights", "null", "--data.crop_from", "null"]
    network += ["--data.split", "source", "--trainer.precision", "32", "--trainer.limit_train_batches", "1"]
    assert fit(*network, "--model.network.init_args.frozen_stages", "4") == (0, "")


@pytest.mark.filterwarnings("ignore")
def test_nothing_is_trained_where_that_is_asked_for(fit: Any) -> None:
    """A schedule as long as that is no error of its own."""
    assert fit("--trainer.limit_train_batches", "0") == (0, "")
    assert fit("--trainer.max_epochs", "0") == (0, "")
