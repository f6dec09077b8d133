"""A checkpoint under its final name is whole, whatever happens while it is written; a damaged one is refused."""

import errno
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vidact.core.errors import CheckpointError, EnvironmentProblem
from vidact.runs.checkpoints import check_sums
from vidact.training.resuming.checkpoint_io import WholeCheckpointIO

KILLS, FLIPS = 50, 60


def _checkpoint(number: int, *, size: int = 2_000) -> dict[str, Any]:
    weights = {f"layer{n}": torch.full((size,), float(number)) for n in range(8)}
    return {"state_dict": weights, "pytorch-lightning_version": "2", "number": number}


def _load(path: Path) -> dict[str, Any]:
    return WholeCheckpointIO().load_checkpoint(path)


def test_what_is_written_is_read_again_by_torch_too(tmp_path: Path) -> None:
    WholeCheckpointIO().save_checkpoint(_checkpoint(3), tmp_path / "new" / "last.ckpt")
    for found in (_load(tmp_path / "new" / "last.ckpt"), torch.load(tmp_path / "new" / "last.ckpt", weights_only=True)):
        assert found["number"] == 3
        assert torch.equal(found["state_dict"]["layer7"], torch.full((2_000,), 3.0))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["last.ckpt"]


def _save_for_ever(path: Path, ready: int) -> None:
    """Save one checkpoint after the other; as the body of a child that is killed."""
    plugin, number = WholeCheckpointIO(), 0
    os.write(ready, b"!")
    while True:
        number += 1
        plugin.save_checkpoint(_checkpoint(number), path)


def _kill_while_it_saves(path: Path, after_seconds: float) -> None:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            _save_for_ever(path, write)
        finally:
            os._exit(1)
    os.read(read, 1)
    time.sleep(after_seconds)  # only chooses where it is killed
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    os.close(read)
    os.close(write)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_no_kill_leaves_a_checkpoint_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where temporary files lie on another disk, where a move is a copy."""
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is no other disk than the tests' folder")
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    chance = random.Random(0)
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint(_checkpoint(0), path)
    cut = 0
    for _ in range(KILLS):
        _kill_while_it_saves(path, chance.uniform(0, 0.02))
        found = _load(path)
        assert {float(weight.unique()) for weight in found["state_dict"].values()} == {float(found["number"])}
        cut += (tmp_path / ".last.ckpt.part").exists()
    assert cut, "no kill has come while a file was written"
    WholeCheckpointIO().save_checkpoint(_checkpoint(0), path)
    assert [one.name for one in tmp_path.iterdir()] == ["last.ckpt"], "what the killed have left is gone"


def test_every_flipped_bit_is_refused_and_the_good_one_named(tmp_path: Path) -> None:
    chance = random.Random(1)
    good, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    for path in (good, last):
        WholeCheckpointIO().save_checkpoint(_checkpoint(1, size=20), path)
    content = last.read_bytes()
    ends = [8 * len(content) - 1 - n for n in range(0, 8 * 45, 9)]  # the archive's end and the seal
    for bit in [chance.randrange(8 * len(content)) for _ in range(FLIPS)] + ends:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        last.write_bytes(flipped)
        with pytest.raises(CheckpointError, match=f"the last good one there is {good}") as found:
            _load(last)
        assert "\n" not in str(found.value)


def test_a_good_one_that_training_cannot_go_on_from_is_named_as_such(tmp_path: Path) -> None:
    good, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    last.touch()
    for more, said in (
        ({}, r" \(weights only: .* start anew without --ckpt_path\)$"),
        ({"optimizer_states": [{}]}, "$"),
    ):
        WholeCheckpointIO().save_checkpoint(_checkpoint(1, size=20) | more, good)
        with pytest.raises(CheckpointError, match=f"the last good one there is {good}{said}"):
            _load(last)


def test_every_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint(_checkpoint(1, size=20), path)
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="try another checkpoint, or train anew without --ckpt_path"):
            _load(path)


def test_a_checkpoint_of_lightnings_own_is_checked_by_the_archives_sums(tmp_path: Path) -> None:
    path = tmp_path / "theirs.ckpt"
    torch.save(_checkpoint(5), path)
    check_sums(path)
    content = path.read_bytes()
    weights = content.index(torch.full((100,), 5.0).numpy().tobytes())
    path.write_bytes(content[: weights + 40] + b"\x01" + content[weights + 41 :])
    with pytest.raises(CheckpointError, match="is damaged"):
        _load(path)


def _full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _read_only(self: Path, *args: object, **kwargs: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.mark.parametrize(
    ("place", "failing", "said"),
    [
        ("vidact.core.files.os.fsync", _full, "No space left on device"),
        ("vidact.core.files.Path.open", _read_only, "Read-only file system"),
        ("vidact.core.files.Path.replace", _read_only, "Read-only file system"),
    ],
)
def test_a_disk_that_fails_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, failing: Callable[..., None], said: str
) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint(_checkpoint(1), path)
    with monkeypatch.context() as patch:
        patch.setattr(place, failing)
        with pytest.raises(EnvironmentProblem, match="the previous checkpoint there is whole") as found:
            WholeCheckpointIO().save_checkpoint(_checkpoint(2), path)
    assert str(found.value).startswith(f"{path} cannot be written ({said}); ")
    assert str(found.value).endswith(f"; make room or mend its rights, then resume with --ckpt_path {path}")
    assert "\n" not in str(found.value)
    assert _load(path)["number"] == 1
    assert [one.name for one in tmp_path.iterdir()] == ["last.ckpt"]
