import math

import pytest
import torch

from vidact.core import ConfigError
from vidact.schedules import WarmupCosine


@pytest.mark.parametrize(("warmup", "epochs"), [(1, 2), (5, 30), (10, 12)])
def test_the_rate_rises_linearly_and_falls_along_a_cosine(warmup: int, epochs: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    schedule = WarmupCosine(optimizer, max_epochs=epochs, warmup_epochs=warmup)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    for epoch, rate in enumerate(rates):
        if epoch < warmup:
            expected = 0.5 * (epoch * warmup + warmup) / (warmup * (warmup + 1))
        else:
            expected = 0.25 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))
        assert rate == pytest.approx(expected), epoch
    for _ in range(epochs):  # training that goes on longer does not learn anew
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize(("warmup", "epochs"), [(0, 10), (10, 10), (5, 3)])
def test_a_schedule_that_cannot_fall_is_refused(warmup: int, epochs: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    with pytest.raises(ConfigError, match="0 < warmup_epochs < max_epochs"):
        WarmupCosine(optimizer, max_epochs=epochs, warmup_epochs=warmup)
