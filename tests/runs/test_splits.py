"""A network is trained on with the clips it began with, and measured on none that it has seen."""

import hashlib
import json
import shutil
import warnings
from pathlib import Path

import pytest

from vidact.cli.main import main
from vidact.core.errors import ConfigError
from vidact.runs.splits import read_kept_split, require_same_clips, require_unseen

KEPT = {"training": ["a", "b", "c"], "validation": ["d"], "test": ["e"]}
RUN = Path("runs/version_0")


def test_the_same_clips_in_another_order_are_the_same_training() -> None:
    require_same_clips(KEPT, {**KEPT, "training": ["c", "b", "a"], "test": ["e", "f"]}, folder=RUN)
    require_same_clips({}, KEPT, folder=RUN)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"training": ["a", "c"]}, r"of its training clips 1 are not there any more \(b\); bring back"),
        ({"validation": ["d", "x"]}, r"of its validation clips 1 are new \(x\); bring back"),
        (
            {"training": ["p", "q", "r", "s"]},
            r"3 are not there any more \(a, b, c\) and 4 are new \(p, q, r, …\); bring back",
        ),
    ],
)
def test_other_clips_are_named(now: dict[str, list[str]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        require_same_clips(KEPT, {**KEPT, **now}, folder=RUN)


def test_clips_whose_files_changed_are_named() -> None:
    kept = {**KEPT, "sha1": {"a": "1", "b": "2", "c": "3", "d": ""}}
    require_same_clips(kept, kept, folder=RUN)
    require_same_clips(KEPT, kept, folder=RUN)  # an older version kept none
    require_same_clips(kept, KEPT, folder=RUN)
    with pytest.raises(ConfigError, match=r"of its training clips 2 have other files than then \(b, c\); bring back"):
        require_same_clips(kept, {**kept, "sha1": {"a": "1", "b": "9", "c": "", "d": ""}}, folder=RUN)
    with pytest.raises(ConfigError, match=r"of its validation clips 1 have other files than then \(d\); bring back"):
        require_same_clips(kept, {**kept, "sha1": {**kept["sha1"], "d": "4"}}, folder=RUN)
    with pytest.raises(ConfigError, match=r"1 are not there any more \(a\) and 1 have other files than then \(b\)"):
        require_same_clips(kept, {**kept, "training": ["b", "c"], "sha1": {"b": "9", "c": "3", "d": ""}}, folder=RUN)


FIT = ["fit", "--data.root", "set", "--data.num_frames", "4", "--data.size", "16", "--data.num_workers", "0"]
FIT += ["--data.classes", "[left, right, up]", "--trainer.accelerator", "cpu", "--relevance.every_n_epochs", "0"]
FIT += ["--trainer.enable_progress_bar", "false", "--report", "false"]


@pytest.fixture(scope="module")
def trained(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and a run of one epoch, to be copied."""
    folder = tmp_path_factory.mktemp("splits")
    shutil.copytree(small_set, folder / "set")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.chdir(folder)
        patch.setenv("VIDACT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setenv("WANDB_MODE", "disabled")
        assert main([*FIT, "--trainer.max_epochs", "1"]) == 0
    return folder


@pytest.fixture
def here(trained: Path, elsewhere: None, tmp_path: Path) -> None:
    """A copy of that folder, the current one."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)


@pytest.mark.usefixtures("here")
@pytest.mark.filterwarnings("ignore")
def test_clips_whose_content_changed_end_a_run_that_would_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    path = RUN / "split.json"
    kept = json.loads(path.read_text())
    changed = kept["training"][3]
    file = Path("set/videos", f"{changed}.avi")
    original = file.read_bytes()
    assert kept["sha1"][changed] == hashlib.sha1(original).hexdigest()
    assert set(kept["sha1"]) == {*kept["training"], *kept["validation"]}
    file.write_bytes(Path("set/videos", f"{kept['training'][4]}.avi").read_bytes())
    again = [*FIT, "--trainer.max_epochs", "2", "--ckpt_path", "last"]
    capsys.readouterr()
    assert main(again) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"of its training clips 1 have other files than then ({changed}); bring back the data as it was" in said
    file.write_bytes(original)
    path.write_text(json.dumps({name: value for name, value in kept.items() if name != "sha1"}))
    assert main(again) == 0
    assert json.loads(path.read_text()) == kept


def test_clips_that_were_trained_on_measure_nothing() -> None:
    require_unseen(KEPT, ["d", "e", "f"], part="test", folder=RUN)
    require_unseen({}, ["a"], part="test", folder=RUN)
    with pytest.raises(
        ConfigError, match=r"^2 of the 3 test clips .* \(a, b\).*: --data.split runs/version_0/split.json$"
    ):
        require_unseen(KEPT, ["b", "e", "a"], part="test", folder=RUN, can_divide=True)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"training": ["a"]}'])
def test_a_run_without_a_split_that_can_be_read_is_compared_with_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "split.json").write_text(content)
    expected = json.loads(content) if content.endswith("}") else {}
    assert read_kept_split(tmp_path) == expected
    assert read_kept_split(None) == read_kept_split(tmp_path / "elsewhere") == {}


@pytest.mark.usefixtures("here")
@pytest.mark.filterwarnings("ignore")
def test_clips_that_vanish_do_not_move_others_from_training_to_test(
    small_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The split by source gives the sources that are left other sides."""
    kept = json.loads((RUN / "split.json").read_text())
    source = Path(kept["test"][0]).name.split("_")[0]
    for path in Path("set/videos").rglob(f"{source}_*"):
        path.unlink()
    capsys.readouterr()
    assert main([*FIT, "--trainer.max_epochs", "2", "--ckpt_path", "last"]) == 2
    assert "training can be resumed only with the clips that it began with" in capsys.readouterr().err.splitlines()[-1]
    assert json.loads((RUN / "split.json").read_text()) == kept
    best = RUN / "checkpoints/best.ckpt"
    for measure in (["test", "--config", str(RUN / "config.yaml"), "--ckpt_path", str(best)], ["accuracy", str(RUN)]):
        assert main(measure) == 2
        assert "test clips are among those that the network was trained on" in capsys.readouterr().err.splitlines()[-1]
    shutil.copytree(small_set, "set", dirs_exist_ok=True)
    test = ["test", "--config", str(RUN / "config.yaml"), "--ckpt_path", str(best)]
    assert main([*test, "--data.fold", "2"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(": --data.split runs/version_0/split.json")
    assert main([*test, "--data.split", str(RUN / "split.json")]) == 0
