import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from made_videos import write_timed

from vidact.attribution.registry import build_explainer
from vidact.cli.main import main
from vidact.core.clips import as_float
from vidact.data.video.reading import read_frames
from vidact.explaining.folder import RECORD
from vidact.runs.run import open_run

FILES = {"overlay.mp4", "frames.png", "heatmap.png", "frame_relevance.png", "hotspots.png", "classes.png"}
FILES |= {"explanation.npz", RECORD}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]


def _clips(small_set: Path, count: int = 2) -> list[Path]:
    return sorted(small_set.rglob("*.avi"))[:count]


def _explain(run: Path, *args: object) -> int:
    return main(["explain", str(run), *map(str, args), "--accelerator", "cpu"])


def _conservation_by_hand(run_folder: Path, clip: Path, *, label: str) -> list[float]:
    """Explain each window on its own: ΣR / score. Far from 1 for a network of two epochs, whose scores biases make."""
    run = open_run(run_folder)
    video = read_frames(clip, tuple(range(20)), size=(16, 16), gray=True)[None]
    target = torch.tensor([run.class_names.index(label)])
    with build_explainer("lrp", run.network) as explain:
        windows = [as_float(video[:, :, start : start + 8]) for start in (0, 4, 8, 12)]
        return [float(explain(window, target).conservation) for window in windows]


