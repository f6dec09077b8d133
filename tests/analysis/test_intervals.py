import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vidact.analysis.intervals import clustered_mean, clustered_means


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


def test_values_of_any_size_get_the_ordinary_bootstrap_where_every_clip_has_a_source_of_its_own() -> None:
    values = 5 * torch.randn(80, 1, generator=_generator()) - 2
    groups = [str(number) for number in range(80)]
    found = clustered_means(values, groups, generator=_generator(), levels=(0.95, 0.99), num_resamples=20_000)
    for row, level in enumerate((0.95, 0.99)):
        expected = stats.bootstrap(
            (values[:, 0].numpy(),),
            lambda x, axis: x.mean(axis=axis),
            method="percentile",
            n_resamples=20_000,
            confidence_level=level,
            rng=1,
        ).confidence_interval
        assert float(found.low[row]) == pytest.approx(expected.low, abs=0.08)
        assert float(found.high[row]) == pytest.approx(expected.high, abs=0.08)


def test_many_means_are_those_of_a_plain_loop_over_resamples() -> None:
    """Sources of different sizes, clips without a value: draw sources, join all their clips, take the mean."""
    generator = _generator()
    groups = [str(int(number)) for number in torch.randint(0, 7, (30,), generator=generator)]
    values = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    values[torch.rand(30, 3, generator=generator) < 0.2] = torch.nan
    found = clustered_means(values, groups, generator=_generator(), num_resamples=300)
    for column in range(3):
        own = values[:, column]
        names = sorted({group for group, value in zip(groups, own, strict=True) if not value.isnan()})
        members = [[v for g, v in zip(groups, own.tolist(), strict=True) if g == name and v == v] for name in names]
        means = []
        for draw in torch.randint(len(names), (300, len(names)), generator=_generator()).tolist():
            joined = [value for place in draw for value in members[place]]
            means.append(sum(joined) / len(joined))
        ends = torch.quantile(torch.tensor(means, dtype=torch.float64), torch.tensor([0.025, 0.975]).double())
        assert found.low[0, column] == pytest.approx(float(ends[0]))
        assert found.high[0, column] == pytest.approx(float(ends[1]))
        assert found.value[column] == pytest.approx(float(own.nanmean()))
        assert int(found.count[column]) == sum(map(len, members))
        assert int(found.num_groups[column]) == len(names)


def test_a_column_does_not_know_the_others_and_the_generator_stays_as_it_was() -> None:
    values = torch.randn(20, 4, generator=_generator())
    values[:5, 2] = torch.nan
    groups = [str(number // 2) for number in range(20)]
    generator = _generator()
    state = generator.get_state()
    together = clustered_means(values, groups, generator=generator, num_resamples=200)
    assert torch.equal(generator.get_state(), state)
    for column in range(4):
        alone = clustered_means(values[:, [column]], groups, generator=generator, num_resamples=200)
        assert torch.equal(alone.low[:, 0], together.low[:, column])
        assert torch.equal(alone.high[:, 0], together.high[:, column])


def test_one_source_has_a_mean_and_no_interval() -> None:
    values = torch.tensor([[1.0, torch.nan], [3.0, torch.nan], [torch.nan, torch.nan]])
    found = clustered_means(values, ["a", "a", "b"], generator=_generator())
    assert found.value[0] == 2
    assert found.value[1].isnan()
    assert found.low.isnan().all()
    assert found.high.isnan().all()
    assert found.count.tolist() == [2, 0]
    assert found.num_groups.tolist() == [1, 0]


def test_groups_of_another_number_than_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="as many groups"):
        clustered_means(torch.zeros(2, 1), ["a"], generator=_generator())
