"""Find and read the checkpoints that a training wrote; no code in them is run.

It knows neither configs nor clips.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from vidact.core import CheckpointError

NETWORK_PREFIX = "network."


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what a checkpoint holds, without its numbers; no code in it is run.

    Raises:
        CheckpointError: cut, damaged, or no checkpoint of Lightning.
    """
    content = read_whole(path, map_location="meta")
    if not isinstance(content, dict) or "pytorch-lightning_version" not in content:
        raise CheckpointError(f"{path}: not a checkpoint that `fit` has written (holds {type(content).__name__})")
    return content


def check_whole(path: Path) -> None:
    """Verify the checksums of all parts of a checkpoint.

    Raises:
        CheckpointError: missing, cut or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except Exception as error:  # zipfile raises a dozen kinds for damaged bytes
        raise _not_whole(path, error) from error
    if damaged:
        raise CheckpointError(f"{path}: the part {damaged} is damaged; try another checkpoint")


def whole_neighbours(path: Path) -> list[str]:
    """List the other checkpoints of a folder that are whole, the newest first."""
    whole = []
    for other in sorted(path.parent.glob("*.ckpt"), key=lambda found: found.stat().st_mtime, reverse=True):
        try:
            check_whole(other)
        except CheckpointError:
            continue
        whole.append(str(other))
    return whole


def _not_whole(path: Path, error: Exception) -> CheckpointError:
    size = path.stat().st_size
    return CheckpointError(f"{path}: not a whole checkpoint ({size:,} bytes; {type(error).__name__}); try another one")


def read_whole(path: Path, *, map_location: Any) -> Any:
    """Read what a checkpoint holds, its checksums verified; no code in it is run.

    Raises:
        CheckpointError: missing or damaged; names the whole ones in its folder.
    """
    try:
        check_whole(path)
        return torch.load(path, map_location=map_location, weights_only=True)
    except CheckpointError as error:
        others = whole_neighbours(path)
        raise CheckpointError(f"{error}; whole ones: {', '.join(others)}" if others else str(error)) from error
    except Exception as error:  # torch raises a dozen kinds, too
        raise _not_whole(path, error) from error


def load_weights(network: nn.Module, path: Path) -> None:
    """Give a network the weights of a checkpoint; no code in it is run.

    Raises:
        CheckpointError: damaged, or of another network.
    """
    content = read_whole(path, map_location="cpu")
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"{path}: not a checkpoint that `fit` has written")
    state = content["state_dict"]
    weights = {
        str(key).removeprefix(NETWORK_PREFIX): value
        for key, value in state.items()
        if str(key).startswith(NETWORK_PREFIX)
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        theirs = content["vidact"] if isinstance(content.get("vidact"), dict) else {}
        raise CheckpointError(
            f"{path} is of another network ({theirs.get('network', 'unknown')}, "
            f"{len(theirs.get('class_names', ()))} classes): {' '.join(str(error).split())[:300]}; give the settings "
            "that it was trained with (number of classes, frames, size, …)"
        ) from error


def find_checkpoint(name: str, runs: Sequence[Path]) -> Path:
    """Find the file that `--ckpt_path` means.

    Args:
        name: A file, or `last` for the last epoch of the first of `runs` that has one.
        runs: Run folders, or folders of runs, where the newest counts.

    Raises:
        CheckpointError: missing, or an address.
    """
    if "://" in name:
        raise CheckpointError(f"--ckpt_path {name}: addresses are refused; download the file and give its path")
    path = _last_checkpoint(runs) if name == "last" else Path(name)
    if not path.is_file():
        what = "a folder; give the .ckpt file in it" if path.is_dir() else "no such file"
        raise CheckpointError(f"--ckpt_path {name}: {what}")
    return path


def _last_checkpoint(runs: Sequence[Path]) -> Path:
    for folder in runs:
        if (own := folder / "checkpoints" / "last.ckpt").is_file():
            return own
        found = sorted(folder.glob("version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
        if found:
            rank_zero_info(f"--ckpt_path last: {found[-1]}, of the newest run in {folder}")
            return found[-1]
    raise CheckpointError(f"--ckpt_path last: no run in {runs[-1]} has a last.ckpt; nothing was started")
