"""What goes wrong while a network trains: it ends in one line, and the last checkpoint is whole."""

import errno
import itertools
import multiprocessing
import os
import re
import signal
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faulty
import pytest
import torch
import wandb
import wandb_server
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from own_processes import start
from torch.utils.data import get_worker_info
from torch.utils.data._utils import signal_handling
from wandb_offline import find_offline_runs, read_offline_run

from vidact.cli.main import main
from vidact.core.errors import ConfigError, reword_machine_error
from vidact.data.loading.windows import WindowDataset
from vidact.runs.loggers.wandb import build_loggers
from vidact.training.resuming.same_training import why_nothing_is_trained

SMALL = ["--data.num_frames", "4", "--data.size", "8", "--data.batch_size", "9", "--data.num_workers", "0"]
SMALL += ["--data.classes", "[left, right, up]", "--trainer.accelerator", "cpu", "--relevance.every_n_epochs", "0"]
SMALL += ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false", "--report", "false"]
SMALL += ["--trainer.num_sanity_val_steps", "0"]


def network(name: str, **settings: object) -> list[str]:
    """Name a network of `faulty`, in place of the demo's, with its optimizer."""
    init_args = "".join(f", {key}: {value}" for key, value in settings.items())
    return [f"--model.network={{class_path: faulty.{name}, init_args: {{num_classes: 3{init_args}}}}}"]


pytestmark = pytest.mark.usefixtures("elsewhere")


def error_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("vidact: error: ")]


def last_checkpoint(run: str = "version_0") -> dict[str, Any]:
    """Read it, with each part's checksum."""
    path = Path("runs") / run / "checkpoints" / "last.ckpt"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    content: dict[str, Any] = torch.load(path, weights_only=True)
    assert all(bool(value.isfinite().all()) for value in content["state_dict"].values())
    return content


