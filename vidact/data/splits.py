"""Which clips train, which validate, which test: pure functions of a table of clips.

It reads no file. Validation is always taken out of the training side, by source video, never from the test
side; the same seed gives the same split on every machine.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from vidact.core import DataError
from vidact.data.hmdb51 import TEST, TRAINING
from vidact.data.index import Clip

NUM_FOLDS = 5


@dataclass(frozen=True)
class Split:
    """Three disjoint parts of a data set."""

    training: tuple[Clip, ...]
    validation: tuple[Clip, ...]
    test: tuple[Clip, ...]


def split_by_source(clips: Sequence[Clip], *, fold: int, seed: int) -> Split:
    """Split so that no source video is on two sides; classes are as even as the sources allow.

    Args:
        clips: The whole data set.
        fold: 1 to 5; each clip is in the test part of one fold.
        seed: Shuffles the sources.
    """
    rest, test = _grouped_fold(clips, fold=fold, num_folds=NUM_FOLDS, seed=seed)
    return _with_validation(rest, test, seed=seed)


def split_by_clip(clips: Sequence[Clip], *, fold: int, seed: int) -> Split:
    """Split the test side off at random, clip by clip, as the 2020 report did.

    Clips of one source then stand on both sides, so its test accuracy says little; it is here to show that.
    """
    labels = [clip.label for clip in clips]
    rarest = min(Counter(labels).values())
    if rarest < NUM_FOLDS:
        raise DataError(f"a split by clip needs {NUM_FOLDS} clips of each class, the rarest has {rarest}")
    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed).split(np.zeros(len(clips)), labels)
    rest, test = list(folds)[_fold_index(fold, NUM_FOLDS)]
    return _with_validation(_take(clips, rest), _take(clips, test), seed=seed)


def split_officially(clips: Sequence[Clip], *, flags: Mapping[str, int], seed: int) -> Split:
    """Split as HMDB51's split files say; clips that they leave unused stay unused.

    Args:
        clips: The whole data set.
        flags: From clip id to flag, as `hmdb51.read_official_split` gives them.
        seed: Chooses the sources that validate.

    Raises:
        DataError: the split files name clips that are not there (how many, the first three).
    """
    missing = sorted(set(flags) - {clip.clip_id for clip in clips})
    if missing:
        raise DataError(
            f"the split files name {len(missing)} clips that are not in the data set: {', '.join(missing[:3])}"
            f"{', …' if len(missing) > 3 else ''}; complete the data set, or use --data.split source"
        )
    sides = {side: [clip for clip in clips if flags.get(clip.clip_id) == side] for side in (TRAINING, TEST)}
    return _with_validation(sides[TRAINING], sides[TEST], seed=seed)


def _with_validation(training_side: Sequence[Clip], test: Sequence[Clip], *, seed: int) -> Split:
    training, validation = _grouped_fold(training_side, fold=1, num_folds=NUM_FOLDS, seed=seed)
    return Split(tuple(training), tuple(validation), tuple(test))


def _grouped_fold(clips: Sequence[Clip], *, fold: int, num_folds: int, seed: int) -> tuple[list[Clip], list[Clip]]:
    """Cut one of `num_folds` parts off, by source; fewer parts where a class has fewer sources."""
    sources = defaultdict(set)
    for clip in clips:
        sources[clip.class_name].add(clip.source)
    rarest = min(sources, key=lambda name: len(sources[name]), default="")
    num_folds = min(num_folds, len(sources[rarest]))
    if num_folds < 2:
        raise DataError(
            f"class {rarest!r} has {len(sources[rarest])} source video(s) to divide; training, validation and "
            "test need at least one each: add clips, leave the class out, or use --data.split clip"
        )
    labels, groups = [clip.label for clip in clips], [clip.source for clip in clips]
    folder = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    rest, part = list(folder.split(np.zeros(len(clips)), labels, groups))[_fold_index(fold, num_folds)]
    return _take(clips, rest), _take(clips, part)


def _fold_index(fold: int, num_folds: int) -> int:
    if not 1 <= fold <= num_folds:
        raise DataError(f"this split has folds 1 to {num_folds}, got --data.fold {fold}")
    return fold - 1


def _take(clips: Sequence[Clip], rows: Int[np.ndarray, " N"]) -> list[Clip]:
    return [clips[row] for row in rows]
