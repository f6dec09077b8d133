import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import wandb
import yaml
from wandb_offline import find_offline_runs, read_offline_run

from vidact import __version__
from vidact.cli.main import main
from vidact.data.datasets.index import index_clips
from vidact.data.splits.files import read_split_file

SMALL = ["--data.num_frames", "8", "--data.size", "16", "--data.batch_size", "9", "--data.num_workers", "0"]
SMALL += ["--data.classes", "[left, right, up]", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]


def _vidact(*args: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vidact", *map(str, args)]
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment | env)


def test_the_version_and_the_help_import_nothing_heavy() -> None:
    """So they answer at once; a test of time would depend on the machine."""
    code = """
import sys
from vidact.cli.main import main
for args in ("--version", "--help", "fit --help", "data synthesize --help", "evaluate --help"):
    try: main(args.split())
    except SystemExit: pass
    heavy = {"torch", "lightning", "wandb", "matplotlib", "numpy"} & set(sys.modules)
    assert not heavy, (args, heavy)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    assert "--random_orders" in found.stdout


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vidact {__version__}\n"


@pytest.fixture(scope="module")
def run(small_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of `fit` with two processes."""
    folder = tmp_path_factory.mktemp("fit")
    # Ranks divide 9 validation clips unevenly.
    found = _vidact(
        *("fit", "--data.root", small_set, *SMALL, "--relevance.clips_per_class", 3),
        *("--trainer.devices", 2, "--trainer.strategy", "ddp"),
        cwd=folder,
        NETRC=str(folder / "none"),
        VIDACT_CACHE=str(folder / "cache"),
    )
    assert found.returncode == 0, found.stderr[-3000:]
    (folder / "output.txt").write_text(found.stdout + found.stderr)
    (folder / "versions.txt").write_text("\n".join(path.name for path in (folder / "runs").iterdir()))
    return folder


def test_fit_with_two_processes_logs_each_explanation_once(run: Path) -> None:
    assert (run / "versions.txt").read_text() == "version_0"
    version = run / "runs" / "version_0"
    (offline,) = find_offline_runs(version)
    logged = read_offline_run(offline)
    _, rows = logged.table("explanation/clips")
    assert len(logged.values("explanation/clips")) == 1
    assert len(rows) == len({row[0] for row in rows}) == 6
    pictures = sorted((version / "explanations").rglob("*.overlay.png"))
    assert logged.values("explanation/overlay")[0]["count"] == len(pictures) >= 6
    assert {path.name.split(".")[0] for path in pictures} == {row[0].split("/")[1] for row in rows}
    assert len(logged.values("val/clip_accuracy")) == 1
    (report,) = logged.artifacts["report-version_0"]
    assert report.read_bytes() == (version / "report.html").read_bytes()
    assert "runs/version_0/report.html" in (run / "output.txt").read_text()
    assert logged.images("val/class_accuracy")[0].read_bytes() == (version / "class_accuracy_val.png").read_bytes()


def test_fit_says_where_everything_is(run: Path) -> None:
    said = (run / "output.txt").read_text()
    version = Path("runs/version_0")
    assert said.count("wandb: no key and no WANDB_MODE") >= 1
    for line in (
        f"run folder               {version}",
        f"{version}/explanations",
        f"wandb sync {version}/wandb/offline",
    ):
        assert line in said
    assert "best val/clip_accuracy" in said
    assert "guessed without a pixel  chance 33.3 %, majority class 33.3 %, tags 33.3 %" in said
    for name in ("best.ckpt", "last.ckpt"):
        assert zipfile.is_zipfile(run / version / "checkpoints" / name)
    assert (run / version / "confusion_val.png").is_file()


def test_the_split_and_its_leaks_are_kept_with_the_run(run: Path, small_set: Path) -> None:
    path = run / "runs/version_0/split.json"
    record = json.loads(path.read_text())
    assert read_split_file(path, index_clips(small_set, classes=["left", "right", "up"])).scheme == "source"
    assert read_offline_run(find_offline_runs(run)[0]).config["leakage"] == record["leakage"]


