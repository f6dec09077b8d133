"""Guess the classes of clips from tags, length, source or frame size, as baselines that see no pixel; see `leakage`.

Guesses on test clips are learned from training and validation together, those on validation clips from training alone.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from threadpoolctl import threadpool_limits

from vidact.data.datasets.index import Clip
from vidact.data.splits.split import Split

_LENGTH_BINS = 10
_MAX_ITERATIONS = 5000
_DIGITS = 4

Row = tuple[str | int, ...]
Features = Callable[[Clip], Row | None]
Guesser = Callable[[Sequence[Row], Sequence[str], Sequence[Row]], Sequence[str]]


@dataclass(frozen=True)
class ClipFacts:
    """Number of frames of a clip, its size in pixels, and the SHA-1 of its file (empty if unknown)."""

    num_frames: int
    width: int
    height: int
    sha1: str


@dataclass(frozen=True)
class Guess:
    """Accuracy of guesses from one feature, as shares of the clips; None with a `reason` where there is none."""

    feature: str
    validation: float | None
    test: float | None
    reason: str = ""


def list_guesses(split: Split, facts: Mapping[str, ClipFacts] | None) -> Iterator[Guess]:
    """Guess by `chance`, `majority class`, `tags`, `clip length`, `source` and `frame size`, in this order.

    Args:
        split: The split.
        facts: From clip id to facts; guesses from length and frame size skip clips that it lacks. None if clips were
            not inspected.
    """
    chance = 1 / max(len({clip.class_name for side in split.sides.values() for clip in side}), 1)
    yield Guess("chance", round(chance, _DIGITS), round(chance, _DIGITS))
    guess = partial(_guess, split)
    yield guess("majority class", lambda clip: (), _look_up)
    yield guess("tags", _tags, _regress, reason="no tags in the file names")
    known_facts = facts or {}
    reason = "" if facts else "clips were not inspected"
    yield guess("clip length", lambda clip: _length(known_facts.get(clip.clip_id)), _regress_bins, reason=reason)
    yield guess("source", lambda clip: (clip.source,), _look_up)
    yield guess("frame size", lambda clip: _frame_size(known_facts.get(clip.clip_id)), _regress, reason=reason)


def _guess(split: Split, feature: str, row: Features, guesser: Guesser, *, reason: str = "") -> Guess:
    validation = _accuracy(split.training, split.validation, row, guesser)
    test = _accuracy((*split.training, *split.validation), split.test, row, guesser)
    nothing = validation is None and test is None
    return Guess(feature, validation, test, (reason or "no clips") if nothing else "")


def _accuracy(learned: Sequence[Clip], asked: Sequence[Clip], row: Features, guesser: Guesser) -> float | None:
    """Learn from some clips, and compute the accuracy on others; clips without the feature are skipped."""
    known = [(found, clip.class_name) for clip in learned if (found := row(clip)) is not None]
    tried = [(found, clip.class_name) for clip in asked if (found := row(clip)) is not None]
    if not known or not tried:
        return None
    guesses = guesser([found for found, _ in known], [name for _, name in known], [found for found, _ in tried])
    right = sum(guess == name for guess, (_, name) in zip(guesses, tried, strict=True))
    return round(right / len(tried), _DIGITS)


def _tags(clip: Clip) -> Row | None:
    return None if clip.tags is None else tuple(asdict(clip.tags).values())


def _length(facts: ClipFacts | None) -> Row | None:
    return None if facts is None else (facts.num_frames,)


def _frame_size(facts: ClipFacts | None) -> Row | None:
    return None if facts is None else (facts.width, facts.height)


def _look_up(known: Sequence[Row], names: Sequence[str], tried: Sequence[Row]) -> list[str]:
    """Guess the most frequent class among equal rows; for a new row, the most frequent class of all."""
    counts: dict[Row, Counter[str]] = defaultdict(Counter)
    for row, name in zip(known, names, strict=True):
        counts[row][name] += 1
    most = {row: _most_frequent(found) for row, found in counts.items()}
    usual = _most_frequent(Counter(names))
    return [most.get(row, usual) for row in tried]


def _most_frequent(counts: Counter[str]) -> str:
    return min(counts, key=lambda name: (-counts[name], name))


def _regress(known: Sequence[Row], names: Sequence[str], tried: Sequence[Row]) -> list[str]:
    """Guess by logistic regression on one-hot columns; new values count for no class."""
    if len(set(names)) == 1:
        return [names[0]] * len(tried)
    # Tags and frame sizes are categories, not amounts: one column for each value.
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=_MAX_ITERATIONS))
    with threadpool_limits(1):  # more threads are slower on so small a problem
        model.fit(_text(known), names)
    return [str(name) for name in model.predict(_text(tried))]


def _regress_bins(known: Sequence[Row], names: Sequence[str], tried: Sequence[Row]) -> list[str]:
    """Do as `_regress` after binning one column of numbers, into ten bins equally full in training."""
    edges = np.quantile([int(row[0]) for row in known], np.arange(1, _LENGTH_BINS) / _LENGTH_BINS).tolist()
    known_bins, tried_bins = ([(bisect_right(edges, int(row[0])),) for row in rows] for rows in (known, tried))
    return _regress(known_bins, names, tried_bins)


def _text(rows: Sequence[Row]) -> list[list[str]]:
    return [[str(value) for value in row] for row in rows]
