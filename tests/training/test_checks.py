"""What Lightning's trainer takes and stumbles over later is refused in one line, and a quick try leaves nothing."""

import atexit
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer

from vidact.cli.main import main
from vidact.core.errors import ConfigError
from vidact.training.checks import check_parts, check_run, check_seed, require_launcher, why_no_best_epoch


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (
            {"max_epochs": 3, "check_val_every_n_epoch": 5},
            "check_val_every_n_epoch 5 with --trainer.max_epochs 3: nothing",
        ),
        (
            {"max_epochs": 3, "limit_val_batches": 0.0},
            "--trainer.limit_val_batches 0: nothing is validated, so there will",
        ),
        ({"max_epochs": 3, "check_val_every_n_epoch": 3, "limit_val_batches": None}, None),
        ({"max_epochs": -1, "check_val_every_n_epoch": 5}, None),
        ({"max_epochs": 3, "check_val_every_n_epoch": None, "limit_val_batches": 1}, None),
    ],
)
def test_limits_that_let_no_epoch_be_validated_are_told(limits: dict[str, float | None], said: str | None) -> None:
    told = why_no_best_epoch(limits)
    assert told is None if said is None else said in str(told)


def test_a_seed_that_is_left_to_lightning_is_the_one_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert (check_seed(True), check_seed(False), check_seed(7)) == (0, False, 7)
    assert check_seed(False) is False, "none, not 0"
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    assert check_seed(True) == 5
    monkeypatch.setenv("PL_GLOBAL_SEED", "five")
    with pytest.raises(ConfigError, match="PL_GLOBAL_SEED: expected a whole number from 0 to 4294967295, got 'five'"):
        check_seed(True)


@pytest.mark.parametrize(
    ("trainer", "verb", "said"),
    [
        ({"barebones": True}, "test", "--trainer.barebones true: it forbids the metrics"),
        ({"enable_checkpointing": False}, "fit", "--trainer.enable_checkpointing false: a run keeps last.ckpt"),
    ],
)
def test_parts_that_a_run_has_in_any_case_cannot_be_taken_away(trainer: dict[str, Any], verb: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_parts(trainer, verb=verb)


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ({"precision": "bf16-true"}, "--trainer.precision bf16-true: .* try 32-true, 16-mixed or bf16-mixed"),
        ({"precision": 64}, "--trainer.precision 64: "),
        (
            {"gradient_clip_val": -1.0},
            "--trainer.gradient_clip_val: expected a number above 0, or 0 for none, got -1.0",
        ),
        (
            {"default_root_dir": "s3://bucket/runs"},
            "--trainer.default_root_dir s3://bucket/runs: addresses are refused",
        ),
    ],
)
def test_settings_that_no_run_can_have_are_refused(trainer: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_run(trainer)


@pytest.mark.parametrize("precision", [None, 32, "32-true", "16-mixed", "bf16-mixed"])
def test_settings_that_a_run_can_have_are_taken(precision: object) -> None:
    check_run({"precision": precision, "gradient_clip_val": 0.0, "default_root_dir": "runs"})


@pytest.mark.parametrize(
    ("settings", "environment", "said"),
    [
        ({"devices": 2, "strategy": "ddp_spawn"}, {}, "--trainer.strategy: .* try ddp"),
        ({"num_nodes": 2, "strategy": "ddp"}, {}, "--trainer.num_nodes 2: nothing says where the other machines are"),
        (
            {},
            {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"},
            "torchrun has started 2 processes, and these settings are for 1: give as many --trainer.devices",
        ),
    ],
)
def test_processes_that_would_wait_or_train_apart_are_refused(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], environment: dict[str, str], said: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **{"devices": 1, **settings})
    with pytest.raises(ConfigError, match=said):
        require_launcher(trainer)


def test_processes_that_know_of_each_other_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    usual: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    require_launcher(Trainer(**usual, devices=1))
    require_launcher(Trainer(**usual, devices=2, strategy="ddp"))
    for name, value in {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "NODE_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    require_launcher(Trainer(**usual, devices=1, num_nodes=2, strategy="ddp"))


def test_a_quick_try_goes_on_from_nothing() -> None:
    with pytest.raises(
        ConfigError, match="--trainer.fast_dev_run tries a run from its beginning .* leave out --ckpt_p"
    ):
        check_parts({"fast_dev_run": 2}, verb="fit", goes_on=True)
    check_parts({"fast_dev_run": 2}, verb="test", goes_on=True)


def test_parts_may_be_asked_for_or_left_to_lightning() -> None:
    check_parts({"enable_checkpointing": None, "barebones": False}, verb="fit")
    check_parts({"enable_checkpointing": True}, verb="fit")
    check_parts({"enable_checkpointing": False}, verb="test")  # which writes none


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_quick_try_leaves_nothing(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    passing, at_exit = tmp_path / "passing", list[Callable[[], Any]]()
    passing.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(passing))
    monkeypatch.setattr(atexit, "register", lambda do, *args, **named: at_exit.append(lambda: do(*args, **named)))
    args = ["fit", "--data.root", str(small_set), "--data.num_frames", "4", "--data.size", "16", "--report", "false"]
    args += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    args += ["--data.num_workers", "0"]  # the folder's path may be too long for theirs
    assert main([*args, "--trainer.fast_dev_run", "true"]) == 0
    assert "none, as fast_dev_run keeps nothing" in capsys.readouterr().out
    assert not Path("runs").exists()
    assert list(passing.rglob("confusion_val.png")), "all that a run does was done"
    for do in at_exit:
        do()
    assert not list(passing.glob("vidact-*"))
