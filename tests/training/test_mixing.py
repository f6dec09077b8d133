import numpy as np
import pytest
import torch

from vidact.core.errors import ConfigError
from vidact.training.mixing import Mixing


def _clips(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    return torch.rand(4, 2, 5, 6, 8, generator=chance), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("seed", range(10))
def test_mixup_is_the_papers(seed: int) -> None:
    """λx + (1 − λ)x′ with the λ that the label shows and the neighbour in the batch as x′."""
    video, label = _clips(seed)
    torch.manual_seed(seed)
    mixed, probabilities = Mixing(0.4, 0.0, num_classes=3)(video, label)
    share = probabilities[2, 2].item()  # the clip before it is of another class
    assert 0 < share < 1
    np.testing.assert_allclose(mixed.numpy(), (share * video + (1 - share) * video.roll(1, 0)).numpy(), atol=1e-6)
    one_hot = np.eye(3)[label.numpy()]
    np.testing.assert_allclose(probabilities.numpy(), share * one_hot + (1 - share) * np.roll(one_hot, 1, 0), atol=1e-6)
    assert type(mixed) is torch.Tensor


@pytest.mark.parametrize("seed", range(10))
def test_cutmix_puts_one_box_into_every_frame_and_its_share_into_the_label(seed: int) -> None:
    video, label = _clips(seed)
    torch.manual_seed(seed)
    mixed, probabilities = Mixing(0.0, 1.0, num_classes=3)(video, label)
    foreign = (mixed != video).all(dim=(0, 1, 2)) if not torch.equal(mixed, video) else torch.zeros(6, 8, dtype=bool)
    rows, columns = foreign.any(dim=1).nonzero().flatten(), foreign.any(dim=0).nonzero().flatten()
    assert foreign.sum() == len(rows) * len(columns)  # a box
    expected = torch.where(foreign, video.roll(1, 0), video)
    assert torch.equal(mixed, expected)
    assert probabilities[2, 2].item() == pytest.approx(1 - foreign.float().mean().item(), abs=1e-6)


def test_both_are_used_by_turns() -> None:
    video, label = _clips(0)
    mixing = Mixing(1.0, 1.0, num_classes=3)
    torch.manual_seed(0)
    kept = [(mixing(video, label)[0] == video).float().mean().item() for _ in range(40)]
    assert min(kept) == 0, "MixUp changes every pixel"
    assert max(kept) > 0.3, "CutMix leaves what is outside the box"


def test_without_alpha_nothing_changes() -> None:
    video, label = _clips(0)
    same, labels = Mixing(0.0, 0.0, num_classes=3)(video, label)
    assert same is video
    assert labels is label


@pytest.mark.parametrize("alpha", [-0.1, 1e-46, 1e300, float("nan"), float("inf")])
def test_an_alpha_that_makes_no_sense_is_named(alpha: float) -> None:
    with pytest.raises(ConfigError, match="--model.cutmix_alpha is 0 .never., or 0.01 to 100.0, got"):
        Mixing(0.0, alpha, num_classes=2)
