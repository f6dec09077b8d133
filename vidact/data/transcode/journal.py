"""Remember which files of an output folder `transcode` wrote, so that files of the user are never replaced."""

import json
import os
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from vidact.core.errors import DataError
from vidact.core.folders import place_inside

_Stamp = tuple[int, ...]  # size in bytes, time of change in nanoseconds


class CopyJournal:
    """The copies in a folder; a journal of JSON lines records each with its size and time of change.

    Args:
        folder: Output folder.
        journal: File of the journal; if there is none, all existing files of `names` are taken for copies.
        names: Relative paths of all possible copies.
    """

    def __init__(self, folder: Path, journal: Path, names: Sequence[Path]) -> None:
        self.folder, self._journal = folder, journal
        self._lock = threading.Lock()
        self._known: dict[str, set[_Stamp]] = defaultdict(set)  # a killed run may have recorded one and left another
        if journal.is_file():
            self._read()
        else:
            journal.touch()
            for name in names:
                if (folder / name).is_file():
                    self._note(name, _stamp(folder / name))

    def _read(self) -> None:
        for line in self._journal.read_text(encoding="utf-8").splitlines():
            try:
                name, stamp = json.loads(line)
            except (ValueError, TypeError):  # the incomplete last line of a killed run
                continue
            self._known[str(name)].add(tuple(stamp))

    def _note(self, name: Path, stamp: _Stamp) -> None:
        with self._lock, self._journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps([name.as_posix(), stamp]) + "\n")
            self._known[name.as_posix()].add(stamp)

    def is_own(self, name: Path) -> bool:
        """Return whether a file is the copy that was written there."""
        path = self.folder / name
        return os.path.lexists(path) and _stamp(path) in self._known[name.as_posix()]

    def check_own(self, name: Path) -> None:
        """Make sure that a copy may be written: there is no file, or an earlier copy.

        Raises:
            DataError: another file is there, or the copy would lie behind a link.
        """
        place_inside(self.folder, name)
        if os.path.lexists(self.folder / name) and not self.is_own(name):
            raise DataError(f"{self.folder / name}: is not the copy that was written there; move it and try again")

    def put(self, path: Path, name: Path) -> None:
        """Record a finished file and move it to its name."""
        self._note(name, _stamp(path))
        path.replace(self.folder / name)


def _stamp(path: Path) -> _Stamp:
    status = path.lstat()
    return status.st_size, status.st_mtime_ns
