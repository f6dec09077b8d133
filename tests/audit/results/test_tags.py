"""What predictions go with, against naive formulas and planted dependences."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from vidact.audit.results.resampling import Resamples
from vidact.audit.results.tags import TaggedClip, information, measure_tags, sentence_of

CLASSES, SOURCES, EACH = 3, 24, 3


def _clips(predict: Callable[[int, str, np.random.Generator], int], *, seed: int, most: int = EACH) -> list[TaggedClip]:
    """Clips whose tag is that of their source, as a camera's is."""
    draw = np.random.default_rng(seed)
    clips = []
    for source in range(SOURCES * CLASSES):
        label, camera = source % CLASSES, str(draw.choice(["still", "moving"]))
        easy = draw.random() < 0.5  # some sources are hard as a whole
        for _ in range(int(draw.integers(1, most + 1)) if most > EACH else EACH):
            predicted = predict(label, camera, draw) if easy else int(draw.integers(CLASSES))
            clips.append(TaggedClip(label, predicted, f"s{source}", {"camera": camera, "constant": "x"}))
    return clips


def _measure(clips: list[TaggedClip], seed: int = 0):  # type: ignore[no-untyped-def]
    resamples = Resamples([clip.source for clip in clips], generator=torch.Generator(), num_resamples=500)
    return measure_tags(clips, resamples=resamples, seed=seed)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from("ab")), min_size=1, max_size=40))
@settings(max_examples=40)
def test_information_is_the_weighted_mean_of_each_classs_mutual_information(rows: list[tuple[int, int, str]]) -> None:
    labels, predicted, values = (list(column) for column in zip(*rows, strict=True))
    expected = 0.0
    for label in set(labels):
        own = [number for number, other in enumerate(labels) if other == label]
        shares = mutual_info_score([predicted[number] for number in own], [values[number] for number in own])
        expected += len(own) / len(rows) * shares / math.log(2)
    assert information(np.array(labels), np.array(predicted), values) == pytest.approx(expected, abs=1e-9)


def test_a_tag_that_errors_go_with_is_named() -> None:
    clips = _clips(lambda label, camera, _: label if camera == "still" else (label + 1) % CLASSES, seed=0)
    found, _ = _measure(clips)
    assert set(found) == {"camera"}, "a tag with one value says nothing"
    assert found["camera"].q <= 0.002
    told = sentence_of(found, None)
    assert told.startswith("what the network says of a class goes with camera (q = 0.001: ")
    still, moving = (found["camera"].values[value][0].mean for value in ("still", "moving"))
    right = [clip.is_right for clip in clips if clip.tags["camera"] == "still"]
    assert still == pytest.approx(np.mean(right))
    assert still > moving + 0.3


@pytest.mark.parametrize("most", [EACH, 8])
def test_sources_that_are_hard_as_a_whole_raise_no_alarm(most: int) -> None:
    """Clips of a source share tag and fate; permuting clips alone would call that a dependence."""
    alarms = sum(
        _measure(_clips(lambda label, camera, draw: label, seed=seed, most=most))[0]["camera"].p <= 0.05
        for seed in range(20)
    )
    assert alarms <= 4, "of 20 at a level of 5 %; more than 4 have a chance of 0.3 %"


def test_few_sources_claim_nothing_and_break_nothing() -> None:
    clips = [TaggedClip(number % 2, number % 2, f"s{number % 2}", {"camera": str(number % 2)}) for number in range(8)]
    clips += [TaggedClip(0, 0, f"t{number}", {"camera": "0", "view": "left"}) for number in range(8)]
    found, guessed = _measure(clips)
    assert set(found) == {"camera"}, "a tag that some clips lack is left out"
    rare = found["camera"].values["1"][0]
    assert (rare.mean, rare.low) == (1.0, None), "one source has no interval"
    assert guessed is None, "a class of one source cannot be learned without it"


def test_matching_takes_away_what_a_class_owes_to_its_tags() -> None:
    """Class 0 is nearly always filmed where the network fails; alike mixes make the classes equal."""
    clips = [
        TaggedClip(label, label if camera == "still" else 1 - label, f"s{label}{number}", {"camera": camera})
        for label, moving in ((0, 18), (1, 2))
        for number in range(20)
        for camera in ["moving" if number < moving else "still"]
    ]
    found, guessed = _measure(clips)
    assert found["camera"].matched is not None
    assert found["camera"].matched.mean == pytest.approx(0.5)
    assert guessed == pytest.approx(0.9), "the camera alone tells the two classes apart"
