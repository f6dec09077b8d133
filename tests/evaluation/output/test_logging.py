"""What an evaluation found lies beside its files and, if asked, in wandb; the report of the run shows it."""

import shutil
from pathlib import Path

import pytest
import torch
import wandb
from made_evaluations import METHODS, make_comparison, make_evaluation
from wandb_offline import find_offline_runs, read_offline_run

from vidact.cli.main import main
from vidact.evaluation.names import CONTROLS
from vidact.evaluation.output.files import read_evaluation
from vidact.evaluation.output.logging import COLUMNS, draw_comparison, draw_evaluation, written_files
from vidact.evaluation.output.pictures import all_methods, main_keys
from vidact.report.run_view import ReportSettings, view_run

QUICK = ["--methods", "[gradient, grad_cam]", "--units", "[tubes]", "--fills", "[blur]", "--num-steps", "2"]
QUICK += ["--random-orders", "2", "--num-clips", "3", "--accelerator", "cpu"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]


def test_pictures_lie_beside_the_files(tmp_path: Path) -> None:
    drawn = draw_evaluation(tmp_path, make_evaluation(num_clips=8, methods=METHODS[:2]))
    assert {name: path.name for name, path in drawn.items()} == {
        name: f"{name}.png" for name in ("curves_tubes", "curves_frames", "ranks")
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn.values())
    assert set(draw_comparison(tmp_path, make_comparison(num_runs=2))) == {"ranks_over_runs", "dose_response"}
    (tmp_path / "evaluation.json").write_text("{}")
    assert len(written_files(tmp_path, prefix="a/")) == 6
    assert written_files(tmp_path, prefix="a/")["a/evaluation.json"] == tmp_path / "evaluation.json"


@pytest.fixture
def copied_run(small_run: Path, tmp_path: Path) -> Path:
    """The small run in a folder of its own, to be written into."""
    return Path(shutil.copytree(small_run, tmp_path / "runs" / "version_0"))


def test_without_out_evaluations_lie_in_their_run_folders_where_the_report_finds_them(
    copied_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their comparison lies in the current folder; without --wandb there is no run of wandb."""
    settings = ReportSettings(methods=("gradient",), clips_per_class=0, mistakes=0)
    assert view_run(copied_run, settings=settings, device=torch.device("cpu")).evaluation is None
    other = shutil.copytree(copied_run, copied_run.parent / "version_1")
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(copied_run), str(other), *QUICK]) == 0
    for run in (copied_run, other):
        assert (run / "evaluation" / "evaluation.json").is_file()
        assert {path.name for path in (run / "evaluation").glob("*.png")} == {"curves_tubes.png", "ranks.png"}
        assert find_offline_runs(run / "evaluation") == []
    found = {path.name for path in (tmp_path / "evaluation").iterdir()}
    assert found >= {"comparison.json", "comparison.md", "ranks_over_runs.png"}
    assert find_offline_runs(tmp_path / "evaluation") == []
    view = view_run(copied_run, settings=settings, device=torch.device("cpu")).evaluation
    assert view is not None
    assert {row.method for row in view.methods} == {"gradient", "grad_cam"}
    assert {row.method for row in view.controls} == set(CONTROLS)
    (copied_run / "evaluation" / "evaluation.json").write_text("{}")
    broken = view_run(copied_run, settings=settings, device=torch.device("cpu"))
    assert broken.evaluation is None
    assert any("evaluate again" in line for line in broken.left_out)


def test_wandb_holds_settings_means_the_table_pictures_and_files(copied_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["evaluate", str(copied_run), "--out", str(out), "--wandb", *QUICK]) == 0
    wandb.teardown()
    (path,) = find_offline_runs(out)
    run, evaluation = read_offline_run(path), read_evaluation(out)
    assert run.finished
    assert run.config["version_0"]["num_steps"] == 2
    columns, rows = run.table("evaluation/table")
    assert tuple(columns) == COLUMNS
    assert len(rows) == len([row for row in evaluation.rows if row.subset == "all"])
    for method in all_methods(evaluation):
        for key in main_keys(evaluation):
            row = evaluation.row(method, key)
            if row is not None:
                assert run.values(f"evaluation/{method}/{key}") == [pytest.approx(row.mean)]
    for name in ("curves_tubes", "ranks"):
        assert run.images(f"evaluation/{name}")[0].read_bytes() == (out / f"{name}.png").read_bytes()
    (name,) = [name for name in run.artifacts if name == "evaluation-version_0"]
    assert {path.name for path in run.artifacts[name]} == {
        *("evaluation.json", "evaluation.csv", "evaluation.md", "curves_tubes.png", "ranks.png")
    }
