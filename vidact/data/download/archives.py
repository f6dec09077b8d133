"""Read untrusted RAR and ZIP archives: entries that could be written outside of a folder are refused."""

import contextlib
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from vidact.core.errors import DataError, EnvironmentProblem, VidactError

# The first bytes of a file, by the ending of its name.
SIGNATURES = {".rar": b"Rar!\x1a\x07", ".zip": b"PK\x03\x04"}

_CHUNK_BYTES = 1 << 20
_NO_LIBRARY = "a RAR archive needs the package rarfile: pip install 'vidact[download]'"
# Through rarfile 4.5, bsdtar reads nothing; Debian's 7z and `unrar-free` cannot decompress RAR.
_NO_TOOL = (
    "a compressed RAR archive needs the program unrar or unar: on Debian and Ubuntu `apt install unar`, "
    "on macOS `brew install unar`, on Windows UnRAR.exe of WinRAR on the PATH"
)
_AGAIN = "delete the archive and download it again"
_AGAIN_OR_UNRAR = f"{_AGAIN}; if that does not help, install unrar, which reads more than unar"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Entry:
    """One regular file in an archive, whose name was checked.

    Attributes:
        name: Path inside the archive, separated by `/`.
        num_bytes: Declared length.
        crc: Declared CRC-32 of the content, if any.
    """

    name: str
    num_bytes: int
    crc: int | None = None

    @property
    def file_name(self) -> str:
        """The last part of the name."""
        return PurePosixPath(self.name).name

    @property
    def folder_name(self) -> str:
        """The last part of its folder's path; empty at the top."""
        return PurePosixPath(self.name).parent.name


@dataclass(frozen=True)
class Archive:
    """An archive that is open for reading.

    Attributes:
        label: Its name in messages.
        entries: Its regular files.
        open_entry: Opens an entry's content; reading it to the end checks its CRC.
        advice: What to try if an entry cannot be read.
    """

    label: str
    entries: tuple[Entry, ...]
    open_entry: Callable[[Entry], IO[bytes]]
    advice: str = _AGAIN


def missing_for_rar() -> str | None:
    """Return what is missing for reading RAR archives at all (the package); None if nothing is."""
    try:
        import rarfile  # noqa: F401
    except ImportError:
        return _NO_LIBRARY
    return None


def missing_for_compressed_rar() -> str | None:
    """Return what is missing for reading compressed RAR archives (the package or a program); None if nothing is."""
    if problem := missing_for_rar():
        return problem
    import rarfile

    try:
        rarfile.tool_setup(bsdtar=False, sevenzip=False, sevenzip2=False, force=True)
    except rarfile.RarCannotExec:
        return _NO_TOOL
    return None


@contextlib.contextmanager
def open_archive(path: Path, *, label: str | None = None) -> Iterator[Archive]:
    """Open a RAR or a ZIP archive, recognised by its first bytes.

    Args:
        path: The file.
        label: Its name in messages; its path if None.

    Raises:
        DataError: neither RAR nor ZIP; damaged or cut; encrypted; in several volumes; or an entry that is a
            link or a device, has the name of another entry, or would be written outside of its folder.
        EnvironmentProblem: a package or a program for RAR is missing, or the file cannot be read.
    """
    label = label or str(path)
    with reword_errors(label), path.open("rb") as file:
        head = file.read(max(map(len, SIGNATURES.values())))
    if head.startswith(SIGNATURES[".rar"]):
        yield _open_rar(path, label=label)
    elif head.startswith(SIGNATURES[".zip"]):
        with reword_errors(label):
            opened = zipfile.ZipFile(path)
        with opened:
            yield _list_zip(opened, label=label)
    else:
        raise DataError(f"{label}: expected a RAR or ZIP archive, got a file that begins with {head[:8]!r}")


def _open_rar(path: Path, *, label: str) -> Archive:
    if problem := missing_for_rar():
        raise EnvironmentProblem(f"{label}: {problem}")
    import rarfile

    blocks: list[Any] = []
    with reword_errors(label):
        opened = rarfile.RarFile(path, errors="strict", info_callback=blocks.append)
        infos = opened.infolist()
        _check_whole(opened, blocks, path=path, label=label)
    for info in infos:
        _refuse(_why_not_rar(info) or why_unsafe(info.filename), name=info.filename, label=label)
    entries = [Entry(info.filename, info.file_size, info.CRC) for info in infos if info.is_file()]
    is_compressed = any(info.compress_type != rarfile.RAR_M0 for info in infos if info.is_file())
    if is_compressed and (problem := missing_for_compressed_rar()):
        raise EnvironmentProblem(f"{label}: {problem}")
    advice = _AGAIN_OR_UNRAR if is_compressed else _AGAIN
    return Archive(label, _only_once(entries, label), lambda entry: opened.open(entry.name), advice)


