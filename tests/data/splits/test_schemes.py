import contextlib
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidact.core.errors import ConfigError, DataError
from vidact.data.datasets.hmdb51 import TEST, TRAINING, UNUSED, read_official_split
from vidact.data.datasets.index import Clip, index_clips
from vidact.data.splits.schemes import make_split
from vidact.data.splits.split import NUM_FOLDS, Split
from vidact.data.video.sampling import windows

TAGS = "f_cm_np1_fr_med"


def _clip(class_name: str, source: str, *, label: int = 0, number: int = 0) -> Clip:
    """Make a clip by a name as HMDB51's, so that its film is known."""
    return Clip(Path(f"/{class_name}/{source}_{class_name}_{TAGS}_{number}.avi"), class_name, label, source, None)


def _clips(sources_per_class: dict[str, dict[str, int]]) -> list[Clip]:
    """Make clips: from class to source to how many."""
    return [
        _clip(name, source, label=label, number=number)
        for label, (name, sources) in enumerate(sources_per_class.items())
        for source, count in sources.items()
        for number in range(count)
    ]


@st.composite
def data_sets(draw: st.DrawFn, least_films: int = 6) -> list[Clip]:
    """Classes with films of a few sources each; films may be shared between the classes."""
    classes = draw(st.integers(1, 5))
    shared = draw(st.booleans())
    films = st.sets(st.sampled_from("abcdefghijklmnopqrst"), min_size=least_films, max_size=12)
    parts = st.dictionaries(st.integers(1, 9), st.integers(1, 4), min_size=1, max_size=3)
    return _clips(
        {
            f"c{k}": {
                f"{film.upper() if part % 2 else film}{'' if shared else f'-{k}x'}_{part}": count
                for film in sorted(draw(films))
                for part, count in draw(parts).items()
            }
            for k in range(classes)
        }
    )


def _groups(side: Sequence[Clip], kind: str) -> set[str]:
    return {getattr(clip, kind) for clip in side}


def _check_partition(split: Split, clips: list[Clip]) -> None:
    everything = [*split.training, *split.validation, *split.test, *split.unused]
    assert Counter(everything) == Counter(clips)
    kind = "source" if any("split by source" in note for note in split.notes) else "film"
    assert not _groups(split.training, kind) & _groups(split.validation, kind)


@settings(deadline=None, max_examples=15)
@given(data_sets(), st.sampled_from(["source", "film"]), st.integers(1, NUM_FOLDS), st.integers(0, 3), st.randoms())
def test_no_group_is_on_two_sides_and_the_same_seed_gives_the_same_split(
    clips: list[Clip], scheme: Any, fold: int, seed: int, random: Any
) -> None:
    split = make_split(clips, scheme=scheme, fold=min(fold, 3), seed=seed)
    _check_partition(split, clips)
    assert not split.unused
    for one, other in combinations(split.sides.values(), 2):
        assert not _groups(one, scheme) & _groups(other, scheme)
    shuffled = random.sample(clips, len(clips))
    again = make_split(shuffled, scheme=scheme, fold=min(fold, 3), seed=seed)
    assert {name: set(side) for name, side in again.sides.items()} == {
        name: set(side) for name, side in split.sides.items()
    }


@settings(deadline=None, max_examples=15)
@given(data_sets(), st.integers(1, 400), st.integers(1, 32), st.integers(1, 8), st.integers(1, 4))
def test_the_frames_of_every_clip_of_every_side_lie_inside_the_clip(
    clips: list[Clip], longest: int, num_frames: int, stride: int, num_windows: int
) -> None:
    lengths = {clip: 1 + index * 7919 % longest for index, clip in enumerate(clips)}
    for side in make_split(clips, scheme="film", fold=1, seed=0).sides.values():
        for clip in side:
            found = windows(lengths[clip], num_frames=num_frames, stride=stride, num_windows=num_windows)
            assert found
            assert all(0 <= number < lengths[clip] for window in found for number in window)


@st.composite
def scarce_data_sets(draw: st.DrawFn) -> list[Clip]:
    """Few films that few classes share, at least three for each: a split may just be possible, or just not."""
    films = "abcdefg"[: draw(st.integers(3, 7))]
    chosen = st.sets(st.sampled_from(films), min_size=3)
    return _clips({f"c{k}": dict.fromkeys(sorted(draw(chosen)), 1) for k in range(draw(st.integers(1, 4)))})


def _can_be_on_every_side(clips: list[Clip]) -> bool:
    """Try every way of giving films to three sides."""
    films = sorted(_groups(clips, "film"))
    wanted = {(clip.class_name, side) for clip in clips for side in range(3)}
    for sides in product(range(3), repeat=len(films)):
        side_of = dict(zip(films, sides, strict=True))
        if {(clip.class_name, side_of[clip.film]) for clip in clips} == wanted:
            return True
    return False


