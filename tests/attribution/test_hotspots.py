import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidact.attribution.hotspots import frame_relevance, hotspots, hotspots_per_frame, voxel_relevance


def _random(seed: int) -> torch.Tensor:
    return torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 1000))
def test_frame_relevance_is_the_sum_written_out(seed: int) -> None:
    relevance = _random(seed)
    positive, negative = frame_relevance(relevance)
    for b in range(2):
        for t in range(4):
            voxels = [relevance[b, :, t, h, w].sum().item() for h in range(5) for w in range(6)]
            np.testing.assert_allclose(positive[b, t], sum(v for v in voxels if v > 0))
            np.testing.assert_allclose(negative[b, t], sum(v for v in voxels if v < 0))
    torch.testing.assert_close((positive + negative).sum(1), relevance.sum((1, 2, 3, 4)))


@given(st.integers(0, 1000), st.floats(0.05, 1.0))
def test_hotspots_are_the_voxels_above_the_share_of_the_largest(seed: int, threshold: float) -> None:
    voxels = voxel_relevance(_random(seed))
    found = hotspots(_random(seed), threshold=threshold)
    for b in range(2):
        largest = max(abs(value) for value in voxels[b].flatten().tolist())
        assert found[b].flatten().tolist() == [v / largest >= threshold for v in voxels[b].flatten().tolist()]
    assert hotspots_per_frame(found).sum() == found.sum()


def test_relevance_against_the_target_is_no_hotspot() -> None:
    relevance = torch.zeros(1, 1, 2, 2, 2)
    relevance[0, 0, 0, 0, 0], relevance[0, 0, 1, 1, 1] = -1.0, 0.5
    assert hotspots_per_frame(hotspots(relevance)).tolist() == [[0, 1]]


def test_no_relevance_has_no_hotspots() -> None:
    assert not hotspots(torch.zeros(1, 1, 2, 2, 2)).any()
