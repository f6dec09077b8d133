"""What makes the synthetic benchmark one: maps whose worth is known score what they must, on the masks as files."""

from pathlib import Path

import pytest
import torch

from vidact.data.datasets.index import index_clips
from vidact.data.loading.masks import MaskFolder
from vidact.data.synthetic.clips import MASK_KINDS
from vidact.evaluation.measures.localisation import (
    auroc,
    chance,
    over_time,
    pointing_game,
    relevance_mass,
    relevance_rank,
)

KINDS = [kind for kind in MASK_KINDS if kind != "confounder"]


@pytest.fixture(scope="module")
def masks(small_set: Path) -> dict[str, torch.Tensor]:
    """Of all 80 clips, [B, T, H, W], by their kind."""
    folder = MaskFolder(small_set / "masks")
    clips = index_clips(small_set)
    return {
        kind: torch.stack(
            [folder.read(clip.clip_id, range(20), clip_frames=20, size=(32, 32), kind=kind) for clip in clips]
        )
        for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS)
def test_an_oracle_scores_one_in_every_measure(masks: dict[str, torch.Tensor], kind: str) -> None:
    mask = masks[kind]
    relevance = mask.float() * torch.linspace(1, 2, 32)  # not all alike
    for measure in (relevance_mass, relevance_rank, pointing_game, auroc):
        assert measure(relevance, mask).eq(1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_random_map_scores_the_masks_share(masks: dict[str, torch.Tensor], kind: str) -> None:
    mask, generator = masks[kind], torch.Generator().manual_seed(0)
    maps = torch.randn(20, *mask.shape, generator=generator)
    found = torch.stack([relevance_mass(one, mask) for one in maps])  # [20, B]
    difference = found.mean(dim=0) - chance(mask)
    spread = found.std(dim=0) / 20**0.5
    assert (difference.abs() < 5 * spread).all()
    assert difference.mean().abs() < 4 * spread.mean() / len(mask) ** 0.5


def test_when_and_where_are_known_apart(masks: dict[str, torch.Tensor]) -> None:
    """The action is over sooner than the clip; a map that is right in space alone is not right in time."""
    strict, always = masks["strict"], masks["always"]
    in_time = chance(over_time(strict))
    assert in_time.min() >= 4 / 20
    assert in_time.max() <= 16 / 20
    mass = relevance_mass(always.float(), strict)
    torch.testing.assert_close(mass, strict.sum(dim=(1, 2, 3)) / always.sum(dim=(1, 2, 3)).double())
