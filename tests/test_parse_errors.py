"""Every message here is the parser's own, for a setting that is wrong."""

import pytest

from vidact.cli import main

NETWORK = "--model.network"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--data.size", "abc"], "--data.size: expected a whole number or a list, got abc"),
        (["--data.size", "[1, x]"], "--data.size: expected a whole number, got [1, 'x']"),
        (["--trainer.max_epochs", "[1,2]"], "--trainer.max_epochs: expected a whole number or null, got [1, 2]"),
        (["--seed_everything", "x"], "--seed_everything: expected true, false or a whole number, got x"),
        (
            ["--data.frame_order", "frozn"],
            "--data.frame_order: expected natural, shuffled, reversed or frozen, got frozn",
        ),
        (["--model.optimizer.init_args.lr", "fast"], "--model.optimizer.init_args.lr: expected a number, got fast"),
        ([f"{NETWORK}.init_args.dropout", "much"], f"{NETWORK}.init_args.dropout: expected a number, got much"),
        (
            [f"{NETWORK}.init_args.widhts", "[3]"],
            f"{NETWORK}: vidact.models.residual.SlimResNet3D has no setting widhts; nearest: {NETWORK}.init_args.wid",
        ),
        (
            [NETWORK, "vidact.models.fusion.SlowFusoin"],
            f"{NETWORK}: the module vidact.models.fusion has no SlowFusoin; nearest: SlowFusion",
        ),
        (
            [NETWORK, "nosuch.Net"],
            f"{NETWORK}: there is no module nosuch; its folder must be in PYTHONPATH, or its package installed",
        ),
        ([NETWORK, "collections.Counter"], f"{NETWORK}: collections.Counter is no subclass of Module"),
        (["--model.optimizer", "torch.optim.AdmW"], "--model.optimizer: the module torch.optim has no AdmW; nearest: "),
        (["--data.sizes", "3"], "unrecognized arguments: --data.sizes 3; nearest: --data.size"),
        (["--trainer.accelerator", "tpux"], "--trainer: You selected an invalid accelerator name: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_setting_that_is_wrong_is_answered_in_one_line(
    args: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *args]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"vidact: error: {expected}")
    assert "<class" not in line
    assert "Parser key" not in line
