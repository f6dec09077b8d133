import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from vidact.cli.main import main
from vidact.core.errors import ConfigError, DataError
from vidact.core.folders import CLAIM
from vidact.data.datasets.index import index_clips, named_clip
from vidact.evaluation import jobs as evaluation_jobs
from vidact.evaluation.names import CONTROLS
from vidact.evaluation.output.files import read_evaluation
from vidact.evaluation.runs import folder_name
from vidact.evaluation.settings import EvaluateSettings
from vidact.runs.clips.choice import Choice
from vidact.runs.clips.chosen import choose_clips
from vidact.runs.run import open_run

CLASSES = ("left", "right", "up")
KIND = "strict"  # the first kind of the small set's masks
QUICK = ["--methods", "[gradient, grad_cam]", "--units", "[tubes]", "--fills", "[blur]", "--num-steps", "3"]
QUICK += ["--random-orders", "2", "--masks", f"[{KIND}]"]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]


@pytest.fixture(autouse=True)
def _without_pictures(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the evaluation that is copied is drawn: drawing takes longer than measuring six clips."""
    monkeypatch.setattr("vidact.evaluation.output.logging.draw_evaluation", lambda *_: {})


def _evaluate(*args: object) -> int:
    return main(["evaluate", *map(str, args), "--accelerator", "cpu", *QUICK])


@pytest.fixture(scope="module")
def evaluated(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation, to be copied."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDACT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        assert _evaluate(small_run, "--out", out) == 0
    return out


def _clip_files(out: Path) -> list[Path]:
    return sorted((out / "clips").rglob("*.json"))


def _values(out: Path) -> dict[str, float]:
    """Give every number of every clip; what is undefined is NaN."""
    return {
        f"{path.stem} {method} {key}": math.nan if value is None else value
        for path in _clip_files(out)
        for method, own in json.loads(path.read_text())["values"].items()
        for key, value in own.items()
    }


def _rounded(values: dict[str, float]) -> object:
    """Sums of another batch are rounded otherwise."""
    return pytest.approx(values, rel=1e-3, abs=1e-5, nan_ok=True)


def test_each_clip_of_the_part_that_the_run_recorded_has_a_file(small_run: Path, evaluated: Path) -> None:
    wanted = json.loads((small_run / "split.json").read_text())["validation"]
    assert sorted(f"{path.parent.name}/{path.stem}" for path in _clip_files(evaluated)) == sorted(wanted)
    assert {path.name for path in evaluated.glob("*.png")} == {"curves_tubes.png", "ranks.png"}
    for path in _clip_files(evaluated):
        content = json.loads(path.read_text())
        assert set(content["values"]) == {"gradient", "grad_cam", *CONTROLS}
        assert content["label"] == path.parent.name
        assert content["source"] == named_clip(content["clip_id"]).source
        assert {f"rma/{KIND}", "abpc/tubes/blur", "sparseness"} <= set(content["values"]["gradient"])
        assert len(content["curves"]["random"]["morf/tubes/blur"]) == len(content["removed"]["tubes"]) == 4


def test_csv_markdown_and_json_agree(evaluated: Path) -> None:
    evaluation = read_evaluation(evaluated)
    with (evaluated / "evaluation.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(evaluation.rows)
    text = (evaluated / "evaluation.md").read_text()
    for row, line in zip(evaluation.rows, lines, strict=True):
        assert (row.method, row.measure, row.detail, row.subset) == tuple(
            line[name] for name in ("method", "measure", "detail", "subset")
        )
        assert float(line["mean"]) == row.mean
        assert [line["low"], line["high"]] == ["" if end is None else str(end) for end in (row.low, row.high)]
        for control, difference in row.differences.items():
            assert float(line[f"minus_{control}"]) == difference.mean
        assert row.subset != "all" or f"{row.mean:.3g}".replace("-", "−") in text
    assert f"**{evaluation.verdict.sentence}.**" in text
    assert evaluation.clips == len(_clip_files(evaluated))
    assert evaluation.settings["seed"] == 0
    assert {"vidact", "torch"} <= set(evaluation.versions)
    assert {curve.method for curve in evaluation.curves} == {"gradient", "grad_cam", *CONTROLS}


def test_the_verdict_is_printed(small_run: Path, evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _evaluate(small_run, "--out", evaluated) == 0
    told = capsys.readouterr().out
    assert f"\n{read_evaluation(evaluated).verdict.sentence}.\n" in told
    assert "nothing can be said about which method to trust: the clips come from 2 sources" in told
    assert "6 clips measured, 6 of them before" in told
    before = "there will be no verdict: the clips come from 2 sources, and 2 methods need 7 or more; try more"
    assert 0 <= told.find(before) < told.index("6 clips measured"), "before the work"


def test_what_is_measured_is_kept_until_something_changes(
    small_run: Path,
    evaluated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    shutil.copytree(evaluated, out)
    times = {path: path.stat().st_mtime_ns for path in _clip_files(out)}
    before = _values(out)

    def renewed(*args: object) -> list[Path]:
        assert _evaluate(small_run, "--out", out, *args) == 0
        new = {path: path.stat().st_mtime_ns for path in _clip_files(out)}
        found = [path for path, time in new.items() if times.get(path) != time]
        times.update(new)
        return found

    other, damaged, gone, *_ = _clip_files(out)
    content = json.loads(other.read_text())
    content["request"]["input"]["decoder"] = "pyav"
    other.write_text(json.dumps(content))
    damaged.write_text(damaged.read_text()[:500])
    gone.unlink()
    assert renewed() == [other, damaged, gone]
    assert "6 clips measured, 3 of them before" in capsys.readouterr().out
    assert _values(out) == _rounded(before)
    assert json.loads(other.read_text())["request"]["input"]["decoder"] == "decord"
    assert renewed("--batch-size", 2) == []
    assert len(renewed("--seed", 1)) == 6
    assert len(renewed("--seed", 1, "--again")) == 6
    monkeypatch.setattr(evaluation_jobs, "MEASURES_VERSION", evaluation_jobs.MEASURES_VERSION + 1)
    assert len(renewed("--seed", 1)) == 6


def test_two_processes_measure_the_same(small_run: Path, evaluated: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vidact", "evaluate", small_run, "--out", tmp_path / "out", *QUICK]
    command += ["--accelerator", "cpu", "--devices", "2", "--strategy", "ddp"]
    found = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    assert found.stdout.count("6 clips measured") == 1
    one, two = read_evaluation(evaluated), read_evaluation(tmp_path / "out")
    assert two.verdict == one.verdict
    for first, second in zip(one.rows, two.rows, strict=True):
        assert (second.method, second.key, second.subset) == (first.method, first.key, first.subset)
        assert second.mean == pytest.approx(first.mean, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_was_measured_before_an_interruption_is_not_lost(
    number: int,
    status: int,
    small_run: Path,
    evaluated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measure, calls = evaluation_jobs.measure, list[int]()

    def interrupted(*args: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
            time.sleep(1)  # the signal comes between two steps
        return measure(*args)  # type: ignore[arg-type]

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with monkeypatch.context() as patch:
            patch.setattr(evaluation_jobs, "measure", interrupted)
            assert _evaluate(small_run, "--out", tmp_path, "--batch-size", 2) == status
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(_clip_files(tmp_path)) == 4
    assert [path.name for path in tmp_path.rglob(".*")] == [CLAIM], "nothing half written"
    assert _evaluate(small_run, "--out", tmp_path) == 0
    assert "6 clips measured, 4 of them before" in capsys.readouterr().out
    assert _values(tmp_path) == _rounded(_values(evaluated))


def test_a_broken_clip_is_listed_and_the_rest_goes_on(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = evaluation_jobs.measure

    def broken(context: object, subjects: evaluation_jobs.Subjects) -> object:
        if any(name.startswith("right/") for name in subjects.clip_ids):
            raise DataError("cannot be explained")
        return measure(context, subjects)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation_jobs, "measure", broken)
    assert _evaluate(small_run, "--out", tmp_path) == 1
    told = capsys.readouterr().out
    assert {path.parent.name for path in _clip_files(tmp_path)} == {"left", "up"}
    assert told.count("cannot be explained") == 2
    assert "2 clips could not be measured" in told
    assert len(read_evaluation(tmp_path).left_out) == 2


def _other_set(root: Path, small_set: Path, *, names: tuple[str, ...] = ("new_film", "other_film")) -> Path:
    """Make a data set of another name and other sources, with masks, out of the clips of the small one."""
    for label in (*CLASSES, "expand"):
        clips = sorted((small_set / "videos" / label).glob("*.avi"))
        for number, name in enumerate(names):
            stem = f"{name}_{label}_f_nm_np1_fr_goo_0"
            for part, ending in (("videos", ".avi"), ("masks", ".npz")):
                (root / part / label).mkdir(parents=True, exist_ok=True)
                source = small_set / part / label / f"{clips[number].stem}{ending}"
                shutil.copy(source, root / part / label / f"{stem}{ending}")
    return root


def test_another_data_set_is_evaluated_without_what_the_run_knows(
    small_run: Path, small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((small_run / "split.json").read_text())
    known = named_clip(record["training"][0]).source
    root = _other_set(tmp_path / "set", small_set, names=("new_film", known))
    assert _evaluate(small_run, "--root", root, "--out", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert "3 of 6 clips are skipped: their name, source or film is among the clips" in told
    assert "only the data set knows 1 classes, which are not evaluated: expand" in told
    evaluation = read_evaluation(tmp_path / "out")
    assert (evaluation.clips, evaluation.data, evaluation.class_names) == (3, "set", CLASSES)
    assert evaluation.row("gradient", f"rma/{KIND}") is not None
    assert all(path.stem.startswith("new_film") for path in _clip_files(tmp_path / "out"))


def test_a_table_with_groups_does_not_hide_what_the_run_learned_from(small_run: Path, small_set: Path) -> None:
    run = open_run(small_run)
    table = small_run.parent / "groups.csv"
    clips = index_clips(small_set, classes=CLASSES)
    rows = [f"{clip.path},{clip.class_name},group{number}" for number, clip in enumerate(clips)]
    table.write_text("\n".join(["path,class,group", *rows]))
    record = json.loads((small_run / "split.json").read_text())
    learned = [*record["training"], *record["validation"]]
    films = {clip.film for clip in clips if clip.clip_id in learned}
    of_table = replace(run, config={**run.config, "data": {**run.data_settings, "root": str(table)}})
    for trained, measured_on in ((of_table, small_set), (run, table)):
        found = choose_clips(trained, Choice(root=str(measured_on)))
        assert found.windows
        ids = {window.clip.clip_id for window in found.windows}
        assert ids.isdisjoint(learned)
        assert films.isdisjoint(named_clip(clip_id).film for clip_id in ids)
    groups = [f"{clip.path},{clip.class_name},{clip.class_name}" for clip in clips]
    table.write_text("\n".join(["path,class,group", *groups]))
    with pytest.raises(DataError, match="no clip is left to evaluate: .*their name, source or film"):
        choose_clips(of_table, Choice(root=str(table)))


def test_a_set_without_masks_has_no_localisation(
    small_run: Path, small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _other_set(tmp_path / "set", small_set)
    shutil.rmtree(root / "masks")
    assert _evaluate(small_run, "--root", root, "--out", tmp_path / "out", "--measures", "[localisation]") == 2
    assert "--measures localisation: the data set has no masks" in capsys.readouterr().err
    assert _evaluate(small_run, "--root", root, "--out", tmp_path / "out", "--num-clips", 3) == 0
    evaluation = read_evaluation(tmp_path / "out")
    assert {row.measure for row in evaluation.rows} == {"abpc", "aopc", "deletion", "insertion", "sparseness"}
    assert evaluation.verdict.criteria == ("abpc/tubes/blur",)
    assert evaluation.clips == 3
    assert len({path.parent.name for path in _clip_files(tmp_path / "out")}) == 3


def test_masks_may_lie_elsewhere(small_run: Path, small_set: Path, tmp_path: Path) -> None:
    run, elsewhere = open_run(small_run), tmp_path / "truth_of_masks"
    shutil.copytree(small_set / "masks", elsewhere)
    found = choose_clips(run, Choice(masks_folder=str(elsewhere)))
    assert found.masks is not None
    assert found.masks.folder == elsewhere
    assert KIND in found.mask_kinds
    own, gone = (
        replace(run, config={**run.config, "data": {**run.data_settings, "masks": str(place)}})
        for place in (elsewhere, tmp_path / "gone")
    )
    found = choose_clips(own, Choice())
    assert found.masks is not None
    assert found.masks.folder == elsewhere
    found = choose_clips(gone, Choice())
    assert found.masks is not None
    assert found.masks.folder == small_set / "masks"
    assert "is not there any more; --masks_folder names another" in found.notes[-1]
    root = _other_set(tmp_path / "set", small_set)
    shutil.rmtree(root / "masks")
    assert choose_clips(own, Choice(root=str(root))).masks is None, "they are of the run's own data"
    out = tmp_path / "out"
    assert _evaluate(small_run, "--masks-folder", elsewhere, "--out", out, "--measures", "[localisation]") == 0
    assert read_evaluation(out).settings["masks_folder"] == elsewhere.name


def test_reliance_is_measured_where_a_set_has_clips_without_their_confounder(
    small_run: Path, small_set: Path, tmp_path: Path
) -> None:
    root = _other_set(tmp_path / "set", small_set)
    shutil.copytree(root / "videos" / "left", root / "without_confounder" / "left")
    (clip, other) = sorted((root / "without_confounder" / "left").iterdir())
    shutil.copy(root / "videos" / "up" / f"{clip.name.replace('_left_', '_up_')}", clip)
    assert _evaluate(small_run, "--root", root, "--out", tmp_path / "out") == 0
    found = {path.stem: json.loads(path.read_text())["values"] for path in _clip_files(tmp_path / "out")}
    assert found[clip.stem]["network"]["reliance"] != 0
    assert found[other.stem]["network"]["reliance"] == pytest.approx(0, abs=1e-5)
    assert found[f"{other.stem.replace('_left_', '_up_')}"].get("network", {}).get("reliance") is None
    row = read_evaluation(tmp_path / "out").row("network", "reliance")
    assert row is not None
    assert (row.clips, row.undefined) == (2, 4)
    assert "## Reliance" in (tmp_path / "out" / "evaluation.md").read_text()


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.filterwarnings("ignore")
def test_a_network_of_single_frames_is_evaluated(
    small_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", "--data.root", small_set, "--data.num_frames", 1, "--data.size", 16, "--data.num_workers", 0]
    fit += ["--data.classes", "[left, right]", "--trainer.max_epochs", 1, "--trainer.accelerator", "cpu"]
    fit += ["--trainer.default_root_dir", tmp_path, "--report", "false", "--relevance.every_n_epochs", 0]
    fit += ["--model.network.init_args.differences", "false"]  # a single frame has none
    assert main(list(map(str, fit))) == 0
    own = ["--accelerator", "cpu", "--methods", "[gradient]", "--num-steps", "3", "--random-orders", "2"]
    assert main(["evaluate", str(tmp_path / "version_0"), "--out", str(tmp_path / "out"), *own]) == 0
    told = capsys.readouterr().out
    assert "clips of 1 frame: skipped are tubes with temporal_mean, frames with blur, frames with freeze" in told
    evaluation = read_evaluation(tmp_path / "out")
    assert {row.detail for row in evaluation.rows if row.measure == "abpc"} == {"tubes/blur"}
    assert evaluation.verdict.criteria[0] == "abpc/tubes/blur"


def test_several_runs_are_compared(small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twin = tmp_path / "twin" / "version_0"
    shutil.copytree(small_run, twin, ignore=shutil.ignore_patterns("wandb", "last.ckpt"))
    (twin / "split.json").unlink()
    assert _evaluate(small_run, twin, "--out", tmp_path / "out") == 0
    told = capsys.readouterr().out
    first, second = f"{small_run.parent.name}_version_0", "twin_version_0"
    assert f"{second}: the run recorded no split (split.json); its clips were divided again, by its settings" in told
    one, two = read_evaluation(tmp_path / "out" / first), read_evaluation(tmp_path / "out" / second)
    assert [row.mean for row in one.rows] == pytest.approx([row.mean for row in two.rows])
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [agreement["key"] for agreement in comparison["agreements"]] == ["abpc/tubes/blur", f"rma/{KIND}"]
    for agreement in comparison["agreements"]:
        assert agreement["pairs"] == [[first, second, pytest.approx(1)]]
        assert agreement["methods"] == ["gradient", "grad_cam"]
    assert set(comparison["runs"]) == {first, second}
    assert "Kendall's τ" in (tmp_path / "out" / "comparison.md").read_text()


def test_the_evaluation_of_another_checkpoint_is_not_overwritten(
    small_run: Path, evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(evaluated, out)
    before = (out / "evaluation.json").read_bytes()
    last = small_run / "checkpoints" / "last.ckpt"
    assert _evaluate(last, "--out", out) == 2
    assert "holds the evaluation of another checkpoint (version_0); choose another --out" in capsys.readouterr().err
    assert (out / "evaluation.json").read_bytes() == before
    assert _evaluate(last, "--out", out, "--again") == 0
    assert (out / "evaluation.json").read_bytes() != before


def test_the_evaluation_of_other_clips_is_not_overwritten(
    small_run: Path, small_set: Path, evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, root = tmp_path / "out", _other_set(tmp_path / "set", small_set)
    shutil.copytree(evaluated, out)
    before = (out / "evaluation.json").read_bytes()
    assert _evaluate(small_run, "--out", out, "--part", "test") == 2
    told = capsys.readouterr().err
    assert "holds the evaluation of other clips (part validation, not part test); choose another --out" in told
    assert _evaluate(small_run, "--out", out, "--root", root) == 2
    assert "other clips (part validation, not data set set); choose another --out" in capsys.readouterr().err
    assert (out / "evaluation.json").read_bytes() == before
    assert _evaluate(small_run, "--out", out, "--root", root, "--again") == 0
    assert read_evaluation(out).data == "set"
    assert _evaluate(small_run, "--out", out, "--root", root, "--part", "test") == 0, "of another set all clips are"


def test_each_part_and_data_set_has_a_folder_of_its_own() -> None:
    assert [folder_name(Choice()), folder_name(Choice("test"))] == ["evaluation", "evaluation_test"]
    names = [folder_name(Choice(root=root)) for root in ("/data/jhmdb/", "set_1.2", "/data/clips.csv")]
    assert names == ["evaluation_jhmdb", "evaluation_set_1.2", "evaluation_clips"]


def test_a_damaged_evaluation_is_replaced_with_again(
    small_run: Path, evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(evaluated, out)
    path = out / "evaluation.json"
    for damaged in (path.read_text()[:500], "{}"):
        path.write_text(damaged)
        assert _evaluate(small_run, "--out", out) == 2
        told = capsys.readouterr().err
        assert "evaluation.json: not what `python -m vidact evaluate` wrote" in told
        assert "replace it with --again" in told
    assert _evaluate(small_run, "--out", out, "--again") == 0
    assert read_evaluation(out).clips == 6


def test_settings_that_make_no_sense_are_refused() -> None:
    for settings, message in (
        ({"methods": ("gradiant",)}, "method 'gradiant' is unknown; nearest: gradient"),
        ({"methods": ("lrp:epsilon_pluss",)}, "epsilon_plus"),
        ({"methods": ("centre",)}, "one method or more beside the controls, which always run"),
        ({"methods": ("gradient", "gradient")}, "--methods: a name is given twice"),
        ({"measures": ("perturbations",)}, "'perturbations' is unknown; nearest: perturbation"),
        ({"measures": ()}, "--measures expects one or more of"),
        ({"units": ("tube",)}, "--units: 'tube' is unknown; nearest: tubes"),
        ({"units": ()}, "--units expects one or more of"),
        ({"fills": ("blurr",)}, "--fills: 'blurr' is unknown; nearest: blur"),
        ({"fills": ("freeze",), "units": ("tubes",)}, "none of them suits tubes; add blur"),
        ({"target": "true"}, "--target: 'true' is unknown"),
        ({"num_steps": 0}, "--num_steps must be at least 1, got 0"),
        ({"seed": -1}, "--seed must be at least 0, got -1"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            EvaluateSettings(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["{run}", "--methods", "[gradiant]"], 2, "method 'gradiant' is unknown; nearest: gradient"),
        (["{run}", "--masks", "[nobody]"], 2, "--masks: 'nobody' is unknown; there are "),
        (["{run}", "--part", "training"], 2, "--part is one of validation, test, got 'training'"),
        (["{run}", "--num-clips", "2"], 2, "--num_clips 2: equally many of each class are drawn, and there are 3"),
        (["{run}", "--num-clips", "0"], 2, "--num_clips is at least 1, or null for all, got 0"),
        (["{run}", "--root", "{none}"], 2, "no such folder"),
        (["{run}", "--masks-folder", "{none}"], 2, "none: no such folder"),
        (["{run}", "--root", "{strange}"], 2, "has none of the classes that the network knows (left, right, up)"),
        (["{none}"], 2, "no such run folder or checkpoint"),
        (["{run}", "{run}"], 2, "is given twice"),
        (["{run}", "--devices", "99"], 2, "--devices 99: this machine has"),
        (["{run}", "--out", "{file}"], 3, "cannot be written"),
        ([], 2, "runs"),
    ],
)
def test_a_mistake_gives_one_line_and_nothing_is_measured(
    small_run: Path,
    small_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    status: int,
    message: str,
) -> None:
    (tmp_path / "file").write_text("in the way")
    strange = tmp_path / "strange" / "sing"
    strange.mkdir(parents=True)
    shutil.copy(next((small_set / "videos" / "left").glob("*.avi")), strange / "a.avi")
    names = {"run": small_run, "none": tmp_path / "none", "file": tmp_path / "file", "strange": strange.parent}
    words = [word.format(**names) for word in args]
    out = [] if "--out" in words else ["--out", str(tmp_path / "out")]
    assert main(["evaluate", *words, *out, "--accelerator", "cpu"]) == status
    found = capsys.readouterr()
    assert message in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("evaluation.*"))
