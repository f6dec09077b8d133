import json
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from vidact.cli.main import main
from vidact.cli.verbs.data_sets import synthesize
from vidact.data.synthetic.confounders import Confounder


def test_synthesize_offers_every_confounder() -> None:
    """The verb spells them out, so that its help needs no numpy."""
    assert get_type_hints(synthesize)["confounder"] == Confounder | None
    assert all(f"{kind} (" in (synthesize.__doc__ or "") for kind in get_args(Confounder))


def test_synthesize_plants_the_confounder_that_is_asked_for(tmp_path: Path) -> None:
    args = ["--preset", "clever-hans", "--agreement", "0.5", "--confounder", "dark", "--num_sources", "3"]
    assert main(["data", "synthesize", str(tmp_path / "set"), *args, "--size", "[32,32]"]) == 0
    settings = json.loads((tmp_path / "set" / "synthetic.json").read_text())
    assert (settings["confounder"], settings["agreement"]) == ("dark", 0.5)
    assert len(list((tmp_path / "set" / "without_confounder").rglob("*.avi"))) == 24


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["plat"], "plate"),
        (["cut", "--num_frames", "8"], "num_frames 16 or more, got 8"),
        (["drift", "--drift", "0.01"], "only where drift is 0"),
        (["shot", "--preset", "motion"], "only where cut_probability is 0"),
    ],
)
def test_a_confounder_that_cannot_be_planted_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], said: str
) -> None:
    assert main(["data", "synthesize", str(tmp_path / "set"), "--confounder", *wrong]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("vidact: error: ")
    assert said in line
    assert not (tmp_path / "set").exists()