def test_the_runs_config_is_complete_and_in_wandb(run: Path) -> None:
    config = yaml.safe_load((run / "runs/version_0/config.yaml").read_text())
    assert config["data"]["size"] == 16
    assert config["model"]["network"]["init_args"]["widths"] == [8, 16, 32, 64]
    logged = read_offline_run(find_offline_runs(run)[0]).config
    assert logged["data"]["size"] == 16
    assert logged["model"]["network"]["class_path"] == "vidact.models.residual.SlimResNet3D"


@pytest.mark.filterwarnings("ignore")
def test_a_run_is_tested_and_resumed_from_its_own_files(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = run / "runs" / "version_0"
    monkeypatch.chdir(run)
    args = ["--config", str(version / "config.yaml"), "--trainer.devices", "1", "--trainer.strategy", "auto"]
    assert main(["test", *args, "--ckpt_path", str(version / "checkpoints/best.ckpt")]) == 0
    wandb.finish()
    assert "test/clip_accuracy" in capsys.readouterr().out
    assert (run / "runs/version_1/confusion_test.png").is_file()
    assert list((run / "runs/version_1/explanations/test").rglob("*.overlay.png"))

    assert main(["fit", *args, "--ckpt_path", "last", "--trainer.max_epochs", "2"]) == 0
    wandb.finish()
    assert not (run / "runs/version_2").exists(), "it goes on in the folder of the first epoch"
    epochs = (version / "metrics.csv").read_text().splitlines()[1:]
    assert {line.split(",")[0] for line in epochs} == {"0", "1"}


def test_predict_writes_each_windows_probabilities(run: Path, small_set: Path) -> None:
    version = run / "runs" / "version_0"
    found = _vidact(
        *("predict", "--config", version / "config.yaml", "--ckpt_path", version / "checkpoints/best.ckpt"),
        cwd=run,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    (path,) = (run / "runs").glob("*/predictions.csv")
    assert f"predictions              {path.relative_to(run)}" in found.stdout
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6, "the test part, although two processes share it"
    assert [row["window"] for row in rows] == [str(number) for number in range(6)]
    for row in rows:
        assert (small_set / "videos" / f"{row['clip']}.avi").is_file()
        assert sum(float(row[name]) for name in ("left", "right", "up")) == pytest.approx(1, abs=1e-4)


def _error(capsys: pytest.CaptureFixture[str], args: list[str]) -> str:
    """Run the command line, expect status 2, and give its one line."""
    capsys.readouterr()
    assert main(args) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vidact: error: ")]
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.filterwarnings("ignore")
class TestBadInput:
    @pytest.fixture(autouse=True)
    def _elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.chdir(tmp_path)
        yield
        wandb.finish()  # what a process does as it ends: these tests share one

    def test_an_unknown_verb(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "unknown verb 'fitt'; nearest: fit" in _error(capsys, ["fitt"])

    def test_no_such_folder(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "/nowhere: no such folder" in _error(capsys, ["fit", "--data.root", "/nowhere"])

    def test_a_folder_without_classes(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        assert "the folder is empty" in _error(capsys, ["fit", "--data.root", str(tmp_path)])

    def test_an_unknown_class(self, capsys: pytest.CaptureFixture[str], small_set: Path) -> None:
        line = _error(capsys, ["fit", "--data.root", str(small_set), "--data.classes", "[rigth, left]"])
        assert "class 'rigth' is not in" in line
        assert "nearest: right" in line

    def test_an_untrained_network_is_not_measured(self, capsys: pytest.CaptureFixture[str], small_set: Path) -> None:
        for verb in ("validate", "test", "predict"):
            line = _error(capsys, [verb, "--data.root", str(small_set), *SMALL])
            assert f"{verb} needs a trained network: --ckpt_path" in line

    def test_flags_win_wherever_they_stand(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["fit", "--data.root", "/mine", "--config", "demo", "--print_config"])
        assert yaml.safe_load(capsys.readouterr().out)["data"]["root"] == "/mine"

    def test_a_wandb_project_that_is_refused(
        self, capsys: pytest.CaptureFixture[str], small_set: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WANDB_PROJECT", "a/b")
        assert "WANDB_PROJECT 'a/b': wandb refuses" in _error(capsys, ["fit", "--data.root", str(small_set), *SMALL])

    def test_a_missing_config(self, capsys: pytest.CaptureFixture[str]) -> None:
        line = _error(capsys, ["fit", "--config", "hmdb52"])
        assert (
            "no such file, and no recipe of that name; there are demo, hmdb51, hmdb51_attention, hmdb51_fusion" in line
        )

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("gone.ckpt", "no such file"),
            ("http://127.0.0.1/a.ckpt", "addresses are refused"),
            ("last", "no run in runs has a last.ckpt; nothing was started"),
            ("empty.ckpt", "not a whole checkpoint (0 bytes"),
            ("foreign.ckpt", "not a checkpoint that `fit` has written"),
            ("pickle.ckpt", "not a whole checkpoint"),
        ],
    )
    def test_a_checkpoint_that_is_none(
        self, capsys: pytest.CaptureFixture[str], small_set: Path, tmp_path: Path, name: str, message: str
    ) -> None:
        (tmp_path / "empty.ckpt").touch()
        torch.save({"x": 1}, tmp_path / "foreign.ckpt")
        torch.save({"x": Path()}, tmp_path / "pickle.ckpt")  # needs code to be run
        line = _error(capsys, ["fit", "--data.root", str(small_set), *SMALL, "--ckpt_path", name])
        assert message in line

    def test_a_damaged_checkpoint(
        self, capsys: pytest.CaptureFixture[str], small_set: Path, tmp_path: Path, run: Path
    ) -> None:
        content = bytearray((run / "runs/version_0/checkpoints/best.ckpt").read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / "flipped.ckpt").write_bytes(content)
        line = _error(capsys, ["test", "--data.root", str(small_set), *SMALL, "--ckpt_path", "flipped.ckpt"])
        assert "flipped.ckpt: " in line
        assert "try another" in line

    def test_a_checkpoint_of_another_network(
        self, capsys: pytest.CaptureFixture[str], small_set: Path, run: Path
    ) -> None:
        best = str(run / "runs/version_0/checkpoints/best.ckpt")
        other = ["--model.network.init_args.widths", "[4,16,32,64]"]
        args = ["test", "--data.root", str(small_set), *SMALL, *other, "--ckpt_path", best]
        line = _error(capsys, args)
        assert "the checkpoint is of another network" in line
        assert "network.stem.0.weight is [8, 1, 3, 5, 5] there and [4, 1, 3, 5, 5] here" in line

    def test_weights_alone_do_not_resume(self, capsys: pytest.CaptureFixture[str], small_set: Path, run: Path) -> None:
        best = str(run / "runs/version_0/checkpoints/best.ckpt")
        line = _error(capsys, ["fit", "--data.root", str(small_set), *SMALL, "--ckpt_path", best])
        assert "the checkpoint holds weights only" in line

    def test_a_split_that_names_missing_clips(
        self, capsys: pytest.CaptureFixture[str], small_set: Path, tmp_path: Path
    ) -> None:
        root = shutil.copytree(small_set, tmp_path / "set")
        for clip in sorted((root / "videos" / "up").glob("*.avi"))[:4]:
            clip.unlink()
        line = _error(capsys, ["fit", "--data.root", str(root), *SMALL, "--data.split", "official"])
        assert "name 4 clips that are not in the data set: up/0000_scene_up_f_nm_np1_fr_goo_0, " in line

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("data:\n  size: 3\n  gray: true\n  size: 4\n", "line 4: 'size' is given twice"),
            ("", "expected settings"),
            ("- 1\n", "expected settings"),
            ("data: {size: 3\n", "not valid YAML"),
        ],
    )
    def test_a_config_that_is_none(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, message: str
    ) -> None:
        (tmp_path / "my.yaml").write_text(text)
        assert message in _error(capsys, ["fit", "--config", "my.yaml"])

    def test_a_device_that_is_not_there(self, capsys: pytest.CaptureFixture[str], small_set: Path) -> None:
        args = ["fit", "--data.root", str(small_set), *SMALL, "--trainer.accelerator", "gpu"]
        status = main([*args, "--trainer.devices", "99"])
        line = capsys.readouterr().err.splitlines()[-1]
        if torch.cuda.is_available():
            assert status == 2
            assert "gpu" in line.lower()
        else:
            assert status == 3
            assert line.startswith("vidact: error: --trainer.accelerator gpu: torch finds no GPU; try cpu (")
        assert not list(Path("runs").iterdir()), "nor an empty run folder"

    @pytest.mark.parametrize(
        ("own", "said"),
        [
            (
                ["--trainer.val_check_interval", "1000"],
                "--trainer.val_check_interval: `val_check_interval` (1000) must be less",
            ),
            (
                ["--model.optimizer", "torch.optim.SparseAdam"],
                "--model.optimizer or --model.lr_scheduler: SparseAdam does",
            ),
            (
                [
                    "--model.lr_scheduler={class_path: torch.optim.lr_scheduler.OneCycleLR, init_args: {max_lr: 0.1, "
                    "total_steps: 1}}",
                    "--trainer.max_epochs",
                    "2",
                ],
                "--model.lr_scheduler: the learning rate's schedule is for 1 steps, training has 4; without",
            ),
            (["--model.loss", "torch.nn.MSELoss"], "--model.loss is given logits [B, K] and labels [B] and is to make"),
        ],
    )
    def test_a_setting_that_does_not_fit_the_data(
        self, capsys: pytest.CaptureFixture[str], small_set: Path, own: list[str], said: str
    ) -> None:
        assert said in _error(capsys, ["fit", "--data.root", str(small_set), *SMALL, *own])

    def test_more_processes_than_a_processor_can_start(
        self, capsys: pytest.CaptureFixture[str], small_set: Path
    ) -> None:
        args = ["fit", "--data.root", str(small_set), *SMALL, "--trainer.accelerator", "cpu"]
        line = _error(capsys, [*args, "--trainer.devices", str(4 * (os.cpu_count() or 1) + 1)])
        assert f"this machine has {os.cpu_count()} cores; try {os.cpu_count()} or fewer" in line

    def test_online_without_a_key(
        self, capsys: pytest.CaptureFixture[str], small_set: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setattr("vidact.runs.loggers.wandb.wandb.login", lambda prompt: False)
        assert main(["fit", "--data.root", str(small_set), *SMALL]) == 3
        assert "WANDB_MODE is online, but wandb has no key; run `wandb login`" in capsys.readouterr().err

    def test_an_unknown_wandb_mode(
        self, capsys: pytest.CaptureFixture[str], small_set: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WANDB_MODE", "onlin")
        assert "WANDB_MODE is one of" in _error(capsys, ["fit", "--data.root", str(small_set), *SMALL])

    def test_a_folder_that_cannot_be_written(
        self, capsys: pytest.CaptureFixture[str], small_set: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        args = ["fit", "--data.root", str(small_set), *SMALL, "--trainer.default_root_dir", "file/runs"]
        assert main(args) == 3
        assert "set --trainer.default_root_dir to a folder that can" in capsys.readouterr().err


def test_synthesize_renders_a_set_and_refuses_a_foreign_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "synthesize", str(tmp_path / "set"), "--num_sources", "4", "--size", "[32,32]"]) == 0
    assert len(list((tmp_path / "set" / "videos").rglob("*.avi"))) == 32
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    assert "mine" in _error(capsys, ["data", "synthesize", str(tmp_path / "mine")])
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
