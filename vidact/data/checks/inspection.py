"""Measure every clip of a data set once, in processes that may die, and remember it for the next run.

It does not know classes or splits, nor how a file is measured.
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

# -P: a module of the same name in the working folder is not imported in place of the real one.
MEASURE_COMMAND = (sys.executable, "-P", "-m", "vidact.data.checks.measuring")
TIME_LIMIT_SECONDS = 60.0
RAISED_ALIKE = 3  # so many first files with one and the same exception: it is not the files

Progress = Callable[[int, int], None]


def inspect_clips(
    paths: Sequence[Path],
    *,
    root: Path | None = None,
    decoder: Decoder = "decord",
    progress: Progress | None = None,
    time_limit_seconds: float = TIME_LIMIT_SECONDS,
    num_processes: int | None = None,
    command: Sequence[str] = MEASURE_COMMAND,
) -> dict[Path, Inspection]:
    """Measure files, or recall what an earlier run measured; no file is changed.

    Several processes may do so at once: one measures, the others wait and recall. A run that is killed loses the
    files that were being measured, no more.

    Args:
        paths: The files, each of which may be missing or damaged.
        root: The data set's folder, which chooses the manifest; the deepest folder that holds all files if None.
        decoder: What is to read them: only for decord it is found out which files it reads as PyAV does.
        progress: Called with how many are measured and how many are to be.
        time_limit_seconds: For one file.
        num_processes: How many processes measure; as many as are worth their start if None.
        command: The program that measures.

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
    """How to measure; see `inspect_clips`."""

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
    measured = {}
    if any(path not in recalled or recalled[path] != rows[manifest.name(path)] for path in files):
        with manifest.updating() as update:  # whoever held it before has measured some meanwhile
            recalled = _recall(files, manifest, update.rows, request)
            update.rows |= {manifest.name(path): row for path, row in recalled.items()}  # some with a new stamp
            todo = [path for path in files if path not in recalled]
            measured = _measure(todo, manifest, update, request)
    return measured | {path: row.inspection for path, row in recalled.items()}


def _recall(files: Sequence[Path], manifest: Manifest, rows: Mapping[str, Row], request: _Request) -> dict[Path, Row]:
    """Find the rows that still are true."""
    recalled = {}
    for path in files:
        row = rows.get(manifest.name(path))
        with contextlib.suppress(OSError):  # it vanished or cannot be read: measuring it says why
            current = row.holds(path, time_limit_seconds=request.time_limit_seconds) if row else None
            if current and current.inspection.covers(request.decoder):
                recalled[path] = current
    return recalled


def _measure(todo: Sequence[Path], manifest: Manifest, update: Update, request: _Request) -> dict[Path, Inspection]:
    """Measure files and remember them; where decord may have ended or held up a process, once more without it."""
    stamps = {path: stamp_of(path) for path in todo if not path_fault(path)}
    found: dict[Path, Inspection] = {}

    def keep(path: Path, inspection: Inspection) -> None:
        found[path] = inspection
        if inspection.sha1 and path in stamps:  # else it was not read: nothing to remember it by
            update.add(manifest.name(path), Row(stamps[path], inspection))
        if request.progress:
            request.progress(len(found), len(todo))

    failed = {}
    with contextlib.closing(_ask(todo, request, decoder=request.decoder)) as answers:
        for path, inspection in answers:
            if request.decoder == "decord" and inspection.sha1 and inspection.verdict in _DEADLY:
                failed[path] = inspection.reason
            else:
                keep(path, inspection)
    with contextlib.closing(_ask(list(failed), request, decoder="pyav")) as answers:
        for path, inspection in answers:
            keep(path, _without_decord(inspection, reason=failed[path]))
    return found


_DEADLY = {Verdict.CRASHED, Verdict.TIME_OUT}


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
            if decoder == request.decoder:  # not the few files that are asked for once more
                raised.append(reply.raised)
                _check_program(raised, path)
            yield path, _to_inspection(reply, path, request.time_limit_seconds)


def _check_program(raised: Sequence[str], path: Path) -> None:
    """Give up where the first files all ended with one exception, which a library's new version brings."""
    if len(raised) == RAISED_ALIKE and raised[0] and len(set(raised)) == 1:
        versions = ", ".join(f"{name} {number}" for name, number in decoder_versions().items())
        raise EnvironmentProblem(
            f"{path}: measuring it failed, as with each of the {RAISED_ALIKE - 1} files before, in the program itself "
            f"({raised[0]}); installed are {versions}: install the versions that vidact's constraints.txt names"
        )


def _to_inspection(reply: Reply, path: Path, time_limit_seconds: float) -> Inspection:
    if reply.answer is not None:
        return Inspection.from_record(reply.answer)
    if reply.timed_out:
        reason = f"measuring took longer than {time_limit_seconds:g} s; `data check --time_limit_seconds` gives more"
        found = Inspection(Verdict.TIME_OUT, reason, time_limit_seconds=time_limit_seconds)
    else:
        found = Inspection(Verdict.CRASHED, f"decoding it ended the process that measured it ({reply.death})")
    if reply.raised or (reply.death.startswith("SIGKILL") and not reply.timed_out):
        return found  # a library's fault, or somebody else's doing (want of memory): not to be remembered
    with contextlib.suppress(OSError):  # then it is not remembered either
        return replace(found, num_bytes=path.stat().st_size, sha1=file_sha1(path))
    return found


def _common_folder(files: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([str(path.parent) for path in files]))
