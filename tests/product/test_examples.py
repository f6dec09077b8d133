import importlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from vidact.attribution.gradient_form.explainer import GradientForm

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def _code(notebook: Path) -> list[str]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def _plain(code: str) -> str:
    """Write `!command {name}` as Python has it; a backslash at a line's end joins the next."""
    return re.sub(
        r"^!((?:.*\\\n)*.*)$",
        lambda found: f"_run(f{' '.join(found[1].split())!r})".replace("\\\\ ", ""),
        code,
        flags=re.MULTILINE,
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_its_explanation_is_right(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    names: dict[str, Any] = {"_run": lambda command: subprocess.run(command, shell=True, check=True)}
    for code in _code(notebook):
        exec(compile(_plain(code), str(notebook), "exec"), names)
    assert "<iframe" in names["why"]._repr_html_()
    shares = names["shares"]
    assert shares["lrp"] > 3 * names["chance"]
    assert shares["lrp"] > 3 * max(shares["centre"], shares["random"])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    """They would hold pictures and paths of whoever ran it last."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert [cell["outputs"] for cell in cells if cell["cell_type"] == "code" and cell["outputs"]] == []


@pytest.mark.parametrize("name", ["SmallSwin", "SmallVideoMAE"])
def test_relevance_follows_the_small_transformers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    small_transformers = importlib.import_module("small_transformers")
    torch.manual_seed(0)
    network = getattr(small_transformers, name)(num_classes=3)
    clips = torch.rand(2, 1, 16, 48, 48, generator=torch.Generator().manual_seed(0))
    with GradientForm(network, composite="attnlrp", dtype=torch.float64) as explain:
        found = explain(clips, torch.tensor([0, 2]))
    assert found.account is not None
    assert found.account.gap(found.score).max() < 1e-12
    assert found.relevance.abs().amax(dim=(1, 2, 3, 4)).min() > 0
