"""Choose by a scheme which clips are for training, validation and test.

With every scheme, validation is taken out of the training side, never from the test side, and no film is both in
training and in validation (no source, if a class has a single film on the training side).

The same seed gives the same split on every machine, with every version of every library, whatever the clips' order.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from vidact.core.errors import ConfigError, DataError, first_few
from vidact.data.datasets.hmdb51 import FOLDS, TEST, TRAINING, UNUSED
from vidact.data.datasets.index import Clip
from vidact.data.splits.dealing import deal
from vidact.data.splits.kept_out import KeptOut, check_left
from vidact.data.splits.split import NUM_FOLDS, Split, SplitScheme

# Schemes that take the data set's own sides: from scheme to where the sides are named.
GIVEN: dict[str, str] = {"table": "column `split`", "folders": "folders `train`, `val` and `test`"}
VALIDATION_SHARE = 0.2
MOST_PARTS = 20  # of the training side, some of which validate
_SIDES = ("training", "validation", "test")
NUM_SIDES = len(_SIDES)

# From scheme to what is kept together, and its name in messages.
_GROUPS: dict[str, tuple[Callable[[Clip], str], str]] = {
    "source": (lambda clip: clip.source, "source video(s)"),
    "film": (lambda clip: clip.film, "film(s)"),
    "kfold": (lambda clip: clip.film, "film(s)"),
    "clip": (lambda clip: clip.clip_id, "clip(s)"),
}


def make_split(
    clips: Sequence[Clip],
    *,
    scheme: SplitScheme,
    fold: int,
    seed: int,
    num_folds: int = NUM_FOLDS,
    flags: Mapping[str, int] | None = None,
    use_unused: bool = False,
    validation_share: float = VALIDATION_SHARE,
    kept_out: KeptOut | None = None,
) -> Split:
    """Split a data set into training, validation and test.

    Args:
        clips: The whole data set.
        scheme: `official` follows `flags`. `source` and `film` keep each source or film on one side, in five folds, or
            as few as three if the classes do not allow more. `kfold` does as `film`, in exactly `num_folds`. `clip`
            draws single clips, as the 2020 report did: sources are then on both sides, so its test accuracy says
            little. `table` and `folders` take the data set's own sides; only if none is for validation, that is taken
            out of training.
        fold: Number of the test fold, from 1; each clip is in the test part of one fold.
        seed: Seed of the draws.
        num_folds: For `kfold`, at least 3.
        flags: For `official`: from clip id to flag, as `hmdb51.read_official_split` returns them for the fold.
        use_unused: For `official`: add clips of flag 0 to training if their film is neither in test nor in validation.
        validation_share: Share of the training side for validation, from 0.05 to 0.5; rounded to up to 20 equal parts.
        kept_out: Its clips join the test side whatever the scheme; the others are split as if they were all.

    Raises:
        ConfigError: too few folds, or an argument that does not fit the scheme.
        DataError: a class has too few groups, or none that may train, there is no such fold, or `flags` names clips
            that are missing (how many, the first three).
    """
    _check_settings(scheme, num_folds=num_folds, use_unused=use_unused, validation_share=validation_share)
    share = Fraction(validation_share).limit_denominator(MOST_PARTS)
    kept = set(kept_out.clips) if kept_out else set()
    if kept_out:
        check_left(clips, (clip for clip in clips if clip.clip_id not in kept), kept_out)
    try:
        if scheme == "official":
            if flags is not None:  # clips that are kept out join the test side
                flags = {**flags, **dict.fromkeys(kept, TEST)}
            split = _split_officially(clips, fold=fold, seed=seed, flags=flags, use_unused=use_unused, share=share)
        elif scheme in GIVEN:
            split = _split_as_given(clips, kept, scheme=scheme, fold=fold, seed=seed, share=share)
        else:
            split = _split_by_group(clips, kept, scheme=scheme, fold=fold, seed=seed, num_folds=num_folds, share=share)
    except DataError as error:
        raise DataError(f"{error}; {len(kept)} clips are kept out") if kept else error from None
    if kept_out is None:
        return split
    check_left(clips, split.training, kept_out)
    return replace(split, kept_out=kept_out, notes=(kept_out.note(), *split.notes))


def _check_settings(scheme: str, *, num_folds: int, use_unused: bool, validation_share: float) -> None:
    if not 1 / MOST_PARTS <= validation_share <= 1 / 2:
        raise ConfigError(f"validation_share must be from {1 / MOST_PARTS} to 0.5, got {validation_share}")
    if num_folds < NUM_SIDES:
        raise ConfigError(f"num_folds must be at least {NUM_SIDES}: training, validation and test; got {num_folds}")
    if use_unused and scheme != "official":
        raise ConfigError(f"only the official split leaves clips unused; use_unused does not go with {scheme!r}")


def _split_by_group(
    everything: Sequence[Clip],
    kept: Collection[str],
    *,
    scheme: SplitScheme,
    fold: int,
    seed: int,
    num_folds: int,
    share: Fraction,
) -> Split:
    clips = [clip for clip in everything if clip.clip_id not in kept]
    wanted, least = (num_folds, num_folds) if scheme == "kfold" else (NUM_FOLDS, NUM_SIDES)
    group, unit = _GROUPS[scheme]
    rarest, count = _rarest_class(clips, group)
    if count < least:
        raise DataError(
            f"class {rarest!r} has {count} {unit} to divide; training, validation and test need at least one each"
            f"{f', {least} folds {least} in all' if scheme == 'kfold' else ''}: add clips, or drop the class"
        )
    folds = _divide(clips, group, num_parts=min(wanted, count), least_parts=least, seed=seed)
    why = f"class {rarest!r} has {count} {unit}" if len(folds) == count else "classes share too many groups for more"
    notes = [] if len(folds) == wanted else [f"{len(folds)} folds instead of {wanted}: {why}"]
    if not 1 <= fold <= len(folds):
        raise DataError("; ".join([f"this split has folds 1 to {len(folds)}, got --data.fold {fold}", *notes]))
    test = [*folds.pop(fold - 1), *(clip for clip in everything if clip.clip_id in kept)]
    split = _with_validation([clip for one in folds for clip in one], test, seed=seed, notes=notes, share=share)
    return _finish(split, everything, scheme=scheme, fold=fold, num_folds=len(folds) + 1)


def _split_officially(
    clips: Sequence[Clip], *, fold: int, seed: int, flags: Mapping[str, int] | None, use_unused: bool, share: Fraction
) -> Split:
    if flags is None:
        raise ConfigError("the official split needs its split files; give their folder as --data.splits_folder")
    missing = sorted(set(flags) - {clip.clip_id for clip in clips})
    if missing:
        raise DataError(
            f"the split files name {len(missing)} clips that are not in the data set: {first_few(missing)}; "
            "complete the data set, or use --data.split source"
        )
    sides = {side: [clip for clip in clips if flags.get(clip.clip_id) == side] for side in (UNUSED, TRAINING, TEST)}
    split = _with_validation(sides[TRAINING], sides[TEST], seed=seed, notes=[], share=share)
    if use_unused:
        split = _join_unused(split, sides[UNUSED])
    return _finish(split, clips, scheme="official", fold=fold, num_folds=len(FOLDS))


def _split_as_given(
    clips: Sequence[Clip], kept: Collection[str], *, scheme: SplitScheme, fold: int, seed: int, share: Fraction
) -> Split:
    """Take the data set's own sides."""
    what = f"the {GIVEN[scheme]}"
    if fold != 1:
        raise ConfigError(
            f"--data.split {scheme} has one fold, because the data set names the sides; got --data.fold {fold}"
        )
    if odd := [clip for clip in clips if clip.side and clip.side not in _SIDES]:
        raise DataError(
            f"{what}: {len(odd)} clips are on an unknown side, the first on {odd[0].side[:40]!r} "
            f"({odd[0].clip_id}); expected train, val or test, or nothing"
        )
    sides = {side: [clip for clip in clips if clip.side == side and clip.clip_id not in kept] for side in _SIDES}
    sides["test"] += [clip for clip in clips if clip.clip_id in kept]
    if not sides["training"]:
        named = ", ".join(f"{len(side)} clips for {name}" for name, side in sides.items() if side) or "no clip"
        raise DataError(f"{what}: no clip is for training ({named}); add some")
    notes = [f"{what}: no clip is for test" for _ in range(not sides["test"])]
    if not sides["validation"]:
        notes.append(f"{what}: no clip is for validation; {float(share):g} of the training clips are taken for it")
        split = _with_validation(sides["training"], sides["test"], seed=seed, notes=notes, share=share)
    else:
        if share != Fraction(VALIDATION_SHARE).limit_denominator(MOST_PARTS):
            notes.append("validation_share is not used, because the data set names the validation clips")
        parts = {name: tuple(side) for name, side in sides.items()}
        split = Split(parts["training"], parts["validation"], parts["test"], seed=seed, notes=tuple(notes))
    if without := sum(not clip.side for clip in clips):
        split = replace(split, notes=(*split.notes, f"{without} clips are on no side, and are not used"))
    return _finish(split, clips, scheme=scheme, fold=1, num_folds=1)


