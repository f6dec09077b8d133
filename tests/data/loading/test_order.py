from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from vidact.data.loading.order import EpochOrder

SAMPLES = range(37)


def test_it_is_torchs_order() -> None:
    for epoch in (0, 3):
        own, torchs = EpochOrder(SAMPLES, seed=5, epoch=epoch), DistributedSampler(SAMPLES, 1, 0, seed=5)  # type: ignore[arg-type]
        torchs.set_epoch(epoch)
        assert list(own) == list(torchs)
        assert sorted(own) == list(SAMPLES)


@given(start=st.integers(0, 37), epoch=st.integers(0, 5), seed=st.integers(0, 2**31))
def test_it_starts_inside_the_first_epoch_and_in_no_other(start: int, epoch: int, seed: int) -> None:
    whole, going_on = (
        EpochOrder(SAMPLES, seed=seed, epoch=epoch),
        EpochOrder(SAMPLES, seed=seed, epoch=epoch, start=start),
    )
    assert list(going_on) == list(whole)[start:]
    assert len(going_on) == len(whole), "Lightning counts the batches of the whole epoch"
    for order in (whole, going_on):
        order.set_epoch(epoch + 1)
    assert list(going_on) == list(whole)


@pytest.mark.parametrize("num_replicas", [2, 3])
def test_processes_share_an_epoch(num_replicas: int) -> None:
    parts = [list(EpochOrder(SAMPLES, seed=1, num_replicas=num_replicas, rank=rank)) for rank in range(num_replicas)]
    counted = Counter(sample for part in parts for sample in part)
    assert set(counted) == set(SAMPLES)
    assert sum(counted.values()) - len(SAMPLES) == -len(SAMPLES) % num_replicas, "torch repeats a few to share evenly"
