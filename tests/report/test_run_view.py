import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from vidact.core.clips import as_float
from vidact.core.errors import ConfigError
from vidact.data.video.reading import read_frames
from vidact.report.contents import RunView
from vidact.report.run_facts import read_curves
from vidact.report.run_view import ReportSettings, score_rows, view_run
from vidact.runs.accuracy.parts import choose_clips, measure_part
from vidact.runs.run import open_run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def view(small_run: Path) -> RunView:
    return view_run(small_run, settings=ReportSettings(clips_per_class=1, mistakes=2), device=CPU)


def test_every_clip_is_scored_as_the_network_scores_it(small_run: Path, view: RunView) -> None:
    """Each clip read and scored on its own, from its file."""
    run, data = open_run(small_run), open_run(small_run).build_data()
    data.prepare_data()
    data.setup("validate")
    windows = data.val_dataloader().dataset.windows  # type: ignore[attr-defined]
    assert len(view.outcomes) == len(windows)
    for window, outcome in zip(windows, view.outcomes, strict=True):
        video = read_frames(window.clip.path, window.frame_numbers, size=(16, 16), gray=True)
        with torch.no_grad():
            probabilities = run.network(as_float(video[None])).softmax(dim=1)[0]
        assert outcome.clip_id == window.clip.clip_id
        assert (outcome.true, outcome.predicted) == (window.clip.label, int(probabilities.argmax()))
        assert outcome.probability == pytest.approx(float(probabilities.max()), abs=1e-5)


def test_the_accuracy_is_the_share_of_right_outcomes_inside_its_interval(view: RunView) -> None:
    right = [outcome.true == outcome.predicted for outcome in view.outcomes]
    assert view.accuracy is not None
    assert view.accuracy.value == pytest.approx(np.mean(right))
    assert view.accuracy.low <= view.accuracy.value <= view.accuracy.high
    assert view.chance == pytest.approx(1 / 3, abs=1e-4)
    assert sum(interval.count for _, interval in view.per_class) == len(view.outcomes)
    assert {name for name, _ in view.baselines} >= {"clip length", "source"}


def test_the_clips_are_explained_for_what_they_are_taken_for_and_what_they_are(view: RunView) -> None:
    assert view.clips
    for clip in view.clips:
        assert clip.true_class is not None
        roles = {(one.method, one.role): one.target for one in clip.explanations}
        predicted = clip.probabilities[0][0]
        assert roles["lrp:epsilon_plus", "predicted"] == predicted
        assert (("lrp:epsilon_plus", "true") in roles) == (predicted != clip.true_class)
        assert {method for method, _ in roles} == {"lrp:epsilon_plus", "gradient_x_input"}
        for one in clip.explanations:
            assert (one.conservation is None) == (one.method == "gradient_x_input")
        assert clip.video.shape[0] == 3


def test_lrp_is_by_the_composite_that_the_run_was_trained_with(small_run: Path, tmp_path: Path) -> None:
    for number, (relevance, expected) in enumerate(
        [
            ({"composite": "epsilon_gamma"}, "lrp:epsilon_gamma"),
            ({"composite": "my.yaml"}, "lrp:epsilon_plus"),
            ({"method": "gradient"}, "lrp:epsilon_plus"),
            ({"method": "lrp:cp_lrp"}, "lrp:cp_lrp"),
        ]
    ):
        folder = tmp_path / str(number)
        shutil.copytree(small_run, folder, ignore=shutil.ignore_patterns("wandb", "last.ckpt"))
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["relevance"] |= relevance
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        found = view_run(folder, settings=ReportSettings(methods=("lrp",), clips_per_class=1, mistakes=0), device=CPU)
        assert {one.method for clip in found.clips for one in clip.explanations} == {expected}


def test_the_worst_share_on_voxels_is_the_one_farthest_from_all(view: RunView) -> None:
    told = (
        ("a", 0.99, "99.0 % on voxels"),
        ("b", 0.7, "70.0 % on voxels, 30.0 % on the bias of stem.0"),
        ("c", 1.1, ""),
    )
    clip = next(clip for clip in view.clips)
    frames = next(one for one in clip.explanations)
    made = [replace(frames, target=name, conservation=share, where=where) for name, share, where in told]
    without = replace(frames, conservation=None)
    rows = score_rows([replace(clip, explanations=(*made, without))])
    assert rows == {
        "on voxels, mean": "93.0 % of 3 explanations",
        "on voxels, worst": "70.0 % on voxels, 30.0 % on the bias of stem.0",
    }
    assert score_rows([replace(clip, explanations=(without,))]) == {}


def test_each_explanation_of_a_report_says_where_its_score_is(view: RunView) -> None:
    for one in (one for clip in view.clips for one in clip.explanations):
        assert " % on voxels" in one.where
    assert [name for name, _ in view.conservation] == ["on voxels, mean", "on voxels, worst"]


def test_the_draw_does_not_know_what_the_network_says_but_the_mistakes_do(small_run: Path) -> None:
    measured = measure_part(open_run(small_run), "validation", device=CPU)
    drawn = choose_clips(measured, clips_per_class=1, num_mistakes=0)
    assert sorted(measured.label[drawn].tolist()) == [0, 1, 2]
    wrong = (~measured.is_right).nonzero().flatten().tolist()
    more = choose_clips(measured, clips_per_class=1, num_mistakes=len(wrong))
    assert more[:3] == drawn
    assert set(more) == {*drawn, *wrong}
    sureness = [float(measured.probabilities[clip].max()) for clip in more[3:]]
    assert sureness == sorted(sureness, reverse=True)


def test_the_curves_are_those_of_the_metrics_file(small_run: Path, view: RunView) -> None:
    with (small_run / "metrics.csv").open() as file:
        losses = [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]
    (curves, confusion, per_class) = view.pictures
    assert f"validation {losses[-1]:.3g}" in curves.alt
    assert "on the diagonal" in confusion.alt
    assert all(name in per_class.alt for name in view.class_names)
    assert all(picture.svg.lstrip().startswith("<?xml") or "<svg" in picture.svg[:400] for picture in view.pictures)


def test_a_run_whose_data_is_gone_still_makes_a_report(small_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(small_run, tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())  # which says where clips lie, not the checkpoint
    config["data"]["root"] = str(tmp_path / "moved")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    found = view_run(run, settings=ReportSettings(), device=CPU)
    assert found.accuracy is None
    assert not found.clips
    assert "no clip could be measured" in found.left_out[0]
    assert dict(found.facts)["network"].startswith("SlimResNet3D")
    assert found.split, "the run folder tells"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part": "training"}, "part is one of"),
        ({"methods": ()}, "expected methods"),
        ({"mistakes": -1}, "of 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ReportSettings(**settings)  # type: ignore[arg-type]


def test_epochs_that_a_callback_logs_as_decimals_are_epochs(tmp_path: Path) -> None:
    """As faithfulness is logged while a network trains."""
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss_epoch,val/loss\n0,3,1.5,1.25\n0.0,3,,\n1,7,0.5,\n")
    curves = read_curves(tmp_path, best_epoch=1)
    assert curves is not None
    assert curves.epochs.tolist() == [0, 1]
    assert curves.losses["training"].tolist() == [1.5, 0.5]
