"""A module in the current folder is found alike by `vidact` and `python -m vidact`, and hides none of Python's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What pip writes into `bin/vidact`; its own folder comes first in the path, as that of any script.
SCRIPT = "import sys\nfrom vidact.__main__ import run\nif __name__ == '__main__':\n    sys.exit(run())\n"
NETWORK = """
import random, sys
from torch import nn
assert random.randint(1, 1) == 1
print("imported with", sys.path.index(%r) > 0, file=sys.stderr)
class Net(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        raise SystemExit(7)
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a network of one's own, and with files that are named like Python's and other people's modules."""
    folder = tmp_path / "work"
    (folder / "wandb").mkdir(parents=True)
    (folder / "my_network.py").write_text(NETWORK % str(folder))
    for name in ("random", "torch", "yaml", "jsonargparse", "wandb/__init__"):
        (folder / f"{name}.py").write_text("raise SystemExit('the wrong one')\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/vidact").write_text(SCRIPT)
    return folder


def _run(command: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    args = ["fit", "--model.network", "my_network.Net", "--data.root", str(folder / "none")]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    return subprocess.run(
        [sys.executable, *command, *args], cwd=folder, capture_output=True, text=True, env=environment | env
    )


def test_a_module_here_is_found_alike_and_hides_no_other(here: Path, tmp_path: Path) -> None:
    said = {}
    for name, command in {"script": [str(tmp_path / "bin/vidact")], "module": ["-m", "vidact"]}.items():
        found = _run(command, here)
        assert "the wrong one" not in found.stderr, name
        assert "imported with True" in found.stderr, f"{name}: {found.stderr[-2000:]}"
        said[name] = [line for line in found.stderr.splitlines() if line.startswith("vidact: ")], found.returncode
    assert said["script"] == said["module"]
    assert "none: no such folder" in said["script"][0][0]


def test_where_python_is_told_to_do_without_it_does(here: Path, tmp_path: Path) -> None:
    found = _run([str(tmp_path / "bin/vidact")], here, PYTHONSAFEPATH="1")
    assert found.returncode == 2
    assert "No module named 'my_network'; it must be in this folder or in PYTHONPATH" in found.stderr


ENDED = """
import atexit, sys
import torch.distributed as dist
import vidact.__main__, vidact.cli.main

def main():
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=0, world_size=1)
    return int(sys.argv[1])

vidact.cli.main.main = main
atexit.register(lambda: print("still in a group" if dist.is_initialized() else "left the group"))
vidact.__main__.run()
"""


@pytest.mark.parametrize(("status", "said"), [(0, "left the group"), (1, "left the group"), (2, "still in a group")])
def test_a_process_leaves_its_group_when_its_work_is_done(tmp_path: Path, status: int, said: str) -> None:
    """Gloo's threads would abort some of the processes that end without it; after an error, others may still wait."""
    command = [sys.executable, "-c", ENDED, str(status), str(tmp_path / "group")]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, found.stdout.strip()) == (status, said), found.stderr
