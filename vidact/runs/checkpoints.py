"""Find, check and read the checkpoints that training wrote, without running code in them."""

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from vidact.core.errors import CheckpointError, first_few
from vidact.core.files import read_state_dict
from vidact.core.terminal import printable
from vidact.runs.folder import RunFolder, newest_last_checkpoint

NETWORK_PREFIX = "network."
NO_COMMENT = b"\0\0"  # how an archive without a comment ends: the comment's length
SEAL = b"vidact crc32 %08x"
MAX_LISTED = 3
WEIGHTS_ONLY = " (weights only: measure or explain with it; to train, start anew without --ckpt_path)"


def load_checkpoint(path: Path, *, numbers: bool = False) -> dict[str, Any]:
    """Read a checkpoint; no code in it is run.

    Args:
        path: The file.
        numbers: Whether to read the values of its tensors, too; else they are on the meta device.

    Raises:
        CheckpointError: cut, damaged, or no checkpoint of Lightning.
    """
    content = _read(path, map_location="cpu" if numbers else "meta")
    if not isinstance(content, dict) or "pytorch-lightning_version" not in content:
        raise CheckpointError(f"{path}: not a checkpoint that `fit` has written (holds {type(content).__name__})")
    return content


def _read(path: Path, *, map_location: str) -> Any:
    check_sums(path)
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for what it cannot read
        raise _not_whole(path, error) from error


def seal(archive: io.BytesIO) -> None:
    """Append a checksum of all bytes to a checkpoint, as the comment of its zip archive.

    The archive's own checksums skip the bytes between its parts. Nothing is copied: checkpoints may be large.
    """
    with archive.getbuffer() as content:
        if content[-len(NO_COMMENT) :] != NO_COMMENT:
            raise AssertionError("torch.save has written no zip archive, or one with a comment")
        comment = SEAL % zlib.crc32(content[: -len(NO_COMMENT)])
    archive.seek(-len(NO_COMMENT), io.SEEK_END)
    archive.write(len(comment).to_bytes(2, "little") + comment)


def check_sums(path: Path) -> None:
    """Compare the bytes of a checkpoint with the checksums in it.

    Raises:
        CheckpointError: cut or damaged; names the last good checkpoint beside it, if there is one.
    """
    try:
        damaged = _damaged_part(path)
    except Exception as error:  # zipfile raises a dozen kinds for damaged bytes
        raise _not_whole(path, error) from error
    if damaged:
        raise CheckpointError(f"{path}: {damaged} is damaged; {_another(path)}")


def _damaged_part(path: Path) -> str:
    content = memoryview(path.read_bytes())  # whose parts are no copies
    length = len(SEAL % 0)
    body, tail = content[: -length - len(NO_COMMENT)], content[-length - len(NO_COMMENT) :]
    if tail == length.to_bytes(2, "little") + SEAL % zlib.crc32(body):
        return ""
    with zipfile.ZipFile(path) as archive:
        if part := archive.testzip():
            return f"the part {part}"
        return "the data between its parts" if archive.comment else ""  # Lightning's own have no comment


def _not_whole(path: Path, error: Exception) -> CheckpointError:
    size = path.stat().st_size
    return CheckpointError(f"{path}: not a whole checkpoint ({size:,} bytes; {type(error).__name__}); {_another(path)}")


