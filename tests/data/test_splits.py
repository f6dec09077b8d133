from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidact.core import DataError
from vidact.data.hmdb51 import read_official_split
from vidact.data.index import Clip, index_clips
from vidact.data.splits import NUM_FOLDS, Split, split_by_clip, split_by_source, split_officially


def _clips(sources_per_class: dict[str, dict[str, int]]) -> list[Clip]:
    """Make clips: from class to source to how many."""
    return [
        Clip(Path(f"/{name}/{source}_{number}.avi"), name, label, source, None)
        for label, (name, sources) in enumerate(sources_per_class.items())
        for source, count in sources.items()
        for number in range(count)
    ]


@st.composite
def data_sets(draw: st.DrawFn) -> list[Clip]:
    classes = draw(st.integers(1, 5))
    shared = draw(st.booleans())  # whether sources are shared between the classes
    counts = st.dictionaries(st.integers(0, 30).map(str), st.integers(1, 6), min_size=6, max_size=20)
    return _clips(
        {f"c{k}": {(s if shared else f"{k}-{s}"): n for s, n in draw(counts).items()} for k in range(classes)}
    )


def _check_partition(split: Split, clips: list[Clip]) -> None:
    parts = [set(part) for part in (split.training, split.validation, split.test)]
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert set().union(*parts) <= set(clips)


@settings(deadline=None, max_examples=25)
@given(data_sets(), st.integers(1, NUM_FOLDS), st.integers(0, 3))
def test_no_source_is_on_two_sides(clips: list[Clip], fold: int, seed: int) -> None:
    split = split_by_source(clips, fold=fold, seed=seed)
    _check_partition(split, clips)
    assert len(split.training) + len(split.validation) + len(split.test) == len(clips)
    sources = [{clip.source for clip in part} for part in (split.training, split.validation, split.test)]
    assert not sources[0] & sources[1]
    assert not sources[0] & sources[2]
    assert not sources[1] & sources[2]
    assert split == split_by_source(clips, fold=fold, seed=seed)


@settings(deadline=None, max_examples=8)
@given(data_sets(), st.integers(0, 3))
def test_each_clip_is_tested_in_one_fold(clips: list[Clip], seed: int) -> None:
    tested = Counter(
        clip for fold in range(1, NUM_FOLDS + 1) for clip in split_by_source(clips, fold=fold, seed=seed).test
    )
    assert tested == Counter(clips)


@settings(deadline=None, max_examples=15)
@given(data_sets(), st.integers(0, 3))
def test_validation_shares_no_source_with_training_even_if_the_split_is_by_clip(clips: list[Clip], seed: int) -> None:
    split = split_by_clip(clips, fold=1, seed=seed)
    _check_partition(split, clips)
    assert not {clip.source for clip in split.training} & {clip.source for clip in split.validation}


def test_another_seed_gives_another_split() -> None:
    clips = _clips({"a": {str(s): 2 for s in range(40)}, "b": {str(s + 40): 2 for s in range(40)}})
    assert split_by_source(clips, fold=1, seed=0) != split_by_source(clips, fold=1, seed=1)


def test_classes_are_even_where_the_sources_allow() -> None:
    clips = _clips({name: {f"{name}{s}": 3 for s in range(25)} for name in "abcd"})
    split = split_by_source(clips, fold=2, seed=0)
    for part, expected in ((split.test, 15), (split.validation, 12), (split.training, 48)):
        assert set(Counter(clip.class_name for clip in part).values()) == {expected}


def test_a_class_with_one_source_is_named() -> None:
    clips = _clips({"a": {"x": 9}, "b": {str(s): 2 for s in range(9)}})
    with pytest.raises(DataError, match=r"class 'a' has 1 source video\(s\) to divide"):
        split_by_source(clips, fold=1, seed=0)


def test_the_official_split_is_kept_on_real_clips(hmdb51: Path) -> None:
    clips = index_clips(hmdb51)
    names = sorted({clip.class_name for clip in clips})
    flags = read_official_split(hmdb51 / "splits", fold=1, class_names=names)
    split = split_officially(clips, flags=flags, seed=0)
    assert len(split.test) == 7 * 30
    assert len(split.training) + len(split.validation) == 7 * 70
    assert {flags[clip.clip_id] for clip in split.test} == {2}
    assert {flags[clip.clip_id] for clip in (*split.training, *split.validation)} == {1}
    for name in names:
        assert not {c.source for c in split.training if c.class_name == name} & {
            c.source for c in split.validation if c.class_name == name
        }
        assert sum(clip.class_name == name for clip in split.validation) >= 5


def test_the_real_clips_split_by_source_with_every_class_on_every_side(hmdb51: Path) -> None:
    clips = index_clips(hmdb51)
    for fold in range(1, NUM_FOLDS + 1):
        split = split_by_source(clips, fold=fold, seed=0)
        for part in (split.training, split.validation, split.test):
            assert len({clip.label for clip in part}) == 7


def test_missing_clips_are_counted_and_three_are_named() -> None:
    clips = _clips({"a": {str(s): 1 for s in range(9)}})
    flags = {clip.clip_id: 1 for clip in clips} | {f"a/gone{n}": 2 for n in range(5)}
    with pytest.raises(DataError, match=r"name 5 clips that are not in the data set: a/gone0, a/gone1, a/gone2, …"):
        split_officially(clips, flags=flags, seed=0)
