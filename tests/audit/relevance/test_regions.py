"""Regions that evidence points to, and random ones beside them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from vidact.audit.factors.clips import Clips
from vidact.audit.factors.tube import Tube
from vidact.audit.relevance.regions import halves, p_value, random_regions, tensor_of, top_region, where


@given(st.dictionaries(st.text(max_size=4), st.integers(0, 3)), st.integers(0, 5))
def test_halves_are_even_within_each_class(sources: dict[str, int], seed: int) -> None:
    found = halves(sources, seed=seed)
    assert set(found) == set(sources)
    assert set(found.values()) <= {0, 1}
    for label in set(sources.values()):
        own = [found[name] for name, other in sources.items() if other == label]
        assert abs(2 * sum(own) - len(own)) <= 1


def test_the_top_region_is_the_planted_one() -> None:
    evidence = np.full((10, 10), 0.01)
    evidence[2:4, 6:9] = 1.0
    region = top_region(evidence)
    assert region is not None
    assert region.sum() == 6
    assert region[2:4, 6:9].all()
    assert where(region) == "upper right"
    assert top_region(np.zeros((4, 4))) is None
    assert top_region(np.full((4, 4), np.nan)) is None


def test_random_regions_are_connected_other_and_of_like_motion() -> None:
    region = np.zeros((10, 10), bool)
    region[:2, :3] = True
    energy = np.random.default_rng(0).random((10, 10))
    energy[:, 5:] += 5
    found = random_regions(region, energy=energy, seed=0)
    assert len(found) == len({one.tobytes() for one in found}) == 20
    for one in found:
        assert one.sum() == 6
        assert ndimage.label(one)[1] == 1
        assert (one & region).sum() <= 1.5
        assert not one[:, 5:].any(), "the right half moves much more"
    assert [one.tobytes() for one in random_regions(region, energy=energy, seed=0)] == [one.tobytes() for one in found]
    assert random_regions(np.ones((4, 4), bool), energy=np.ones((4, 4)), seed=0) == []


@given(st.lists(st.floats(-1, 1), max_size=30), st.floats(-1, 1))
def test_a_p_value_is_a_share_and_never_zero(others: list[float], found: float) -> None:
    p = p_value(found, others)
    assert 0 < p <= 1
    assert p == pytest.approx((1 + np.sum(np.array(others) >= found)) / (1 + len(others)))


def test_a_tube_is_exchanged_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    video, lent = (torch.rand(2, 3, 4, 15, 21, generator=generator) for _ in range(2))
    region = np.zeros((5, 7), bool)
    region[1, 2] = True
    tube = Tube(tensor_of(region))
    found = tube.exchange(Clips(video), Clips(lent))
    inside = torch.zeros(15, 21, dtype=torch.bool)
    inside[3:6, 6:9] = True
    assert torch.equal(found[..., inside], lent[..., inside])
    assert torch.equal(found[..., ~inside], video[..., ~inside])
    assert torch.equal(tube.exchange(Clips(video), Clips(video)), video)
    assert torch.equal(tube.alone(Clips(video))[..., inside], video[..., inside])
