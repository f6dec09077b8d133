import json
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from vidact.cli.main import main
from vidact.core.clips import as_float
from vidact.core.errors import ConfigError, EnvironmentProblem
from vidact.data import preparation
from vidact.data.preparation import examine
from vidact.runs.accuracy.table import _accuracy, _Measured, table, trained_frame_order
from vidact.runs.run import open_run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]


def _by_hand(folder: Path, *, order: str) -> tuple[list[int], list[int], list[str]]:
    """Score each test clip's windows one by one; frames are put in order here."""
    run = open_run(folder)
    data = run.build_data()
    data.prepare_data()
    data.setup("test")
    labels, probabilities, sources = {}, defaultdict(list), {}
    dataset = data.test_dataloader().dataset
    for row, window in enumerate(dataset.windows):
        video = as_float(dataset[row].video)
        if order == "frozen":
            video = video[:, :, [video.shape[2] // 2] * video.shape[2]]
        elif order == "reversed":
            video = video.flip(2)
        with torch.no_grad():
            probabilities[window.clip_index].append(run.network(video).softmax(1)[0].numpy())
        labels[window.clip_index], sources[window.clip_index] = window.clip.label, window.clip.source
    guesses = [int(np.mean(probabilities[clip], axis=0).argmax()) for clip in labels]
    return list(labels.values()), guesses, list(sources.values())


def _measure(out: Path, *args: str) -> list[dict[str, object]]:
    assert main(["accuracy", *args, "--out", str(out), "--accelerator", "cpu"]) == 0
    return json.loads(out.read_text())["accuracies"]


ORDERS = ("natural", "frozen", "reversed")


def test_it_is_the_share_of_clips_that_the_network_takes_for_what_they_are(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each order of frames; the data are divided and searched for leaks once for all."""
    examined = []
    monkeypatch.setattr(preparation, "examine", lambda *args: examined.append(args) or examine(*args))
    rows = _measure(tmp_path / "a.json", str(small_run), "--frame_orders", f"[{', '.join(ORDERS)}]")
    assert len(examined) == 1
    assert [row["frame_order"] for row in rows] == list(ORDERS)
    for row in rows:
        truth, guesses, sources = _by_hand(small_run, order=row["frame_order"])
        assert row["clips"]["value"] == pytest.approx(np.mean(np.array(truth) == guesses))
        assert row["classes"] == pytest.approx(balanced_accuracy_score(truth, guesses))
        assert row["clips"]["count"] == len(truth)
        assert row["clips"]["num_groups"] == len(set(sources))
        assert row["chance"] == pytest.approx(1 / 3)
        assert row["clips"]["low"] <= row["clips"]["value"] <= row["clips"]["high"]


def test_several_runs_are_measured_together_by_source(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same network twice: the mean stays, and so does the interval, since its clips are no new evidence."""
    again = shutil.copy(open_run(small_run).checkpoint, tmp_path / "again.ckpt")
    one, two, both, ensemble = _measure(tmp_path / "a.json", str(small_run), str(again))
    assert one == two | {"name": one["name"]}
    assert ensemble == one | {"name": "ensemble", "parameters": 2 * one["parameters"]}
    assert both["name"] == "all"
    assert both["clips"]["value"] == pytest.approx(one["clips"]["value"])
    assert both["clips"]["count"] == 2 * one["clips"]["count"]
    assert both["clips"]["num_groups"] == one["clips"]["num_groups"]
    assert both["clips"]["high"] == pytest.approx(one["clips"]["high"], abs=0.02)
    said = capsys.readouterr().out
    assert f"{100 * one['clips']['value']:.1f} %" in said
    assert "| all " in said


def test_a_run_that_is_given_twice_is_refused(small_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = str(open_run(small_run).checkpoint)
    assert main(["accuracy", str(small_run), best, "--accelerator", "cpu"]) == 2
    assert "best.ckpt is given more than once; give each run once" in capsys.readouterr().err


def test_two_checkpoints_of_one_run_are_told_apart(small_run: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(small_run, copied)
    shutil.copy(copied / "checkpoints/best.ckpt", copied / "checkpoints/other.ckpt")
    rows = _measure(tmp_path / "a.json", *(str(copied / f"checkpoints/{name}.ckpt") for name in ("best", "other")))
    names = [str(row["name"]) for row in rows]
    assert [Path(name).name for name in names[:2]] == ["best.ckpt", "other.ckpt"]


def test_frames_are_ordered_as_in_training_unless_another_order_is_named(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(open_run(small_run).checkpoint, weights_only=True)
    content["vidact_config"] = content["vidact_config"].replace("frame_order: natural", "frame_order: frozen")
    torch.save(content, tmp_path / "frozen.ckpt")
    (own,) = _measure(tmp_path / "a.json", str(tmp_path / "frozen.ckpt"))
    (frozen,) = _measure(tmp_path / "b.json", str(small_run), "--frame_orders", "[frozen]")
    assert own == frozen | {"name": own["name"]}
    (natural,) = _measure(tmp_path / "c.json", str(tmp_path / "frozen.ckpt"), "--frame_orders", "[natural]")
    assert natural["frame_order"] == "natural"
    assert main(["accuracy", str(small_run), str(tmp_path / "frozen.ckpt"), "--accelerator", "cpu"]) == 2
    assert "(version_0 with natural, frozen with frozen); name --frame_orders" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_of_more_epochs_than_are_now_wanted_is_measured(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long training would last is no matter for `test`."""
    monkeypatch.chdir(tmp_path)
    args = ["test", "--config", str(small_run / "config.yaml"), "--trainer.max_epochs", "1"]
    args += ["--trainer.default_root_dir", str(tmp_path)]
    assert main([*args, "--ckpt_path", str(small_run / "checkpoints" / "last.ckpt")]) == 0


def test_runs_of_one_name_are_told_apart_by_their_order_of_frames(small_run: Path) -> None:
    run = open_run(small_run)
    other = replace(run, config={**run.config, "data": {**run.data_settings, "frame_order": "frozen"}})
    with pytest.raises(ConfigError, match="version_0 with natural, version_0 with frozen"):
        trained_frame_order([run, other])


def test_an_ensemble_averages_the_probabilities_of_runs_on_the_same_clips(small_run: Path, tmp_path: Path) -> None:
    content = torch.load(open_run(small_run).checkpoint, weights_only=True)
    key = next(name for name in reversed(content["state_dict"]) if name.endswith("bias"))
    content["state_dict"][key] += torch.tensor([0.3, -0.1, -0.2])  # another network, and not a worse one by far
    torch.save(content, tmp_path / "other.ckpt")
    *_, ensemble = _measure(tmp_path / "a.json", str(small_run), str(tmp_path / "other.ckpt"))
    assert ensemble["name"] == "ensemble"
    means = defaultdict(list)
    for path in (small_run, tmp_path / "other.ckpt"):
        run = open_run(path)
        data = run.build_data()
        data.prepare_data()
        data.setup("test")
        dataset = data.test_dataloader().dataset
        for row, window in enumerate(dataset.windows):
            with torch.no_grad():
                scores = run.network(as_float(dataset[row].video)).softmax(1)[0].numpy()
            means[window.clip_index, window.clip.label].append(scores)
    right = [int(np.mean(scores, axis=0).argmax()) == label for (_, label), scores in means.items()]
    assert ensemble["clips"]["value"] == pytest.approx(np.mean(right))


def test_runs_on_other_clips_are_no_ensemble(small_run: Path, tmp_path: Path) -> None:
    content = torch.load(open_run(small_run).checkpoint, weights_only=True)
    assert "  fold: 1\n" in content["vidact_config"]
    content["vidact_config"] = content["vidact_config"].replace("  fold: 1\n", "  fold: 2\n")
    torch.save(content, tmp_path / "other.ckpt")
    rows = _measure(tmp_path / "a.json", str(small_run), str(tmp_path / "other.ckpt"))
    assert [row["name"] for row in rows][2:] == ["all"]


def test_mirror_images_count_where_the_run_says_so(small_run: Path, tmp_path: Path) -> None:
    run = open_run(small_run)
    assert not run.mirror_at_test
    content = torch.load(run.checkpoint, weights_only=True)
    content["vidact_config"] = content["vidact_config"].replace("mirror_at_test: false", "mirror_at_test: true")
    torch.save(content, tmp_path / "mirrored.ckpt")
    assert open_run(tmp_path / "mirrored.ckpt").mirror_at_test
    (row,) = _measure(tmp_path / "a.json", str(tmp_path / "mirrored.ckpt"))
    data = run.build_data()
    data.prepare_data()
    data.setup("test")
    right = []
    for window in data.test_dataloader().dataset:
        video = as_float(window.video)
        with torch.no_grad():
            mean = run.network(video).softmax(1) + run.network(video.flip(-1)).softmax(1)
        right.append(int(mean.argmax()) == int(window.label))
    assert row["clips"]["value"] == pytest.approx(np.mean(right))


def test_a_run_that_was_trained_on_crops_is_measured_frozen(small_run: Path, tmp_path: Path) -> None:
    content = torch.load(open_run(small_run).checkpoint, weights_only=True)
    text = content["vidact_config"].replace("crop_from: null", "crop_from: 24")
    content["vidact_config"] = text.replace("augmentation: null", "augmentation: {temporal_jitter: 1}")
    assert "crop_from: 24" in content["vidact_config"]
    torch.save(content, tmp_path / "cropped.ckpt")
    found = _measure(tmp_path / "a.json", str(tmp_path / "cropped.ckpt"), "--frame_orders", "[natural, frozen]")
    plain = _measure(tmp_path / "b.json", str(small_run), "--frame_orders", "[natural, frozen]")
    assert [row["clips"] for row in found] == [row["clips"] for row in plain]


@pytest.mark.parametrize(
    ("args", "status", "told"),
    [
        (
            ["--frame_orders", "[sideways]"],
            2,
            "--frame_orders: expected some of natural, shuffled, reversed, frozen, got",
        ),
        (["--frame_orders", "[natural, frozen, natural]"], 2, "--frame_orders: natural is given twice"),
        (["--part", "training"], 2, "--part is validation or test, got 'training'"),
        (["--accelerator", "tpux"], 2, "--accelerator must be auto, cpu or gpu, got 'tpux'"),
        (["--accelerator", "gpu"], 3, "--accelerator gpu: torch finds no GPU; try --accelerator cpu"),
    ],
)
def test_what_cannot_be_measured_is_named_before_a_run_is_opened_or_a_folder_made(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    args: list[str],
    status: int,
    told: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["accuracy", "nowhere", "--out", str(tmp_path / "new" / "a.json"), *args]) == status
    assert told in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_networks_of_different_sizes_have_no_common_number_of_parameters() -> None:
    one = _Measured(("a",), ("a",), torch.tensor([0]), torch.tensor([[0.9, 0.1]]), None, 10)
    row = _accuracy([one, replace(one, parameters=20)], name="all", order="natural")
    assert row.parameters is None
    assert table([row]).splitlines()[-1].endswith("| –          |")
    assert _accuracy([one, one], name="all", order="natural").parameters == 10


@pytest.mark.parametrize("place", ["file/a.json", "folder"])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured(
    place: str, small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("vidact.runs.accuracy.table.measure_accuracies", None)
    assert main(["accuracy", str(small_run), "--out", str(tmp_path / place)]) in (2, 3)
    found = capsys.readouterr()
    assert found.out == ""
    assert str(tmp_path / place.removesuffix("/a.json")) in found.err


def test_what_was_measured_is_shown_though_it_cannot_be_written(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **settings: object) -> None:
        raise EnvironmentProblem("the disk is full")

    monkeypatch.setattr("vidact.runs.accuracy.table.write_accuracies", fail)
    assert main(["accuracy", str(small_run), "--out", str(tmp_path / "a.json")]) == 3
    found = capsys.readouterr()
    assert "| natural |" in found.out
    assert "the disk is full" in found.err
