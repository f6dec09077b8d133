"""Unpack archives so that only whole folders ever appear under their names.

It does not know how an archive is read, nor what the files are for.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from vidact.core.errors import EnvironmentProblem
from vidact.core.files import flush_file, flush_folder
from vidact.core.folders import scratch_folder
from vidact.data.download.archives import Archive, Entry, one_line, open_archive, read_entry


@contextlib.contextmanager
def open_inner_archive(archive: Archive, entry: Entry, *, folder: Path) -> Iterator[Archive]:
    """Open an archive that is an entry of another; a copy lies in `folder`, in a workshop, meanwhile.

    Raises:
        DataError: as in `open_archive`, or the entry is damaged.
        EnvironmentProblem: no space, no right to write, or a program to unpack is missing.
    """
    _check_space(folder, entry.num_bytes, label=archive.label)
    with scratch_folder(folder) as room:
        copy = room / entry.file_name
        _write_entry(archive, entry, path=copy)
        with open_archive(copy, label=f"{archive.label}, {entry.name}") as inner:
            yield inner


def unpack_folder(archive: Archive, files: Mapping[str, Entry], *, target: Path) -> None:
    """Write entries as the files of a new folder, which appears under its name only when it is whole and on disk.

    Args:
        archive: Holds the entries.
        files: From file names, each a single part, to entries.
        target: The folder; it must not exist yet.

    Raises:
        DataError: an entry is damaged, or longer or shorter than declared.
        EnvironmentProblem: no space, no right to write, or a program to unpack is missing.
    """
    _check_space(target.parent, sum(entry.num_bytes for entry in files.values()), label=archive.label)
    with scratch_folder(target.parent) as room:
        temporary = room / "files"
        with one_line(str(temporary)):
            temporary.mkdir()
        for name, entry in files.items():
            _write_entry(archive, entry, path=temporary / name)
        with one_line(str(target)):
            flush_folder(temporary)
            temporary.rename(target)
            flush_folder(target.parent)


def _write_entry(archive: Archive, entry: Entry, *, path: Path) -> None:
    with one_line(str(path)), path.open("wb") as file:
        file.writelines(read_entry(archive, entry))
        flush_file(file)


def _check_space(folder: Path, num_bytes: int, *, label: str) -> None:
    with one_line(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise EnvironmentProblem(
            f"{folder}: {label} unpacks to {num_bytes / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; make space"
        )
