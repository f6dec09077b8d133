"""Inspect every clip of a data set once, in child processes that may crash, and cache the results for later runs.

Data modules, `vidact data` and video files that are explained call `inspect_clips` before they read any frame.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidact.core.errors import EnvironmentProblem
from vidact.data.checks.children import Reply, ask_children, choose_num_processes
from vidact.data.checks.manifest import Manifest, Row, Update, decoder_versions, stamp_of
from vidact.data.video.containers import file_sha1
from vidact.data.video.paths import path_fault
from vidact.data.video.reading import Decoder
from vidact.data.video.verdicts import Inspection as Inspection
from vidact.data.video.verdicts import Verdict

# -P: do not import a module of the same name from the working folder.
INSPECT_COMMAND = (sys.executable, "-P", "-m", "vidact.data.checks.file_inspection")
TIME_LIMIT_SECONDS = 60.0
SAME_EXCEPTIONS = 3  # if so many first files raise the same exception, the cause is not the files

Progress = Callable[[int, int], None]


def inspect_clips(
    paths: Sequence[Path],
    *,
    root: Path | None = None,
    decoder: Decoder = "decord",
    progress: Progress | None = None,
    time_limit_seconds: float = TIME_LIMIT_SECONDS,
    num_processes: int | None = None,
    command: Sequence[str] = INSPECT_COMMAND,
) -> dict[Path, Inspection]:
    """Inspect files, or look up what an earlier run found; no file is changed.

    Of several processes that start at once one inspects, and the others wait for its results. A killed run loses only
    the files that were being inspected.

    Args:
        paths: The files, each of which may be missing or damaged.
        root: The data set's folder, which has a manifest of its own; the deepest folder with all files if None.
        decoder: The library that is to read them. Only for decord its pictures are compared with PyAV's.
        progress: Called with (done, total), counting the files that are not cached.
        time_limit_seconds: Limit for one file.
        num_processes: Number of processes; as many as are worth their start-up time if None.
        command: The program that inspects.

    Returns:
        An inspection for each path.

    Raises:
        EnvironmentProblem: the cache folder cannot be written, or no process can be started.
    """
    request = _Request(root, decoder, time_limit_seconds, num_processes, tuple(command), progress)
    absolute = {path: path.absolute() for path in paths}
    found = {path: fault for path in absolute.values() if (fault := path_fault(path))}
    files = [path for path in dict.fromkeys(absolute.values()) if path not in found]
    if files:
        found |= _inspect_files(files, request)
    return {path: found[absolute[path]] for path in paths}


@dataclass(frozen=True)
class _Request:
    """Arguments of `inspect_clips`."""

    root: Path | None
    decoder: Decoder
    time_limit_seconds: float
    num_processes: int | None
    command: tuple[str, ...]
    progress: Progress | None


def _inspect_files(files: Sequence[Path], request: _Request) -> dict[Path, Inspection]:
    manifest = Manifest(request.root.absolute() if request.root else _common_folder(files))
    rows = manifest.read()
    recalled = _recall(files, manifest, rows, request)
    new: dict[Path, Inspection] = {}
    if any(path not in recalled or recalled[path] != rows[manifest.name(path)] for path in files):
        with manifest.updating() as update:  # the process that held it before has inspected some meanwhile
            recalled = _recall(files, manifest, update.rows, request)
            update.rows |= {manifest.name(path): row for path, row in recalled.items()}  # some have a new time stamp
            todo = [path for path in files if path not in recalled]
            new = _inspect(todo, manifest, update, request)
    return new | {path: row.inspection for path, row in recalled.items()}


def _recall(files: Sequence[Path], manifest: Manifest, rows: Mapping[str, Row], request: _Request) -> dict[Path, Row]:
    """Find the rows whose files have not changed."""
    recalled = {}
    for path in files:
        row = rows.get(manifest.name(path))
        with contextlib.suppress(OSError):  # it vanished or cannot be read: inspecting it tells why
            current = row.if_current(path, time_limit_seconds=request.time_limit_seconds) if row else None
            if current and current.inspection.covers(request.decoder):
                recalled[path] = current
    return recalled


def _inspect(todo: Sequence[Path], manifest: Manifest, update: Update, request: _Request) -> dict[Path, Inspection]:
    """Inspect files and save the results; files on which a process crashed or hung are retried without decord."""
    # Before decoding: a file that changes meanwhile is then inspected again by the next run.
    stamps = {path: stamp_of(path) for path in todo if not path_fault(path)}
    found: dict[Path, Inspection] = {}

    def keep(path: Path, inspection: Inspection) -> None:
        found[path] = inspection
        if inspection.sha1 and path in stamps:  # else it was not read, and a change would go unnoticed
            update.add(manifest.name(path), Row(stamps[path], inspection))
        if request.progress:
            request.progress(len(found), len(todo))

    failed = {}
    with contextlib.closing(_ask(todo, request, decoder=request.decoder)) as answers:
        for path, inspection in answers:
            if request.decoder == "decord" and inspection.sha1 and inspection.verdict in _PROCESS_LOST:
                failed[path] = inspection.reason
            else:
                keep(path, inspection)
    with contextlib.closing(_ask(list(failed), request, decoder="pyav")) as answers:
        for path, inspection in answers:
            keep(path, _without_decord(inspection, reason=failed[path]))
    return found


_PROCESS_LOST = {Verdict.CRASHED, Verdict.TIME_OUT}


def _without_decord(found: Inspection, *, reason: str) -> Inspection:
    if found.info is None:
        return found
    info = replace(found.info, only_pyav=f"with decord, {reason}")
    verdict = Verdict.PYAV_ONLY if found.verdict in {Verdict.OK, Verdict.HEADER_OVERSTATES} else found.verdict
    reasons = [found.reason] if verdict is found.verdict else []
    return replace(found, info=info, verdict=verdict, reason="; ".join([*reasons, info.only_pyav]), compared=True)


def _ask(
    paths: Sequence[Path], request: _Request, *, decoder: Decoder
) -> Generator[tuple[Path, Inspection], None, None]:
    raised: list[str] = []
    replies = ask_children(
        [{"path": str(path), "decoder": decoder} for path in paths],
        command=request.command,
        time_limit_seconds=request.time_limit_seconds,
        num_processes=request.num_processes or choose_num_processes(len(paths)),
    )
    with contextlib.closing(replies):
        for reply in replies:
            path = Path(reply.question["path"])
            if decoder == request.decoder:  # not on the second try
                raised.append(reply.raised)
                _check_program(raised, path)
            yield path, _to_inspection(reply, path, request.time_limit_seconds)


def _check_program(raised: Sequence[str], path: Path) -> None:
    """Give up if the first files all raise the same exception: a new version of a library is the likely cause."""
    if len(raised) == SAME_EXCEPTIONS and raised[0] and len(set(raised)) == 1:
        versions = ", ".join(f"{name} {number}" for name, number in decoder_versions().items())
        raise EnvironmentProblem(
            f"{path}: inspecting it failed like each of the {SAME_EXCEPTIONS - 1} files before, in the program itself "
            f"({raised[0]}); installed are {versions}: install the versions that vidact's constraints.txt names"
        )


def _to_inspection(reply: Reply, path: Path, time_limit_seconds: float) -> Inspection:
    if reply.answer is not None:
        return Inspection.from_record(reply.answer)
    if reply.timed_out:
        reason = f"decoding took longer than {time_limit_seconds:g} s; `data check --time_limit_seconds` allows more"
        found = Inspection(Verdict.TIME_OUT, reason, time_limit_seconds=time_limit_seconds)
    else:
        found = Inspection(Verdict.CRASHED, f"decoding it crashed the process ({reply.death})")
    if reply.raised or (reply.death.startswith("SIGKILL") and not reply.timed_out):
        return found  # the cause may be a library or lack of memory, not the file: without a hash it is not cached
    with contextlib.suppress(OSError):  # not cached either
        return replace(found, num_bytes=path.stat().st_size, sha1=file_sha1(path))
    return found


def _common_folder(files: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([str(path.parent) for path in files]))