def _join_unused(split: Split, unused: Sequence[Clip]) -> Split:
    """Add unused clips to training whose film is neither in test nor in validation."""
    taken = {clip.film for clip in (*split.test, *split.validation)}
    joining = [clip for clip in unused if clip.film not in taken]
    note = f"{len(joining)} of {len(unused)} clips of flag 0 join training; the others' films are in test or validation"
    return replace(split, training=(*split.training, *joining), notes=(*split.notes, note))


def _with_validation(
    clips: Sequence[Clip], test: Sequence[Clip], *, seed: int, notes: Sequence[str], share: Fraction
) -> Split:
    """Take a share of the training side for validation, by film; by source if a class has a single film."""
    if not clips:
        raise DataError("this split has no training clip; add clips, or use another split")
    group, unit = _GROUPS["film"]
    rarest, count = _rarest_class(clips, group)
    if count < 2:
        notes = [
            *notes,
            f"validation is split by source, not by film: class {rarest!r} has {count} {unit} for training",
        ]
        group, unit = _GROUPS["source"]
        rarest, count = _rarest_class(clips, group)
    if count < 2:
        raise DataError(
            f"class {rarest!r} has {count} {unit} for training and validation, which need at least one each; add clips "
            "or drop the class"
        )
    divided = _divide(clips, group, num_parts=min(share.denominator, count), least_parts=2, seed=seed)
    # Take the parts whose size is nearest to the mean, so that validation has about the wanted share of the clips.
    off_size = [abs(len(part) * len(divided) - len(clips)) for part in divided]
    nearest_first = sorted(range(len(divided)), key=off_size.__getitem__)
    taken = set(nearest_first[: max(1, round(share * len(divided)))])
    validation = tuple(clip for number in sorted(taken) for clip in divided[number])
    training = tuple(clip for number, part in enumerate(divided) if number not in taken for clip in part)
    return Split(training, validation, tuple(test), seed=seed, notes=tuple(notes))


