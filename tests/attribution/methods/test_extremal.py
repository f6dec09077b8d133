import pytest
import torch
from torch import Tensor, nn

from vidact.attribution.methods.extremal import Extremal, nearest_of_area
from vidact.core.errors import ConfigError

BLOCK = (slice(None), slice(None), slice(2, 6), slice(6, 18), slice(15, 27))
SHAPE = (1, 8, 32, 32)
TARGET = torch.tensor([0, 1, 0])


class _ReadsOneBlock(nn.Module):
    """Looks for a pattern in the block, and sees nothing else."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.zeros(1, *SHAPE)
        weight[BLOCK] = _pattern()
        self.weight = nn.Parameter(weight)

    def forward(self, video: Tensor) -> Tensor:
        found = (video * self.weight).sum(dim=(1, 2, 3, 4)) / 100  # far from p = 1, where any mask would do
        return torch.stack([found, -found], dim=1)


def _pattern() -> Tensor:
    return torch.randn(1, 1, 4, 12, 12, generator=torch.Generator().manual_seed(0))


def _video() -> Tensor:
    """The first and the third clip hold the pattern, the second its negative."""
    video = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    video[BLOCK] = 0.5 + 0.2 * _pattern().clamp(-2.5, 2.5) * torch.tensor([1.0, -1.0, 1.0])[:, None, None, None, None]
    return video.clamp(0, 1)


def _relevance(network: nn.Module, video: Tensor, target: Tensor, **settings: object) -> Tensor:
    with Extremal(network, **{"num_steps": 60, "areas": (0.05,), **settings}) as explain:  # type: ignore[arg-type]
        return explain(video, target).relevance


def test_the_mask_lies_where_the_network_looks() -> None:
    network, video = _ReadsOneBlock(), _video()
    mask = _relevance(network, video, TARGET)
    block = video[BLOCK].numel() / video.numel()  # 0.07
    inside = mask[BLOCK].sum(dim=(1, 2, 3, 4)) / mask.sum(dim=(1, 2, 3, 4))
    assert block < 0.08
    assert (inside > 0.6).all(), inside


@pytest.mark.parametrize("area", [0.02, 0.2])
def test_a_mask_has_the_asked_area(area: float) -> None:
    mask = _relevance(_ReadsOneBlock(), _video(), TARGET, areas=(area,), num_steps=5)
    torch.testing.assert_close(mask.mean(dim=(1, 2, 3, 4)), torch.full((3,), area), rtol=0.01, atol=0)
    assert mask.min() >= 0
    assert mask.max() <= 1


def test_the_nearest_mask_of_an_area_is_the_nearest() -> None:
    """No other mask of this area on the way to it is nearer: (m − p)·(q − p) ≤ 0 for every q of the convex set."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(4, 2, 6, 6, generator=generator, dtype=torch.float64)
    found = nearest_of_area(mask, 0.3)
    for _ in range(20):
        other = nearest_of_area(torch.rand(mask.shape, generator=generator, dtype=torch.float64), 0.3)
        assert (((mask - found) * (other - found)).sum(dim=(1, 2, 3)) <= 1e-9).all()


def test_relevance_is_the_mean_of_the_masks_of_all_areas() -> None:
    network, video = _ReadsOneBlock(), _video()
    both = _relevance(network, video, TARGET, areas=(0.05, 0.2), num_steps=5)
    single = [_relevance(network, video, TARGET, areas=(area,), num_steps=5) for area in (0.05, 0.2)]
    torch.testing.assert_close(both, (single[0] + single[1]) / 2)


def test_a_mask_depends_on_the_seed_and_not_on_the_other_clips() -> None:
    network, video = _ReadsOneBlock(), _video()
    settings = {"num_steps": 20, "dtype": torch.float64}
    together = _relevance(network, video, TARGET, **settings)
    assert torch.equal(together, _relevance(network, video, TARGET, **settings))
    assert not torch.equal(together, _relevance(network, video, TARGET, seed=1, **settings))
    alone = _relevance(network, video[1:2], TARGET[1:2], **settings)
    torch.testing.assert_close(alone, together[1:2], rtol=1e-8, atol=1e-10)


def test_a_network_stays_as_it_is() -> None:
    network = _ReadsOneBlock().train()
    before = network.weight.detach().clone()
    _relevance(network, _video(), TARGET, num_steps=2)
    assert torch.equal(network.weight, before)
    assert network.weight.grad is None
    assert network.training


@pytest.mark.parametrize("shape", [(3, 1, 9, 12), (1, 5, 3, 4)])
def test_frames_and_pictures_may_be_few_and_small(shape: tuple[int, ...]) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(shape[0], 2))
    video = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    mask = _relevance(network, video, TARGET[:2], areas=(0.1,), num_steps=3)
    assert mask.shape == video.shape
    torch.testing.assert_close(mask.sum(dim=1).mean(dim=(1, 2, 3)), torch.full((2,), 0.1), rtol=0.01, atol=0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"areas": (0.1, 1.0)}, "above 0 and below 1"), ({"num_steps": 0}, "at least 1"), ({"smoothness": -1.0}, "0 or")],
)
def test_wrong_settings_are_named(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Extremal(_ReadsOneBlock(), **settings)  # type: ignore[arg-type]
