"""Cache the inspections of a data set's files on disk, safe against killed runs.

A manifest is a file in the user's cache folder: a header line, then one line of JSON for each file, sorted. During a
run each result is appended to a journal beside it; the next run reads both. Neither holds the time of inspection, so
that an undisturbed run and one that was killed and resumed write the same bytes.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from vidact.core.cache import cache_folder, locked
from vidact.core.errors import EnvironmentProblem
from vidact.core.files import atomic_writer
from vidact.data.video.containers import file_sha1
from vidact.data.video.verdicts import Inspection, Verdict

MANIFEST_VERSION = 5
_DECODERS = ("av", "decord", "decord2")

Stamp = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """The inspection of a file, and the file's state at that time.

    Attributes:
        stamp: Size in bytes, and time of the last change in nanoseconds.
        inspection: The inspection.
    """

    stamp: Stamp
    inspection: Inspection

    def if_current(self, path: Path, *, time_limit_seconds: float) -> "Row | None":
        """Return the row, with a new stamp if only the time changed; None if the file must be inspected again.

        The same size and time of change are trusted; with the same size and another time, the hash decides. A file
        that took too long is inspected again only if it gets more time.

        Raises:
            OSError: the file is missing, or cannot be read.
        """
        found = self.inspection
        if found.verdict is Verdict.TIME_OUT and time_limit_seconds > found.time_limit_seconds:
            return None
        stamp = stamp_of(path)
        if stamp == self.stamp:
            return self
        same = stamp[0] == self.stamp[0] and file_sha1(path) == found.sha1
        return replace(self, stamp=stamp) if same else None


def stamp_of(path: Path) -> Stamp:
    """Read a file's size and time of change, which tell whether it changed.

    Raises:
        OSError: the file is missing.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns


class Manifest:
    """The cached rows of a data set, by path relative to its root.

    Args:
        root: The data set's folder; each has a manifest of its own.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        # Folder names may hold what is not UTF-8.
        key = hashlib.sha256(str(root).encode(errors="surrogateescape")).hexdigest()[:16]
        self.path = cache_folder() / "manifests" / f"{key}.jsonl"
        self._journal_path = self.path.with_suffix(".journal")
        self._head = {"vidact_manifest": MANIFEST_VERSION, "root": str(root), "decoders": decoder_versions()}

    def name(self, path: Path) -> str:
        """Name a file relative to the root, with `/` on every system."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    def read(self) -> dict[str, Row]:
        """Read all rows, also those of a killed run; none if other versions of the decoders were used."""
        return self._read(self.path) | self._read(self._journal_path)

    def _read(self, path: Path) -> dict[str, Row]:
        """Read up to the first damaged line: the last one of a killed run is often incomplete."""
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise EnvironmentProblem(
                f"{path}: cannot be read ({error.strerror}); set VIDACT_CACHE to a folder that can be read and written"
            ) from error
        rows = {}
        for number, line in enumerate(lines):
            try:
                record = json.loads(line)
                if number == 0:
                    if record != self._head:  # another version of the format, or of a decoder
                        return {}
                    continue
                rows[record["path"]] = Row(tuple(record["stamp"]), Inspection.from_record(record["measured"]))
            except (ValueError, KeyError, TypeError):
                break
        return rows

    @contextlib.contextmanager
    def updating(self) -> Iterator["Update"]:
        """Lock the manifest for changes; a second process waits, and then finds the first one's rows.

        Raises:
            EnvironmentProblem: the cache folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            waiting = f"{self.root}: another process inspects its clips; waiting for it"
            with locked(self.path.with_suffix(".lock"), waiting=waiting):
                rows = self.read()
                if self._journal_path.exists():
                    self._write(rows)
                with self._journal_path.open("w", encoding="utf-8") as journal:
                    update = Update(rows, journal)
                    journal.write(json.dumps(self._head) + "\n")
                    yield update
                self._write(update.rows)
        except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
            raise EnvironmentProblem(
                f"{self.path}: cannot be written ({error}); set VIDACT_CACHE to a folder that can"
            ) from error

    def _write(self, rows: Mapping[str, Row]) -> None:
        with atomic_writer(self.path) as file:
            file.write(json.dumps(self._head) + "\n")
            file.writelines(_line(name, row) for name, row in sorted(rows.items()))
        self._journal_path.unlink(missing_ok=True)


class Update:
    """The rows of a locked manifest; each added row is in the journal at once."""

    def __init__(self, rows: dict[str, Row], journal: IO[str]) -> None:
        self.rows = rows
        self._journal = journal

    def add(self, name: str, row: Row) -> None:
        """Add or replace a row."""
        self.rows[name] = row
        self._journal.write(_line(name, row))
        self._journal.flush()


def _line(name: str, row: Row) -> str:
    record: dict[str, Any] = {"path": name, "stamp": row.stamp, "measured": row.inspection.record()}
    return json.dumps(record, sort_keys=True) + "\n"


def decoder_versions() -> dict[str, str]:
    """List the decoders' versions: another version may decode other frames."""
    versions = {}
    for name in _DECODERS:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
