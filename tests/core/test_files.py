import errno
import os
from pathlib import Path

import pytest

from vidact.core.errors import EnvironmentProblem
from vidact.core.files import atomic_writer, flush_folder, write_whole


def test_a_text_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"
    with atomic_writer(path) as file:
        file.write("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with pytest.raises(KeyboardInterrupt), atomic_writer(path) as file:  # noqa: PT012  # written, then interrupted
        file.write("second")
        raise KeyboardInterrupt
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(EnvironmentProblem, match=r"cannot be written \(.*\); choose another place"),
        atomic_writer(tmp_path / "file" / "index.json"),
    ):
        pass


def test_a_file_system_that_syncs_no_folders_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_folders(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(number, os.strerror(number))

    flush_folder(tmp_path)
    monkeypatch.setattr(os, "fsync", refuse_folders)
    number = errno.EINVAL
    write_whole(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    number = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_whole(tmp_path / "file", b"content")