def _divide(
    clips: Sequence[Clip], group: Callable[[Clip], str], *, num_parts: int, least_parts: int, seed: int
) -> list[list[Clip]]:
    """Split clips into parts by whole groups, each class as evenly as its groups allow."""
    members: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        members[group(clip)].append(clip)
    groups = {name: Counter(clip.class_name for clip in those) for name, those in members.items()}
    parts = deal(groups, num_parts=num_parts, least_parts=least_parts, seed=seed)
    return [[clip for name in part for clip in members[name]] for part in parts]


def _rarest_class(clips: Sequence[Clip], group: Callable[[Clip], str]) -> tuple[str, int]:
    """Find the class with the fewest groups, and count them."""
    groups = defaultdict(set)
    for clip in clips:
        groups[clip.class_name].add(group(clip))
    rarest = min(sorted(groups), key=lambda name: len(groups[name]), default="")
    return rarest, len(groups[rarest])


def _finish(split: Split, clips: Sequence[Clip], *, scheme: SplitScheme, fold: int, num_folds: int) -> Split:
    """Sort every side like the clips, and note the classes that a side lacks."""
    sides = {name: set(side) for name, side in split.sides.items()}
    names = dict.fromkeys(clip.class_name for clip in clips)
    lacking = [
        f"class {name!r} is not in {side}"
        for side, members in sides.items()
        for name in sorted(set(names) - {clip.class_name for clip in members})
    ]
    ordered = {name: tuple(clip for clip in clips if clip in members) for name, members in sides.items()}
    used = set().union(*sides.values())
    unused = tuple(clip for clip in clips if clip not in used)
    return Split(
        **ordered,
        unused=unused,
        scheme=scheme,
        fold=fold,
        num_folds=num_folds,
        seed=split.seed,
        notes=(*split.notes, *lacking),
        kept_out=split.kept_out,
    )