@settings(deadline=None, max_examples=40)
@given(scarce_data_sets(), st.integers(1, 3), st.integers(0, 3))
def test_every_class_is_on_every_side_whenever_any_split_does_that(clips: list[Clip], fold: int, seed: int) -> None:
    if not _can_be_on_every_side(clips):
        with contextlib.suppress(DataError):  # no film to divide may be left on the training side
            assert any("is not in" in note for note in make_split(clips, scheme="film", fold=fold, seed=seed).notes)
        return
    split = make_split(clips, scheme="film", fold=fold, seed=seed)
    names = _groups(clips, "class_name")
    assert all(_groups(side, "class_name") == names for side in split.sides.values())
    assert not any("is not in" in note for note in split.notes)


@settings(deadline=None, max_examples=8)
@given(data_sets(), st.integers(0, 3), st.sampled_from(["source", "clip", "kfold"]))
def test_each_clip_is_tested_in_one_fold(clips: list[Clip], seed: int, scheme: Any) -> None:
    num_folds = make_split(clips, scheme=scheme, fold=1, seed=seed, num_folds=4).num_folds
    splits = [make_split(clips, scheme=scheme, fold=fold, seed=seed, num_folds=4) for fold in range(1, num_folds + 1)]
    assert Counter(clip for split in splits for clip in split.test) == Counter(clips)
    if scheme == "kfold":
        assert num_folds == 4
        for split in splits:
            assert not _groups(split.test, "film") & _groups((*split.training, *split.validation), "film")


@settings(deadline=None, max_examples=15)
@given(data_sets(), st.integers(0, 3))
def test_validation_shares_no_film_with_training_even_if_the_split_is_by_clip(clips: list[Clip], seed: int) -> None:
    _check_partition(make_split(clips, scheme="clip", fold=1, seed=seed), clips)


@settings(deadline=None, max_examples=15)
@given(data_sets(), st.integers(0, 3), st.booleans())
def test_unused_clips_train_only_where_their_film_is_on_no_other_side(
    clips: list[Clip], seed: int, use_unused: bool
) -> None:
    flags = {clip.clip_id: (TRAINING, TEST, UNUSED)[ord(clip.film[0]) % 5 % 3] for clip in clips}
    flags |= {clip.clip_id: UNUSED for clip in clips[::4]}
    options: Any = {"scheme": "official", "fold": 2, "seed": seed, "flags": flags}
    try:
        without = make_split(clips, **options)
    except DataError:
        return  # a class with one source to train
    split = make_split(clips, **options, use_unused=use_unused)
    _check_partition(split, clips)
    assert (split.test, split.validation) == (without.test, without.validation)
    assert {flags[clip.clip_id] for clip in without.training} == {TRAINING}
    joined = {clip for clip in split.training if flags[clip.clip_id] == UNUSED}
    taken = _groups((*split.test, *split.validation), "film")
    expected = {clip for clip in clips if flags[clip.clip_id] == UNUSED and clip.film not in taken}
    assert joined == (expected if use_unused else set())


@settings(deadline=None, max_examples=15)
@given(data_sets(), st.integers(0, 3), st.sampled_from([0.5, 0.4, 0.2, 0.1, 0.05]))
def test_validation_takes_the_share_that_is_asked_for(clips: list[Clip], seed: int, share: float) -> None:
    options: Any = {"scheme": "film", "fold": 1, "seed": seed}
    split, usual = make_split(clips, **options, validation_share=share), make_split(clips, **options)
    _check_partition(split, clips)
    assert split.test == usual.test
    if share == 0.2:
        assert split == usual


@pytest.mark.parametrize("share", [0.5, 0.35, 0.2, 0.05])
def test_where_films_are_many_and_small_the_share_is_met(share: float) -> None:
    clips = _clips({name: {f"{s}{name}x": 1 for s in range(500)} for name in "ab"})
    split = make_split(clips, scheme="film", fold=1, seed=0, validation_share=share)
    assert len(split.validation) / len(split.training + split.validation) == pytest.approx(share, abs=0.01)
    assert {clip.class_name for clip in split.validation} == {"a", "b"}


def test_another_seed_gives_another_split() -> None:
    clips = _clips({"a": {f"{s}x": 2 for s in range(40)}, "b": {f"{s + 40}x": 2 for s in range(40)}})
    first, second = (make_split(clips, scheme="source", fold=1, seed=seed) for seed in (0, 1))
    assert first.test != second.test
    assert first.validation != second.validation


def test_classes_are_even_where_the_sources_allow() -> None:
    clips = _clips({name: {f"{s}{name}": 3 for s in range(25)} for name in "abcd"})
    split = make_split(clips, scheme="source", fold=2, seed=0)
    for part, expected in ((split.test, 15), (split.validation, 12), (split.training, 48)):
        assert set(Counter(clip.class_name for clip in part).values()) == {expected}


def test_fewer_folds_are_made_where_a_class_has_fewer_groups_and_that_is_reported() -> None:
    clips = _clips({"a": {"x": 2, "y": 2, "z": 2}, "b": {f"{s}w": 2 for s in range(9)}})
    split = make_split(clips, scheme="source", fold=3, seed=0)
    assert split.num_folds == 3
    assert split.notes == ("3 folds instead of 5: class 'a' has 3 source video(s)",)
    with pytest.raises(DataError, match="has folds 1 to 3, got --data.fold 4; 3 folds instead of 5: class 'a' has 3"):
        make_split(clips, scheme="source", fold=4, seed=0)
    with pytest.raises(DataError, match=r"class 'a' has 3 film\(s\) to divide.* 4 folds 4 in all: add clips"):
        make_split(clips, scheme="kfold", fold=1, seed=0, num_folds=4)


