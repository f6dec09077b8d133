import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vidact.core.errors import EnvironmentProblem
from vidact.data.checks.file_inspection import inspect_file
from vidact.data.checks.inspection import inspect_clips
from vidact.data.checks.manifest import Manifest
from vidact.data.video.verdicts import Verdict

WriteClip = Callable[..., Path]

# Without torch and Lightning, whose import takes seconds and which are not what is tested here.
LIGHT = """
import sys
from unittest.mock import MagicMock
for heavy in ("vidact.core.errors", "lightning", "lightning.pytorch", "lightning.pytorch.utilities"):
    sys.modules[heavy] = MagicMock()
"""
# A child that measures nothing: it tells how long a file is, and writes down that it was asked.
CHILD = (
    LIGHT
    + """
import ctypes, os, time
from dataclasses import replace
from pathlib import Path
from vidact.data.checks.children import serve
from vidact.data.video.containers import file_sha1
from vidact.data.video.verdicts import Inspection, Verdict, VideoInfo

def answer(question):
    path = Path(question["path"])
    with open(sys.argv[1], "a") as log:
        log.write(path.name + "\\n")
    content = path.read_text()
    if content.startswith("spin"):
        ctypes.PyDLL(None).sleep(1000)
    if content.startswith("abort") or (content.startswith("decord aborts") and question["decoder"] == "decord"):
        os.abort()
    if content.startswith("raise"):
        raise TypeError(content)
    if content.startswith("slow"):
        time.sleep(0.02)
    info = VideoInfo(len(content), len(content), 64, 48, 30.0, "text")
    compared = question["decoder"] == "decord"
    bare = Inspection(Verdict.OK, num_bytes=len(content), sha1=file_sha1(path), compared=compared)
    return replace(bare, info=info).record()

serve(answer)
"""
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Names of the files that were really measured."""
    return tmp_path / "log.txt"


@pytest.fixture
def command(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("VIDACT_CACHE", str(tmp_path / "cache"))
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    return [sys.executable, str(script), str(log)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.avi").write_text("x" * (number + 1))
    return folder


def _clips(root: Path) -> list[Path]:
    return sorted(root.iterdir())


def _measured(log: Path) -> list[str]:
    return sorted(log.read_text().split()) if log.exists() else []


def test_each_file_is_measured_once(root: Path, command: list[str], log: Path) -> None:
    first = inspect_clips(_clips(root), command=command)
    assert [found.info and found.info.num_frames for found in first.values()] == [1, 2, 3, 4]
    assert inspect_clips(_clips(root), command=["/no/such/program"]) == first
    assert _measured(log) == ["0.avi", "1.avi", "2.avi", "3.avi"]


def test_what_a_subset_measured_is_kept(root: Path, command: list[str], log: Path) -> None:
    inspect_clips(_clips(root)[:2], root=root, command=command)
    inspect_clips(_clips(root), root=root, command=command)
    inspect_clips(_clips(root)[:2], root=root, command=command)
    assert _measured(log) == ["0.avi", "1.avi", "2.avi", "3.avi"]


def test_a_changed_file_alone_is_measured_again(root: Path, command: list[str], log: Path) -> None:
    inspect_clips(_clips(root), command=command)
    (root / "2.avi").write_text("longer than it was")
    os.utime(root / "1.avi", ns=(1, 1))  # touched, not changed
    found = inspect_clips(_clips(root), command=command)
    assert found[root / "2.avi"].info is not None
    assert found[root / "2.avi"].info.num_frames == 18
    assert _measured(log) == ["0.avi", "1.avi", "2.avi", "2.avi", "3.avi"]


def test_an_exception_costs_only_its_file_and_is_not_remembered(root: Path, command: list[str], log: Path) -> None:
    (root / "1.avi").write_text("raise it")
    for _ in range(2):
        found = inspect_clips(_clips(root), command=command, num_processes=1)
        assert [found[path].verdict for path in _clips(root)] == ["ok", "crashed", "ok", "ok"]
    assert "TypeError: raise it" in found[root / "1.avi"].reason
    assert _measured(log).count("1.avi") == 2


def test_the_same_exception_for_every_file_is_reported_at_once(root: Path, command: list[str], log: Path) -> None:
    for path in _clips(root):
        path.write_text("raise no such argument")
    with pytest.raises(EnvironmentProblem, match=r"TypeError: raise no such argument.*av \d+.*constraints\.txt"):
        inspect_clips(_clips(root), command=command, num_processes=1)
    assert len(_measured(log)) == 3


def test_progress_counts_what_is_measured(root: Path, command: list[str]) -> None:
    steps: list[tuple[int, int]] = []
    for _ in range(2):
        inspect_clips(_clips(root), command=command, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_file_that_hangs_or_crashes_costs_only_itself(root: Path, command: list[str], log: Path) -> None:
    (root / "1.avi").write_text("spin")
    (root / "2.avi").write_text("abort")
    found = inspect_clips(_clips(root), command=command, time_limit_seconds=0.5, num_processes=1)
    assert [found[path].verdict for path in _clips(root)] == ["ok", "time_out", "crashed", "ok"]
    assert (
        "decoding took longer than 0.5 s; `data check --time_limit_seconds` allows more" in found[root / "1.avi"].reason
    )
    assert "SIGABRT" in found[root / "2.avi"].reason
    assert all(found[path].sha1 for path in _clips(root))
    assert inspect_clips(_clips(root), command=command, time_limit_seconds=0.5) == found
    assert len(_measured(log)) == 6, "those two once more, without decord"
    (root / "1.avi").write_text("SPIN")  # the same size, another content
    os.utime(root / "1.avi", ns=(1, 1))
    assert inspect_clips(_clips(root), command=command)[root / "1.avi"].verdict is Verdict.OK


def test_a_file_that_decord_crashes_in_is_measured_without_it(root: Path, command: list[str], log: Path) -> None:
    path = root / "1.avi"
    path.write_text("decord aborts")
    found = inspect_clips(_clips(root), command=command, num_processes=1)
    assert [found[path].verdict for path in _clips(root)] == ["ok", "pyav_only", "ok", "ok"]
    info = found[path].info
    assert info is not None
    assert "decord" in info.only_pyav
    assert "SIGABRT" in info.only_pyav
    assert inspect_clips(_clips(root), command=["/no/such/program"]) == found, "it is remembered"


def test_decord_is_asked_only_where_it_is_to_read(root: Path, command: list[str], log: Path) -> None:
    """What was measured for both serves PyAV; what was measured for PyAV alone is measured again for decord."""
    path = root / "1.avi"
    path.write_text("decord aborts")
    alone = inspect_clips(_clips(root), decoder="pyav", command=command)
    assert {inspection.verdict for inspection in alone.values()} == {Verdict.OK}
    assert len(_measured(log)) == 4
    both = inspect_clips(_clips(root), decoder="decord", command=command)
    assert both[path].verdict == "pyav_only"
    assert inspect_clips(_clips(root), decoder="pyav", command=["/no/such/program"]) == both


def test_what_cannot_be_opened_needs_no_child(tmp_path: Path) -> None:
    empty = tmp_path / "empty.avi"
    empty.touch()
    found = inspect_clips([empty, tmp_path / "gone.avi", tmp_path], command=["/no/such/program"])
    assert [inspection.verdict for inspection in found.values()] == ["empty", "missing", "not_a_file"]


def test_a_program_that_does_not_start_is_no_verdict(root: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="does not start"):
        inspect_clips(_clips(root), command=["/no/such/program"])


def test_a_relative_path_is_the_same_file(
    root: Path, command: list[str], log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    paths = [Path("0.avi"), root / "0.avi", Path("../clips/1.avi")]
    found = inspect_clips(paths, command=command)
    assert list(found) == paths
    assert found[paths[0]] == found[paths[1]]
    assert _measured(log) == ["0.avi", "1.avi"]


def test_the_real_program_measures_as_this_process_does(tmp_path: Path, write_clip: WriteClip) -> None:
    """Nothing is lost on the way through the child, JSON and the manifest."""
    paths = [write_clip(tmp_path / f"{number}.avi", 5 + number) for number in range(2)]
    paths.append(tmp_path / "text.avi")
    paths[2].write_text("not a video")
    first = inspect_clips(paths)
    assert first == {path: inspect_file(path) for path in paths}
    assert inspect_clips(paths, command=["/no/such/program"]) == first


RUN = (
    LIGHT
    + """
from pathlib import Path
from vidact.data.checks.inspection import inspect_clips
root = Path(sys.argv[1])
print("started", flush=True)
inspect_clips(sorted(root.iterdir()), root=root, command=sys.argv[2:], num_processes=2)
"""
)


def test_killed_runs_end_in_the_manifest_of_an_undisturbed_one(
    root: Path, command: list[str], log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        (root / f"slow{number}.avi").write_text("slow" + "x" * number)
    arguments = [sys.executable, "-c", RUN, str(root), *command]
    generator = random.Random(0)
    for _ in range(5):
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as run:
            assert run.stdout is not None
            run.stdout.readline()
            time.sleep(generator.uniform(0, 0.8))
            os.kill(run.pid, signal.SIGKILL)
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    disturbed = Manifest(root).path.read_bytes()
    measured = _measured(log)
    monkeypatch.setenv("VIDACT_CACHE", str(tmp_path / "another cache"))
    inspect_clips(_clips(root), root=root, command=command, num_processes=2)
    assert Manifest(root).path.read_bytes() == disturbed
    assert set(measured) == {path.name for path in _clips(root)}
    assert len(measured) <= 64 + 5 * 2 * 2  # a killed run loses what its two children were at
    assert len(disturbed.splitlines()) == 1 + 64
    assert json.loads(disturbed.splitlines()[0])["root"] == str(root)