def _check_whole(opened: Any, blocks: list[Any], *, path: Path, label: str) -> None:
    """Refuse cut archives that rarfile accepts: those that end between two entries, or inside the last one."""
    import rarfile

    if opened.needs_password():
        raise DataError(f"{label}: is encrypted; take it from another mirror")
    if len(opened.volumelist()) > 1:
        raise DataError(f"{label}: is one of several volumes; expected an archive in one file")
    # RAR 3 may omit the end marker; then the last block must reach the end of the file.
    ended = any(block.type == rarfile.RAR_BLOCK_ENDARC for block in blocks)
    last = max((block.data_offset + block.add_size for block in blocks), default=0)
    size = path.stat().st_size
    may_lack_end = rarfile.get_rar_version(path) == rarfile.RAR_V3
    if last > size or not (ended or (may_lack_end and last == size)):
        raise DataError(f"{label}: is cut, its end is missing ({size} bytes); {_AGAIN}")


def _why_not_rar(info: Any) -> str | None:
    if info.is_symlink() or info.file_redir:
        return "is a link"
    unix = 3  # only there `mode` holds a file type
    if info.host_os == unix and stat.S_IFMT(info.mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return "is a device, a pipe or a socket"
    return None


def _list_zip(opened: zipfile.ZipFile, *, label: str) -> Archive:
    infos = {info.orig_filename: info for info in opened.infolist()}
    for name, info in infos.items():
        _refuse(_why_not_zip(info) or why_unsafe(name), name=name, label=label)
    entries = [Entry(info.orig_filename, info.file_size, info.CRC) for info in opened.infolist() if not info.is_dir()]
    return Archive(label, _only_once(entries, label), lambda entry: opened.open(infos[entry.name]))


def _why_not_zip(info: zipfile.ZipInfo) -> str | None:
    if info.flag_bits & 1:
        return "is encrypted"
    kind = stat.S_IFMT(info.external_attr >> 16)  # the upper half is the Unix mode, 0 from other systems
    if kind == stat.S_IFLNK:
        return "is a link"
    return None if kind in {0, stat.S_IFREG, stat.S_IFDIR} else "is a device, a pipe or a socket"


def _only_once(entries: list[Entry], label: str) -> tuple[Entry, ...]:
    seen: set[str] = set()
    for entry in entries:
        _refuse("has the name of another entry" if entry.name in seen else None, name=entry.name, label=label)
        seen.add(entry.name)
    return tuple(entries)


def why_unsafe(name: str) -> str | None:
    """Return why an entry's name is unsafe on some system; None if it stays inside its folder on all.

    Args:
        name: Path in the archive, separated by `/`; a folder's name may end in one.
    """
    if _CONTROL.search(name):
        return "has a control character in its name"
    if name.startswith("/"):
        return "has an absolute path"
    if "\\" in name or ":" in name:  # other folders, drives and hidden streams on Windows
        return "has a backslash or a colon in its name"
    if {"", ".", ".."} & set(name.removesuffix("/").split("/")):
        return "has a path that leads out of its folder or is not plain"
    return None


def _refuse(reason: str | None, *, name: str, label: str) -> None:
    if reason:
        raise DataError(
            f"{label}: entry {name!r} {reason}; nothing was unpacked from this archive: "
            "delete it and take it from another mirror"
        )


def read_entry(archive: Archive, entry: Entry) -> Iterator[bytes]:
    """Read an entry's content piece by piece.

    Raises:
        DataError: it is damaged, or longer or shorter than declared.
        EnvironmentProblem: the archive cannot be read.
    """
    label = f"{archive.label}, entry {entry.name}"
    done = 0
    with reword_errors(label, archive.advice), archive.open_entry(entry) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            done += len(chunk)
            if done > entry.num_bytes:  # a bomb: stop before it fills the disk
                break
            yield chunk
    if done != entry.num_bytes:
        raise DataError(f"{label}: declares {entry.num_bytes} bytes and holds {done}; {archive.advice}")


@contextlib.contextmanager
def reword_errors(label: str, advice: str = _AGAIN) -> Iterator[None]:
    """Reword errors of the system, and whatever readers raise on damaged bytes, as one-line messages."""
    try:
        yield
    except VidactError:
        raise
    except OSError as error:
        raise EnvironmentProblem(f"{label}: {error.strerror or error}") from error
    except Exception as error:  # on damaged bytes the parsers raise almost anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{label}: damaged ({reason}); {advice}") from error
