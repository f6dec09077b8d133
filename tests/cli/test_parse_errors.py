"""Every message here is the parser's own, for a setting that is wrong."""

import sys
from pathlib import Path

import pytest

from vidact.cli.main import main
from vidact.cli.parse_errors import reword_import_error

NETWORK = "--model.network"
COSINE = ["--model.lr_scheduler", "torch.optim.lr_scheduler.CosineAnnealingLR"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--data.size", "abc"], "--data.size: expected a whole number or a list, got abc"),
        (["--trainer.max_epochs", "[1,2]"], "--trainer.max_epochs: expected a whole number or null, got [1, 2]"),
        (["--seed_everything", "x"], "--seed_everything: expected true, false or a whole number, got x"),
        (
            ["--data.frame_order", "frozn"],
            "--data.frame_order: expected natural, shuffled, reversed or frozen, got frozn",
        ),
        ([f"{NETWORK}.init_args.dropout", "much"], f"{NETWORK}.init_args.dropout: expected a number, got much"),
        (
            [f"{NETWORK}.init_args.widhts", "[3]"],
            f"{NETWORK}: vidact.models.residual.SlimResNet3D: Option 'widhts' is not accepted; "
            "nearest: --model.network.init_args.widths",
        ),
        (
            [NETWORK, "vidact.models.fusion.SlowFusoin"],
            f"{NETWORK}: vidact.models.fusion.SlowFusoin: module 'vidact.models.fusion' has no attribute 'SlowFusoin'; "
            "nearest: SlowFusion",
        ),
        ([NETWORK, "nosuch.Net"], f"{NETWORK}: nosuch.Net: No module named 'nosuch'"),
        (
            [NETWORK, "collections.Counter"],
            f"{NETWORK}: Import path collections.Counter does not correspond to a subclass of Module; a function that ",
        ),
        (
            [NETWORK, "justaname"],
            f"{NETWORK}: expected a class (my_module.Net) or its settings by their names, got justa",
        ),
        (
            ["--model.optimizer", "torch.nn.Linear"],
            "--model.optimizer: torch.nn.Linear: Expected 'torch.nn.Linear' to be",
        ),
        (
            ["--model.optimizer=torch.optim.Adam", "--model.optimizer.init_args.lr", "[1]"],
            "--model.optimizer.init_args.lr: expected a number or a list of two or more numbers, got [1]",
        ),
        (
            [*COSINE, "--model.lr_scheduler.init_args.T_max", "x"],
            "--model.lr_scheduler.init_args.T_max: expected a whole number or null, got x",
        ),
        (
            [*COSINE, "--model.lr_scheduler.init_args.Tmax", "3"],
            "--model.lr_scheduler: torch.optim.lr_scheduler.CosineAnnealingLR: Option 'Tmax' is not accepted; near",
        ),
        (
            ["--data.augmentation.temporal_jiter", "3"],
            "--data.augmentation: vidact.data.loading.augmentation.AugmentationSettings: Option 'temporal_jiter' is "
            "not accepted; nearest: --data.augmentation.temporal_jitter",
        ),
        (["--data.batch_size", ""], "--data.batch_size: expected a whole number, got ''"),
        (["--data", "3"], "--data: Unable to load config"),
        (
            ["--trainer.devices", "x", "--trainer.accelerator", "cpu"],
            "--trainer.devices: `devices` selected with `CPUAcc",
        ),
        *(
            (
                [f"--model.loss={{class_path: torch.nn.CrossEntropyLoss, init_args: {{weight: {given}}}}}"],
                f"--model.loss.init_args.weight: expected a list of two or more numbers or null, got {got}",
            )
            for given, got in (
                (
                    "{class_path: torch.FloatTensor, init_args: {data: [1, 2]}}",
                    "{'class_path': 'torch.FloatTensor', 'init_args': {'data': [1, 2]}}",
                ),
                *(("[a, b]", "['a', 'b']"), ("[1]", "[1]"), ("much", "much")),
            )
        ),
        (
            ["--model.lr_scheduler", "ReduceLROnPlateau"],
            "--model.lr_scheduler: Multiple subclasses with name ReduceLROnPlateau. Give the full class path to avoid",
        ),
        (
            ["--model.lr_scheduler", "torch.optim.lr_scheduler.OneCycleLR"],
            "--model.lr_scheduler: the following arguments are required: max_lr",
        ),
        (["--trainer.max_epoch", "3"], "unrecognized arguments: --trainer.max_epoch 3; nearest: --trainer.max_epochs"),
        (["--data.num_frame=3"], "unrecognized arguments: --data.num_frame=3; nearest: --data.num_frames"),
        (["--rep", "false"], "unrecognized arguments: --rep false"),
        (
            ["--trainer.max_time", "x"],
            "--trainer.max_time: expected a time above 0: days, hours, minutes and seconds as",
        ),
        (
            ["--seed_everything", "4294967296"],
            "--seed_everything: expected false or a whole number from 0 to 429496729",
        ),
        (
            ["--trainer.accumulate_grad_batches", "0"],
            "--trainer.accumulate_grad_batches: expected a number above 0, got",
        ),
        (["--trainer.val_check_interval", "0.0"], "--trainer.val_check_interval: expected a number above 0, got 0.0"),
        (["--trainer.accelerator", "tpux"], "--trainer.accelerator: You selected an invalid acc"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_setting_that_is_wrong_is_answered_in_one_line(
    args: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", *args]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"vidact: error: {expected}")
    assert "<class" not in line
    assert "Parser key" not in line
    assert "NestedArg" not in line


CLASS = "model: {network: {class_path: vidact.models.residual.SlimResNet3D, %s}}"
CALLBACK = """
model: {network: {class_path: vidact.models.residual.SlimResNet3D}}
trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.EarlyStopping}]}
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "trainer: {max_epoch: 3}",
            "there is no setting trainer.max_epoch; nearest: --trainer.max_",
        ),
        (CLASS % "init_arg: {}", f"{NETWORK}: expected class_path, its settings under init_args, and nothing"),
        (
            "model: {optimizer: {class_path: torch.optim.Adam, init_args: {lrr: 0.1}}}",
            "--model.optimizer: torch.optim.Adam: Option 'lrr' is not accepted; nearest: --model.optimizer.init_args",
        ),
        (
            CALLBACK,
            "--trainer.callbacks: lightning.pytorch.callbacks.EarlyStopping: the following arguments are required: mon",
        ),
    ],
)
def test_a_file_that_is_wrong_is_answered_in_one_line(
    text: str, expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "my.yaml").write_text(text)
    assert main(["fit", "--config", str(tmp_path / "my.yaml")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"vidact: error: {expected}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--frame_orders", "natural"], "accuracy: --frame_orders: expected a list, got natural; see python -m vidact"),
        (["--frame_orders", "[1]"], "accuracy: --frame_orders: expected text, got 1; see python -m vidact"),
        (["--prat", "test"], "accuracy: unrecognized arguments: --prat test; nearest: --part"),
        (["--par", "test"], "accuracy: unrecognized arguments: --par test; nearest: --part"),
    ],
)
def test_an_option_of_a_verb_of_our_own_that_is_wrong_is_answered_so_too(
    args: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["accuracy", "run", *args]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"vidact: error: {expected}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Net(:\n", "line 1: this module cannot be imported (invalid syntax)"),
        ("\nraise RuntimeError('boom')\n", "line 2: this module cannot be imported (RuntimeError: boom)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_its_line(
    text: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_network.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("broken_network", None)
    assert main(["fit", NETWORK, "broken_network.Net"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == f"vidact: error: {tmp_path / 'broken_network.py'}, {said}"


def test_an_error_that_is_of_no_import_stays_what_it_is() -> None:
    assert reword_import_error(KeyError("name")) is None
