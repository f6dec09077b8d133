import sys
from collections.abc import Callable
from pathlib import Path

import jsonargparse
import pytest
import torch
import yaml
from torch import nn

from vidact.api import load
from vidact.cli import main as cli
from vidact.core.errors import ConfigError, causes
from vidact.runs import trust
from vidact.runs.run import open_run

MARK = "imported.txt"
# What a stranger's module does when it is imported; the network itself is vidact's own, so that its weights fit.
STRANGER = f"""
from pathlib import Path
from vidact.models.residual import SlimResNet3D
Path(__file__).with_name({MARK!r}).write_text("my code ran")
class Net(SlimResNet3D): pass
class Loss: pass
"""

Change = Callable[[dict[str, object]], None]


def _change_network(config: dict[str, dict[str, dict[str, str]]]) -> None:
    config["model"]["network"]["class_path"] = "stranger.Net"


@pytest.fixture
def stranger(tmp_path: Path, small_run: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], Path]:
    """Make a run whose config names code in the current folder, and say that nothing was imported before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stranger.py").write_text(STRANGER)
    sys.modules.pop("stranger", None)

    def make(change: Change) -> Path:
        folder = tmp_path / "run"
        (folder / "checkpoints").mkdir(parents=True)
        config = yaml.safe_load((small_run / "config.yaml").read_text())
        change(config)
        (folder / "config.yaml").write_text(text := yaml.safe_dump(config))
        content = torch.load(small_run / "checkpoints" / "best.ckpt", weights_only=True)
        torch.save(content | {"vidact_config": text}, folder / "checkpoints" / "best.ckpt")
        return folder

    return make


def test_no_verb_imports_what_only_the_run_names(
    stranger: Callable[[Change], Path], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = stranger(_change_network)
    video = tmp_path / "clip.avi"
    video.write_bytes(b"never read")
    checkpoint = ["--ckpt_path", str(run / "checkpoints" / "best.ckpt")]
    words = {"explain": [str(run), str(video)], "test": checkpoint, "validate": checkpoint, "predict": checkpoint}
    for verb in ("report", "accuracy", "explain", "evaluate", "test", "validate", "predict"):
        assert cli.main([verb, *words.get(verb, [str(run)])]) == 2, verb
        told = capfd.readouterr().err
        assert "stranger.Net" in told, verb
        assert "--trust stranger" in told, verb
        assert not (tmp_path / MARK).exists(), verb


def test_a_named_module_is_imported(stranger: Callable[[Change], Path], tmp_path: Path) -> None:
    run = stranger(_change_network)
    with pytest.raises(ConfigError, match="--trust stranger"):
        load(run)
    assert type(load(run, trust=["stranger"]).network).__name__ == "Net"
    assert (tmp_path / MARK).exists()


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.filterwarnings("ignore")
def test_the_command_line_tries_the_advice(stranger: Callable[[Change], Path], tmp_path: Path) -> None:
    run = stranger(_change_network)
    weights = str(run / "checkpoints" / "best.ckpt")
    validate = ["validate", "--ckpt_path", weights, "--trainer.accelerator", "cpu"]
    validate += ["--trainer.default_root_dir", str(tmp_path)]
    for command in (
        ["accuracy", str(run), "--part", "validation", "--accelerator", "cpu", "--trust", "stranger"],
        [*validate, "--trust=other, stranger"],
        [*validate, "--model.network", "stranger.Net"],
    ):
        sys.modules.pop("stranger", None)
        assert cli.main(command) == 0
        assert (tmp_path / MARK).exists()
        (tmp_path / MARK).unlink()


def _nested(config: dict[str, dict[str, dict[str, object]]]) -> None:
    config["model"]["network"]["init_args"] = {"num_classes": {"class_path": "stranger.Net"}}


def _in_data(config: dict[str, dict[str, object]]) -> None:
    config["data"]["augmentation"] = {"class_path": "stranger.Loss"}


def _loss(config: dict[str, dict[str, object]]) -> None:
    config["model"]["loss"] = {"class_path": "stranger.Loss"}


def _loss_as_a_word(config: dict[str, dict[str, object]]) -> None:
    config["model"]["loss"] = "stranger.Loss"


def _callback(config: dict[str, dict[str, object]]) -> None:
    config["trainer"]["callbacks"] = [{"class_path": "stranger.Loss"}]


@pytest.mark.parametrize("change", [_nested, _in_data, _loss, _loss_as_a_word, _callback])
def test_no_other_place_in_a_config_imports(
    stranger: Callable[[Change], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], change: Change
) -> None:
    run = stranger(change)
    verb = ["validate", "--ckpt_path", str(run / "checkpoints" / "best.ckpt"), "--trainer.accelerator", "cpu"]
    assert cli.main(verb) == 2
    assert cli.main(["accuracy", str(run)]) in (0, 2)  # which builds neither loss nor callbacks
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize(
    ("module", "flat"), [("config", False), ("best", True)], ids=["run folder", "checkpoint beside its config"]
)
def test_the_names_of_its_own_files_are_no_modules(
    stranger: Callable[[Change], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, flat: bool
) -> None:
    folder = stranger(lambda config: config["model"].update(network={"class_path": f"{module}.Net"}))  # type: ignore[attr-defined]
    (folder / f"{module}.py").write_text(STRANGER)
    checkpoint = folder / "checkpoints" / "best.ckpt"
    if flat:
        checkpoint = checkpoint.rename(folder / "best.ckpt")
        (folder / "checkpoints").rmdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    given = str(checkpoint.relative_to(folder))
    for command in (
        ["--config", "config.yaml", "--ckpt_path", given],
        ["--config=config.yaml", f"--ckpt_path={given}"],
    ):
        assert cli.main(["validate", *command, "--trainer.accelerator", "cpu"]) == 2
    assert not (folder / MARK).exists()


@pytest.mark.parametrize(
    "name",
    ["os.system", "torch.hub.load", "torch.load", "builtins.eval", "my_torch.Net", "torchx.N"],
)
def test_what_runs_programs_or_only_sounds_known_is_not_trusted(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not part of vidact"):
        trust.require_trusted(name, [], source=tmp_path)


def test_jsonargparse_is_as_free_afterwards_as_it_was(tmp_path: Path) -> None:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "network")
    foreign = {"network": {"class_path": "stacked_elsewhere.Net"}}
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"stacked_elsewhere\.Net"), trust.restrict_imports([], source=tmp_path):
            parser.parse_object(foreign)
        with pytest.raises(jsonargparse.ArgumentError, match="No module named"):
            parser.parse_object(foreign)


def test_an_error_that_comes_of_itself_ends_the_search(tmp_path: Path) -> None:
    first, second = ConfigError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert list(causes(first)) == [first, second]
    with pytest.raises(ConfigError, match="first"), trust.restrict_imports([], source=tmp_path):
        raise first


@pytest.mark.parametrize("text", ["my net", "../my_net", "my_net.py/x", "a..b"])
def test_what_is_no_module_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--trust: expected modules"):
        trust.parse_modules(text)


def test_a_config_and_a_checkpoint_that_disagree_are_an_error(stranger: Callable[[Change], Path]) -> None:
    run = stranger(lambda config: None)
    text = (run / "config.yaml").read_text()
    assert "stride: 1" in text
    (run / "config.yaml").write_text(text.replace("stride: 1", "stride: 2"))
    with pytest.raises(ConfigError, match=r"disagree: --data\.stride is 1 in the checkpoint and 2 in the file"):
        open_run(run)
    assert cli.main(["validate", "--ckpt_path", str(run / "checkpoints" / "best.ckpt")]) == 2
    (run / "config.yaml").write_text(text.replace("num_workers: 0", "num_workers: 1"))
    assert open_run(run).data_settings["num_workers"] == 1  # how fast clips come may change, and the file counts


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.filterwarnings("ignore")
def test_a_run_of_one_s_own_network_reports_at_its_end(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stranger.py").write_text(STRANGER)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("stranger", None)
    settings = ["--data.root", str(small_set), "--data.num_frames", "8", "--data.size", "16"]
    settings += ["--data.classes", "[left, right]", "--data.num_workers", "0", "--trainer.max_epochs", "1"]
    settings += ["--trainer.accelerator", "cpu", "--relevance.every_n_epochs", "0"]
    assert cli.main(["fit", *settings, "--model.network", "stranger.Net"]) == 0
    assert "report                   runs/version_0/report.html" in capsys.readouterr().out
