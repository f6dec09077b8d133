"""Training that is stopped at any moment and goes on comes to the same end, bit for bit, as training that is not."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from wandb_offline import find_offline_runs, read_offline_run

from vidact.cli.main import main
from vidact.runs.loggers.metrics_csv import read_rows

SUPPORT = Path(__file__).parents[1] / "support"
KILLS = 20
CERTAIN = (
    "step",
    "validation",
    "explaining",
    "writing",
)  # where a kill must come at least twice, with and without workers
NETWORK = "--model.network.init_args"
SETTINGS = ["--data.num_frames", "8", "--data.size", "16", "--data.batch_size", "3", "--data.classes", "[left, right]"]
SETTINGS += ["--data.augmentation.flip_probability", "0.5", "--data.augmentation.crop_scale", "[0.6, 1.0]"]
SETTINGS += [f"{NETWORK}.widths", "[4, 8]", f"{NETWORK}.dropout", "0.5", "--model.optimizer.init_args.lr", "0.02"]
SETTINGS += ["--model.lr_scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau"]
SETTINGS += ["--model.lr_scheduler.init_args.patience", "0"]
SETTINGS += ["--model.lr_scheduler.init_args.threshold", "10", "--relevance.every_n_epochs", "2", "--report", "false"]
SETTINGS += ["--model.mixup_alpha", "0.4", "--trainer.callbacks", "vidact.training.callbacks.averaging.MeanWeights"]
SETTINGS += ["--trainer.max_epochs", "3", "--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", "1"]
SETTINGS += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
WORKERS: dict[int, list[str]] = {
    0: ["--data.num_workers", "0"],
    2: ["--data.num_workers", "2", "--data.cache_gigabytes", "0"],
}


@dataclass
class Attempt:
    """Training that was stopped, if it has a moment, and then went on."""

    folder: Path
    args: Sequence[str]
    moment: tuple[str, int] | None = None
    signal: str = "SIGKILL"
    limit: Sequence[str] = ()  # flags that end the first part
    statuses: list[int] = field(default_factory=list)

    def jobs(self) -> list[dict[str, Any]]:
        first = {"folder": str(self.folder), "args": [*self.args, *self.limit], "name": "first"}
        if self.moment is None and not self.limit:
            return [first]
        second = {**first, "args": self.args, "name": "second", "resume": True}
        return [first if self.moment is None else {**first, "moment": self.moment, "signal": self.signal}, second]

    @property
    def run(self) -> Path:
        """The run folder: one, unless it was stopped before the first checkpoint."""
        folders = sorted((self.folder / "runs").iterdir())
        assert len(folders) == 1 or not (folders[0] / "checkpoints/last.ckpt").exists(), "goes on in the same folder"
        return folders[-1]

    def clips(self, name: str) -> list[Any]:
        """Epoch, windows and clips of each step."""
        path = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def said(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.txt")))


def _differing(one: Any, other: Any, name: str = "") -> list[str]:
    """Name what is not the same to the last bit in two checkpoints."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [name]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for key in one for found in _differing(one[key], other[key], f"{name}.{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        parts = enumerate(zip(one, other, strict=True))
        return [found for number, pair in parts for found in _differing(*pair, name=f"{name}[{number}]")]
    return [] if type(one) is type(other) and one == other else [name]


def _state(run: Path, name: str = "last") -> dict[str, Any]:
    content = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return {
        key: content.get(key) for key in ("epoch", "state_dict", "optimizer_states", "lr_schedulers", "global_step")
    }


def _check(attempt: Attempt, whole: Attempt) -> None:
    """Compare with training that was not stopped: its end, its clips, its rows."""
    about = f"{attempt.moment}: {attempt.said()[-3000:]}"
    assert attempt.statuses[-1] == 0, about
    for name in ("last", "best"):
        assert _differing(_state(attempt.run, name), _state(whole.run, name)) == [], about
    all_clips, before, after = whole.clips("first"), attempt.clips("first"), attempt.clips("second")
    assert before == all_clips[: len(before)], about
    assert after == all_clips[len(all_clips) - len(after) :], about
    assert len(before) + len(after) >= len(all_clips), about
    assert (attempt.run / "explanations").is_dir() == (whole.run / "explanations").is_dir()
    config = yaml.safe_load((attempt.run / "config.yaml").read_text())
    assert (config["trainer"]["max_epochs"], config["ckpt_path"]) == (3, None)


def _rows(run: Path) -> list[dict[str, str]]:
    return read_rows(run / "metrics.csv")[1]


def _without_mean_loss(run: Path) -> list[dict[str, str]]:
    return [{**row, "train/loss_epoch": ""} for row in _rows(run) if not row["train/loss_epoch"]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


Train = Callable[[Sequence[Attempt]], None]


@pytest.fixture(scope="module")
def train(cache: Path) -> Iterator[Train]:
    """Start a process that makes trainings, each in a fork of it."""
    environment = {"WANDB_MODE": "disabled", "VIDACT_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, SUPPORT / "killed_training.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )

    def make(attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            attempt.statuses = [_status(job) for job in attempt.jobs()]

    def _status(job: dict[str, Any]) -> int:
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps(job), file=process.stdin, flush=True)
        return int(process.stdout.readline())

    with process:
        yield make


@pytest.fixture(scope="module")
def settings(small_set: Path) -> list[str]:
    return ["--data.root", str(small_set), *SETTINGS]


@pytest.fixture(scope="module")
def whole(settings: list[str], train: Train, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Attempt]:
    """Training that was not stopped, by the number of workers."""
    folder = tmp_path_factory.mktemp("whole")
    filled = Attempt(folder / "filled", [*settings, *WORKERS[0]])  # the cache, so that later runs are alike
    found = {workers: Attempt(folder / str(workers), [*settings, *own]) for workers, own in WORKERS.items()}
    train([filled, *found.values()])
    for attempt in (filled, *found.values()):
        assert attempt.statuses == [0], attempt.said()[-3000:]
        assert _differing(_state(attempt.run), _state(filled.run)) == [], (
            "neither workers nor the cache change anything"
        )
        assert attempt.clips("first") == filled.clips("first")
    return found


def test_the_undisturbed_training_is_worth_comparing(whole: dict[int, Attempt]) -> None:
    """It shuffles anew each epoch, it learns, its rate falls, and it explains."""
    steps = whole[0].clips("first")
    orders = [[window for epoch, windows, _ in steps if epoch == number for window in windows] for number in range(3)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2]) == list(range(len(orders[0])))
    assert len({tuple(order) for order in orders}) == 3
    state = _state(whole[0].run)
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] < 0.02, "ReduceLROnPlateau has taken a step"
    counts = json.loads((whole[0].folder / "first.counts.json").read_text())
    assert counts["explaining"] >= 2
    assert counts["validation"] == 2 * counts["measures"], "validation has a middle"


