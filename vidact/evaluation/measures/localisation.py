"""Measure whether relevance lies where it should: maps against masks, in space and time or in either.

Shape legend: `*shape` is [T, H, W], [T] alone (`over_time`) or [H, W] alone (`over_space`); voxels are its elements.
A constant positive map scores the mask's share of the voxels (`chance`) by every measure here, and 0.5 by `auroc`:
where relevance ties, the result is the mean over all orders of the tied voxels.
"""

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vidact.evaluation.measures.maps import check_map_and_mask, mask_rows, mid_ranks, rows, without_rounding


def over_time(values: Shaped[Tensor, "B T H W"]) -> Shaped[Tensor, "B T"]:
    """Reduce maps to the sum of each frame's relevance (signed), or masks to the frames that they touch.

    Sums that are only rounding errors are 0 (`without_rounding`).
    """
    return _reduced(values, (2, 3))


def over_space(values: Shaped[Tensor, "B T H W"]) -> Shaped[Tensor, "B H W"]:
    """Reduce maps to the sum of relevance over time (signed), or masks to the pixels that they ever touch.

    Sums that are only rounding errors are 0 (`without_rounding`).
    """
    return _reduced(values, (1,))


def _reduced(values: Shaped[Tensor, "B T H W"], axes: tuple[int, ...]) -> Shaped[Tensor, "B ..."]:
    if values.dtype == torch.bool:
        return values.any(dim=axes)
    wide = values.double()
    return without_rounding(wide.sum(dim=axes), wide.abs().sum(dim=axes)).to(values.dtype)


def chance(mask: Bool[Tensor, " B *shape"]) -> Float[Tensor, " B"]:
    """Compute the mask's share of the voxels, |M| / N: what uninformative relevance scores."""
    return mask_rows(mask).double().mean(dim=1)


def relevance_mass(relevance: Float[Tensor, " B *shape"], mask: Bool[Tensor, " B *shape"]) -> Float[Tensor, " B"]:
    """Compute the share of positive relevance inside the mask, Σ_M R⁺ / ΣR⁺ (Arras et al. 2022, RMA).

    Args:
        relevance: Signed; negative values do not count.
        mask: True where relevance should be.

    Returns:
        In [0, 1]; NaN where the mask is empty or full, or no relevance is positive.

    Raises:
        VidactError: maps and masks of different shapes, or values that are not finite.
    """
    check_map_and_mask(relevance, mask)
    inside, positive = mask_rows(mask), rows(relevance).clamp(min=0)
    # Of the largest, so that the sum of very small or large values neither vanishes nor overflows.
    positive = positive / positive.amax(dim=1, keepdim=True)
    return _where_defined((positive * inside).sum(dim=1) / positive.sum(dim=1), inside)


def lift(relevance: Float[Tensor, " B *shape"], mask: Bool[Tensor, " B *shape"]) -> Float[Tensor, " B"]:
    """Compute how many times more positive relevance lies inside the mask than by chance, RMA / chance.

    Returns:
        1 is chance, 1 / chance the most; NaN where `relevance_mass` is.

    Raises:
        VidactError: as in `relevance_mass`.
    """
    return relevance_mass(relevance, mask) / chance(mask)


def relevance_rank(relevance: Float[Tensor, " B *shape"], mask: Bool[Tensor, " B *shape"]) -> Float[Tensor, " B"]:
    """Compute the share of the |M| most relevant voxels that lie inside the mask (Arras et al. 2022, RRA).

    Args:
        relevance: Signed; only its order counts. Voxels that tie for the last places share them.
        mask: True where relevance should be.

    Returns:
        In [0, 1]; NaN where the mask is empty or full.

    Raises:
        VidactError: as in `relevance_mass`.
    """
    check_map_and_mask(relevance, mask)
    inside, values = mask_rows(mask), rows(relevance)
    size = inside.sum(dim=1, keepdim=True)
    last = values.sort(dim=1, descending=True).values.gather(1, (size - 1).clamp(min=0))  # [B, 1]
    above, tied = values > last, values == last
    places = (size.squeeze(1) - above.sum(dim=1)).double()
    hits = (above & inside).sum(dim=1) + places * (tied & inside).sum(dim=1) / tied.sum(dim=1)
    return _where_defined(hits / size.squeeze(1), inside)


def pointing_game(relevance: Float[Tensor, " B *shape"], mask: Bool[Tensor, " B *shape"]) -> Float[Tensor, " B"]:
    """Say whether the most relevant voxel lies inside the mask (Zhang et al. 2018, without their margin).

    Returns:
        1 or 0; where several voxels tie, the share of them inside. NaN where the mask is empty or full.

    Raises:
        VidactError: as in `relevance_mass`.
    """
    check_map_and_mask(relevance, mask)
    inside, values = mask_rows(mask), rows(relevance)
    highest = values == values.amax(dim=1, keepdim=True)
    return _where_defined((highest & inside).sum(dim=1).double() / highest.sum(dim=1), inside)


def auroc(relevance: Float[Tensor, " B *shape"], mask: Bool[Tensor, " B *shape"]) -> Float[Tensor, " B"]:
    """Compute how often a voxel inside the mask is more relevant than one outside, ties counting half.

    That is the area under the receiver operating characteristic of R against M, by the rank sum (Mann & Whitney 1947).

    Returns:
        In [0, 1], 0.5 by chance; NaN where the mask is empty or full.

    Raises:
        VidactError: as in `relevance_mass`.
    """
    check_map_and_mask(relevance, mask)
    inside = mask_rows(mask)
    count_in = inside.sum(dim=1).double()
    count_out = inside.shape[1] - count_in
    rank_sum = (mid_ranks(rows(relevance)) * inside).sum(dim=1)
    return _where_defined((rank_sum - count_in * (count_in + 1) / 2) / (count_in * count_out), inside)


def _where_defined(values: Float[Tensor, " B"], inside: Bool[Tensor, "B N"]) -> Float[Tensor, " B"]:
    """Set results to NaN where a mask is empty or full: every map would score the same there."""
    return torch.where(inside.any(dim=1) & ~inside.all(dim=1), values, torch.nan)
