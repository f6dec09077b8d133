"""Parse Kinetics' annotation files and find their clips on disk, whose names depend on the download tool.

Kay et al.: The Kinetics human action video dataset, arXiv:1705.06950, 2017.
"""

import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidact.core.errors import DataError
from vidact.data.video.paths import is_clip_name

COLUMNS = ("label", "youtube_id", "time_start", "time_end")
MAX_DEPTH = 3  # <split>/<label>/ and one more, such as videos/
ANNOTATIONS = ("annotations", "annotation")


@dataclass(frozen=True)
class Annotation:
    """A row: the class, and the seconds of the YouTube video that show it."""

    label: str
    youtube_id: str
    start_seconds: float
    end_seconds: float

    @property
    def stems(self) -> tuple[str, ...]:
        """File names of the cut clip: `<id>_000010_000020` or, from some tools, `<id>_10_20`."""
        whole = [f"{value:g}" if value % 1 else str(int(value)) for value in (self.start_seconds, self.end_seconds)]
        padded = "_".join((self.youtube_id, *(text.zfill(6) for text in whole)))
        return padded, "_".join((self.youtube_id, *whole))


@dataclass(frozen=True)
class FoundClip:
    """A row's file, which may be missing; `is_whole` where it is the whole video, not the cut clip."""

    path: Path
    is_whole: bool = False


def is_annotation(header: Sequence[str]) -> bool:
    """Return whether a first line is that of a Kinetics annotation file."""
    return set(COLUMNS) <= set(header) and "path" not in header


def read_row(cells: Mapping[str, str]) -> Annotation:
    """Read a row.

    Raises:
        DataError: a cell is empty, or its times are no times.
    """
    for name in COLUMNS:
        if not cells.get(name):
            raise DataError(f"{name} is empty")
    try:
        start, end = float(cells["time_start"]), float(cells["time_end"])
    except ValueError:
        start = end = math.nan
    if not 0 <= start < end < math.inf:
        raise DataError(
            "expected time_start < time_end in seconds, "
            f"got {cells['time_start'][:40]!r} and {cells['time_end'][:40]!r}"
        )
    if "/" in cells["youtube_id"] or "\0" in cells["youtube_id"]:
        raise DataError(f"{cells['youtube_id'][:40]!r} is not a youtube_id")
    return Annotation(cells["label"], cells["youtube_id"], start, end)


def find_files(table: Path) -> dict[str, list[Path]]:
    """Find the videos beside an annotation file and below, by their names without ending.

    If it lies in a folder `annotations`, the folder above is searched.
    """
    base = table.parent
    if base.name.lower() in ANNOTATIONS:
        base = base.parent
    found: dict[str, list[Path]] = defaultdict(list)
    for folder, folders, names in os.walk(base):
        depth = len(Path(folder).relative_to(base).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < MAX_DEPTH else []
        for name in sorted(filter(is_clip_name, names)):
            found[Path(name).stem].append(Path(folder, name))
    return found


def find_clip(annotation: Annotation, files: Mapping[str, Sequence[Path]], *, folder: Path) -> FoundClip:
    """Choose a row's file: the cut clip, else the whole video, else the place where the clip should be.

    Of several files with one name, the one in its class's folder is taken.
    """
    for stem in (*annotation.stems, annotation.youtube_id):
        if paths := files.get(stem):
            own = [path for path in paths if path.parent.name.replace("_", " ") == annotation.label.replace("_", " ")]
            return FoundClip((own or paths)[0], is_whole=stem == annotation.youtube_id)
    return FoundClip(folder / f"{annotation.stems[0]}.mp4")
