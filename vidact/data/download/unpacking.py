"""Unpack archives so that a folder appears under its name only when it is complete."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from vidact.core.files import flush_file, flush_folder, require_space
from vidact.core.folders import scratch_folder
from vidact.data.download.archives import Archive, Entry, open_archive, read_entry, reword_errors


@contextlib.contextmanager
def open_inner_archive(archive: Archive, entry: Entry, *, folder: Path) -> Iterator[Archive]:
    """Open an archive inside of another, from a temporary copy in a scratch folder of `folder`.

    Raises:
        DataError: as in `open_archive`, or the entry is damaged.
        EnvironmentProblem: no disk space, no permission to write, or a program for RAR is missing.
    """
    _check_space(folder, entry.num_bytes, label=archive.label)
    with scratch_folder(folder) as room:
        copy = room / entry.file_name
        _write_entry(archive, entry, path=copy)
        with open_archive(copy, label=f"{archive.label}, {entry.name}") as inner:
            yield inner


def unpack_folder(archive: Archive, files: Mapping[str, Entry], *, target: Path) -> None:
    """Write entries to a new folder, which appears under its name only when it is complete and flushed to the disk.

    Args:
        archive: Archive of the entries.
        files: From file name (a single path component) to entry.
        target: The folder; it must not exist yet.

    Raises:
        DataError: an entry is damaged, or longer or shorter than declared.
        EnvironmentProblem: no disk space, no permission to write, or a program for RAR is missing.
    """
    _check_space(target.parent, sum(entry.num_bytes for entry in files.values()), label=archive.label)
    with scratch_folder(target.parent) as room:
        temporary = room / "files"
        with reword_errors(str(temporary)):
            temporary.mkdir()
        for name, entry in files.items():
            _write_entry(archive, entry, path=temporary / name)
        with reword_errors(str(target)):
            flush_folder(temporary)
            temporary.rename(target)
            flush_folder(target.parent)


def _write_entry(archive: Archive, entry: Entry, *, path: Path) -> None:
    with reword_errors(str(path)), path.open("wb") as file:
        file.writelines(read_entry(archive, entry))
        flush_file(file)


def _check_space(folder: Path, num_bytes: int, *, label: str) -> None:
    with reword_errors(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        require_space(folder, num_bytes, what=f"{label} unpacks to")