def test_twenty_kills_change_nothing(
    whole: dict[int, Attempt], settings: list[str], train: Train, tmp_path: Path
) -> None:
    chance = random.Random(7)
    counts = {workers: json.loads((one.folder / "first.counts.json").read_text()) for workers, one in whole.items()}
    names = [*CERTAIN, *CERTAIN, *chance.choices(sorted(counts[0]), k=KILLS - 2 * len(CERTAIN))]
    attempts = []
    for number, name in enumerate(names):
        workers = 0 if number < len(CERTAIN) else 2 if number < 2 * len(CERTAIN) else chance.choice([0, 0, 2])
        moment = (name, chance.randint(1, counts[workers][name]))
        attempts.append(Attempt(tmp_path / str(number), [*settings, *WORKERS[workers]], moment))
    train(attempts)
    for attempt in attempts:
        assert attempt.statuses[0] == -9, attempt.moment
        _check(attempt, whole[0])
        assert _rows(attempt.run) == _rows(whole[0].run), attempt.moment
    assert len({attempt.moment for attempt in attempts}) > KILLS // 2


@pytest.mark.parametrize(
    ("schedule", "step"),
    [
        (["torch.optim.lr_scheduler.OneCycleLR", "--model.lr_scheduler.init_args.max_lr", "0.05"], 7),
        (["vidact.training.schedules.WarmupCosine", "--model.lr_scheduler_interval", "step"], 2),
    ],
    ids=["OneCycleLR", "WarmupCosine"],
)
def test_a_schedule_as_long_as_training_goes_on_inside_an_epoch(
    schedule: list[str], step: int, settings: list[str], train: Train, tmp_path: Path
) -> None:
    """To know its length, the order of clips must not be begun before the checkpoint has said where."""
    args = [*settings, *WORKERS[0], "--relevance.every_n_epochs", "0", "--model.lr_scheduler", *schedule]
    whole = Attempt(tmp_path / "whole", args)
    stopped = Attempt(tmp_path / "stopped", args, ("step", step), "SIGTERM")
    train([whole, stopped])
    assert stopped.statuses[0] == 143
    _check(stopped, whole)


