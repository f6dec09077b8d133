"""Two trainings in one run folder: the second one is kept out, as long as the first one lives and no longer."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vidact.cli.main import main
from vidact.core.errors import EnvironmentProblem
from vidact.training.resuming import lock as run_lock

HOLDER = """
import os, sys, time
from pathlib import Path
from vidact.training.resuming import lock as run_lock
run_lock.hold(Path(sys.argv[1]))
if os.fork() == 0:  # as a process that decodes
    time.sleep(60)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that trains in `tmp_path`, as it seems, and has forked another."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_folder_where_another_process_trains_is_refused_until_that_one_is_killed(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(EnvironmentProblem, match=rf"another process \(process {holder.pid} on .*\) trains there; wait"):
        run_lock.hold(tmp_path)
    holder.kill()
    holder.wait()
    run_lock.hold(tmp_path)
    run_lock.hold(tmp_path)  # its own
    run_lock.release()


@pytest.mark.filterwarnings("ignore")
def test_training_that_would_go_on_there_says_so_and_leaves_everything_as_it_is(
    tmp_path: Path, holder: subprocess.Popen[str], small_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes((small_run / "checkpoints" / "last.ckpt").read_bytes())
    config = tmp_path / "config.yaml"
    config.write_bytes((small_run / "config.yaml").read_bytes())
    (tmp_path / "metrics.csv").write_text("epoch,step\n99,999\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(["fit", "--config", str(config), "--ckpt_path", str(checkpoint), "--trainer.max_epochs", "9"]) == 3
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"vidact: error: {tmp_path}: another process (process {holder.pid} on ")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    checkpoint.write_bytes(b"")  # not read, as the other process may be writing it
    assert main(["fit", "--config", str(small_run / "config.yaml"), "--ckpt_path", str(checkpoint)]) == 3
    assert f"another process (process {holder.pid} on " in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_is_free_when_training_has_ended(tmp_path: Path) -> None:
    run_lock.hold(tmp_path)
    command = [sys.executable, "-c", HOLDER.split("if os.fork")[0], str(tmp_path)]
    run_lock.release()
    assert subprocess.run(command, capture_output=True, text=True).returncode == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"training\.lock cannot be written \(No such file"):
        run_lock.hold(tmp_path / "nowhere")
