import subprocess
import sys
from pathlib import Path

import pytest

from vidact.core.cache import (
    cache_folder,
    folder_bytes,
    locked,
)


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIDACT_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "base"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("VIDACT_CACHE")
    assert cache_folder() == tmp_path / "base" / "vidact"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "vidact"


def test_a_lock_keeps_another_process_out_until_the_first_is_done(tmp_path: Path) -> None:
    """The child says 'in' only after the parent has said 'out'."""
    order = tmp_path / "order.txt"
    order.touch()
    code = (
        "import sys; from pathlib import Path; from vidact.core.cache import locked\n"
        "folder = Path(sys.argv[1])\n"
        "with locked(folder / 'a.lock', waiting='waiting for the parent'), (folder / 'order.txt').open('a') as file:\n"
        "    file.write('in\\n')\n"
    )
    with locked(tmp_path / "a.lock", waiting=""):
        child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        assert child.stderr is not None
        assert child.stderr.readline() == "waiting for the parent\n"
        with order.open("a") as file:
            file.write("out\n")
    child.communicate()
    assert child.returncode == 0
    assert order.read_text() == "out\nin\n"


def test_bytes_are_those_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a" / ".b").mkdir(parents=True)
    (tmp_path / "a" / ".b" / "one").write_bytes(bytes(1000))
    (tmp_path / "two").write_bytes(bytes(24))
    (tmp_path / "gone").symlink_to("nowhere")
    assert folder_bytes(tmp_path) == 1024
