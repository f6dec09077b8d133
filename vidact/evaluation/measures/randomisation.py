"""Measure whether explanations depend on what the network has learnt, and on the class.

The caller explains a copy of the network with random weights (`methods.random_weights`), and compares the maps.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from vidact.core.errors import VidactError
from vidact.evaluation.measures.maps import check_map, check_pair, mid_ranks, rows

NUM_BINS = 100  # Quantus'
SMALLEST_PICTURE = 6  # half of the window of SSIM, plus one


def spearman(
    first: Float[Tensor, " B *shape"], second: Float[Tensor, " B *shape"], *, absolute: bool = True
) -> Float[Tensor, " B"]:
    """Correlate the ranks of two maps of each clip (Spearman 1904), ties with the mean of their ranks.

    Args:
        first: Of the network.
        second: Of the random network.
        absolute: Whether to compare |R| (Adebayo et al. 2018 give both): the sign of a random network's logit is
            arbitrary.

    Returns:
        In [−1, 1]; NaN where all values of a map are equal.

    Raises:
        VidactError: maps of other shapes, or values that are not finite.
    """
    check_pair(first, second)
    ranks = [mid_ranks(rows(each.abs() if absolute else each)) for each in (first, second)]
    centred = [each - each.mean(dim=1, keepdim=True) for each in ranks]
    product = (centred[0] * centred[1]).sum(dim=1)
    norm = (centred[0].square().sum(dim=1) * centred[1].square().sum(dim=1)).sqrt()
    return (product / norm).clamp(-1, 1)


def ssim(
    first: Float[Tensor, "B T H W"], second: Float[Tensor, "B T H W"], *, absolute: bool = True
) -> Float[Tensor, " B"]:
    """Compare the structure of two maps of each clip, frame by frame: mean SSIM of the frames (Wang et al. 2004).

    Each map is divided by its largest |R| in the clip. The window is Gaussian, 11×11 pixels; through torchmetrics.
    Frame by frame, since windows over time need more frames than short clips have.

    Args:
        first: Of the network.
        second: Of the random network.
        absolute: Whether to compare |R|, as Adebayo et al. (2018) do.

    Returns:
        At most 1; NaN where a map is 0 everywhere.

    Raises:
        VidactError: maps of other shapes, frames smaller than the window allows, or values that are not finite.
    """
    check_pair(first, second)
    if min(first.shape[2:]) < SMALLEST_PICTURE:
        size = f"{first.shape[2]}×{first.shape[3]}"
        raise VidactError(f"SSIM needs frames of at least {SMALLEST_PICTURE}×{SMALLEST_PICTURE} pixels, got {size}")
    if not len(first):
        return first.new_empty(0, dtype=torch.float64)
    scaled, other = _of_largest(first), _of_largest(second)
    if absolute:
        scaled, other = scaled.abs(), other.abs()
    # Frames are channels, over which SSIM is averaged; in float32, since convolutions are 40 times as slow in float64.
    found: Any = structural_similarity_index_measure(
        scaled.nan_to_num().float(), other.nan_to_num().float(), reduction="none", data_range=1.0 if absolute else 2.0
    )
    return torch.where((scaled + other).isnan().any(dim=(1, 2, 3)), torch.nan, found.double())


def _of_largest(maps: Float[Tensor, " B *shape"]) -> Float[Tensor, " B *shape"]:
    """Divide each map by its largest |R|; NaN where it is 0 everywhere."""
    values = rows(maps)
    return (values / values.abs().amax(dim=1, keepdim=True)).view(maps.shape)


def histogram_entropy(relevance: Float[Tensor, " B *shape"], *, num_bins: int = NUM_BINS) -> Float[Tensor, " B"]:
    """Compute the entropy of each map's values, in nats: of a histogram of equal bins from its least to its largest.

    Args:
        relevance: Signed.
        num_bins: Of the histogram.

    Returns:
        From 0, where all values are equal, to log `num_bins`.

    Raises:
        VidactError: values that are not finite, or no bins.
    """
    check_map(relevance)
    if num_bins < 1:
        raise VidactError(f"a histogram has at least 1 bin, got {num_bins}")
    values = rows(relevance)
    low, high = values.amin(dim=1, keepdim=True), values.amax(dim=1, keepdim=True)
    place = torch.where(high > low, (values - low) / (high - low), 0)
    bins = (place * num_bins).long().clamp(max=num_bins - 1)
    count = values.new_zeros(len(values), num_bins).scatter_add_(1, bins, torch.ones_like(values))
    entropy: Tensor = torch.special.entr(count / values.shape[1]).sum(dim=1)
    return entropy


def emprt(
    relevance: Float[Tensor, " B *shape"], random_relevance: Float[Tensor, " B *shape"], *, num_bins: int = NUM_BINS
) -> Float[Tensor, " B"]:
    """Compute the relative rise of complexity, (H(R_rand) − H(R)) / H(R) (Hedström et al. 2023, efficient MPRT).

    H is `histogram_entropy`. An explanation that depends on what was learnt is expected to be more complex where the
    network is random: the higher, the better.

    Args:
        relevance: Of the network.
        random_relevance: Of the network with all layers random.
        num_bins: Of the histograms.

    Returns:
        At least −1; NaN where all values of `relevance` are equal.

    Raises:
        VidactError: maps of other shapes, or values that are not finite.
    """
    check_pair(relevance, random_relevance)
    before, after = (histogram_entropy(each, num_bins=num_bins) for each in (relevance, random_relevance))
    return torch.where(before > 0, (after - before) / before, torch.nan)


def draw_other_class(target: Int[Tensor, " B"], *, num_classes: int, generator: torch.Generator) -> Int[Tensor, " B"]:
    """Draw another class than each clip's, for `random_logit`.

    Raises:
        VidactError: a single class.
    """
    if num_classes < 2:
        raise VidactError(f"another class needs at least 2 of them, got {num_classes}")
    step = torch.randint(1, num_classes, target.shape, generator=generator, device=generator.device)
    return (target + step.to(target)) % num_classes


def random_logit(
    relevance: Float[Tensor, " B *shape"], other_relevance: Float[Tensor, " B *shape"]
) -> Float[Tensor, " B"]:
    """Compute the cosine of the maps of two targets: 1 where the explanation ignores the class (Sixt et al. 2020).

    They compare by SSIM; the cosine needs no window and does not change with scale.

    Args:
        relevance: For the clip's class.
        other_relevance: For another class of the same clip.

    Returns:
        In [−1, 1]; NaN where a map is 0 everywhere.

    Raises:
        VidactError: maps of other shapes, or values that are not finite.
    """
    check_pair(relevance, other_relevance)
    return F.cosine_similarity(_of_largest(relevance).flatten(1), _of_largest(other_relevance).flatten(1), dim=1)