def test_sigterm_saves_where_it_stops(
    whole: dict[int, Attempt], settings: list[str], train: Train, tmp_path: Path
) -> None:
    steps = len(whole[0].clips("first")) // 3
    # In the middle of an epoch, in its last step, in its validation (the first two are Lightning's trial), explaining.
    moments = [("step", steps + 2), ("step", 2 * steps), ("validation", 5), ("explaining", 1)]
    attempts = [
        Attempt(tmp_path / str(n), [*settings, *WORKERS[2 if n == 0 else 0]], moment, "SIGTERM")
        for n, moment in enumerate(moments)
    ]
    train(attempts)
    for attempt in attempts:
        assert attempt.statuses == [143, 0], attempt.said()[-3000:]
        _check(attempt, whole[0])
        before, after = attempt.clips("first"), attempt.clips("second")
        assert before + after == whole[0].clips("first"), "not one step is made twice"
        said = (attempt.folder / "first.txt").read_text().splitlines()
        told = (
            "vidact: stopped; the same command with --ckpt_path last resumes from runs/version_0/checkpoints/last.ckpt"
        )
        assert said.count(told) == 1
        # The mean loss of the epoch that was stopped is of the batches since; there may be none.
        assert _without_mean_loss(attempt.run) == _without_mean_loss(whole[0].run)


def test_sigterm_saves_no_half_sum_of_gradients(
    whole: dict[int, Attempt], settings: list[str], train: Train, tmp_path: Path
) -> None:
    """Of two batches per step: after a step, after a batch alone, and in validation, the last step being of one."""
    steps = len(whole[0].clips("first")) // 3
    accumulate = 2 if steps % 2 else steps - 1
    args = [*settings, *WORKERS[0], "--trainer.accumulate_grad_batches", str(accumulate)]
    undisturbed = Attempt(tmp_path / "undisturbed", args)
    # A batch that SIGTERM finds is finished; the next one is not begun.
    saving = [Attempt(tmp_path / "step", args, ("step", steps + accumulate), "SIGTERM")]
    saving.append(Attempt(tmp_path / "validation", args, ("validation", 5), "SIGTERM"))
    waiting = Attempt(tmp_path / "waiting", args, ("step", steps + 1), "SIGTERM")
    train([undisturbed, *saving, waiting])
    for attempt in (*saving, waiting):
        assert attempt.statuses == [143, 0], attempt.said()[-3000:]
        _check(attempt, undisturbed)
    for attempt in saving:
        assert attempt.clips("first") + attempt.clips("second") == undisturbed.clips("first"), attempt.moment
    assert len(waiting.clips("first") + waiting.clips("second")) == 3 * steps + 1, "one batch is made again"


