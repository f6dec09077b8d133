"""Fixtures that tests and benchmarks share."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

USUAL_POLICY = os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None  # only Linux has it


def _real_folder(variable: str) -> Path:
    if variable not in os.environ:
        pytest.skip(f"{variable} does not name a folder of real clips")
    return Path(os.environ[variable])


@pytest.fixture(scope="session")
def hmdb51() -> Path:
    """The folder of HMDB51: `videos/<class>/*.avi` and `splits/`."""
    return _real_folder("VIDACT_HMDB51")


@pytest.fixture(scope="session")
def jhmdb() -> Path:
    """The folder of J-HMDB: `videos/<class>/*.avi`."""
    return _real_folder("VIDACT_JHMDB")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("VIDACT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _own_wandb_process() -> Iterator[None]:
    """No command shares the process of a test's wandb, which still knows the runs of those that were killed."""
    yield
    os.environ.pop("WANDB_SERVICE", None)


@pytest.fixture(autouse=True)
def _usual_priority() -> Iterator[None]:
    """Undo what SVT-AV1 does as root: it gives the thread that encodes, and all that this starts, real-time priority.

    Two such processes on two cores keep all others from running.
    """
    yield
    if USUAL_POLICY is not None and os.sched_getscheduler(0) != USUAL_POLICY:
        os.sched_setscheduler(0, USUAL_POLICY, os.sched_param(0))


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight classes, ten sources, small pictures: rendered once for all tests."""
    from vidact.data.synthetic.clips import SyntheticSettings
    from vidact.data.synthetic.files import synthesize

    folder = tmp_path_factory.mktemp("synthetic") / "set"
    synthesize(folder, settings=SyntheticSettings(num_sources=10, num_frames=20, size=(32, 32)))
    return folder


@pytest.fixture(scope="session")
def small_run(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run of `fit`, three classes, without its report: trained once for all tests."""
    import subprocess

    folder = tmp_path_factory.mktemp("trained")
    settings = ["--data.num_frames", "8", "--data.size", "16", "--data.batch_size", "9", "--data.num_workers", "0"]
    settings += ["--data.classes", "[left, right, up]", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"]
    settings += ["--trainer.default_root_dir", str(folder), "--report", "false", "--relevance.every_n_epochs", "0"]
    command = [sys.executable, "-m", "vidact", "fit", "--data.root", str(small_set), *settings]
    environment = os.environ | {"VIDACT_CACHE": str(folder / "cache")}
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr[-3000:]
    return folder / "version_0"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder to train in, without wandb unless the test asks for it."""
    import wandb

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    yield
    wandb.finish()


@pytest.fixture
def write_clip() -> Callable[..., Path]:
    """Write a clip whose frame number can be read back from its pixels."""
    import numpy as np

    from vidact.data.video.reading import write_video

    def write(path: Path, num_frames: int = 20, size: tuple[int, int] = (48, 64), **kwargs: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = [np.full((*size, 3), 8 + 7 * number, np.uint8) for number in range(num_frames)]
        write_video(path, frames, fps=30, **kwargs)  # type: ignore[arg-type]
        return path

    return write
