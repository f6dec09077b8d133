import csv
import functools
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidact.data.datasets.hmdb51 import film_of, parse_name, read_official_split
from vidact.data.datasets.index import Clip, index_clips
from vidact.data.splits.guessing import ClipFacts
from vidact.data.splits.leakage import LeakageReport, measure_leakage
from vidact.data.splits.schemes import make_split
from vidact.data.splits.split import Split

EIGHT = ("fall_floor", "hug", "jump", "punch", "run", "smoke", "throw", "wave")
SEVEN = ("catch", "fall_floor", "hit", "jump", "kick_ball", "push", "run")


def _clip(name: str, label: int = 0) -> Clip:
    """Make the clip of an id; source and tags as its name says."""
    class_name, stem = name.split("/", 1)
    source, tags = parse_name(stem, class_name) or (stem, None)
    return Clip(Path(f"/{name}.avi"), class_name, label, source, tags)


def _official_split(hmdb51: Path, fold: int, names: Sequence[str]) -> Split:
    """Make the official split from the names in its files alone."""
    flags = read_official_split(hmdb51 / "splits", fold=fold, class_names=names)
    clips = [_clip(clip_id, names.index(clip_id.split("/")[0])) for clip_id in flags]
    return make_split(clips, scheme="official", fold=fold, seed=0, flags=flags)


@functools.cache
def _official_report(hmdb51: Path, fold: int, names: Sequence[str]) -> LeakageReport:
    return measure_leakage(_official_split(hmdb51, fold, names))


# Measured once, outside this project, with a one-hot encoding and a logistic regression.
@pytest.mark.parametrize(
    ("names", "fold", "expected"),
    [
        *((EIGHT, fold, share) for fold, share in enumerate((0.600, 0.579, 0.546), start=1)),
        *((SEVEN, fold, share) for fold, share in enumerate((0.429, 0.400, 0.324), start=1)),
    ],
)
def test_the_tags_alone_classify_the_official_splits(
    hmdb51: Path, names: Sequence[str], fold: int, expected: float
) -> None:
    report = _official_report(hmdb51, fold, names)
    assert report.guess("tags").test == pytest.approx(expected, abs=0.01)
    assert report.guess("chance").test == pytest.approx(1 / len(names), abs=1e-4)
    validation = report.guess("tags").validation
    assert validation is not None
    assert validation > 1.5 / len(names)


@pytest.mark.parametrize(("fold", "shared"), [(1, 52), (2, 48), (3, 59)])
def test_the_official_splits_share_sources_across_classes_only(hmdb51: Path, fold: int, shared: int) -> None:
    report = _official_report(hmdb51, fold, SEVEN)
    (row,) = (row for row in report.shared if (row.kind, row.other) == ("source", "training+validation"))
    assert (row.num_clips, row.same_class, row.other_class, row.either) == (210, 0, shared, shared)


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_the_official_splits_share_films_within_classes(hmdb51: Path, fold: int) -> None:
    report = _official_report(hmdb51, fold, EIGHT)
    (row,) = (row for row in report.shared if (row.kind, row.other) == ("film", "training+validation"))
    assert 29 <= row.same_class <= 32


def test_lengths_and_frame_sizes_of_real_clips_tell_their_class(hmdb51: Path) -> None:
    if not (table := hmdb51.parent / "clips.csv").is_file():
        pytest.skip(f"{table} with measured lengths is not there")
    with table.open(encoding="utf-8", newline="") as file:
        facts = {
            f"{row['class']}/{Path(row['file']).stem}": ClipFacts(
                int(row["frames"]), int(row["width"]), int(row["height"]), row["sha1"]
            )
            for row in csv.DictReader(file)
            if row["dataset"] == "hmdb51"
        }
    report = measure_leakage(_official_split(hmdb51, 1, SEVEN), facts)
    for feature in ("clip length", "frame size"):
        share = report.guess(feature).test
        assert share is not None
        assert 0.2 < share < 0.5  # chance is 0.143
    assert report.duplicates == ()


