from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidact.data.synthetic.motions import AXES, CLASS_NAMES, draw_motion, draw_orders

OPPOSITES = [("left", "right"), ("up", "down"), ("clockwise", "counter_clockwise"), ("expand", "contract")]
AXIS = {"left": "column", "right": "column", "up": "row", "down": "row"}
AXIS |= {"clockwise": "turn", "counter_clockwise": "turn", "expand": "grow", "contract": "grow"}
FORWARD = {"right", "down", "clockwise", "expand"}


def motion(name, seed, **settings):
    return draw_motion(name, generator=np.random.default_rng(seed), **{"num_frames": 16, **settings})


def test_the_classes_are_named_in_the_order_of_their_folders():
    assert list(CLASS_NAMES) == sorted(CLASS_NAMES) == sorted(AXIS)


@given(st.sampled_from(CLASS_NAMES), st.integers(0, 10**6), st.integers(1, 40), st.booleans())
def test_the_actor_takes_its_steps_in_order_on_its_classs_axis(name, seed, num_frames, decoys):
    found = motion(name, seed, num_frames=num_frames, decoys=decoys)
    assert found.axes[found.actor] == AXIS[name]
    assert min(4, num_frames) <= found.length <= min(16, num_frames)
    assert 0 <= found.start <= num_frames - found.length
    steps = found.steps[found.actor, found.start : found.start + found.length]
    assert (np.diff(steps) == (1 if name in FORWARD else -1)).all()
    assert steps.mean() == pytest.approx(0)


@given(st.integers(0, 10**6), st.integers(4, 40))
def test_the_frames_as_a_set_are_the_same_for_every_class(seed, num_frames):
    """From the same draws, every class shows the same frames in another order: no set of frames tells the class."""
    sets = []
    for name in CLASS_NAMES:
        steps = motion(name, seed, num_frames=num_frames).steps
        sets.append(steps[:, np.lexsort(steps)])
    for other in sets[1:]:
        assert np.array_equal(sets[0], other)


@given(st.integers(0, 10**6))
def test_opposite_classes_are_one_another_played_backwards(seed):
    for one, other in OPPOSITES:
        a, b = motion(one, seed), motion(other, seed)
        action = slice(a.start, a.start + a.length)
        assert np.array_equal(a.steps[:, action], b.steps[:, action][:, ::-1])


@given(st.integers(0, 10**6), st.integers(4, 16))
def test_no_decoy_moves_in_order(seed, length):
    found = motion("left", seed, length_range=(length, length))
    action = found.steps[:, found.start : found.start + length]
    for number in range(len(AXES)):
        if number != found.actor:
            assert len(set(np.diff(action[number]))) > 1
            assert sorted(action[number]) == sorted(action[found.actor])


@given(st.integers(0, 10**6), st.integers(4, 7))
def test_no_two_orders_are_alike_or_reversed(seed, length):
    orders = draw_orders(np.random.default_rng(seed), length=length)
    for a, b in combinations(orders.tolist(), 2):
        assert a != b
        assert a != [length - 1 - step for step in b]


def test_decoys_go_no_more_to_one_side_than_to_the_other():
    """Of 4,000 motions of four frames; that they avoid the actor's order tells nothing of its direction."""
    counts = np.zeros((4, 4, 4))
    for seed in range(4000):
        steps = motion("up", seed, num_frames=4).steps + 1.5
        for disc, frame in np.ndindex(4, 4):
            counts[disc, frame, int(steps[disc, frame])] += 1
    decoys = counts[1:] / 4000  # the actor of "up" is on the first axis
    assert np.abs(decoys - decoys[:, :, ::-1]).max() < 5 * np.sqrt(2 * 0.25 / 4000)
    assert np.abs(decoys - decoys[:, ::-1]).max() < 5 * np.sqrt(2 * 0.25 / 4000)


def test_walkers_take_single_steps_to_and_fro_all_the_time():
    found = motion("left", 0, num_frames=200, walkers=3)
    assert found.steps.shape == (7, 200)
    assert found.places == (0, 1, 2, 3, 4, 5, 6)
    walks = np.diff(found.steps[4:], axis=1)
    assert (np.abs(walks) == 1).all()
    assert np.abs(walks.mean(axis=1)).max() < 0.3
    assert not (np.abs(walks[:, :-2] + walks[:, 1:-1] + walks[:, 2:]) == 3).any()


def test_without_decoys_there_is_the_actor_alone():
    found = motion("expand", 3, decoys=False, walkers=1)
    assert found.steps.shape == (2, 16)
    assert found.places == (AXES.index("grow"), 4)
    assert found.actor == 0
