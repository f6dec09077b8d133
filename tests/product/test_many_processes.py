"""Several processes train and measure as one does; torchrun and SLURM can start them."""

import csv
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from own_processes import start

from vidact.cli.main import main
from vidact.data.datasets.index import index_clips
from vidact.data.splits.files import write_split_file
from vidact.data.splits.schemes import make_split

SMALL = ["--data.num_frames", "4", "--data.size", "12", "--data.num_workers", "0", "--trainer.accelerator", "cpu"]
SMALL += ["--data.classes", "[left, right, up]", "--relevance.every_n_epochs", "0"]
SMALL += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false", "--report", "false"]
SMALL += ["--trainer.num_sanity_val_steps", "0", "--trainer.log_every_n_steps", "1", "--trainer.max_epochs", "3"]
NETWORK = ["--model.network", "vidact.models.stacked.StackedFramesCNN"]  # no BatchNorm: each clip is scored alone
SGD = ["--model.optimizer={class_path: torch.optim.SGD, init_args: {lr: 0.5}}"]  # Adam makes noise of zero gradients
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
NUM_TRAINING = 18


pytestmark = pytest.mark.usefixtures("elsewhere")


def uneven_split(root: Path) -> str:
    """Write a split whose validation and test part have an odd number of clips each."""
    clips = index_clips(root, classes=["left", "right", "up"])
    split = make_split(clips, scheme="source", fold=1, seed=0)
    write_split_file(Path("uneven.json"), replace(split, validation=split.validation[1:], test=split.test[1:]))
    return "uneven.json"


def metrics(run: str) -> dict[str, list[float]]:
    """Read all values of each column of `metrics.csv`, in order."""
    with (Path("runs") / run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0] if name != "step"}


@pytest.mark.filterwarnings("ignore")
def test_two_processes_train_and_measure_as_one(small_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A batch is the whole training set, so that its order does not matter; five clips do not divide by two."""
    args = ["--data.root", str(small_set), "--data.split", uneven_split(small_set), *SMALL, *NETWORK, *SGD]
    assert main(["fit", *args, "--data.batch_size", str(NUM_TRAINING)]) == 0
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
    two_args = [*args, *TWO, "--data.batch_size", str(NUM_TRAINING // 2)]
    found = start("fit", *two_args, "--report", "true", launcher=torchrun, OMP_NUM_THREADS="1")
    assert found.returncode == 0, found.stderr[-3000:]
    assert sorted(path.name for path in Path("runs").iterdir()) == ["version_0", "version_1"], "one folder for two"
    assert len(list(Path("runs").rglob("report.html"))) == 1
    assert found.stdout.count("report                   runs/version_1/report.html") == 1
    assert "18 training, 5 validation, 5 test" in found.stderr
    one, two = metrics("version_0"), metrics("version_1")
    own = one.pop("train/loss"), two.pop("train/loss")
    assert own[0] != own[1], "of the first process's half of the batch"
    assert one.keys() == two.keys() >= {"train/loss_epoch", "val/loss", "val/clip_accuracy"}
    for name, values in one.items():
        assert two[name] == pytest.approx(values, abs=1e-6), name
    assert len(set(one["train/loss_epoch"])) == 3, "it learns"
    weights = [torch.load(f"runs/version_{run}/checkpoints/last.ckpt", weights_only=True) for run in (0, 1)]
    first, second = (content["state_dict"] for content in weights)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-4, atol=1e-6)

    checkpoint = ["--ckpt_path", "runs/version_0/checkpoints/last.ckpt", "--data.batch_size", "2"]
    assert main(["test", *args, *checkpoint]) == 0
    found = start("test", *args, *TWO, *checkpoint)
    assert found.returncode == 0, found.stderr[-3000:]
    one, two = metrics("version_2"), metrics("version_3")
    assert one.keys() == two.keys() >= {"test/loss", "test/clip_accuracy"}
    for name, values in one.items():
        assert two[name] == pytest.approx(values, abs=1e-6), name


def test_sigterm_ends_two_processes_after_the_same_step(small_set: Path) -> None:
    """Whichever is told, both make one more step, and the run goes on from it; three steps an epoch."""
    network = "--model.network={class_path: faulty.Ended, init_args: {num_classes: 3}}"
    args = ["fit", "--data.root", small_set, *SMALL, *TWO, *SGD, network, "--data.batch_size", "3"]
    last = [Path(f"runs/version_{run}/checkpoints/last.ckpt") for run in range(3)]
    undisturbed = start(*args)
    assert undisturbed.returncode == 0, undisturbed.stderr[-3000:]
    for ranks, path in (("0", last[1]), ("0,1", last[2])):
        found = start(*args, ENDED_RANKS=ranks)
        assert found.returncode == 143, found.stderr[-3000:]
        told = f"vidact: stopped; the same command with --ckpt_path last resumes from {path}"
        assert found.stderr.splitlines().count(told) == 1
    whole, one, both = (torch.load(path, weights_only=True) for path in last)
    assert one["global_step"] == both["global_step"] == 5
    _require_same_weights(both, one)
    found = start(*args, "--ckpt_path", last[1])
    assert found.returncode == 0, found.stderr[-3000:]
    state = torch.load(last[1], weights_only=True)
    assert (state["global_step"], state["epoch"]) == (9, 2)
    _require_same_weights(state, whole)


def _require_same_weights(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["state_dict"].keys() == expected["state_dict"].keys()
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(found["state_dict"][name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_batch_norm_is_not_synchronised_on_a_cpu(small_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["fit", "--data.root", str(small_set), *SMALL, *TWO, "--trainer.sync_batchnorm", "true", "--data.size", "16"]
    assert main(args) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vidact: error: ")]
    assert "torch synchronises BatchNorm between GPUs only; leave it out" in line


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("training_call", "steps_saved", "epochs"), [(6, 7, {1, 2}), (8, 8, {2})])
def test_a_job_of_slurm_is_requeued_and_goes_on(
    small_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    training_call: int,
    steps_saved: int,
    epochs: set[int],
) -> None:
    """Four steps an epoch: the signal is heeded after the next batch or, in the second case, at the epoch's end."""
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho $* >> {tmp_path}/asked\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    job = {"JOB_ID": "1234", "JOB_NAME": "vidact", "NTASKS": "1", "NTASKS_PER_NODE": "1"}
    for name, value in (job | {"PROCID": "0", "LOCALID": "0", "NODEID": "0", "NNODES": "1"}).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    network = f"{{class_path: faulty.Signalled, init_args: {{num_classes: 3, training_call: {training_call}}}}}"
    args = ["fit", "--data.root", str(small_set), *SMALL, f"--model.network={network}", "--data.batch_size", "5"]
    args += ["--data.num_workers", "1", "--data.cache_gigabytes", "0"]

    assert main(args) == 0, "without SLURM, nobody ends it after the signal"
    assert (tmp_path / "asked").read_text() == "requeue 1234\n", "once, and not by the process that decodes"
    saved = torch.load("runs/hpc_ckpt_1.ckpt", weights_only=True)
    assert (saved["epoch"], saved["global_step"]) == (1, steps_saved)

    assert main(args) == 0, "what SLURM does with a job that is requeued"
    assert set(metrics("version_1")["epoch"]) == epochs
    assert torch.load("runs/version_1/checkpoints/last.ckpt", weights_only=True)["global_step"] == 12