def test_the_source_alone_classifies_a_split_by_clip(hmdb51: Path) -> None:
    clips = index_clips(hmdb51)
    by_clip, by_film = (
        measure_leakage(make_split(clips, scheme=scheme, fold=1, seed=0)).guess("source")  # type: ignore[arg-type]
        for scheme in ("clip", "film")
    )
    assert by_clip.test is not None
    assert by_clip.test > 0.6
    assert by_film.test == pytest.approx(0.23, abs=0.03)  # no source is known: the most frequent class


@st.composite
def divided(draw: st.DrawFn) -> dict[str, list[Clip]]:
    sources = st.sampled_from(["King_1", "KING_2", "King", "Queen_1", "Queen_2", "Ace"])
    keys = st.tuples(st.sampled_from(["jump", "run"]), sources, st.integers(0, 2))
    side_of = draw(st.dictionaries(keys, st.sampled_from(["training", "validation", "test", "unused"]), max_size=25))
    sides: dict[str, list[Clip]] = {name: [] for name in ("training", "validation", "test", "unused")}
    for (name, source, number), side in side_of.items():
        sides[side].append(_clip(f"{name}/{source}_{name}_f_cm_np1_fr_med_{number}"))
    return sides


@settings(deadline=None, max_examples=30)
@given(divided())
def test_shared_groups_are_those_that_looking_at_every_pair_finds(clips: dict[str, list[Clip]]) -> None:
    split = Split(**{name: tuple(side) for name, side in clips.items()})
    report = measure_leakage(split)
    sides = split.sides | {"training+validation": (*split.training, *split.validation)}
    assert len(report.shared) == 6
    for row in report.shared:
        name = {"source": lambda clip: clip.source, "film": lambda clip: film_of(clip.source)}[row.kind]
        pairs = [(a, b) for a, b in product(sides[row.side], sides[row.other]) if name(a) == name(b)]
        assert row.num_clips == len(sides[row.side])
        assert row.either == len({a.clip_id for a, _ in pairs})
        assert row.same_class == len({a.clip_id for a, b in pairs if a.class_name == b.class_name})
        assert row.other_class == len({a.clip_id for a, b in pairs if a.class_name != b.class_name})
        assert set(row.examples) <= {name(a) for a, _ in pairs}
        assert len(row.examples) == min(3, len({name(a) for a, _ in pairs}))


@settings(deadline=None, max_examples=20)
@given(divided(), st.booleans())
def test_any_split_has_a_report_that_can_be_printed_and_kept(clips: dict[str, list[Clip]], measured: bool) -> None:
    split = Split(**{name: tuple(side) for name, side in clips.items()})
    facts = {clip.clip_id: ClipFacts(9, 8, 6, "x") for clip in split.test} if measured else None
    report = measure_leakage(split, facts)
    assert json.loads(json.dumps(report.record())) == report.record()
    assert all("\n" not in line for line in report.lines())
    for guess in report.guesses:
        assert guess.reason or guess.validation is not None or guess.test is not None


def _split_of(training: Sequence[Clip], validation: Sequence[Clip], test: Sequence[Clip]) -> Split:
    return Split(tuple(training), tuple(validation), tuple(test))


def _by_class(stems: str, prefix: str) -> list[Clip]:
    """Two clips of two classes for each letter."""
    return [_clip(f"{name}/{prefix}{letter}{number}") for letter in stems for name in "ab" for number in range(2)]


def _report_on(facts_of: dict[str, tuple[int, int, int]]) -> LeakageReport:
    """Report on clips whose class has its own number of frames, width and height."""
    split = _split_of(_by_class("abcdef", "t"), _by_class("ab", "v"), _by_class("ab", "x"))
    facts = {
        clip.clip_id: ClipFacts(*facts_of[clip.class_name], clip.clip_id)
        for side in split.sides.values()
        for clip in side
    }
    return measure_leakage(split, facts)


def test_a_length_that_tells_the_class_is_found() -> None:
    report = _report_on({"a": (20, 320, 240), "b": (90, 320, 240)})
    assert (report.guess("clip length").validation, report.guess("clip length").test) == (1.0, 1.0)
    assert report.guess("frame size").test == 0.5


