"""Runs that are killed go on as if nothing had happened: the same weights to the last bit, no sample lost or twice."""

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import killed_training
import pytest
import torch
import yaml

from vidact.cli import main
from vidact.core import ConfigError
from vidact.resuming import check_same_training, resumed_folder

EPOCHS = 3
# Dropout, mixing, augmentation and the mean of the weights: everything that draws or remembers.
SETTINGS = [
    *("--data.num_frames", "8", "--data.size", "16", "--data.batch_size", "7", "--data.classes", "[left, right, up]"),
    *("--trainer.max_epochs", str(EPOCHS), "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
    *("--relevance.every_n_epochs", "2", "--report", "false", "--model.mixup_alpha", "0.3"),
    *("--data.augmentation.temporal_jitter", "1", "--trainer.callbacks+=vidact.callbacks.averaging.MeanWeights"),
]
STATE = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "epoch")
GO_ON = ["--ckpt_path", "last"]

Attempt = tuple[list[str], str | None, int, str]


def _command(small_set: Path, *, workers: int) -> list[str]:
    # With workers, clips are decoded anew: what is cached needs none.
    cache = "0" if workers else "20"
    data = ["--data.root", str(small_set), "--data.num_workers", str(workers), "--data.cache_gigabytes", cache]
    return ["fit", *data, *SETTINGS]


def _train(folder: Path, attempts: list[Attempt], **environment: str) -> list[int]:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, killed_training.__file__, json.dumps(attempts)]
    settings = os.environ | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"} | environment
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=settings)
    assert found.returncode == 0, found.stderr[-3000:]
    (folder / "output.txt").write_text(found.stdout + found.stderr)
    return [int(line.split()[1]) for line in found.stdout.splitlines() if line.startswith("ended ")]


def _differing(one: Any, other: Any, name: str = "") -> list[str]:
    """Name the values that are not bit-identical."""
    if isinstance(one, torch.Tensor):
        return [] if isinstance(other, torch.Tensor) and torch.equal(one, other) else [name]
    if isinstance(one, dict):
        assert one.keys() == other.keys(), name
        return [found for key in one for found in _differing(one[key], other[key], f"{name}/{key}")]
    if isinstance(one, list | tuple):
        assert len(one) == len(other), name
        return [
            found
            for key, pair in enumerate(zip(one, other, strict=True))
            for found in _differing(*pair, f"{name}/{key}")
        ]
    return [] if one == other else [name]


def _last(folder: Path) -> dict[str, Any]:
    (version,) = (folder / "runs").iterdir()
    content = torch.load(version / "checkpoints/last.ckpt", weights_only=True)
    return {key: content[key] for key in STATE}


def _seen(folder: Path) -> list[list[Any]]:
    return [json.loads(line) for line in (folder / "seen.jsonl").read_text().splitlines()]


