import pytest
import torch
from torch import Tensor

from vidact.audit.results.resampling import Resamples


def _pairs(num_sources: int, donors: int, generator: torch.Generator) -> tuple[list[str], list[str], Tensor, Tensor]:
    """Draw right answers that depend on a clip's source and on its donor's, with donors of its class and of others."""
    clips, lent = (torch.randn(num_sources, generator=generator) * 0.7 for _ in range(2))
    sources, names, same, other = [], [], [], []
    for source in range(num_sources):
        for donor in torch.randperm(num_sources, generator=generator)[:donors].tolist():
            sources.append(str(source))
            names.append(str(donor))
            for values, logit in ((same, 1 + clips[source] + 0.5 * lent[donor]), (other, clips[source] + lent[donor])):
                values.append(float(torch.rand((), generator=generator) < torch.sigmoid(logit)))
    return sources, names, torch.tensor(same), torch.tensor(other)


@pytest.mark.slow
@pytest.mark.parametrize(("num_sources", "donors"), [(10, 8), (25, 8), (40, 2)])
def test_intervals_cover_the_truth(num_sources: int, donors: int) -> None:
    generator = torch.Generator().manual_seed(num_sources)
    many = torch.randn(400_000, generator=generator) * 0.7, torch.randn(400_000, generator=generator) * 0.7
    same, other = torch.sigmoid(1 + many[0] + 0.5 * many[1]).mean(), torch.sigmoid(many[0] + many[1]).mean()
    covered = torch.zeros(2)
    for _ in range(300):
        sources, names, values, others = _pairs(num_sources, donors, generator)
        resamples = Resamples(sources, generator=generator, num_resamples=400)
        drawn, changed = resamples.mean(values, sources, names), resamples.mean(others, sources, names)
        torch.rand(1, generator=generator)  # resamples work on a copy of the generator
        gap = resamples.estimate(drawn - changed, level=0.99)
        lean = resamples.estimate(changed.combine(drawn, lambda first, second: 1 - first / second), level=0.99)
        for place, (found, truth) in enumerate(((gap, same - other), (lean, 1 - other / same))):
            assert found.low is not None
            assert found.high is not None
            covered[place] += found.low <= truth <= found.high
    assert (covered / 300 >= 0.93).all()


def test_the_mean_of_each_resample_is_that_of_its_pairs() -> None:
    """Beside a naive loop that copies each pair as often as both of its sources were drawn."""
    generator = torch.Generator().manual_seed(0)
    sources, names, values, _ = _pairs(6, 3, generator)
    resamples = Resamples(sources, generator=generator, num_resamples=50)
    found = resamples.mean(values, sources, names)
    for number in range(50):
        clips, donors = (
            {name: float(own[number, place]) for place, name in enumerate(resamples.names)}
            for own in (resamples._of_clips, resamples._of_donors)
        )
        weights = torch.tensor([clips[source] * donors[donor] for source, donor in zip(sources, names, strict=True)])
        expected = (weights * values).sum() / weights.sum()
        torch.testing.assert_close(found.resamples[number].float(), expected, equal_nan=True)
    assert found.value == values.double().mean()


def test_a_single_source_has_no_interval_and_an_undefined_ratio_no_mean() -> None:
    resamples = Resamples(["a"], generator=torch.Generator())
    drawn = resamples.mean(torch.tensor([1.0, 0.0]), ["a", "a"])
    assert resamples.estimate(drawn, level=0.99).low is None
    zero = resamples.mean(torch.zeros(2), ["a", "a"])
    assert resamples.estimate(zero.combine(zero, torch.div), level=0.99).mean is None