def test_a_frame_size_that_tells_the_class_is_found() -> None:
    report = _report_on({"a": (30, 320, 240), "b": (30, 424, 240)})
    assert report.guess("frame size").test == 1.0
    assert report.guess("clip length").test == 0.5


def test_tests_are_guessed_from_training_and_validation_together() -> None:
    training, validation = [_clip("a/t1"), _clip("b/t2")], [_clip("a/v"), _clip("b/w")]
    sources = {"a/v": "V", "b/w": "W", "a/x": "V", "b/y": "W"}
    validation, test = (
        [Clip(clip.path, clip.class_name, 0, sources[clip.clip_id], None) for clip in side]
        for side in (validation, [_clip("a/x"), _clip("b/y")])
    )
    guess = measure_leakage(_split_of(training, validation, test)).guess("source")
    assert (guess.validation, guess.test) == (0.5, 1.0)


def test_the_look_up_is_an_independent_library_s_naive_bayes_without_smoothing() -> None:
    from sklearn.naive_bayes import CategoricalNB

    generator = np.random.default_rng(0)
    rows = [(str(generator.integers(6)), "ab"[generator.integers(2)]) for _ in range(300)]
    clips = [Clip(Path(f"/{name}/{n}.avi"), name, 0, source, None) for n, (source, name) in enumerate(rows)]
    report = measure_leakage(_split_of(clips[:200], [], clips[200:]))
    columns, names = np.array([[int(source)] for source, _ in rows]), np.array([name for _, name in rows])
    model = CategoricalNB(alpha=1e-9, force_alpha=True).fit(columns[:200], names[:200])
    assert report.guess("source").test == pytest.approx(model.score(columns[200:], names[200:]), abs=1e-4)


def test_what_cannot_be_guessed_says_why() -> None:
    split = _split_of(_by_class("ab", "t"), _by_class("a", "v"), [])
    report = measure_leakage(split)
    assert report.guess("tags").reason == "no tags in the file names"
    assert report.guess("clip length").reason == "clips were not inspected"
    assert report.guess("source").test is None
    assert report.guess("source").validation == 0.5
    text = "\n".join(report.lines())
    assert "equal files on two sides: not measured" in text
    assert "no tags in the file names" in text


def test_copies_are_those_on_two_sides_only() -> None:
    split = _split_of([_clip("a/t"), _clip("a/u")], [_clip("a/v")], [_clip("b/x"), _clip("b/y")])
    sha1 = {"a/t": "1", "a/u": "1", "a/v": "2", "b/x": "1", "b/y": "2", "b/gone": "2", "a/w": "", "b/z": ""}
    facts = {clip_id: ClipFacts(9, 8, 6, value) for clip_id, value in sha1.items()}
    pairs = [("b/x", "a/v", 4.0), ("a/t", "a/u", 0.0), ("b/y", "b/gone", 1.0), ("a/v", "a/u", 2.5)]
    report = measure_leakage(split, facts, near_duplicates=pairs)
    assert report.duplicates is not None
    assert report.near_duplicates is not None
    assert {(copies.first, copies.second) for copies in report.duplicates} == {
        ("a/t", "b/x"),
        ("a/u", "b/x"),
        ("a/v", "b/y"),
    }
    assert [(copies.first, copies.second, copies.distance_bits) for copies in report.near_duplicates] == [
        ("a/v", "a/u", 2.5),
        ("b/x", "a/v", 4),
    ]
    assert "equal files on two sides: 3 pairs" in "\n".join(report.lines())
    assert "    a/v (validation), a/u (training)" in report.lines()


def test_the_report_is_for_people(hmdb51: Path) -> None:
    split = _official_split(hmdb51, 1, SEVEN)
    lines = _official_report(hmdb51, 1, SEVEN).lines()
    training = len(split.training)
    assert lines[0] == f"what the split gives away ({training} training, {490 - training} validation, 210 test clips)"
    (row,) = (line.split() for line in lines if line.startswith("    source: test in training+validation"))
    assert row[4:9] == ["0", "52", "52", "of", "210:"]
    (row,) = (line.split() for line in lines if line.startswith("    tags"))
    assert row[3:] == ["42.9", "%"]
