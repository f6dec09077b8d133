"""What Lightning's trainer takes and stumbles over later is refused in one line, and a quick try leaves nothing."""

import atexit
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vidact.cli import main
from vidact.core import ConfigError
from vidact.trainer_checks import check_parts, check_seed, why_no_best_epoch


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
    assert main([*args, "--trainer.fast_dev_run", "true"]) == 0
    assert "none, as fast_dev_run keeps nothing" in capsys.readouterr().out
    assert not Path("runs").exists()
    assert list(passing.rglob("confusion_val.png")), "all that a run does was done"
    for do in at_exit:
        do()
    assert not list(passing.glob("vidact-*"))