def test_a_limit_amid_an_epoch_leaves_nothing_out(
    whole: dict[int, Attempt], settings: list[str], train: Train, tmp_path: Path
) -> None:
    """Lightning takes an epoch that `max_steps`, or `max_time`, has cut for done."""
    steps = len(whole[0].clips("first")) // 3
    by_steps = Attempt(tmp_path / "steps", [*settings, *WORKERS[0]], limit=["--trainer.max_steps", str(steps + 2)])
    stop = ["--trainer.callbacks+", "faulty.TimeIsUp", "--trainer.callbacks.steps", str(steps + 2)]
    by_time = Attempt(tmp_path / "time", [*settings, *WORKERS[2]], limit=stop)
    accumulating = [*settings, *WORKERS[0], "--trainer.accumulate_grad_batches", "2"]
    whole_sums = Attempt(tmp_path / "whole_sums", accumulating)
    half_sums = Attempt(tmp_path / "half_sums", accumulating, limit=[*stop[:-1], str(steps + 1)])
    at_an_end = Attempt(tmp_path / "end", [*settings, *WORKERS[0]], limit=["--trainer.max_steps", str(2 * steps)])
    train([by_steps, by_time, whole_sums, half_sums, at_an_end])
    for attempt in (by_steps, by_time, at_an_end):
        assert attempt.statuses == [0, 0], attempt.said()[-3000:]
        assert _differing(_state(attempt.run), _state(whole[0].run)) == [], attempt.said()[-3000:]
        assert attempt.clips("first") + attempt.clips("second") == whole[0].clips("first"), "not one step is made twice"
        assert _without_mean_loss(attempt.run) == _without_mean_loss(whole[0].run) or attempt is by_time
    assert half_sums.statuses == [0, 0], half_sums.said()[-3000:]
    assert _differing(_state(half_sums.run), _state(whole_sums.run)) == [], half_sums.said()[-3000:]


def _vidact(verb: str, *args: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vidact", verb, *map(str, args)]
    environment = os.environ | {"PYTHONPATH": f"{SUPPORT}:{os.environ.get('PYTHONPATH', '')}"} | env
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, start_new_session=True)


def _signal(name: str, **settings: object) -> list[str]:
    own = (f"--trainer.callbacks.{key}={value}" for key, value in {"name": name, **settings}.items())
    return ["--trainer.callbacks+=faulty.Signals", *own]


def test_sigterm_to_all_processes_of_a_job_saves_where_it_stops(
    whole: dict[int, Attempt], settings: list[str], cache: Path, tmp_path: Path
) -> None:
    """As `timeout`, systemd and SLURM send it: to those that decode, and to wandb's, too."""
    step = len(whole[0].clips("first")) // 3 + 1
    args = [*settings, *WORKERS[2], *_signal("SIGTERM", step=step, to_all="true")]
    found = _vidact("fit", *args, cwd=tmp_path, VIDACT_CACHE=str(cache))
    assert found.returncode == 143, found.stderr[-3000:]
    assert "resumes from runs/version_0/checkpoints/last.ckpt" in found.stderr
    assert "Traceback" not in found.stderr, found.stderr[-3000:]
    assert _state(tmp_path / "runs/version_0")["global_step"] == step + 1


