"""Keep clips out of training and validation whose films another data set tests on (`data split --keep_out`).

A network that is trained on one data set and tested on another must not have seen the films of the test clips: J-HMDB's
clips, for example, are parts of HMDB51's.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from vidact.core.errors import DataError
from vidact.data.datasets.index import Clip, named_clip


@dataclass(frozen=True)
class KeptOut:
    """The clips of a data set that may neither train nor validate, and why.

    Attributes:
        data_set: Name of the folder of the data set to be tested on.
        part: The clips to be tested on: `the test side of its official fold 1`, or `all its clips`.
        num_clips: Number of these.
        num_namesakes: Number of these that the split data set has as well, by class and file name.
        films: Sorted films of the clips to be tested on, of which the split data set has clips.
        clips: Sorted ids of the split data set's clips of these films.
    """

    data_set: str
    part: str
    num_clips: int
    num_namesakes: int
    films: tuple[str, ...]
    clips: tuple[str, ...]

    def note(self) -> str:
        """Describe in one line what is kept out and why."""
        classes = Counter(clip_id.partition("/")[0] for clip_id in self.clips)
        listed = ", ".join(f"{name} {count}" for name, count in sorted(classes.items()))
        return (
            f"kept out of training and validation: {len(self.clips)} clips ({listed}) of {len(self.films)} films that "
            f"{self.data_set} tests on ({self.part}, {self.num_clips} clips, {self.num_namesakes} of them here by name)"
        )

    def record(self) -> dict[str, Any]:
        """Convert to plain values, for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def find_kept_out(clips: Sequence[Clip], tested: Sequence[Clip], *, data_set: str, part: str) -> KeptOut:
    """Find the clips of a data set that share a film (`Clip.film`) with the test clips of another.

    Clips with the class and name of a test clip are kept out with all of their film, even if a table gives it another
    name.

    Args:
        clips: The data set to be split.
        tested: Test clips of the other data set.
        data_set: Name of the other data set.
        part: Description of `tested`, for messages.

    Raises:
        DataError: no film is shared, so nothing would be kept out.
    """
    ids = {clip.clip_id for clip in tested}
    namesakes = [clip for clip in clips if clip.clip_id in ids]
    films = {clip.film for clip in (*tested, *namesakes)}
    kept = [clip for clip in clips if clip.film in films]
    if not kept:
        raise DataError(
            f"there is nothing to keep out: no clip to split is of a film of {data_set} ({len(tested)} clips, "
            f"{part}); split without --keep_out, or name the data set that the network is to be tested on"
        )
    return KeptOut(
        data_set=data_set,
        part=part,
        num_clips=len(tested),
        num_namesakes=len(namesakes),
        films=tuple(sorted({clip.film for clip in kept})),
        clips=tuple(sorted(clip.clip_id for clip in kept)),
    )


def share_footage(clips: Iterable[Clip], known: Iterable[Clip]) -> list[Clip]:
    """List the clips that share their id, source or film with any of other clips.

    Sources and films are taken from tables and from file names alike, so that a table's group does not hide a film.

    Args:
        clips: Clips of one data set.
        known: Clips of the same or another data set.
    """
    seen = {trace for clip in known for trace in _traces(clip)}
    return [clip for clip in clips if not seen.isdisjoint(_traces(clip))]


def _traces(clip: Clip) -> set[tuple[str, str]]:
    """List what identifies a clip's footage: its id, source and film, also those in its file name if it has any."""
    found = {("clip", clip.clip_id), ("source", clip.source), ("film", clip.film)}
    named = named_clip(clip.clip_id)
    if named.source != clip.path.stem:
        found |= {("source", named.source), ("film", named.film)}
    return found


def check_left(clips: Iterable[Clip], left: Iterable[Clip], kept_out: KeptOut) -> None:
    """Make sure that every class still has a clip for training.

    Args:
        clips: The whole data set.
        left: The clips that may train.
        kept_out: What is kept out.

    Raises:
        DataError: names the classes that have none.
    """
    lacking = sorted({clip.class_name for clip in clips} - {clip.class_name for clip in left})
    if lacking:
        raise DataError(
            f"no clip is left to train class {', '.join(map(repr, lacking))}: {len(kept_out.clips)} clips of the films "
            f"of {kept_out.data_set} ({kept_out.part}) are kept out; add clips, drop the class, or keep out less"
        )


def read_record(value: Any) -> KeptOut | None:
    """Restore a `KeptOut.record`; None where nothing was kept out.

    Raises:
        ValueError: it is not such a record.
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
