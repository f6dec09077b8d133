import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vidact.analysis.intervals import clustered_mean


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_where_every_clip_has_a_source_of_its_own_it_is_the_ordinary_bootstrap() -> None:
    values = (torch.rand(60, generator=_generator()) < 0.7).double()
    found = clustered_mean(values, [str(number) for number in range(60)], generator=_generator(), num_resamples=20_000)
    expected = stats.bootstrap(
        (values.numpy(),), lambda x, axis: x.mean(axis=axis), method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    assert found.value == pytest.approx(float(values.mean()))
    assert found.low == pytest.approx(expected.low, abs=0.02)
    assert found.high == pytest.approx(expected.high, abs=0.02)


def test_clips_of_one_source_do_not_count_as_many() -> None:
    """Ten copies of each clip tell no more than the clips themselves."""
    values = (torch.rand(20, generator=_generator()) < 0.6).double()
    names = [str(number) for number in range(20)]
    alone = clustered_mean(values, names, generator=_generator())
    copied = clustered_mean(
        values.repeat_interleave(10), [name for name in names for _ in range(10)], generator=_generator()
    )
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
    assert (copied.count, copied.num_groups) == (200, 20)


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    """Sources whose clips are all alike: 200 draws, 95 % of the intervals hold the share that they were drawn with."""
    generator, hits = _generator(), 0
    groups = [str(source) for source in range(40) for _ in range(3)]
    for _ in range(200):
        values = (torch.rand(40, generator=generator) < 0.5).double().repeat_interleave(3)
        found = clustered_mean(values, groups, generator=generator, num_resamples=400)
        hits += found.low <= 0.5 <= found.high
    assert 0.89 <= hits / 200 <= 0.99


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_where_all_is_right_or_all_wrong_the_interval_is_the_exact_binomial_one(value: float) -> None:
    found = clustered_mean(torch.full((24,), value), [str(number % 12) for number in range(24)], generator=_generator())
    expected = stats.binomtest(int(12 * value), 12).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_the_value_lies_in_its_interval_and_both_in_0_to_1(rows: list[tuple[bool, int]]) -> None:
    values = torch.tensor([float(right) for right, _ in rows])
    found = clustered_mean(values, [str(group) for _, group in rows], generator=_generator(), num_resamples=200)
    assert 0 <= found.low <= found.high <= 1
    assert 0 <= found.value <= 1


@pytest.mark.parametrize(("values", "groups"), [([], []), ([1.0], ["a", "b"])])
def test_no_clips_and_other_numbers_of_groups_are_refused(values: list[float], groups: list[str]) -> None:
    with pytest.raises(ValueError, match="as many groups"):
        clustered_mean(torch.tensor(values), groups, generator=_generator())