@pytest.mark.filterwarnings("ignore")
class TestALossThatIsNoNumber:
    def test_ends_the_run_before_its_epoch_is_saved(self, small_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
        args = ["fit", "--data.root", str(small_set), *SMALL, "--trainer.max_epochs", "3"]
        assert main([*args, *network("NotANumber", training_call=2)]) == 2
        (line,) = error_lines(capsys.readouterr().err)
        found = re.search(r"is nan in epoch 1, batch 0, step 3, rank 0; its 9 clips: (.*) and 6 more; last.ckpt", line)
        assert found, line
        assert line.endswith(
            "start anew with a smaller --model.optimizer.init_args.lr, --trainer.gradient_clip_val 1 or "
            "--trainer.precision 32-true"
        )
        for clip in found[1].split(", "):
            assert (small_set / "videos" / f"{clip}.avi").is_file()
        assert last_checkpoint()["epoch"] == 0

    def test_is_seen_in_the_last_step_of_an_epoch(self, small_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Its loss alone is looked at: by then no later step could show it."""
        args = ["fit", "--data.root", str(small_set), *SMALL, "--trainer.max_epochs", "1"]
        assert main([*args, *network("NotANumber", training_call=1)]) == 2
        assert "epoch 0, batch 1, step 2, rank 0" in error_lines(capsys.readouterr().err)[0]
        assert last_checkpoint()["global_step"] == 0, "from before the first step"
        assert not list(Path("runs").rglob("best.ckpt"))
        assert not any("val/loss" in path.read_text() for path in Path("runs").rglob("metrics.csv")), "nor validated"

    def test_in_a_gradient_alone_is_seen_before_the_weights_are_saved(
        self, small_set: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """In the last step of an epoch, whose loss is a number: only the weights show it."""
        args = ["fit", "--data.root", str(small_set), *SMALL, "--trainer.max_epochs", "3"]
        assert main([*args, *network("NotANumber", training_call=3, in_gradient="true")]) == 2
        (line,) = error_lines(capsys.readouterr().err)
        assert line.startswith(
            "vidact: error: the weights of network.layers.2.weight are not finite after epoch 1, step 4, although "
            "every loss was: a gradient was not; last.ckpt is that of the epoch before; start anew with a smaller "
        )
        assert last_checkpoint()["epoch"] == 0

    @pytest.mark.parametrize("settings", [{}, {"in_gradient": "true"}], ids=["loss", "gradient"])
    def test_is_not_saved_when_the_run_is_told_to_end(self, small_set: Path, settings: dict[str, str]) -> None:
        args = ["fit", "--data.root", str(small_set), *SMALL, "--trainer.max_epochs", "3"]
        told = "network.layers.2.weight are not finite and are not saved: last.ckpt stays as it was"
        with pytest.warns(UserWarning, match=told):
            assert main([*args, *network("NotANumber", training_call=2, terminate="true", **settings)]) == 143
        assert last_checkpoint()["epoch"] == 0

    def test_ends_all_processes_whichever_sees_it(self, small_set: Path) -> None:
        """In the last step of an epoch, whose end the bar of the first process shows, asking the others."""
        args = ["fit", "--data.root", small_set, *SMALL, "--trainer.max_epochs", 4, "--trainer.devices", 2]
        args += ["--trainer.strategy", "ddp", "--trainer.enable_progress_bar", "true"]
        found = start(*args, *network("NotANumber", training_call=2, rank=1))
        assert found.returncode == 2, found.stderr[-3000:]
        (line,) = error_lines(found.stderr)
        assert "the training loss is nan in epoch 2, batch 0, step 3, rank 1; its 9 clips: " in line
        assert "Traceback" not in found.stderr
        assert last_checkpoint()["epoch"] == 1


@pytest.mark.parametrize(
    ("limits", "epochs", "said"),
    [
        ({"max_epochs": 0}, None, "--trainer.max_epochs 0: nothing is trained, and no checkpoint is written"),
        ({"max_epochs": 3, "limit_train_batches": 0.0}, None, "--trainer.limit_train_batches 0: nothing is trained"),
        ({"max_epochs": 2}, 2, "--trainer.max_epochs 2: the checkpoint has made these epochs, so nothing more is trai"),
        ({"max_epochs": 3, "max_steps": 8}, 2, "--trainer.max_steps 8: the checkpoint has made these steps, so nothin"),
        ({"max_epochs": 3, "max_steps": -1}, 2, None),
        ({"max_epochs": None}, None, None),
    ],
)
def test_limits_that_let_training_make_no_step_are_told(
    limits: dict[str, float | None], epochs: int | None, said: str | None
) -> None:
    told = why_nothing_is_trained(limits, None if epochs is None else _checkpoint(epochs))
    assert told is None if said is None else str(told).startswith(said)


def test_fewer_epochs_than_a_checkpoint_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="--trainer.max_epochs 1: the checkpoint has made 2 epochs; give a larger"):
        why_nothing_is_trained({"max_epochs": 1}, _checkpoint(2))


def _checkpoint(epochs: int) -> dict[str, Any]:
    """Make what a checkpoint holds between two epochs of four steps."""
    state: dict[str, Any] = {"epoch_progress": {"current": {"processed": epochs}}}
    state["epoch_loop.batch_progress"] = {"total": {"completed": 4 * epochs}}
    state["epoch_loop.state_dict"] = {"_batches_that_stepped": 4 * epochs}
    return {"loops": {"fit_loop": state}, "global_step": 4 * epochs}


@pytest.mark.filterwarnings("ignore")
def test_training_of_no_epochs_says_that_it_is_none(small_set: Path) -> None:
    args = ["fit", "--data.root", str(small_set), *SMALL]
    with pytest.warns(UserWarning, match="--trainer.max_epochs 0: nothing is trained"):
        assert main([*args, *network("Pooled"), "--trainer.max_epochs", "0"]) == 0


@pytest.mark.filterwarnings("ignore")
class TestTheBestEpoch:
    def test_is_none_whose_validation_loss_is_no_number(
        self, small_set: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """NaN scores have an accuracy, that of the first class: here it is 1/3."""
        args = ["fit", "--data.root", str(small_set), *SMALL, "--trainer.max_epochs", "2", "--report", "true"]
        assert main([*args, *network("NotANumber", evaluation_calls=[0, 1])]) == 0
        assert "0.333" in re.search("val/clip_accuracy .*", capsys.readouterr().out)[0]  # type: ignore[index]
        assert [path.name for path in Path("runs").rglob("*.ckpt")] == ["last.ckpt"]

    def test_is_a_later_one_where_the_first_is_no_number(self, small_set: Path) -> None:
        args = ["fit", "--data.root", str(small_set), *SMALL, "--trainer.max_epochs", "2"]
        with pytest.warns(UserWarning, match="val/loss of epoch 0 is nan: not saved as the best"):
            assert main([*args, *network("NotANumber", evaluation_calls=[0]), "--model.optimizer.init_args.lr=0"]) == 0
        best = torch.load("runs/version_0/checkpoints/best.ckpt", weights_only=True)
        assert best["epoch"] == 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_report_is_written_does_not_call_for_training_anew(
    small_set: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background is born deaf to it
    monkeypatch.setattr("vidact.cli.lightning_cli.report_run", lambda *_: os.kill(os.getpid(), number))
    args = ["fit", "--data.root", str(small_set), *SMALL, *network("Pooled"), "--report", "true"]
    before = signal.getsignal(signal.SIGTERM)
    assert main([*args, "--trainer.max_epochs", "1"]) == status
    told = "vidact: stopped; the same command with --ckpt_path last resumes from runs/version_0/checkpoints/last.ckpt"
    assert capsys.readouterr().err.splitlines()[-1] == told
    assert last_checkpoint()["epoch"] == 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_interrupt_while_parts_are_imported_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(args: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("vidact.cli.main._dispatch", interrupt)
    assert main(["fit"]) == 130
    assert capsys.readouterr().err == "vidact: stopped before anything was done\n"


def _decode_until(monkeypatch: pytest.MonkeyPatch, *, windows: int, then: Callable[[], None]) -> list[str]:
    """Let a worker that decodes do something else after some windows; gives the arguments of a run with one worker."""
    pixels, count = WindowDataset._pixels, itertools.count()

    def read(dataset: WindowDataset, index: int) -> torch.Tensor:
        if get_worker_info() is not None and next(count) >= windows:
            then()
        return pixels(dataset, index)

    monkeypatch.setattr(WindowDataset, "_pixels", read)
    # torch notes that it listens for dead workers; Lightning has taken its handler away after an earlier run here.
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    return ["--data.num_workers", "1", "--data.cache_gigabytes", "0", "--trainer.max_epochs", "3", *network("Pooled")]


def _no_space() -> None:
    raise RuntimeError("unable to write to file </torch_12_3456_7>: No space left on device (28)")  # as torch says it


@pytest.mark.filterwarnings("ignore")
class TestTheMachine:
    def test_kills_a_worker(
        self, small_set: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        args = _decode_until(monkeypatch, windows=24, then=lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert main(["fit", "--data.root", str(small_set), *SMALL, *args]) == 3
        (line,) = error_lines(capsys.readouterr().err)
        assert re.search(r"DataLoader worker \(pid.*\d\).*: a DataLoader worker has died", line), line
        assert "continue from it with --ckpt_path last" in line
        assert last_checkpoint()["epoch"] == 0

    def test_kills_a_worker_of_the_second_process(self, small_set: Path) -> None:
        """Only that process knows; the first one sees that it is gone."""
        args = ["fit", "--data.root", small_set, *SMALL, "--trainer.max_epochs", 4, "--trainer.devices", 2]
        found = start(*args, "--trainer.strategy", "ddp", *network("Killed"))
        assert found.returncode == 3, found.stderr[-3000:]
        second, first = error_lines(found.stderr)
        assert second.startswith("vidact: error: process 1: DataLoader worker (pid 1234) is killed by signal: Killed: ")
        assert "another process of this run has ended; its error is printed above" in first
        assert last_checkpoint()["epoch"] == 0

    @pytest.mark.parametrize(
        ("then", "message"),
        [
            (lambda: time.sleep(100), "DataLoader timed out after 1 seconds: the DataLoader workers decoded"),
            (_no_space, "there is too little shared memory (/dev/shm) for the DataLoader workers"),
        ],
    )
    def test_leaves_a_worker_without_what_it_needs(
        self,
        small_set: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        then: Callable[[], None],
        message: str,
    ) -> None:
        monkeypatch.setattr("vidact.data.loading.workers.WORKER_TIMEOUT_SECONDS", 1)
        args = _decode_until(monkeypatch, windows=0, then=then)
        assert main(["fit", "--data.root", str(small_set), *SMALL, *args]) == 3
        (line,) = error_lines(capsys.readouterr().err)
        assert message in line

    @pytest.mark.parametrize("options", [["--data.cache_gigabytes", "0"], ["--data.size", "23"]])  # one not yet kept
    def test_has_a_temporary_folder_whose_path_is_too_long_for_sockets(
        self,
        small_set: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        options: list[str],
    ) -> None:
        folder = tmp_path / ("long" * 25)
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", None)  # type: ignore[attr-defined]
        args = [*network("Pooled"), "--data.num_workers", "1", *options]
        assert main(["fit", "--data.root", str(small_set), *SMALL, *args]) == 3
        (line,) = error_lines(capsys.readouterr().err)
        assert f"{folder}: DataLoader workers need a socket in this temporary folder and cannot have one" in line
        assert re.search("AF_UNIX path too long.*TMPDIR=/tmp.*--data.num_workers 0", line)

    def test_has_no_space_left_for_the_metrics(
        self, small_set: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save = ExperimentWriter.save

        def fail_later(writer: ExperimentWriter) -> None:
            if last.is_file():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), writer.metrics_file_path)
            save(writer)

        last = Path("runs/version_0/checkpoints/last.ckpt")
        monkeypatch.setattr(ExperimentWriter, "save", fail_later)
        args = ["fit", "--data.root", str(small_set), *SMALL, "--trainer.max_epochs", "3", *network("Pooled")]
        assert main(args) == 3
        (line,) = error_lines(capsys.readouterr().err)
        assert "runs/version_0/metrics.csv: cannot be written or read (No space left on device); free space" in line
        assert last_checkpoint()["epoch"] < 2

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 3 GiB"
            ),
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to "
                "allocate 8000000000000 bytes. Error code 12 (Cannot allocate memory)"
            ),
        ],
        ids=["GPU", "CPU"],
    )
    def test_memory_that_runs_out_is_told(self, error: RuntimeError) -> None:
        told = str(reword_machine_error(error))
        assert re.match(
            r"(CUDA out of memory\. Tried to allocate 2\.00 GiB|.* 8000000000000 bytes): memory ran out: ", told
        )
        assert "try a smaller --data.batch_size" in told

    def test_other_errors_stay_what_they_are(self) -> None:
        for error in (RuntimeError("shapes do not match"), OSError(errno.ENOENT, "gone"), KeyError("name")):
            assert reword_machine_error(error) is None


@pytest.fixture
def _own_wandb() -> Iterator[None]:
    """Leave no process of wandb that has lost its server; these runs share the process that tests."""
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("_own_wandb")
class TestWandb:
    ARGS = (*SMALL, "--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "1")

    def test_changes_no_weight_when_its_process_is_killed(self, small_set: Path) -> None:
        """Before the first numbers are logged, in the middle, and after the last ones."""
        args = ["fit", "--data.root", str(small_set), *self.ARGS]
        assert main([*args, *network("KillsWandb")]) == 0
        expected = last_checkpoint()["state_dict"]
        for number, moment in enumerate(({"training_call": 1}, {"training_call": 4}, {"evaluation_call": 3}), start=1):
            found = start(*args, *network("KillsWandb", **moment), WANDB_MODE="offline")
            assert found.returncode == 0, found.stderr[-3000:]
            assert "Traceback" not in found.stderr
            assert found.stderr.count("UserWarning: wandb failed, and the run goes on without it: ") == 1
            assert "wandb                    ended early" in found.stdout
            weights = last_checkpoint(f"version_{number}")["state_dict"]
            assert weights.keys() == expected.keys()
            assert all(torch.equal(weights[key], expected[key]) for key in expected)

    def test_is_offline_where_its_server_is_away(
        self, small_set: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with wandb_server.bind() as closed:
            monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed.server_port}")
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_API_KEY", wandb_server.KEY)
        monkeypatch.setattr("vidact.runs.loggers.wandb.INIT_TIMEOUT_SECONDS", 1)
        with pytest.warns(UserWarning, match="wandb cannot reach its server, so this run is kept offline: "):
            assert main(["fit", "--data.root", str(small_set), *self.ARGS, *network("Pooled")]) == 0
        (folder,) = find_offline_runs(Path("runs"))
        out = capfd.readouterr().out
        assert f"wandb sync {folder}" in out, out[-2000:]
        wandb.teardown()  # its process writes the rest of the file as it ends
        assert read_offline_run(folder).values("val/clip_accuracy")
        monkeypatch.setenv("WANDB_MODE", "offline")
        _, resumed = build_loggers(Path("runs"), folder=Path("runs/version_0"))
        assert folder.name.endswith(f"-{resumed.version}"), "it goes on as the run that it is, not as it was to be"

    def test_does_not_wait_long_for_a_server_that_went_away(
        self, small_set: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with wandb_server.bind() as server, ThreadPoolExecutor(1) as threads:
            threads.submit(server.serve_forever)
            monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
            monkeypatch.setenv("WANDB_MODE", "online")
            monkeypatch.setenv("WANDB_API_KEY", wandb_server.KEY)
            monkeypatch.setattr("vidact.runs.loggers.wandb.FINISH_TIMEOUT_SECONDS", 1)
            monkeypatch.setattr(faulty, "kill_wandb", lambda: (server.shutdown(), server.server_close()))
            args = ["fit", "--data.root", str(small_set), *self.ARGS, *network("KillsWandb", training_call=3)]
            assert main(args) == 0
        (folder,) = Path("runs").rglob("run-*-run")
        assert f"its server did not answer in 1 s; later: wandb sync {folder}" in capfd.readouterr().out