def _metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "runs/version_0/metrics.csv").open() as file:
        return [{key: row[key] for key in sorted(row)} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def undisturbed(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    cache = str(tmp_path_factory.getbasetemp() / "cache")
    assert _train(folder, [(_command(small_set, workers=0), None, 0, "SIGKILL")], VIDACT_CACHE=cache) == [0]
    return folder


def _check_same(found: Path, undisturbed: Path) -> None:
    assert _differing(_last(undisturbed), _last(found)) == []
    expected = {(epoch, step): rest for epoch, step, *rest in _seen(undisturbed)}
    seen = _seen(found)
    for epoch, step, *rest in seen:
        assert rest == expected[epoch, step], "another batch than in the run that nobody disturbed"
    assert {(epoch, step) for epoch, step, *_ in seen} == set(expected)


# Twenty kills, in four runs of five: where, and at which call of it after the run went on.
KILLS = random.Random(7).choices(list(killed_training.MOMENTS), k=20)
COUNTS = random.Random(8).choices([1, 2, 3, 4], k=20)


@pytest.mark.parametrize("part", range(4))
def test_a_run_that_is_killed_five_times_ends_as_one_that_was_not(
    small_set: Path, tmp_path: Path, undisturbed: Path, part: int
) -> None:
    workers = 2 if part % 2 else 0
    command = _command(small_set, workers=workers)
    kills = list(zip(KILLS, COUNTS, strict=True))[5 * part : 5 * part + 5]
    attempts: list[Attempt] = [
        (command if number == 0 else command + GO_ON, moment, count, "SIGKILL")
        for number, (moment, count) in enumerate([("step", 2), *kills])
    ]
    ended = _train(tmp_path, [*attempts, (command + GO_ON, None, 0, "SIGKILL")])
    assert ended[0] == -9
    assert ended.count(-9) >= 3, "kills that strike after the end of training are none"
    assert ended[-1] == 0
    _check_same(tmp_path, undisturbed)
    assert not list(tmp_path.rglob(".last.ckpt-*")), "what a killed process left half written is gone"
    keys = {"epoch", "step", "val/clip_accuracy", "val/loss"}
    rows = [
        [{key: row[key] for key in keys} for row in _metrics(folder) if row["val/loss"]]
        for folder in (tmp_path, undisturbed)
    ]
    assert rows[0] == rows[1], "each epoch is in metrics.csv once"


def test_sigterm_saves_within_an_epoch_and_says_143(small_set: Path, tmp_path: Path, undisturbed: Path) -> None:
    command = _command(small_set, workers=0)
    ended = _train(tmp_path, [(command, "step", 5, "SIGTERM"), (command + GO_ON, None, 0, "SIGTERM")])
    assert ended == [143, 0]
    _check_same(tmp_path, undisturbed)
    steps = [tuple(row[:2]) for row in _seen(tmp_path)]
    assert len(steps) == len(set(steps)), "nothing is trained on twice"
    assert "stopped by SIGTERM; fit goes on from last.ckpt" in (tmp_path / "output.txt").read_text()


def test_the_real_command_goes_on_with_the_same_wandb_run(small_set: Path, tmp_path: Path, undisturbed: Path) -> None:
    from wandb_offline import find_offline_runs, read_offline_run

    command = _command(small_set, workers=0)
    assert _train(tmp_path, [(command, "validation", 2, "SIGKILL")], WANDB_MODE="offline") == [-9]
    shell = [sys.executable, "-m", "vidact", *command, *GO_ON]
    settings = os.environ | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    found = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, env=settings)
    assert found.returncode == 0, found.stderr[-3000:]
    assert _differing(_last(undisturbed), _last(tmp_path)) == []
    first, second = find_offline_runs(tmp_path / "runs/version_0")
    assert first.name.split("-")[-1] == second.name.split("-")[-1] == f"{_wandb_id(tmp_path)}"
    assert len(read_offline_run(second).values("val/clip_accuracy")) == EPOCHS


def _wandb_id(folder: Path) -> str:
    return (folder / "runs/version_0/wandb_id.txt").read_text().strip()


def _config(**changes: Any) -> str:
    config: dict[str, Any] = {
        "seed_everything": 0,
        "trainer": {"max_epochs": 3, "precision": "32-true", "devices": 1},
        "data": {"root": "/a", "batch_size": 8, "num_workers": 0},
        "model": {"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1}}},
    }
    for key, value in changes.items():
        *parents, name = key.split("__")
        place = config
        for parent in parents:
            place = place[parent]
        place[name] = value
    return yaml.safe_dump(config)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model__optimizer__init_args__lr": 0.2}, "--model.optimizer.init_args.lr is 0.2 here and 0.1 there"),
        ({"data__batch_size": 4}, "--data.batch_size is 4 here and 8 there"),
        ({"seed_everything": 1}, "--seed_everything is 1 here and 0 there"),
        ({"trainer__precision": "bf16-mixed"}, "--trainer.precision is 'bf16-mixed' here and '32-true' there"),
        ({"model__loss": "x"}, "--model.loss is 'x' here and not given there"),
    ],
)
def test_a_setting_that_the_checkpoint_would_overrule_is_named(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_same_training(_config(), _config(**change))
    assert told in str(error.value)
    assert "or leave --ckpt_path out" in str(error.value)


def test_how_long_where_and_how_fast_may_change() -> None:
    free = {"trainer__max_epochs": 9, "trainer__devices": 2, "data__root": "/b", "data__num_workers": 4}
    check_same_training(_config(), _config(**free))


@pytest.mark.filterwarnings("ignore")
def test_the_command_line_refuses_another_rate(
    small_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    last, config = small_run / "checkpoints/last.ckpt", small_run / "config.yaml"
    other = ["--model.optimizer.init_args.lr", "0.5", "--trainer.max_epochs", "3"]
    assert main(["fit", "--config", str(config), *other, "--ckpt_path", str(last)]) == 2
    assert "--model.optimizer.init_args.lr is 0.5 here and 0.003 there" in capsys.readouterr().err


def test_only_a_runs_own_last_checkpoint_goes_on_in_its_folder(small_run: Path, tmp_path: Path) -> None:
    assert resumed_folder(small_run / "checkpoints/last.ckpt") == small_run
    assert resumed_folder(small_run / "checkpoints/best.ckpt") is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    assert resumed_folder(tmp_path / "checkpoints/last.ckpt") is None, "no run folder"
