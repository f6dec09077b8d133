"""A run that was trained before modules were moved: its config and checkpoints name classes where they were then."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml

from vidact.cli.main import main
from vidact.data.video.containers import file_sha1
from vidact.runs.config import with_current_class_paths
from vidact.runs.run import open_run

OLD_RUN = Path(__file__).parents[1] / "support" / "run_before_the_move"

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]


@pytest.fixture
def old_run(elsewhere: None, small_set: Path) -> Path:
    """A copy of the run in `runs/version_0`, with clips beside it under the name that the config has.

    The clips have the names of those that it was trained on, and not their bytes: another encoder has written them.
    """
    run = Path("runs/version_0")
    shutil.copytree(OLD_RUN, run)
    Path("small").symlink_to(small_set)
    split = json.loads((run / "split.json").read_text())
    split["sha1"] = {clip: file_sha1(Path("small/videos", f"{clip}.avi")) for clip in split["sha1"]}
    (run / "split.json").write_text(json.dumps(split))
    return run


def test_the_run_names_classes_where_they_are_no_more() -> None:
    for text in ((OLD_RUN / "config.yaml").read_text(), (OLD_RUN / "checkpoints" / "last.ckpt").read_text("latin1")):
        assert "class_path: vidact.schedules.WarmupCosine" in text
        assert "class_path: vidact.callbacks.averaging.MeanWeights" in text


def test_it_opens(old_run: Path) -> None:
    run = open_run(old_run)
    assert run.class_names == ("left", "right", "up")
    assert run.config["model"]["lr_scheduler"]["class_path"] == "vidact.training.schedules.WarmupCosine"
    checkpoint = open_run(old_run / "checkpoints" / "last.ckpt").config
    assert checkpoint["trainer"]["callbacks"]["class_path"] == "vidact.training.callbacks.averaging.MeanWeights"


def test_it_is_explained_and_reported(old_run: Path) -> None:
    (clip, *_) = sorted(Path("small/videos/left").glob("*.avi"))
    assert main(["explain", str(old_run), str(clip), "--accelerator", "cpu"]) == 0
    assert main(["report", str(old_run), "--clips-per-class", "1", "--accelerator", "cpu"]) == 0
    assert "SlimResNet3D" in Path("report.html").read_text()


@pytest.mark.filterwarnings("ignore")  # of jsonargparse, for what Lightning calls
def test_it_goes_on(old_run: Path) -> None:
    before = (old_run / "metrics.csv").read_text().splitlines()
    words = ["--config", str(old_run / "config.yaml"), "--ckpt_path", "last", "--trainer.max_epochs", "3"]
    assert main(["fit", *words, "--trainer.enable_progress_bar", "false"]) == 0
    rows = list(csv.DictReader((old_run / "metrics.csv").read_text().splitlines()))
    assert {row["epoch"] for row in rows} == {"0", "1", "2"}
    assert len(rows) > len(before) - 1
    trainer = yaml.safe_load((old_run / "config.yaml").read_text())["trainer"]
    assert trainer["callbacks"]["class_path"] == "vidact.training.callbacks.averaging.MeanWeights"


@pytest.mark.filterwarnings("ignore")
def test_last_means_the_run_whose_config_is_given_and_not_the_newest(
    old_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = Path("runs/version_1")
    shutil.copytree(old_run, newest)
    (newest / "checkpoints" / "last.ckpt").touch()
    before = (newest / "metrics.csv").read_bytes()
    words = ["--config", str(old_run / "config.yaml"), "--ckpt_path", "last", "--trainer.max_epochs", "3"]
    assert main(["fit", *words, "--trainer.enable_progress_bar", "false"]) == 0
    assert (newest / "metrics.csv").read_bytes() == before
    assert "2" in {row["epoch"] for row in csv.DictReader((old_run / "metrics.csv").read_text().splitlines())}


@pytest.mark.filterwarnings("ignore")
def test_a_config_that_disagrees_with_its_checkpoint_is_refused(
    old_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = old_run / "config.yaml"
    config.write_text(config.read_text().replace("\n  num_frames: 8\n", "\n  num_frames: 9\n"))
    words = ["--config", str(config), "--ckpt_path", str(old_run / "checkpoints" / "best.ckpt")]
    assert main(["validate", *words, "--trainer.accelerator", "cpu"]) == 2
    assert "disagree: --data.num_frames is 8 in the checkpoint and 9 in the file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vidact.schedules.WarmupCosine", "vidact.training.schedules.WarmupCosine"),
        ("class_path: vidact.callbacks.averaging.MeanWeights\n", None),
        ("my.vidact.schedules.Own", "my.vidact.schedules.Own"),
        ("runs/vidact.schedules.Own", "runs/vidact.schedules.Own"),
        ("vidact.schedules", "vidact.schedules"),
        ("vidact.training.schedules.WarmupCosine", "vidact.training.schedules.WarmupCosine"),
    ],
)
def test_only_class_paths_are_replaced(text: str, expected: str | None) -> None:
    assert with_current_class_paths(text) == (
        expected or "class_path: vidact.training.callbacks.averaging.MeanWeights\n"
    )