@pytest.fixture(scope="module")
def killed(
    whole: dict[int, Attempt], settings: list[str], cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a training of the real command line, with wandb, that was killed in its second epoch."""
    folder = tmp_path_factory.mktemp("killed")
    steps = len(whole[0].clips("first")) // 3
    args = [*settings, *WORKERS[0], *_signal("SIGKILL", step=steps + 2)]
    found = _vidact("fit", *args, cwd=folder, VIDACT_CACHE=str(cache))
    assert found.returncode == -9, found.stderr[-3000:]
    return folder


def test_the_command_line_goes_on_with_one_more_flag(
    whole: dict[int, Attempt], settings: list[str], cache: Path, killed: Path
) -> None:
    (before,) = find_offline_runs(killed)
    found = _vidact("fit", *settings, *WORKERS[0], "--ckpt_path", "last", cwd=killed, VIDACT_CACHE=str(cache))
    assert found.returncode == 0, found.stderr[-3000:]
    run = killed / "runs/version_0"
    assert [path.name for path in (killed / "runs").iterdir()] == ["version_0"]
    assert _differing(_state(run), _state(whole[0].run)) == []
    assert _rows(run) == _rows(whole[0].run)
    parts = find_offline_runs(killed)
    assert parts[0] == before
    assert len(parts) == 2
    assert len({part.name.split("-")[-1] for part in parts}) == 1, "one run of wandb, whose id the folder keeps"
    assert f"wandb sync {' '.join(os.path.relpath(part, killed) for part in parts)}" in found.stdout
    epochs = read_offline_run(parts[1]).values("val/clip_accuracy")  # the killed one may lack its last second
    assert epochs == [float(row["val/clip_accuracy"]) for row in _rows(run) if row["val/clip_accuracy"]][1:]


@pytest.fixture
def finished(whole: dict[int, Attempt], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run, in a folder from which `fit` is called, without wandb."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDACT_CACHE", str(cache))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    return shutil.copytree(whole[0].run, tmp_path / "runs/version_0")


def _fit(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str]:
    capsys.readouterr()
    status = main(["fit", *map(str, args)])
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vidact: ")]
    assert len(said) == (status != 0), said
    return status, "".join(said)


@pytest.mark.filterwarnings("ignore")
class TestGoingOn:
    def test_further_is_no_conflict_and_what_was_reached_stays(
        self, finished: Path, settings: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = _rows(finished)
        more = [
            "--trainer.max_epochs",
            4,
            "--relevance.every_n_epochs",
            0,
            "--data.num_workers",
            0,
            "--ckpt_path",
            "last",
        ]
        assert _fit(capsys, *settings, *more) == (0, "")
        assert [path.name for path in finished.parent.iterdir()] == ["version_0"]
        rows = _rows(finished)
        assert rows[: len(before)] == before
        assert {row["epoch"] for row in rows[len(before) :]} == {"3"}

    def test_a_folder_that_has_moved_keeps_its_best_epoch(
        self, finished: Path, settings: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        moved = finished.rename(tmp_path / "mine")
        last = torch.load(moved / "checkpoints/last.ckpt", weights_only=True)
        (state,) = [one for one in last["callbacks"].values() if "best_model_score" in one]
        more = [
            "--trainer.max_epochs",
            4,
            "--relevance.every_n_epochs",
            0,
            "--ckpt_path",
            moved / "checkpoints/last.ckpt",
        ]
        assert _fit(capsys, *settings, *WORKERS[0], *more) == (0, "")
        now = torch.load(moved / "checkpoints/last.ckpt", weights_only=True)
        (found,) = [one for one in now["callbacks"].values() if "best_model_score" in one]
        assert found["best_model_score"] >= state["best_model_score"]
        assert found["best_model_path"] == str(moved / "checkpoints/best.ckpt")
        assert [path.name for path in sorted((moved / "checkpoints").iterdir())] == ["best.ckpt", "last.ckpt"]

    def test_another_checkpoint_begins_a_new_folder(
        self, finished: Path, settings: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        other = shutil.copy(finished / "checkpoints/last.ckpt", tmp_path / "other.ckpt")
        before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
        more = ["--trainer.max_epochs", 4, "--relevance.every_n_epochs", 0, "--ckpt_path", other]
        assert _fit(capsys, *settings, *WORKERS[0], *more) == (0, "")
        assert {row["epoch"] for row in _rows(finished.parent / "version_1")} == {"3"}
        assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (["--model.optimizer.init_args.lr", "0.5"], "--model.optimizer.init_args.lr is 0.02 there and 0.5 now"),
            (["--model.lr_scheduler", "null"], "--model.lr_scheduler.class_path is torch.optim.lr_scheduler.Reduce"),
            (["--data.augmentation", "null"], "--data.augmentation."),
            (
                ["--data.batch_size", "8", "--seed_everything", "2"],
                "--seed_everything is 0 there and 2 now, --data.batch",
            ),
            (["--trainer.callbacks", "null"], "'decay': 0.99}}] there and None now"),
            (["--trainer.callbacks+", "vidact.training.callbacks.averaging.MeanWeights"], "--trainer.callbacks is "),
            (["--trainer.accumulate_grad_batches", "2"], "--trainer.accumulate_grad_batches is 1 there and 2 now"),
        ],
    )
    def test_another_training_is_refused_in_one_line(
        self, finished: Path, settings: list[str], capsys: pytest.CaptureFixture[str], given: list[str], said: str
    ) -> None:
        status, line = _fit(capsys, *settings, *WORKERS[0], *given, "--ckpt_path", "last")
        assert status == 2
        assert said in line
        assert "start anew without --ckpt_path" in line

    def test_a_damaged_last_checkpoint_is_refused_and_the_best_named(
        self, finished: Path, settings: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = finished / "checkpoints/last.ckpt"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
        status, line = _fit(capsys, *settings, *WORKERS[0], "--ckpt_path", "last")
        assert status == 2
        assert "the last good one there is runs/version_0/checkpoints/best.ckpt (weights only: " in line

    def test_a_run_without_a_last_checkpoint_does_not_go_on_as_another(
        self, finished: Path, settings: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copytree(finished, finished.with_name("version_1"))
        (finished / "checkpoints/last.ckpt").unlink()
        status, line = _fit(capsys, "--config", finished / "config.yaml", *WORKERS[0], "--ckpt_path", "last")
        assert status == 2
        assert f"--ckpt_path last: the run in {finished} has no last.ckpt; nothing was started" in line

    def test_a_damaged_id_of_wandb_is_named(
        self, finished: Path, settings: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WANDB_MODE", "offline")
        for content in (b"", b"\xff\xfe"):
            (finished / "wandb_id.txt").write_bytes(content)
            status, line = _fit(capsys, *settings, *WORKERS[0], "--trainer.max_epochs", 4, "--ckpt_path", "last")
            assert status == 2
            assert f"version_0/wandb_id.txt: expected the id of wandb's run, got {content!r}" in line

    def test_a_disk_that_is_full_from_the_start_is_told_before_the_first_step(
        self, finished: Path, settings: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(target: Path, content: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("vidact.training.resuming.checkpoint_io.write_whole", full)
        monkeypatch.setattr(
            "vidact.training.classifier.ActionClassifier.training_step", lambda *_: pytest.fail("a step was made")
        )
        status, line = _fit(capsys, *settings, *WORKERS[0])
        assert status == 3
        assert "version_1/checkpoints/last.ckpt cannot be written (No space left on device); no checkpoint is" in line

    def test_a_plugin_of_ones_own_still_writes(
        self, finished: Path, settings: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        own = ["--trainer.plugins", "lightning.pytorch.plugins.io.TorchCheckpointIO", "--trainer.max_epochs", 1]
        assert _fit(capsys, *settings, *WORKERS[0], *own, "--relevance.every_n_epochs", 0) == (0, "")
        assert b"vidact crc32" not in (finished.parent / "version_1/checkpoints/last.ckpt").read_bytes()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("verb", "name", "status", "said"),
    [
        ("test", "SIGTERM", 143, "vidact: stopped; the same command starts anew"),
        ("predict", "SIGTERM", 143, "vidact: stopped; the same command starts anew"),
        ("fit", "SIGINT", 130, "vidact: stopped; the same command with --ckpt_path last resumes from "),
    ],
)
def test_a_signal_ends_a_verb_with_its_status(
    finished: Path,
    settings: list[str],
    capsys: pytest.CaptureFixture[str],
    verb: str,
    name: str,
    status: int,
    said: str,
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background is born deaf to it
    checkpoint = [] if verb == "fit" else ["--ckpt_path", str(finished / "checkpoints/best.ckpt")]
    assert main([verb, *settings, *WORKERS[0], *_signal(name), *checkpoint]) == status
    told = capsys.readouterr().err.splitlines()
    assert sum(line.startswith(said) for line in told) == 1, told
