"""Relevance that cancels over time has no place: what rounding leaves of it is not measured."""

import pytest
import torch
from torch import Tensor, nn

from vidact.evaluation.measures.localisation import auroc, over_space, pointing_game, relevance_mass, relevance_rank
from vidact.evaluation.measures.perturbation import rank_units
from vidact.evaluation.measures.units import columns, sum_by_unit
from vidact.models.layers import FrameDifferences

CLIP = (8, 20, 20)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    first, second = nn.Conv3d(3, 16, 3, padding=1), nn.Conv3d(16, 32, 3, padding=1)
    head = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(32, 4))
    return nn.Sequential(FrameDifferences(), first, nn.Softplus(), second, nn.Softplus(), head)


@pytest.fixture
def video() -> Tensor:
    return torch.rand(4, 3, *CLIP, generator=torch.Generator().manual_seed(1))


def _gradient(network: nn.Module, video: Tensor) -> Tensor:
    video = video.clone().requires_grad_()
    (found,) = torch.autograd.grad(network(video)[:, 0].sum(), video)
    return found.sum(dim=1)


def _mask(number: int) -> Tensor:
    mask = torch.zeros(number, *CLIP, dtype=torch.bool)
    mask[:, 2:5, 3:9, 3:9] = True
    return mask


def test_a_clip_alone_is_measured_as_in_a_batch(network: nn.Module, video: Tensor) -> None:
    """The gradient of a network that sees frame differences sums to zero over time, up to rounding."""
    together, alone = _gradient(network, video), _gradient(network, video[:1])
    assert not (together.double().sum(dim=1) == 0).all(), "rounding leaves something"
    where = over_space(_mask(4))
    for measure in (relevance_mass, relevance_rank, pointing_game, auroc):
        own, among = (measure(over_space(maps), where[: len(maps)])[:1] for maps in (alone, together))
        torch.testing.assert_close(own, among, rtol=0, atol=0, equal_nan=True)
    units = columns(CLIP, size=(5, 5))
    for order in ("morf", "lerf"):
        own, among = (rank_units(sum_by_unit(maps, units), order=order)[:1] for maps in (alone, together))
        assert torch.equal(own, among)


def test_it_says_nothing_about_where(network: nn.Module, video: Tensor) -> None:
    relevance, where = over_space(_gradient(network, video)), over_space(_mask(4))
    assert (relevance == 0).all()
    assert relevance_mass(relevance, where).isnan().all()
    assert auroc(relevance, where).tolist() == [0.5] * 4
    assert relevance_rank(relevance, where).tolist() == pytest.approx([36 / 400] * 4)
    assert (sum_by_unit(_gradient(network, video), columns(CLIP, size=(5, 5))) == 0).all()
