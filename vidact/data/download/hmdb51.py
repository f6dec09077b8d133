"""Download HMDB51 and unpack it, clips to `videos/<class>/*.avi`, split files to `splits/*.txt`.

The data set's own server is not always available; the ZIP archives are a copy of the same clips. Both are by Kuehne,
Jhuang, Garrote, Poggio and Serre, licensed CC BY 4.0.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from vidact.core.errors import ConfigError, DataError, EnvironmentProblem, first_few, nearest
from vidact.core.files import write_whole
from vidact.core.folders import remove_abandoned
from vidact.data.datasets.hmdb51 import FOLDS, read_official_split
from vidact.data.download.archives import (
    Archive,
    Entry,
    missing_for_compressed_rar,
    missing_for_rar,
    open_archive,
)
from vidact.data.download.hmdb51_mirrors import _SPLITS, _VIDEOS, CLASS_NAMES, NUM_CLIPS, Mirrors
from vidact.data.download.mirrors import DownloadSource, Progress, download
from vidact.data.download.transfer import Patience, discard_all
from vidact.data.download.unpacking import open_inner_archive, unpack_folder

_DOWNLOADED = ".downloaded.json"
_SPLIT_FILE = re.compile(r"(?P<class_name>.+)_test_split[123]\.txt")


@dataclass(frozen=True)
class Hmdb51Folders:
    """The result of a download.

    Attributes:
        videos: Folder with a folder for each class.
        splits: Folder with the official split files.
        archives: Folder with the archives; None if they were not kept.
        num_classes: Number of requested classes.
        num_clips: Number of their clips.
    """

    videos: Path
    splits: Path
    archives: Path | None
    num_classes: int
    num_clips: int


def download_hmdb51(
    folder: Path,
    *,
    mirrors: Mirrors | None = None,
    classes: Sequence[str] | None = None,
    keep_archives: bool = True,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Hmdb51Folders:
    """Download HMDB51 and unpack it; what is already there is not repeated.

    Args:
        folder: Output folder, gets `videos/`, `splits/` and `archives/`.
        mirrors: Where to look for the archives; vidact's own list if None.
        classes: Classes to unpack; all if None. The archive contains all of them either way.
        keep_archives: Whether to keep the archives in the end; those that were not downloaded here are always kept.
        progress: Called with (title, done, total): bytes of a file, or unpacked classes.
        patience: When to give up on a server.

    Raises:
        ConfigError: an unknown class, or a mirror that is not an address.
        DataError: an archive is damaged or dangerous, or clips or split files are missing in the end.
        EnvironmentProblem: no mirror has the archive; rarfile or a program for RAR is missing; no disk space, no
            permission to write; or another download into this folder is running.
    """
    names = _choose(classes)
    folder = folder.absolute()
    mirrors = mirrors or Mirrors()
    with _alone(folder):
        if not (folder / "splits").is_dir():
            archive = _get(_SPLITS, folder, mirrors=mirrors, progress=progress, patience=patience)
            _unpack_splits(archive, folder)
        todo = [name for name in names if not (folder / "videos" / name).is_dir()]
        if todo:
            archive = _get(_VIDEOS, folder, mirrors=mirrors, progress=progress, patience=patience)
            _unpack_classes(archive, todo, folder=folder, progress=progress)
        num_clips = _check(folder, names)
        _sweep(folder, keep_archives=keep_archives)
    kept = folder / "archives" if keep_archives else None
    return Hmdb51Folders(folder / "videos", folder / "splits", kept, len(names), num_clips)


def _choose(classes: Sequence[str] | None) -> tuple[str, ...]:
    for name in classes or ():
        if name not in CLASS_NAMES:
            near = nearest(name, CLASS_NAMES) or CLASS_NAMES[:5]
            raise ConfigError(f"class {name!r} is not in HMDB51; nearest: {', '.join(near)}")
    return tuple(dict.fromkeys(classes)) if classes else CLASS_NAMES


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock", timeout=0):  # waiting for hours would look like a hang
            yield
    except Timeout as error:
        raise EnvironmentProblem(
            f"{folder}: another download into this folder is running; wait until it ends"
        ) from error
    except OSError as error:
        raise EnvironmentProblem(f"{folder}: cannot be written ({error.strerror or error})") from error


def _get(
    sources: Sequence[DownloadSource],
    folder: Path,
    *,
    mirrors: Mirrors,
    progress: Progress | None,
    patience: Patience | None,
) -> Path:
    """Find an archive in the folder, or download it."""
    archives = folder / "archives"
    for source in sources:
        if (archives / source.name).is_file():
            return archives / source.name
    wanted = [replace(source, url=f"{url.rstrip('/')}/{source.name}") for url in mirrors.urls for source in sources]
    if mirrors.builtin:  # a RAR archive comes last if there is no program for it
        wanted += sorted(sources, key=lambda source: _is_rar(source) and missing_for_compressed_rar() is not None)
    problem = missing_for_rar()
    usable = [source for source in wanted if not (problem and _is_rar(source))]
    try:
        path = download(usable, archives, progress=progress, patience=patience)
        _note_downloaded(folder, path)
        return path
    except EnvironmentProblem as error:
        raise EnvironmentProblem(f"{error}; not tried: {problem}" if problem else str(error)) from error


def _note_downloaded(folder: Path, path: Path) -> None:
    """Record a downloaded archive with its size and time: only these may be removed later."""
    write_whole(folder / _DOWNLOADED, json.dumps(_downloaded(folder) | {path.name: _stamp(path)}).encode())


def _downloaded(folder: Path) -> dict[str, list[int]]:
    try:
        record = json.loads((folder / _DOWNLOADED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _stamp(path: Path) -> list[int]:
    status = path.lstat()
    return [status.st_size, status.st_mtime_ns]


def _is_rar(source: DownloadSource) -> bool:
    return source.name.endswith(".rar")


def _unpack_splits(path: Path, folder: Path) -> None:
    with open_archive(path) as archive:
        files = _by_file_name(archive, [entry for entry in archive.entries if _SPLIT_FILE.fullmatch(entry.file_name)])
        if not files:
            raise DataError(f"{path}: holds no <class>_test_split1.txt; expected HMDB51's official split files")
        unpack_folder(archive, files, target=folder / "splits")


def _unpack_classes(path: Path, names: Sequence[str], *, folder: Path, progress: Progress | None) -> None:
    videos = folder / "videos"
    with open_archive(path) as archive:
        inner = {Path(entry.name).stem: entry for entry in archive.entries if entry.name.endswith((".rar", ".zip"))}
        clips = {name: _clips(archive, name) for name in names}
        if missing := [name for name in names if not clips[name] and name not in inner]:
            raise DataError(
                f"{path}: holds neither clips nor an archive of {', '.join(missing)}; delete it and try again"
            )
        for done, name in enumerate(names):
            if progress:
                progress("unpacking", done, len(names))
            if clips[name]:
                unpack_folder(archive, clips[name], target=videos / name)
            else:
                _unpack_inner(archive, inner[name], target=videos / name)
    if progress:
        progress("unpacking", len(names), len(names))


def _unpack_inner(archive: Archive, entry: Entry, *, target: Path) -> None:
    with open_inner_archive(archive, entry, folder=target.parent) as inner:
        clips = _clips(inner, target.name) or _clips(inner, "")
        if not clips:
            raise DataError(f"{inner.label}: holds no {target.name}/*.avi; delete the archive and try another mirror")
        unpack_folder(inner, clips, target=target)


def _clips(archive: Archive, class_name: str) -> dict[str, Entry]:
    """Find the clips in the folder of a class, at any depth, without macOS's `._` files."""
    entries = [entry for entry in archive.entries if entry.folder_name == class_name]
    clips = [entry for entry in entries if entry.name.endswith(".avi") and not entry.file_name.startswith("._")]
    return _by_file_name(archive, clips)


