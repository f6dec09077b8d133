"""What wandb is given, and that one thing it does not take costs that one alone: offline runs that are read back."""

from pathlib import Path
from typing import Any
from unittest.mock import NonCallableMock

import numpy as np
import pytest
import wandb
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger
from PIL import Image
from wandb_offline import OfflineRun, find_offline_runs, read_offline_run

from vidact.runs.loggers.guard import Guard
from vidact.runs.loggers.media import BarChart, log_bars, log_files, log_pictures, log_table
from vidact.runs.loggers.wandb import GuardedWandbLogger, build_loggers, build_wandb_logger, guard_of
from vidact.runs.loggers.wandb_names import media_key


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def _trainer(logger: Any) -> Trainer:
    trainer: Trainer = NonCallableMock(Trainer, loggers=[logger])
    return trainer


def _read(folder: Path) -> OfflineRun:
    wandb.teardown()
    (path,) = find_offline_runs(folder)
    return read_offline_run(path)


def _logger(folder: Path) -> GuardedWandbLogger:
    _, logger = build_loggers(folder)
    assert isinstance(logger, GuardedWandbLogger)
    return logger


CHART = BarChart("title", "frame", "relevance", [("a", 1.0)])
TOO_LONG = f"frames/{'x' * 200}"


@pytest.fixture
def _uncut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let wandb see the keys as they are, as if it refused more than we know of."""
    monkeypatch.setattr("vidact.runs.loggers.wandb.media_key", lambda key, run_id: key)


@pytest.mark.usefixtures("_uncut")
def test_one_chart_picture_or_table_that_fails_costs_that_one_and_is_said_once(tmp_path: Path, picture: Path) -> None:
    logger = _logger(tmp_path / "runs")
    trainer = _trainer(logger)

    def log(step: int) -> None:
        logger.log_metrics({"val/loss": 0.5 + step}, step=step)
        log_bars(trainer, {TOO_LONG: CHART, "frames/good": CHART, f"{TOO_LONG}y": CHART})
        log_pictures(trainer, "overlay", [tmp_path / "gone.png", picture], ["gone", "here"])
        log_table(trainer, "broken", ["a"], [[1, 2]])
        log_table(trainer, "clips", ["clip", "overlay"], [["x", tmp_path / "gone.png"], ["y", picture]])
        log_files(trainer, {"gone": tmp_path / "gone.html"}, name="gone", kind="report")
        log_files(trainer, {"here": picture}, name="Here it is", kind="report")
        logger.log_metrics({"val/loss": 1.5 + step}, step=step)

    with pytest.warns(UserWarning, match="wandb does not take") as caught:
        list(map(log, range(2)))
    kinds = [str(one.message).removeprefix("wandb does not take ").partition(":")[0] for one in caught]
    assert kinds == [f"a chart {TOO_LONG!r}", "a picture 'gone.png'", "a table 'broken'", "files 'gone'"]
    logger.finish()
    run = _read(tmp_path)
    assert run.values("val/loss") == [0.5, 1.5, 1.5, 2.5]
    assert run.table("frames/good_table") == (["frame", "relevance"], [["a", 1.0]])
    assert len(run.values("frames/good_table")) == 2
    assert [one["captions"] for one in run.values("overlay")] == [["here"], ["here"]]
    _, rows = run.table("clips")
    assert [row[0] for row in rows] == ["x", "y"]
    assert rows[0][1] is None
    assert any(name.startswith("Here_it_is-") for name in run.artifacts)


def test_of_numbers_and_things_together_only_what_fails_is_missing() -> None:
    taken: list[dict[str, Any]] = []

    def action(part: Any) -> None:
        if "bad" in part:
            raise ValueError("no\nsecond line")
        taken.append(part)

    guard = Guard()
    with pytest.warns(UserWarning, match=r"does not take a value 'bad': .* \(ValueError: no\)"):
        guard.attempt_all("a value", {"x": 1, "bad": 2, "y": 3}, action)
    guard.attempt_all("a value", {"bad": 2}, action)  # not said again: warnings are errors
    assert taken == [{"x": 1}, {"y": 3}]


class MailboxClosedError(Exception):
    """As wandb names what it raises when its process is gone."""


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), MailboxClosedError()])
def test_a_connection_that_fails_is_not_tried_again(error: Exception) -> None:
    left: list[int] = []

    def fail() -> None:
        raise error

    guard = Guard(lambda: left.append(1))
    with pytest.warns(UserWarning, match="wandb failed, and the run goes on without it") as caught:
        guard.attempt("a chart", fail)
    guard.attempt("a table", fail)
    guard.attempt_all("a value", {"x": 1, "y": 2}, lambda _: fail())
    assert (len(caught), left, guard.is_gone) == (1, [1], True)


def test_a_logger_of_the_users_own_is_guarded_and_gets_short_keys_too(tmp_path: Path) -> None:
    logger = WandbLogger(save_dir=tmp_path, mode="offline")
    with pytest.warns(UserWarning, match=r"wandb does not take a picture 'gone\.png'"):
        log_pictures(_trainer(logger), "overlay", [tmp_path / "gone.png"], ["gone"])
    log_bars(_trainer(logger), {TOO_LONG: CHART})
    assert not guard_of(logger).is_gone
    logger.experiment.finish()
    assert _read(tmp_path).values(f"{media_key(TOO_LONG)}_table")


def test_more_pictures_than_wandb_shows_are_logged_in_parts(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: dict[str, int] = {}

    def log(self: WandbLogger, metrics: dict[str, list[Any]]) -> None:
        logged.update({key: len(own) for key, own in metrics.items()})

    monkeypatch.setattr(WandbLogger, "log_metrics", log)
    logger = WandbLogger(save_dir=tmp_path, mode="offline")
    log_pictures(_trainer(logger), "overlay", [picture] * 230, ["x"] * 230)
    assert logged == {"overlay": 108, "overlay_2": 108, "overlay_3": 14}
    logger.experiment.finish()


def test_a_run_is_shown_by_the_name_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        logger = _logger(tmp_path)
    assert logger.experiment.name == "version_1"
    logger.finish()
    evaluation = build_wandb_logger(tmp_path / "version_1" / "evaluation")
    assert evaluation is not None
    assert evaluation._wandb_init["name"] == "version_1/evaluation"
    monkeypatch.setenv("WANDB_NAME", "mine")
    assert _logger(tmp_path)._wandb_init["name"] == "mine"