def _another(path: Path) -> str:
    """Name the newest undamaged checkpoint in the same folder, and say what it can be used for."""
    others = [other for other in path.parent.glob("*.ckpt") if other.is_file() and not other.samefile(path)]
    for other in sorted(others, key=lambda one: one.stat().st_mtime, reverse=True):
        try:
            content = {} if _damaged_part(other) else torch.load(other, map_location="meta", weights_only=True)
            if "state_dict" in content:
                only = "" if content.get("optimizer_states") else WEIGHTS_ONLY
                return f"the last good one there is {other}{only}"
        except Exception:  # damaged, too
            continue
    return "there is no good one beside it; try another checkpoint, or train anew without --ckpt_path"


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the weights of a checkpoint file into a network; no code in it is run.

    Raises:
        CheckpointError: damaged, or of another network.
    """
    give_weights(network, _read(path, map_location="cpu"), path=path)


def give_weights(network: nn.Module, content: Any, *, path: Path) -> None:
    """Load the weights of a checkpoint that was read into a network.

    Raises:
        CheckpointError: of another network.
    """
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


def load_foreign_weights(network: "nn.Module", path: Path) -> None:
    """Load the state_dict that another program has saved, whatever key it lies under, and whatever wrapper it is from.

    Raises:
        CheckpointError: missing, damaged, or of another network.
    """
    own = network.state_dict()
    state = read_state_dict(path, known=own)
    shapes = {name: list(value.shape) for name, value in state.items()}
    wrong = [name for name, value in own.items() if shapes.get(name) != list(value.shape)]
    wrong += [name for name in state if name not in own]
    if wrong:
        raise CheckpointError(
            f"{path}: not the weights of this network: {len(wrong)} entries are missing, unknown or of another shape "
            f"({first_few(wrong)}); give the settings that it was built with, such as --init"
        )
    network.load_state_dict(state)


def find_checkpoint(name: str, runs: Sequence[Path]) -> Path:
    """Find the file that `--ckpt_path` means.

    Args:
        name: A file, or `last` for the last epoch of the first of `runs` that has one, or is a run without one.
        runs: Run folders, or folders of runs, where the newest counts.

    Raises:
        CheckpointError: missing, or an address.
    """
    if "://" in name:
        raise CheckpointError(f"--ckpt_path {name}: addresses are refused; download the file and give its path")
    if not name:
        raise CheckpointError("--ckpt_path: expected a .ckpt file, or last, got nothing")
    path = _last_checkpoint(runs) if name == "last" else Path(name)
    if not path.is_file():
        what = "a folder; give the .ckpt file in it" if path.is_dir() else "no such file"
        raise CheckpointError(f"--ckpt_path {name}: {what}")
    return path


def _last_checkpoint(runs: Sequence[Path]) -> Path:
    for folder in runs:
        run = RunFolder(folder)
        if run.last_checkpoint.is_file():
            return run.last_checkpoint
        if run.checkpoints.is_dir():
            raise CheckpointError(f"--ckpt_path last: the run in {folder} has no last.ckpt; nothing was started")
        if (newest := newest_last_checkpoint(folder)) is not None:
            rank_zero_info(printable(f"--ckpt_path last: {newest}, of the newest run in {folder}"))
            return newest
    raise CheckpointError(f"--ckpt_path last: no run in {runs[-1]} has a last.ckpt; nothing was started")


def require_same_network(checkpoint: Mapping[str, Any], own: Mapping[str, Tensor], class_names: Sequence[str]) -> None:
    """Refuse a checkpoint of another network, or of other classes.

    Args:
        checkpoint: As Lightning has read it.
        own: The state that it is to be loaded into.
        class_names: Of the data.

    Raises:
        CheckpointError: says which tensors, or which classes, differ.
    """
    if not isinstance(checkpoint.get("state_dict"), dict):
        raise CheckpointError(f"the checkpoint holds no network, only {', '.join(map(str, checkpoint))}")
    here = {name: tuple(tensor.shape) for name, tensor in own.items()}
    there = {name: tuple(tensor.shape) for name, tensor in checkpoint["state_dict"].items()}
    theirs = checkpoint.get("vidact", {})
    differing = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    if differing:
        shown = "; ".join(
            f"{name} is {_shape(there.get(name))} there and {_shape(here.get(name))} here"
            for name in differing[:MAX_LISTED]
        )
        raise CheckpointError(
            f"the checkpoint is of another network ({theirs.get('network', 'unknown')}, "
            f"{len(theirs.get('class_names', []))} classes): {len(differing)} tensors differ, {shown}; "
            "give the config.yaml that is saved beside it as --config"
        )
    if theirs.get("class_names") not in (None, list(class_names)):
        raise CheckpointError(
            f"the checkpoint knows the classes {theirs['class_names']}, the data has {list(class_names)}"
        )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))