def test_a_class_with_too_few_sources_is_named() -> None:
    for sources in ({"x": 9}, {"x": 9, "y": 1}):
        clips = _clips({"a": sources, "b": {f"{s}w": 2 for s in range(9)}})
        with pytest.raises(DataError, match=rf"class 'a' has {len(sources)} source video\(s\) to divide"):
            make_split(clips, scheme="source", fold=1, seed=0)


def test_validation_is_by_source_where_a_class_has_one_film_and_that_is_reported() -> None:
    clips = _clips({"a": {f"tape_{s}": 2 for s in range(9)}, "b": {f"{s}w": 2 for s in range(9)}})
    split = make_split(clips, scheme="source", fold=1, seed=0)
    assert not _groups(split.validation, "source") & _groups(split.training, "source")
    assert split.notes == ("validation is split by source, not by film: class 'a' has 1 film(s) for training",)
    with pytest.raises(DataError, match=r"class 'a' has 1 film\(s\) to divide"):
        make_split(clips, scheme="film", fold=1, seed=0)


def test_a_class_that_a_side_lacks_is_noted() -> None:
    clips = _clips({name: {f"{s}{name}": 1 for s in range(9)} for name in "ab"})
    flags = {clip.clip_id: TRAINING for clip in clips} | {clip.clip_id: TEST for clip in clips[:2]}
    split = make_split(clips, scheme="official", fold=1, seed=0, flags=flags)
    assert split.notes == ("class 'b' is not in test",)
    assert split.lines()[0].startswith("split official, fold 1 of 3, seed 0: ")
    assert split.lines()[1:] == ["  class 'b' is not in test"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "kfold", "num_folds": 2}, "num_folds must be at least 3"),
        ({"scheme": "film", "use_unused": True}, "only the official split leaves clips unused"),
        ({"scheme": "film", "validation_share": 0.01}, "validation_share must be from 0.05 to 0.5, got 0.01"),
        ({"scheme": "film", "validation_share": 0.6}, "to 0.5, got 0.6"),
        ({"scheme": "official"}, "the official split needs its split files"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_split(_clips({"a": {"x": 1}}), **({"fold": 1, "seed": 0} | options))


def test_a_split_that_leaves_nothing_to_train_is_refused() -> None:
    clips = _clips({"a": {"x": 3}})
    with pytest.raises(DataError, match="no training clip"):
        make_split(clips, scheme="official", fold=1, seed=0, flags=dict.fromkeys([c.clip_id for c in clips], TEST))


def test_missing_clips_are_counted_and_three_are_named() -> None:
    clips = _clips({"a": {f"{s}x": 1 for s in range(9)}})
    flags = {clip.clip_id: 1 for clip in clips} | {f"a/gone{n}": 2 for n in range(5)}
    with pytest.raises(DataError, match=r"name 5 clips that are not in the data set: a/gone0, a/gone1, a/gone2, …"):
        make_split(clips, scheme="official", fold=1, seed=0, flags=flags)


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_the_official_split_is_kept_on_real_clips(hmdb51: Path, fold: int) -> None:
    clips = list(index_clips(hmdb51))
    names = sorted(_groups(clips, "class_name"))
    flags = read_official_split(hmdb51 / "splits", fold=fold, class_names=names)
    split = make_split(clips, scheme="official", fold=fold, seed=0, flags=flags)
    _check_partition(split, clips)
    assert (len(split.test), len(split.training) + len(split.validation), len(split.unused)) == (210, 490, 292)
    assert {flags[clip.clip_id] for clip in split.test} == {2}
    assert {flags[clip.clip_id] for clip in (*split.training, *split.validation)} == {1}
    assert min(Counter(clip.class_name for clip in split.validation).values()) >= 5


@pytest.mark.parametrize("scheme", ["source", "film"])
def test_the_real_clips_have_every_class_on_every_side_of_every_fold(hmdb51: Path, scheme: Any) -> None:
    clips = index_clips(hmdb51)
    for fold in range(1, NUM_FOLDS + 1):
        split = make_split(clips, scheme=scheme, fold=fold, seed=0)
        assert (split.num_folds, split.notes) == (5, ())
        for side, least in ((split.training, 500), (split.validation, 120), (split.test, 170)):
            assert len(_groups(side, "class_name")) == 7
            assert len(side) >= least


def test_the_official_split_of_jhmdb_is_understood(jhmdb: Path) -> None:
    clips = index_clips(jhmdb)
    names = sorted(_groups(clips, "class_name"))
    flags = read_official_split(jhmdb / "splits", fold=1, class_names=names)
    split = make_split(clips, scheme="official", fold=1, seed=0, flags=flags)
    assert not split.unused
    assert {len(_groups(side, "class_name")) for side in split.sides.values()} == {4}