def _by_file_name(archive: Archive, entries: Sequence[Entry]) -> dict[str, Entry]:
    """Map file names to entries; entries of the same name must be equal."""
    files: dict[str, Entry] = {}
    for entry in entries:
        first = files.setdefault(entry.file_name, entry)
        if (first.num_bytes, first.crc) != (entry.num_bytes, entry.crc):
            raise DataError(f"{archive.label}: {first.name} and {entry.name} differ; delete it and try another mirror")
    return files


def _check(folder: Path, names: Sequence[str]) -> int:
    """Check the clips against the official split files, and count them."""
    splits, videos = folder / "splits", folder / "videos"
    files = [f"{name}_test_split{fold}.txt" for name in names for fold in FOLDS]
    if missing := [name for name in files if not (splits / name).is_file()]:
        raise DataError(f"{splits}: {_list(missing, of=len(files))}; delete this folder and start again")
    expected = {clip_id: f"{clip_id}.avi" for clip_id in read_official_split(splits, fold=1, class_names=names)}
    if missing := [name for name in expected.values() if not (videos / name).is_file()]:
        raise DataError(
            f"{videos}: {_list(missing, of=len(expected))}; delete the folders of their classes and start again"
        )
    if len(names) == len(CLASS_NAMES) and len(expected) != NUM_CLIPS:
        raise DataError(f"{splits}: names {len(expected)} clips, HMDB51 has {NUM_CLIPS}; delete it and start again")
    return sum(1 for name in names for path in (videos / name).iterdir() if path.suffix == ".avi")


def _sweep(folder: Path, *, keep_archives: bool) -> None:
    """Remove what is no longer needed, including parts that a killed run left."""
    archives = folder / "archives"
    if archives.is_dir():
        for source in (*_VIDEOS, *_SPLITS):
            discard_all(archives, name=source.name)
    if not keep_archives:
        known = {source.name for source in (*_VIDEOS, *_SPLITS)}
        for name, stamp in _downloaded(folder).items():
            if name in known and (archives / name).is_file() and _stamp(archives / name) == stamp:
                (archives / name).unlink()
        (folder / _DOWNLOADED).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: it holds files of the user
            archives.rmdir()
    for place in (folder, folder / "videos"):
        remove_abandoned(place)


def _list(missing: Sequence[str], *, of: int) -> str:
    return f"{len(missing)} of {of} files are missing ({first_few(missing)})"
