import errno
import os
import random
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from vidact.checkpoint_io import SafeCheckpointIO
from vidact.checkpoints import check_whole, whole_neighbours
from vidact.core import CheckpointError, EnvironmentProblem

CONTENT = {"state_dict": {"weight": torch.arange(5000.0)}, "epoch": 3}

# Saves one checkpoint after another, each of one number that is its weights, too; says when the first is there.
SAVER = """
import sys, torch
from vidact.checkpoint_io import SafeCheckpointIO
number, saver = 0, SafeCheckpointIO()
while True:
    saver.save_checkpoint({"number": number, "weight": torch.full((2_000_000,), float(number))}, sys.argv[1])
    if number == 0:
        print("saved", flush=True)
    number += 1
"""


def _save(path: Path, content: dict[str, Any] = CONTENT) -> None:
    SafeCheckpointIO().save_checkpoint(content, path)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    _save(tmp_path / "new" / "a.ckpt")
    found = SafeCheckpointIO().load_checkpoint(tmp_path / "new" / "a.ckpt")
    assert found["epoch"] == 3
    assert torch.equal(found["state_dict"]["weight"], CONTENT["state_dict"]["weight"])  # type: ignore[index]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.ckpt"]


def test_a_saver_that_is_killed_fifty_times_leaves_a_whole_checkpoint_each_time(tmp_path: Path) -> None:
    """TMPDIR is another file system, where Lightning's own left a cut file in 9 of 20 kills (seen with 2.6.6)."""
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no other file system to be had")
    path = tmp_path / "last.ckpt"
    environment = os.environ | {"TMPDIR": str(elsewhere), "OMP_NUM_THREADS": "1"}
    # One process imports torch, and forks a child per kill.
    forking = (
        "import os, signal, sys, time, torch, random\nimport vidact.checkpoint_io\nchance = random.Random(0)\n"
        f"code = {SAVER!r}\n"
        "for kill in range(50):\n"
        "    read, write = os.pipe()\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os.dup2(write, 1)\n"
        "        exec(code)\n"
        "    os.read(read, 5)\n"  # the first is there
        "    time.sleep(chance.uniform(0, 0.05))\n"
        "    os.kill(child, signal.SIGKILL)\n"
        "    os.waitpid(child, 0)\n"
        "    os.close(read); os.close(write)\n"
        "    vidact.checkpoint_io.read_whole(vidact.checkpoint_io.Path(sys.argv[1]), map_location='cpu')\n"
        "    found = torch.load(sys.argv[1], weights_only=True)\n"
        "    assert (found['weight'] == found['number']).all()\n"
        "    print('kill', kill, found['number'], len(os.listdir(os.path.dirname(sys.argv[1]))), flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", forking, str(path)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    kills = [line.split() for line in done.stdout.splitlines() if line.startswith("kill ")]
    assert len(kills) == 50
    assert any(int(files) > 1 for *_, files in kills), "some kills struck in the middle of a save"
    _save(path)
    assert [one.name for one in tmp_path.iterdir()] == ["last.ckpt"], "what they left half written is gone"


def test_flipped_bits_are_seen_and_the_whole_ones_named(tmp_path: Path) -> None:
    """In any of the tensors' bytes: torch alone loads other weights without a word."""
    path, chance = tmp_path / "last.ckpt", random.Random(0)
    _save(path)
    _save(tmp_path / "best.ckpt")
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        (info,) = [one for one in archive.infolist() if one.filename.endswith("data/0")]
    start = whole.index(b"data/0") + 100
    silent = 0
    for _ in range(60):
        place, bit = start + chance.randrange(info.file_size - 200), chance.randrange(8)
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        silent += not torch.equal(torch.load(path, weights_only=True)["state_dict"]["weight"], torch.arange(5000.0))
        with pytest.raises(CheckpointError, match=r"last\.ckpt: .*damaged.*whole ones: .*best\.ckpt"):
            SafeCheckpointIO().load_checkpoint(path)
    assert silent == 60, "torch loads them all"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_cut_file_is_seen(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.ckpt"
    _save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        SafeCheckpointIO().load_checkpoint(path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")


def test_neighbours_are_those_that_are_whole_the_newest_first(tmp_path: Path) -> None:
    for age, name in enumerate(("a.ckpt", "b.ckpt", "c.ckpt")):
        _save(tmp_path / name)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    (tmp_path / "b.ckpt").write_bytes(b"PK")
    assert whole_neighbours(tmp_path / "b.ckpt") == [str(tmp_path / "a.ckpt"), str(tmp_path / "c.ckpt")]
    check_whole(tmp_path / "a.ckpt")


def test_a_full_disk_keeps_the_one_from_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(tmp_path / "a.ckpt")
    before = (tmp_path / "a.ckpt").read_bytes()

    def fill(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(EnvironmentProblem, match=r"cannot be written \(No space left on device\); the one from before"):
        _save(tmp_path / "a.ckpt", {"epoch": 4})
    assert (tmp_path / "a.ckpt").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_disk_that_is_really_full_keeps_the_one_from_before(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("no right to mount")
    try:
        _save(place / "a.ckpt")
        with pytest.raises(EnvironmentProblem, match=r"a\.ckpt: the checkpoint cannot be written .*is whole"):
            _save(place / "a.ckpt", {"weight": torch.zeros(100_000)})
        assert SafeCheckpointIO().load_checkpoint(place / "a.ckpt")["epoch"] == 3
        assert len(list(place.iterdir())) == 1
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_place_that_is_no_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match="cannot be written .*there is none from before"):
        _save(tmp_path / "file" / "a.ckpt")


def test_lightning_takes_it(tmp_path: Path) -> None:
    trainer = Trainer(plugins=[SafeCheckpointIO()], logger=False, accelerator="cpu", default_root_dir=tmp_path)
    assert isinstance(trainer.strategy.checkpoint_io, SafeCheckpointIO)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
