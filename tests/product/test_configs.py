from pathlib import Path

import pytest
import yaml

from vidact.cli.main import main
from vidact.cli.recipes import configs_folder
from vidact.runs.run import config_of_run

SWEEP = configs_folder() / "sweep.yaml"
CONFIGS = sorted(set(configs_folder().glob("*.yaml")) - {SWEEP})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_recipe_is_understood_and_keeps_its_values(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--config", path.stem, "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    written = yaml.safe_load(path.read_text())
    for part in ("data", "relevance", "faithfulness", "audit"):
        assert {key: printed[part][key] for key in written[part]} == written[part]
    assert printed["model"]["network"]["class_path"] == written["model"]["network"]["class_path"]
    assert printed["trainer"]["max_epochs"] == written["trainer"]["max_epochs"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_recipe_is_complete_and_says_how_to_launch_it(path: Path) -> None:
    text = path.read_text()
    assert "python -m vidact fit" in text.split("\nseed_everything")[0]
    config = yaml.safe_load(text)
    for part in ("seed_everything", "trainer", "data", "model", "relevance", "faithfulness", "audit"):
        assert part in config
    assert {"root", "split", "fold", "num_frames", "stride", "num_windows", "size", "gray", "batch_size"} <= set(
        config["data"]
    )
    assert {"every_n_epochs", "clips_per_class", "method", "composite", "threshold"} == set(config["relevance"])
    assert {"every_n_epochs", "clips_per_class", "num_steps"} == set(config["faithfulness"])


def test_the_reports_protocol_is_the_reports() -> None:
    config = yaml.safe_load((configs_folder() / "hmdb51_report.yaml").read_text())
    assert config["data"] | {"num_frames": 16, "stride": "adaptive", "num_windows": 2, "size": 100} == config["data"]
    assert config["data"] | {"gray": True, "split": "clip", "batch_size": 100} == config["data"]
    assert config["data"]["datapoint_names"] is True
    assert config["trainer"]["max_epochs"] == 20
    assert config["model"]["network"]["init_args"]["head"] == "dense"


@pytest.mark.filterwarnings("ignore")
def test_the_sweep_calls_fit_with_settings_that_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    """As wandb's agent does: `${args}` becomes one `--name=value` per parameter."""
    sweep = yaml.safe_load(SWEEP.read_text())
    assert sweep["metric"] == {"name": "val/clip_accuracy", "goal": "maximize"}
    start, end = sweep["command"].index("vidact"), sweep["command"].index("${args}")
    chosen = {name: one["values"][-1] if "values" in one else one["max"] for name, one in sweep["parameters"].items()}
    command = [*sweep["command"][start + 1 : end], *(f"--{name}={value}" for name, value in chosen.items())]
    with pytest.raises(SystemExit):
        main([*command, "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    for name, value in chosen.items():
        found = printed
        for key in name.split("."):
            found = found[key]
        assert found == (yaml.safe_load(value) if isinstance(value, str) else value), name


def test_the_sweep_is_no_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", "sweep"]) == 2
    assert "sweep.yaml: this is a sweep, not a config; run it with: wandb sweep" in capsys.readouterr().err


def test_a_checkpoint_is_tested_with_the_config_of_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tmp_path / "version_0/checkpoints/best.ckpt"
    checkpoint.parent.mkdir(parents=True)
    assert config_of_run(["--ckpt_path", str(checkpoint)]) is None
    config = tmp_path / "version_0/config.yaml"
    config.touch()
    assert config_of_run(["--data.fold", "1", "--ckpt_path", str(checkpoint)]) == config
    assert config_of_run([f"--ckpt_path={checkpoint}", "--trainer.devices=1"]) == config
    monkeypatch.chdir(checkpoint.parent)
    assert config_of_run(["--ckpt_path", "best.ckpt"]) == config
    for args in (["--ckpt_path", "last"], ["--ckpt_path"], [], ["--ckpt_path", str(tmp_path / "best.ckpt")]):
        assert config_of_run(args) is None
