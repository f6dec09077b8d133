"""Know which files of a folder are copies that were written there: what a person put or changed there is no copy.

It does not know what the files hold.
"""

import json
import os
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from vidact.core.errors import DataError
from vidact.core.folders import place_inside

_Stamp = tuple[int, ...]  # size in bytes, time of change in nanoseconds


class Copies:
    """The copies in a folder, by their names from there on; each with its size and time of change, a line of JSON.

    Args:
        folder: Which.
        journal: The file of the lines; where there is none, all that is there is taken for copies.
        names: Of all copies that there can be.
    """

    def __init__(self, folder: Path, journal: Path, names: Sequence[Path]) -> None:
        self.folder, self._journal = folder, journal
        self._lock = threading.Lock()
        self._known: dict[str, set[_Stamp]] = defaultdict(set)  # who was killed may have written one and left another
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
            except (ValueError, TypeError):  # cut off by a kill
                continue
            self._known[str(name)].add(tuple(stamp))

    def _note(self, name: Path, stamp: _Stamp) -> None:
        with self._lock, self._journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps([name.as_posix(), stamp]) + "\n")
            self._known[name.as_posix()].add(stamp)

    def is_own(self, name: Path) -> bool:
        """Say whether a file is the copy that was written there."""
        path = self.folder / name
        return os.path.lexists(path) and _stamp(path) in self._known[name.as_posix()]

    def check_own(self, name: Path) -> None:
        """Make sure that a copy can be written: there is none, or the one that was written before.

        Raises:
            DataError: it is another file, or would lie behind a link.
        """
        place_inside(self.folder, name)
        if os.path.lexists(self.folder / name) and not self.is_own(name):
            raise DataError(f"{self.folder / name}: is not the copy that was written there; move it away, try again")

    def put(self, path: Path, name: Path) -> None:
        """Give a finished file its name."""
        self._note(name, _stamp(path))
        path.replace(self.folder / name)


def _stamp(path: Path) -> _Stamp:
    status = path.lstat()
    return status.st_size, status.st_mtime_ns
