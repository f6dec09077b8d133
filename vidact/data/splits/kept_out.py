"""What is kept out of training and validation, because another data set is to be measured on it.

It reads no file, and does not divide.

A network that is trained on one data set and then measured on clips of another must not have seen their films: J-HMDB's
clips, for one, are HMDB51's.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from vidact.core.errors import DataError
from vidact.data.datasets.index import Clip, named_clip


@dataclass(frozen=True)
class KeptOut:
    """The clips of a data set that neither train nor validate, and why.

    Attributes:
        data_set: Whose clips are to be measured, the name of its folder.
        part: Which of its clips: `the test side of its official fold 1`, or `all its clips`.
        num_clips: How many these are.
        num_namesakes: How many of them are clips of the divided data set as well, by class and file name.
        films: Their films, as far as the divided data set has clips of them, sorted.
        clips: The ids of all its clips of these films, sorted.
    """

    data_set: str
    part: str
    num_clips: int
    num_namesakes: int
    films: tuple[str, ...]
    clips: tuple[str, ...]

    def note(self) -> str:
        """Say in one line what is kept out and why."""
        classes = Counter(clip_id.partition("/")[0] for clip_id in self.clips)
        listed = ", ".join(f"{name} {count}" for name, count in sorted(classes.items()))
        return (
            f"kept out of training and validation: {len(self.clips)} clips ({listed}) of {len(self.films)} films that "
            f"{self.data_set} tests on ({self.part}, {self.num_clips} clips, {self.num_namesakes} of them here by name)"
        )

    def record(self) -> dict[str, Any]:
        """Give everything as plain values, for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def find_kept_out(clips: Sequence[Clip], measured: Sequence[Clip], *, data_set: str, part: str) -> KeptOut:
    """Find the clips of a data set that share a film with clips that another is to be measured on.

    A film is what the scheme `film` takes for one (`Clip.film`). Clips with the class and name of a measured one are
    kept out with all of their film, too, whatever a table calls it.

    Args:
        clips: The data set that is to be divided.
        measured: The other's clips.
        data_set: The other's name.
        part: Which of its clips `measured` are, for people.

    Raises:
        DataError: nothing is shared, so nothing would be kept out.
    """
    ids = {clip.clip_id for clip in measured}
    namesakes = [clip for clip in clips if clip.clip_id in ids]
    films = {clip.film for clip in (*measured, *namesakes)}
    kept = [clip for clip in clips if clip.film in films]
    if not kept:
        raise DataError(
            f"there is nothing to keep out: no clip to divide is of a film of {data_set} ({len(measured)} clips, "
            f"{part}); split without --keep_out, or name the data set that the network is to be measured on"
        )
    return KeptOut(
        data_set=data_set,
        part=part,
        num_clips=len(measured),
        num_namesakes=len(namesakes),
        films=tuple(sorted({clip.film for clip in kept})),
        clips=tuple(sorted(clip.clip_id for clip in kept)),
    )


def share_footage(clips: Iterable[Clip], known: Iterable[Clip]) -> list[Clip]:
    """List the clips that are among others, or whose source or film is.

    Both go by what a table calls them and by what their file names tell: a table's group does not hide a film.

    Args:
        clips: Of one data set.
        known: Of the same or another.
    """
    seen = {trace for clip in known for trace in _traces(clip)}
    return [clip for clip in clips if not seen.isdisjoint(_traces(clip))]


def _traces(clip: Clip) -> set[tuple[str, str]]:
    """Tell a clip by its id, its source and its film; by its file name only where that has a source in it."""
    found = {("clip", clip.clip_id), ("source", clip.source), ("film", clip.film)}
    named = named_clip(clip.clip_id)
    if named.source != clip.path.stem:
        found |= {("source", named.source), ("film", named.film)}
    return found


def check_left(clips: Iterable[Clip], left: Iterable[Clip], kept_out: KeptOut) -> None:
    """Make sure that every class has a clip that may still train.

    Args:
        clips: The whole data set.
        left: What may train.
        kept_out: What may not.

    Raises:
        DataError: names the classes that have none.
    """
    lacking = sorted({clip.class_name for clip in clips} - {clip.class_name for clip in left})
    if lacking:
        raise DataError(
            f"no clip is left to train class {', '.join(map(repr, lacking))}: {len(kept_out.clips)} clips of the films "
            f"of {kept_out.data_set} ({kept_out.part}) are kept out; add clips, leave the class out, or keep out less"
        )


def read_record(value: Any) -> KeptOut | None:
    """Read what `KeptOut.record` gave; None where nothing was kept out.

    Raises:
        ValueError: it is not of that kind.
    """
    if value is None:
        return None
    kinds: Mapping[str, type] = {"data_set": str, "part": str, "num_clips": int, "num_namesakes": int}
    if not isinstance(value, dict) or set(value) != {field.name for field in fields(KeptOut)}:
        raise ValueError("not a record of what was kept out")
    for name, item in value.items():
        listed = isinstance(item, list) and all(isinstance(text, str) for text in item)
        if not (isinstance(item, kinds[name]) if name in kinds else listed):
            raise ValueError(f"{name!r} is of another kind")
    plain: dict[str, Any] = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}
    return KeptOut(**plain)
