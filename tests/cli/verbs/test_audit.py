"""`audit` on a small run, from the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import wandb
import yaml
from wandb_offline import find_offline_runs, read_offline_run

from vidact.cli.main import main
from vidact.data.synthetic.files import load_mask

QUICK = ("--donors", "2", "--accelerator", "cpu")


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_run, tmp_path / "run")


def test_wandb_holds_leans_the_table_pictures_and_files(run: Path) -> None:
    assert main(["audit", str(run), *QUICK, "--sections", "[border, tags]", "--wandb"]) == 0
    wandb.teardown()
    (place,) = find_offline_runs(run / "audit")
    logged = read_offline_run(place)
    assert logged.finished
    assert logged.config["seed"] == 0
    columns, rows = logged.table("audit/table")
    assert columns[:2] == ["finding", "verdict"]
    assert [row[:2] for row in rows] == [["border", "cannot say"]]
    assert logged.images("audit/lean")[0].read_bytes() == (run / "audit" / "lean.png").read_bytes()
    (files,) = [files for name, files in logged.artifacts.items() if name.startswith("audit-")]
    assert {path.name for path in files} >= {"audit.json", "audit.csv", "audit.md", "junit.xml", "lean.png"}


def test_a_run_is_audited_resumed_and_gated(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["audit", str(run), *QUICK]) == 0
    told = capsys.readouterr().out
    assert "nothing can be said of" in told, "so few clips say nothing"
    folder = run / "audit"
    names = {path.name for path in folder.iterdir()}
    assert names >= {"audit.json", "audit.csv", "audit.md", "lean.png", "junit.xml", "clips"}
    assert "cells.png" not in names, "the instrument failed, and its cells would be read all the same"
    first = json.loads((folder / "audit.json").read_text())
    assert set(first["sections"]) == {
        *("time.order", "time.when", "background", "darkness", "cuts", "cells", "border", "regions"),
    }
    assert all(own["lean"] is None and own["reason"] for own in first["sections"].values())
    records = {path: path.stat().st_mtime_ns for path in (folder / "clips").rglob("*.json")}

    gate = tmp_path / "gate.yaml"
    gate.write_text(yaml.safe_dump({"fail_if": ["background.lean.high > 0.2"]}))
    assert main(["audit", str(run), *QUICK, "--gate", str(gate), "--batch_size", "3"]) == 4
    assert f"{len(records)} of them before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (folder / "clips").rglob("*.json")} == records
    second = json.loads((folder / "audit.json").read_text())
    assert first["sections"] == second["sections"]
    assert "background.lean.high" in (folder / "gate.txt").read_text()


def test_objects_are_exchanged_and_asked_again_when_their_masks_change(
    run: Path, small_set: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    masks = tmp_path / "balls"
    for path in (small_set / "masks").rglob("*.npz"):
        target = masks / path.relative_to(small_set / "masks")
        target.parent.mkdir(parents=True, exist_ok=True)
        np.savez(target, strict=load_mask(path, "confounder"), ball=load_mask(path, "all_objects"))
    args = ["audit", str(run), *QUICK, "--sections", "[objects]", "--objects", f"{{ball: {masks}}}"]
    assert main(args) == 0
    content = json.loads((run / "audit" / "audit.json").read_text())
    assert list(content["sections"]) == ["objects.ball"]
    first = content["sections"]["objects.ball"]
    assert first["says"] == "the ball"
    assert first["donors"] == 2
    asked = [json.loads(path.read_text())["answers"] for path in (run / "audit" / "clips").rglob("*.json")]
    assert any(len(answers.get("objects.ball|ball|alone", ())) == 1 for answers in asked)
    capsys.readouterr()
    assert main([*args, "--fail_if", "objects.ball.lean.high > 0.2"]) in (0, 4)
    assert f"{content['clips']} of them before" in capsys.readouterr().out
    shutil.rmtree(next(masks.iterdir()))
    assert main(args) == 0
    assert "of them before" not in capsys.readouterr().out, "the masks of clips and donors are others"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--sections", "[backgroud]"], "'backgroud' is unknown; nearest: background"),
        (["--sections", "[background]", "--actor", "none"], "background needs an actor (--actor)"),
        (["--fail_if", "['bakground.lean.low > 0']"], "background"),
        (["--margin", "2"], "--margin is a share of the right answers between 0 and 1, got 2"),
        (["--donors", "1"], "--donors must be at least 2"),
        (["--baseline", "none.json"], "none.json: not what `python -m vidact audit` wrote"),
        (["--num_clips", "1"], "equally many of each class are drawn"),
        (["--objects", "{ball: nowhere}"], "--objects ball: nowhere is no folder"),
        (["--objects", "{a ball: .}"], "--objects: a name is one of letters, digits and _, got 'a ball'"),
        (["--objects", "{ball: .}"], "--objects ball: . has no mask of any of the clips"),
        (["--sections", "[objects]"], "objects need masks"),
        (["--sections", "[darkness]", "--actor", "none"], "darkness.lifted needs an actor (--actor)"),
        (["--sections", "[]"], "nothing is asked; there are time, background"),
        (["--fail_if", "[]"], "--fail_if names no condition"),
    ],
)
def test_bad_input_is_answered_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert main(["audit", str(run), *QUICK, *args]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vidact: error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (run / "audit" / "audit.json").exists()


def test_the_audit_of_another_checkpoint_is_not_overwritten(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["audit", str(run), *QUICK, "--sections", "[border]"]
    assert main(args) == 0
    kept = (run / "audit" / "audit.json").read_bytes()
    (run / "checkpoints" / "best.ckpt").unlink()  # then last.ckpt is audited
    assert main(args) == 2
    assert "holds the audit of another checkpoint" in capsys.readouterr().err
    assert (run / "audit" / "audit.json").read_bytes() == kept
    assert main([*args, "--again", "true"]) == 0


@pytest.mark.parametrize("section", ["tags", "confused", "clusters", "regions", "cuts"])
def test_a_section_alone_that_finds_nothing_to_exchange_says_so(run: Path, section: str) -> None:
    assert main(["audit", str(run), *QUICK, "--sections", f"[{section}]", "--actor", "none"]) == 0
    content = json.loads((run / "audit" / "audit.json").read_text())
    told = {name: one["reason"] for name, one in content["sections"].items()} | {
        name: one["sentence"] for name, one in content["beside"].items()
    }
    assert told[section]
    assert (run / "audit" / "junit.xml").exists()


def test_runs_of_one_name_get_a_folder_each(run: Path, tmp_path: Path) -> None:
    for parent in ("first", "second"):
        shutil.copytree(run, tmp_path / parent / "version_0")
    runs = [str(tmp_path / parent / "version_0") for parent in ("first", "second")]
    out = tmp_path / "audits"
    assert main(["audit", *runs, *QUICK, "--sections", "[border]", "--out", str(out)]) == 0
    assert sorted(path.parent.name for path in out.glob("*/audit.json")) == ["first_version_0", "second_version_0"]


def test_the_audit_of_another_data_set_of_the_same_name_is_not_overwritten(
    run: Path, small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for parent in ("first", "second"):
        shutil.copytree(small_set / "videos", tmp_path / parent / "other", symlinks=True)
    args = ["audit", str(run), *QUICK, "--sections", "[border]", "--root"]
    status = main([*args, str(tmp_path / "first" / "other")])
    kept = (run / "audit_other" / "audit.json").read_bytes()
    capsys.readouterr()
    assert main([*args, str(tmp_path / "first" / "other")]) == status
    assert main([*args, str(tmp_path / "second" / "other")]) == 2
    assert "holds the audit of another checkpoint or of other clips" in capsys.readouterr().err
    assert json.loads((run / "audit_other" / "audit.json").read_bytes())["sections"] == json.loads(kept)["sections"]
