"""The whole product once, in a minute: render, train with explanations, explain, report, evaluate, inspect."""

from pathlib import Path

import pytest

from vidact.cli.main import main

SMALL = ["--data.num_frames", "8", "--data.size", "16", "--data.num_workers", "0", "--data.classes", "[left, right]"]


@pytest.mark.filterwarnings("ignore")
def test_a_newcomers_first_hour(elsewhere: None, small_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cpu = ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
    assert main(["fit", "--data.root", str(small_set), *SMALL, *cpu, "--report", "false"]) == 0
    run = Path("runs/version_0")
    assert {"config.yaml", "metrics.csv", "split.json", "checkpoints"} <= {path.name for path in run.iterdir()}
    assert list(run.glob("explanations/epoch_000/*/*.png"))

    (clip, *_) = sorted((small_set / "videos" / "left").glob("*.avi"))
    assert main(["explain", str(run), str(clip), "--accelerator", "cpu"]) == 0
    assert (Path("explanations") / clip.stem / "overlay.mp4").stat().st_size > 0

    assert main(["report", str(run), "--clips-per-class", "1", "--mistakes", "0", "--accelerator", "cpu"]) == 0
    assert "<html" in Path("report.html").read_text()

    quick = ["--methods", "[lrp, gradient]", "--units", "[tubes]", "--fills", "[blur]", "--num-steps", "3"]
    assert main(["evaluate", str(run), "--num-clips", "2", *quick, "--accelerator", "cpu"]) == 0
    assert "which method to trust" in (run / "evaluation" / "evaluation.md").read_text()

    sizes = ["--num-classes", "2", "--num-frames", "8", "--size", "16"]
    assert main(["inspect", "vidact.models.stacked.StackedFramesCNN", *sizes]) == 0
    assert "explainable" in capsys.readouterr().out