def test_each_video_gets_a_folder_of_files(
    small_run: Path, small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = _clips(small_set)
    assert _explain(small_run, *clips, "--out", tmp_path / "out", "--top-k", 2) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {clip.stem for clip in clips}
    told = capsys.readouterr().out
    for clip in clips:
        folder = tmp_path / "out" / clip.stem
        assert {path.name for path in folder.iterdir()} == FILES
        record = json.loads((folder / RECORD).read_text())
        assert record["video"] == clip.name
        shares = _conservation_by_hand(small_run, clip, label=record["target"])
        assert record["conservation"]["mean"] == pytest.approx(np.mean(shares), rel=1e-3)
        assert record["conservation"]["worst"] == pytest.approx(max(shares, key=lambda share: abs(share - 1)), rel=1e-3)
        assert record["classes"][0][0] == record["target"]
        assert len(record["classes"]) == 2
        assert f"explained  {os.path.relpath(clip)}: {record['target']}" in told
        arrays = np.load(folder / "explanation.npz")
        relevance = arrays["relevance"].astype(np.float64) * arrays["relevance_scale"]
        assert arrays["relevance"].dtype == np.float16
        assert relevance.shape == (len(arrays["frames"]), 16, 16)
        assert relevance.clip(min=0).sum(axis=(1, 2)) == pytest.approx(arrays["positive"], rel=2e-2)
        assert np.abs(relevance).max() == pytest.approx(record["largest_relevance"], rel=1e-3)
        with av.open(str(clip)) as source, av.open(str(folder / "overlay.mp4")) as written:
            assert sum(1 for _ in written.decode(video=0)) == sum(1 for _ in source.decode(video=0))


def test_a_video_of_another_rate_is_sampled_at_that_of_the_run(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same motion at 30 and at 60 frames a second gives the same explanation, at the same times."""
    for rate in (30, 60):
        levels = [20 + 180 * n // rate for n in range(rate)]
        write_timed(tmp_path / "in" / f"at {rate}.mp4", [Fraction(n, rate) for n in range(rate)], levels)
    assert _explain(small_run, tmp_path / "in", "--out", tmp_path / "out") == 0
    assert _explain(small_run, tmp_path / "in" / "at 60.mp4", "--out", tmp_path / "out") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "at 60.mp4" in line]
    assert [line.split()[0] for line in lines] == ["explained", "kept"]
    assert all("(60 frames a second, sampled: the network was trained on clips of 30 frames" in line for line in lines)
    found = {rate: np.load(tmp_path / "out" / f"at {rate}" / "explanation.npz") for rate in (30, 60)}
    records = {rate: json.loads((tmp_path / "out" / f"at {rate}" / RECORD).read_text()) for rate in (30, 60)}
    assert found[60]["frames"].tolist() == (2 * found[30]["frames"]).tolist()
    assert found[60]["times"] == pytest.approx(found[30]["times"])
    assert found[60]["window_scores"] == pytest.approx(found[30]["window_scores"], rel=1e-2, abs=1e-3)
    assert records[60]["target"] == records[30]["target"]
    assert records[30]["frame_rate"] == ""


def test_what_is_done_is_kept_until_something_changes(
    small_run: Path, small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clip,) = _clips(small_set, 1)
    record = tmp_path / clip.stem / RECORD
    expected = ["explained", "kept", "explained", "explained", "kept"]
    stamps = []
    for args in ((), (), ("--threshold", "0.5"), ("--again",), ("--batch-size", "1", "--threshold", "0.3")):
        if args == ("--again",):
            args = ("--again", "--threshold", "0.3")
        assert _explain(small_run, clip, "--out", tmp_path, *args) == 0
        stamps.append(record.stat().st_mtime_ns)
    told = [line.split()[0] for line in capsys.readouterr().out.splitlines() if clip.name in line]
    assert told == expected
    assert stamps[0] == stamps[1] < stamps[2] < stamps[3] == stamps[4]


def test_a_folder_of_videos_works_and_a_broken_one_is_listed(
    small_run: Path, small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "videos"
    (videos / "deep").mkdir(parents=True)
    (one, two) = _clips(small_set)
    (videos / "one.avi").write_bytes(one.read_bytes())
    (videos / "deep" / "two.avi").write_bytes(two.read_bytes())
    (videos / "bad.mp4").write_text("<html>not found</html>")
    (videos / "cut.avi").write_bytes(one.read_bytes()[:200])
    (videos / "notes.txt").write_text("no video")
    assert _explain(small_run, videos, "--out", tmp_path / "out") == 1
    told = capsys.readouterr().out
    assert {path.parent.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob(RECORD)} == {
        "one",
        "deep/two",
    }
    assert "bad.mp4: not a video that FFmpeg can read" in told
    assert "2 of 4 videos could not be explained" in told
    assert not list((tmp_path / "out").glob(".*")), "nothing half written"


@pytest.mark.parametrize("count", [1, 3])  # fewer than processes, and not divisible by two
def test_it_spreads_over_processes_and_says_each_result_once(
    small_run: Path, small_set: Path, tmp_path: Path, count: int
) -> None:
    clips = _clips(small_set, count)
    command = [sys.executable, "-m", "vidact", "explain", small_run, *clips, "--out", tmp_path / "out"]
    command += ["--accelerator", "cpu", "--devices", "2", "--strategy", "ddp"]
    found = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    lines = [line for line in found.stdout.splitlines() if line.startswith("explained")]
    assert [Path(line.split(": ")[0].split()[-1]).name for line in lines] == [clip.name for clip in clips]
    assert len(list((tmp_path / "out").rglob("overlay.mp4"))) == count


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["{run}", "{none}.avi"], 1, "no such file"),
        (["{none}", "{clip}"], 2, "no such run folder or checkpoint"),
        (["{run}", "{clip}", "--target", "lefft"], 2, "target 'lefft' is no class; nearest: left"),
        (["{run}", "{clip}", "--target", "true"], 2, "the true class is not known here"),
        (["{run}", "{clip}", "--threshold", "0"], 2, r"threshold is a share of the largest |R|, in (0, 1], got 0"),
        (["{run}", "{clip}", "--top-k", "0"], 2, "top_k must be at least 1, got 0"),
        (["{run}", "{clip}", "--composite", "none.yaml"], 2, "composite none.yaml: No such file"),
        (["{run}", "{clip}", "--layout", "under"], 2, "--layout: expected beside or over, got under"),
        (
            ["{run}", "{clip}", "--overlap", "1"],
            2,
            "that the next one repeats, in [0, 1), got 1.0",
        ),
        (["{run}", "{clip}", "--devices", "99"], 2, "--devices 99: this machine has"),
        (["{run}", "{clip}", "--beside", "grad_cm"], 2, "grad_cm: no such run folder or checkpoint"),
        (["{run}", "{clip}", "--devices", "abc"], 2, "--accelerator, --devices or --strategy"),
        (["{run}", "{empty}"], 2, "expected videos"),
        (["{run}", "http://example.org/a.mp4"], 2, "addresses are refused"),
        (["{run}", "{clip}", "{same}"], 2, "would both be explained in"),
        (["{run}"], 2, "videos"),
    ],
)
def test_a_mistake_gives_one_line(
    small_run: Path,
    small_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    status: int,
    message: str,
) -> None:
    (clip,) = _clips(small_set, 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (same := tmp_path / "other" / clip.name).write_bytes(clip.read_bytes())
    names = {"run": small_run, "clip": clip, "none": tmp_path / "none", "empty": tmp_path / "empty", "same": same}
    words = [word.format(**names) for word in args]
    assert main(["explain", *words, "--out", str(tmp_path / "out"), "--accelerator", "cpu"]) == status
    found = capsys.readouterr()
    assert message in found.out + found.err
    assert status == 1 or len(found.err.strip().splitlines()) == 1


def test_what_was_written_is_not_explained_again(small_run: Path, small_set: Path, tmp_path: Path) -> None:
    (clip,) = _clips(small_set, 1)
    (tmp_path / "one.avi").write_bytes(clip.read_bytes())
    for _ in range(2):
        assert _explain(small_run, tmp_path, "--out", tmp_path / "out") == 0
    assert [path.parent.name for path in tmp_path.rglob(RECORD)] == ["one"]


def test_a_folder_that_something_else_is_in_is_left_alone(
    small_run: Path, small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A record of somebody else, or any other file."""
    clips = _clips(small_set)
    for clip, name, text in zip(clips, (RECORD, "thesis.txt"), ('{"mine": 1}', "mine"), strict=True):
        (tmp_path / clip.stem).mkdir()
        (tmp_path / clip.stem / name).write_text(text)
    assert _explain(small_run, *clips, "--out", tmp_path) == 1
    assert capsys.readouterr().out.count("exists, and holds no explanation") == 2
    assert (tmp_path / clips[0].stem / RECORD).read_text() == '{"mine": 1}'
    assert (tmp_path / clips[1].stem / "thesis.txt").read_text() == "mine"


def test_a_folder_that_would_hold_another_is_refused(
    small_run: Path, small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clip,) = _clips(small_set, 1)
    (tmp_path / "videos" / "x").mkdir(parents=True)
    for name in ("x.avi", "x/y.avi"):
        (tmp_path / "videos" / name).write_bytes(clip.read_bytes())
    assert _explain(small_run, tmp_path / "videos", "--out", tmp_path / "out") == 2
    assert "would lie inside of its folder" in capsys.readouterr().err


def test_an_out_that_cannot_be_written_is_told_at_once(
    small_run: Path, small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert _explain(small_run, *_clips(small_set, 1), "--out", tmp_path / "file") == 3
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("beside", ["grad_cam", "{run}"])
def test_another_method_or_another_run_is_drawn_below(
    small_run: Path, small_set: Path, tmp_path: Path, beside: str
) -> None:
    (clip,) = _clips(small_set, 1)
    assert _explain(small_run, clip, "--out", tmp_path, "--beside", beside.format(run=small_run)) == 0
    assert {path.name for path in (tmp_path / clip.stem).iterdir()} == FILES | {"comparison.png"}


def test_a_report_is_one_file(small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    assert main(["report", str(small_run), str(small_run), "--out", str(out), "--accelerator", "cpu"]) == 0
    assert capsys.readouterr().out.strip().splitlines()[-1] == str(out)
    text = out.read_text(encoding="utf-8")
    assert text.count(small_run.name) >= 2
    assert "SlimResNet3D" in text
    assert str(Path.home()) not in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--part", "training"], "part is one of validation, test, got 'training'"),
        (["--clips-per-class", "-1"], "numbers of clips of 0 or more"),
        (["--megabytes", "0.001"], "limit"),
    ],
)
def test_a_report_that_cannot_be_made_gives_one_line(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    words = ["report", str(small_run), "--out", str(tmp_path / "report.html"), "--accelerator", "cpu", *args]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_what_lies_in_the_output_folder_is_never_removed(
    small_run: Path, small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clip,) = _clips(small_set, 1)
    (tmp_path / "videos" / "sub").mkdir(parents=True)
    (tmp_path / "videos" / "sub" / "...avi").write_bytes(clip.read_bytes())
    (tmp_path / "out" / "sub").mkdir(parents=True)
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert _explain(small_run, tmp_path / "videos", "--out", tmp_path / "out") == 2
    assert "no folder can be named '..', its name without its ending; rename it" in capsys.readouterr().err
    assert _explain(small_run, clip, "--out", tmp_path / "out") == 0
    (tmp_path / "out" / clip.stem / "notes.txt").write_text("mine")
    assert _explain(small_run, clip, "--out", tmp_path / "out", "--again", "--max-width", 320) == 0
    assert (tmp_path / "out" / clip.stem / "notes.txt").read_text() == "mine"
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
    record = json.loads((tmp_path / "out" / clip.stem / RECORD).read_text())
    assert (record["sound"], record["request"]["files"]["max_width"]) == ("none", 320)
    with av.open(str(tmp_path / "out" / clip.stem / "overlay.mp4")) as container:
        assert container.streams.video[0].width == 320


def test_what_a_killed_explain_left_is_removed_by_the_next(small_run: Path, small_set: Path, tmp_path: Path) -> None:
    (clip,) = _clips(small_set, 1)
    killed = (
        "import os, signal, sys, vidact.cli.main, vidact.explaining.jobs as jobs\n"
        "jobs.explain_video = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "vidact.cli.main.main(sys.argv[1:])\n"
    )
    words = ["explain", small_run, clip, "--out", tmp_path, "--accelerator", "cpu"]
    ended = subprocess.run([sys.executable, "-c", killed, *map(str, words)], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert list(tmp_path.glob(".vidact-*"))
    assert _explain(small_run, clip, "--out", tmp_path) == 0
    assert [path.name for path in tmp_path.iterdir()] == [clip.stem]


@pytest.mark.parametrize(
    "words",
    [
        ["report", "{run}", "--out"],
        ["accuracy", "{run}", "--out"],
        ["data", "split", "{set}", "--out"],
        ["data", "check", "{set}", "--table"],
    ],
    ids=" ".join,
)
def test_a_file_of_somebody_else_is_not_written_over(
    small_run: Path, small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    command = [word.format(run=small_run, set=small_set) for word in words]
    assert main([*command, str(tmp_path / "thesis.txt")]) == 2
    assert "thesis.txt: already exists, and this command did not write it" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["evaluation.json", "ranks.png", "clips/run/a.json"])
def test_an_evaluation_replaces_no_file_of_somebody_else(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("mine")
    assert main(["evaluate", str(small_run), "--out", str(tmp_path), "--accelerator", "cpu", "--again"]) == 2
    assert "already exists, but not of an evaluation that vidact wrote; choose another" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "mine"
