"""Report what leaks from one side of a split to another: shared sources and films, copies, and pixel-free guesses.

Where tags, lengths or frame sizes alone predict the class well, a network's accuracy says less about what it sees.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from vidact.data.datasets.clip_frames import share_time
from vidact.data.datasets.index import Clip
from vidact.data.splits.guessing import ClipFacts, Guess, list_guesses
from vidact.data.splits.split import Split

MAX_EXAMPLES = 3


@dataclass(frozen=True)
class SharedGroups:
    """Clips of one side whose group also has clips on another side.

    Attributes:
        kind: `source` or `film`.
        side: The side whose clips are counted.
        other: The side, or the sides joined by `+`, in which their groups are searched.
        num_clips: Number of clips of the side.
        same_class: Clips whose group is there in the same class.
        other_class: Clips whose group is there in another class.
        either: Clips whose group is there at all.
        examples: The first of these groups, by name.
    """

    kind: str
    side: str
    other: str
    num_clips: int
    same_class: int
    other_class: int
    either: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Copies:
    """Two clips on two sides that are the same file (distance 0) or look alike (bits between hashes of frames)."""

    first: str
    first_side: str
    second: str
    second_side: str
    distance_bits: float


@dataclass(frozen=True)
class LeakageReport:
    """What leaks between the sides of a split.

    Attributes:
        sizes: Number of clips on each side.
        shared: Groups on two sides.
        duplicates: Equal files on two sides; None if files were not hashed.
        near_duplicates: Clips on two sides that look alike; None if frames were not compared.
        guesses: Accuracy of guesses that see no pixel, after `chance` and `majority class`.
    """

    sizes: dict[str, int]
    shared: tuple[SharedGroups, ...]
    duplicates: tuple[Copies, ...] | None
    near_duplicates: tuple[Copies, ...] | None
    guesses: tuple[Guess, ...]

    def guess(self, feature: str) -> Guess:
        """Return the guess from one feature, by its name in `guessing.list_guesses`."""
        return next(guess for guess in self.guesses if guess.feature == feature)

    def record(self) -> dict[str, Any]:
        """Convert to plain dicts, lists, strings and numbers, for JSON."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    def lines(self) -> list[str]:
        """Format the report, one string per line."""
        sizes = ", ".join(f"{count} {side}" for side, count in self.sizes.items())
        return [
            f"what the split gives away ({sizes} clips)",
            f"  {'clips whose group is on another side':<40}{'same class':>12}{'other class':>13}{'either':>8}",
            *(_shared_line(row) for row in self.shared),
            *_copies_lines("equal files on two sides", self.duplicates),
            *_copies_lines("clips that look alike on two sides", self.near_duplicates),
            f"  {'class guessed without a pixel':<40}{'validation':>12}{'test':>13}",
            *(_guess_line(guess) for guess in self.guesses),
        ]


def measure_leakage(
    split: Split,
    facts: Mapping[str, ClipFacts] | None = None,
    *,
    near_duplicates: Sequence[tuple[str, str, float]] | None = None,
) -> LeakageReport:
    """Measure what leaks between the sides of a split.

    Args:
        split: The split.
        facts: From clip id to facts; guesses from length and frame size skip clips that it lacks (unreadable ones).
            None if clips were not inspected.
        near_duplicates: Pairs of clip ids that look alike and their distance in bits, on any sides. None if frames were
            not compared.
    """
    clips = {clip.clip_id: clip for side in split.sides.values() for clip in side}
    pairs = (
        (a, b)
        for a, b in _equal_files(facts or {})
        if a not in clips or b not in clips or share_time(clips[a], clips[b])
    )
    equal = None if facts is None else [(*pair, 0.0) for pair in pairs]
    return LeakageReport(
        sizes={name: len(side) for name, side in split.sides.items()},
        shared=tuple(_list_shared(split)),
        duplicates=_on_two_sides(equal, split.side_of),
        near_duplicates=_on_two_sides(near_duplicates, split.side_of),
        guesses=tuple(list_guesses(split, facts)),
    )


def _list_shared(split: Split) -> Iterator[SharedGroups]:
    sides = split.sides | {"training+validation": (*split.training, *split.validation)}
    for side, other in (("test", "training"), ("test", "training+validation"), ("validation", "training")):
        for kind, group in (("source", lambda clip: clip.source), ("film", lambda clip: clip.film)):
            yield _shared_groups(sides[side], sides[other], group, names=(kind, side, other))


def _shared_groups(
    clips: Sequence[Clip], others: Sequence[Clip], group: Callable[[Clip], str], *, names: tuple[str, str, str]
) -> SharedGroups:
    classes_of = defaultdict(set)
    for clip in others:
        classes_of[group(clip)].add(clip.class_name)
    found = [(clip, classes) for clip in clips if (classes := classes_of.get(group(clip)))]
    return SharedGroups(
        *names,
        num_clips=len(clips),
        same_class=sum(clip.class_name in classes for clip, classes in found),
        other_class=sum(bool(classes - {clip.class_name}) for clip, classes in found),
        either=len(found),
        examples=tuple(sorted({group(clip) for clip, _ in found})[:MAX_EXAMPLES]),
    )


def _equal_files(facts: Mapping[str, ClipFacts]) -> Iterator[tuple[str, str]]:
    ids_of = defaultdict(list)
    for clip_id in sorted(facts):
        if facts[clip_id].sha1:
            ids_of[facts[clip_id].sha1].append(clip_id)
    for ids in ids_of.values():
        yield from combinations(ids, 2)


def _on_two_sides(
    pairs: Iterable[tuple[str, str, float]] | None, side_of: Mapping[str, str]
) -> tuple[Copies, ...] | None:
    if pairs is None:
        return None
    sides = ((first, side_of.get(first), second, side_of.get(second), distance) for first, second, distance in pairs)
    found = {Copies(a, on, b, other, distance) for a, on, b, other, distance in sides if on and other and on != other}
    return tuple(sorted(found, key=lambda copies: (copies.distance_bits, copies.first, copies.second)))


def _plain(value: Any) -> Any:
    # Lists for tuples, so that a record equals what JSON gives back.
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _shared_line(row: SharedGroups) -> str:
    title = f"    {row.kind}: {row.side} in {row.other}"
    examples = f"  of {row.num_clips}: {', '.join(row.examples)}{', …' * (row.either > MAX_EXAMPLES)}"
    return f"{title:<42}{row.same_class:>12}{row.other_class:>13}{row.either:>8}{examples if row.either else ''}"


def _copies_lines(title: str, copies: Sequence[Copies] | None) -> list[str]:
    if not copies:
        return [f"  {title}: {'not measured' if copies is None else 'none'}"]
    rows = [f"    {row.first} ({row.first_side}), {row.second} ({row.second_side})" for row in copies[:MAX_EXAMPLES]]
    return [f"  {title}: {len(copies)} pairs", *rows, *["    …"] * (len(copies) > MAX_EXAMPLES)]


def _guess_line(guess: Guess) -> str:
    shares = [f"{100 * share:.1f} %" if share is not None else "–" for share in (guess.validation, guess.test)]
    reason = f"  {guess.reason}" if guess.reason else ""
    return f"    {guess.feature:<38}{shares[0]:>12}{shares[1]:>13}{reason}"
