"""Write a small copy of a data set, with the same names, layout and frames.

A copy has its clip's frames, one for one and at the same times, only smaller: frame numbers, split files and masks
remain valid (masks are resized when they are read). No frame refers to a later one and groups of pictures are closed,
so readers that seek get the right frames as well, except for H.264 in AVI: AVI has no display times, and decord's
sparse read then starts at a wrong key frame, whatever the encoder's options.
"""

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from vidact.core.errors import DataError, EnvironmentProblem
from vidact.core.folders import is_scratch_folder, remove_abandoned, scratch_folder
from vidact.data.datasets.index import ENDINGS
from vidact.data.transcode.encoding import DEFAULT, TranscodeSettings, transcode_clip
from vidact.data.transcode.journal import CopyJournal
from vidact.data.video.reading import checked_path

_FORMAT_VERSION = 1
_MARK, _LOCK, _COPIES = "transcode.json", ".transcode.lock", ".transcode.copies"
_COPIED_FOLDERS = {"splits", "testTrainMulti_7030_splits", "ucfTrainTestlist", "masks", "puppet_mask"}
_COPIED_ENDINGS = {".txt", ".csv"}  # at the top
_CLOCK_NS = 10_000_000  # resolution of times on coarse file systems


@dataclass(frozen=True)
class TranscodeReport:
    """The outcome of a run.

    Attributes:
        written: Number of clips copied now.
        kept: Number of clips that had a copy already.
        copied: Number of split files and masks, which are copied unchanged.
        skipped: One line for each clip, link and folder that was skipped.
        ignored: Number of other files.
        bytes_before: Size of the clips that have a copy.
        bytes_after: Size of their copies.
    """

    written: int
    kept: int
    copied: int
    skipped: tuple[str, ...]
    ignored: int
    bytes_before: int
    bytes_after: int


def transcode(
    root: Path,
    out: Path,
    *,
    settings: TranscodeSettings = DEFAULT,
    progress: Callable[[int, int], None] | None = None,
) -> TranscodeReport:
    """Write a small copy of every clip of a data set, and copy its split files and masks.

    Every copy is written atomically and gets its clip's time of change, so that a stopped run continues where it ended
    and a changed clip is copied again. Broken clips are skipped. Any layout will do; `progress` is called with
    (done, total).

    Raises:
        DataError: no clips, `out` contains something else or is in use, or one folder lies in the other.
        EnvironmentProblem: `out` cannot be written.
    """
    root, out = root.resolve(), out.resolve()
    if root.is_relative_to(out) or out.is_relative_to(root):
        raise DataError(f"{out}: the copy and the data set {root} must not lie in each other; choose another folder")
    clips, copied, skipped, ignored = _list_files(root)
    outcomes: list[str | DataError] = []
    with _claimed(out, settings) as room, ThreadPoolExecutor(os.cpu_count()) as pool:
        copies = CopyJournal(out, out / _COPIES, [*clips, *copied])
        copy_one = partial(_copy_one, root=root, copies=copies, room=room)
        try:
            for outcome in pool.map(partial(copy_one, make=partial(transcode_clip, settings=settings)), clips):
                outcomes.append(outcome)
                if progress:
                    progress(len(outcomes), len(clips))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C must not wait for thousands of clips
            raise
        carried = [copy_one(name, make=shutil.copyfile) for name in copied]
    skipped += [str(outcome) for outcome in (*outcomes, *carried) if isinstance(outcome, DataError)]
    done = [name for name, outcome in zip(clips, outcomes, strict=True) if isinstance(outcome, str)]
    before, after = (sum((folder / name).stat().st_size for name in done) for folder in (root, out))
    written, kept = (outcomes.count(what) for what in ("written", "kept"))
    return TranscodeReport(written, kept, len(copied), tuple(skipped), ignored, before, after)


def _list_files(root: Path) -> tuple[list[Path], list[Path], list[str], int]:
    """List clips and files to copy unchanged, relative to `root`, why others are skipped, and how many are ignored."""
    clips, copied, skipped, ignored = [], [], [], 0
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        as_it_is = _COPIED_FOLDERS & set(name.parts[:-1]) or (len(name.parts) == 1 and path.suffix in _COPIED_ENDINGS)
        if any(part.startswith(".") for part in name.parts):
            continue
        if path.is_symlink() and (path.is_dir() or not Path(os.path.realpath(path)).is_relative_to(root)):
            skipped.append(f"{path}: a link to a folder or out of {root}, which is not followed")
        elif path.is_dir():
            if not os.access(path, os.R_OK | os.X_OK):
                skipped.append(f"{path}: a folder that may not be read")
        elif as_it_is and path.is_file():
            copied.append(name)
        elif path.suffix.lower() in ENDINGS:
            clips.append(name)
        else:
            ignored += 1
    if not clips:
        raise DataError(f"{root}: expected a data set's folder, found no clip in it ({', '.join(ENDINGS)})")
    return clips, copied, skipped, ignored


@contextlib.contextmanager
def _claimed(out: Path, settings: TranscodeSettings) -> Iterator[Path]:
    """Lock the folder of a copy, mark it, and make a scratch folder in it."""
    record = {"format_version": _FORMAT_VERSION, **asdict(settings)}
    try:
        _check_mark(out, record)
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / _LOCK, timeout=0):
            _check_mark(out, record)
            remove_abandoned(out)
            with scratch_folder(out) as room:
                (room / _MARK).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
                (room / _MARK).replace(out / _MARK)
                yield room
    except Timeout as error:
        raise DataError(f"{out}: another run is writing this copy; wait for it, or choose another folder") from error
    except OSError as error:
        raise EnvironmentProblem(f"{out}: the copy cannot be written ({error})") from error


def _check_mark(out: Path, record: dict[str, object]) -> None:
    """Make sure that a folder is missing, empty, or a copy with the same settings."""
    try:
        found = json.loads((out / _MARK).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        found = "other files"
    others = (
        [path for path in out.iterdir() if path.name != _LOCK and not is_scratch_folder(path)] if out.is_dir() else []
    )
    if found != record and others:
        raise DataError(f"{out}: expected nothing or a copy with {record}, found {found}; choose another folder")


def _copy_one(
    name: Path, *, root: Path, copies: CopyJournal, room: Path, make: Callable[[Path, Path], object]
) -> str | DataError:
    """Copy one file; return 'written', 'kept', or what is wrong with the file."""
    source, target, temporary = root / name, copies.folder / name, room / f"{threading.get_ident()}{name.suffix}"
    try:
        status = checked_path(source).stat()
        if target.is_file() and abs(target.stat().st_mtime_ns - status.st_mtime_ns) <= _CLOCK_NS:
            return "kept"
        copies.check_own(name)
    except DataError as error:
        return error
    try:
        make(source, temporary)
    except DataError as error:  # an older copy would hide that its clip is broken now
        temporary.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        return error
    # The clip's time tells the next run that this copy is up to date.
    os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
    target.parent.mkdir(parents=True, exist_ok=True)
    copies.put(temporary, name)
    return "written"
