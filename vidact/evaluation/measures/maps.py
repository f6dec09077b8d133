"""Checks, flattening, sums and ranks of relevance maps, which the measures share."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vidact.core.errors import VidactError

ROUNDING = 1e-5  # of Σ|R|: float32 leaves about 1e-7 of values that cancel, sums of real relevance are far larger


def check_map(relevance: Tensor) -> None:
    """Check that maps are finite floats with at least one voxel.

    Raises:
        VidactError: no voxels, not floating point, or values that are not finite.
    """
    if relevance.ndim < 2 or 0 in relevance.shape[1:]:
        raise VidactError(f"expected maps of shape [clips, …] with voxels, got shape {list(relevance.shape)}")
    if not relevance.is_floating_point():
        raise VidactError(f"expected relevance as floating point, got {relevance.dtype}")
    if not torch.isfinite(relevance).all():
        raise VidactError("the relevance holds values that are not finite; was the explanation checked?")


def check_map_and_mask(relevance: Tensor, mask: Tensor) -> None:
    """Check that each map has a mask of its shape.

    Raises:
        VidactError: as `check_map`; a mask that is not boolean, of another shape or on another device.
    """
    check_map(relevance)
    if mask.dtype != torch.bool:
        raise VidactError(f"expected a boolean mask, got {mask.dtype}; compare it with a threshold first")
    _check_alike(relevance, mask, "a mask")


def check_pair(first: Tensor, second: Tensor) -> None:
    """Check that two sets of maps can be compared.

    Raises:
        VidactError: as `check_map`, or maps of other shapes or on other devices.
    """
    check_map(first)
    check_map(second)
    _check_alike(first, second, "a second map")


def _check_alike(first: Tensor, second: Tensor, what: str) -> None:
    if first.shape != second.shape:
        raise VidactError(f"expected {what} of shape {list(first.shape)}, as the map, got {list(second.shape)}")
    if first.device != second.device:
        raise VidactError(f"expected {what} on {first.device}, as the map, got {second.device}")


def rows(maps: Float[Tensor, "B ..."]) -> Float[Tensor, "B N"]:
    """Flatten each clip's voxels to a row of float64, so that sums of many small values keep their precision."""
    return maps.double().flatten(1)


def mask_rows(mask: Bool[Tensor, "B ..."]) -> Bool[Tensor, "B N"]:
    """Flatten each clip's mask to a row."""
    return mask.flatten(1)


def without_rounding(total: Float[Tensor, "*shape"], size: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Set sums of relevance to 0 where they are only rounding errors, |ΣR| < 1e-5 · Σ|R|.

    The gradient of a network that sees frame differences sums to 0 over time at every pixel, for example. Its
    rounding errors have an order and a positive part that look like an answer and change with the batch; zeros tie.

    Args:
        total: ΣR of each group of voxels.
        size: Σ|R| of each.
    """
    return total.masked_fill(total.abs() < ROUNDING * size, 0.0)


def mid_ranks(values: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """Rank each row from 1; equal values get the mean of their ranks."""
    ordered, place = values.sort(dim=1)
    number = torch.arange(values.shape[1], device=values.device).expand_as(place)
    edge = ordered[:, 1:] != ordered[:, :-1]  # between voxels that do not tie
    first, last = torch.zeros_like(place), torch.full_like(place, values.shape[1] - 1)
    first[:, 1:] = torch.where(edge, number[:, 1:], 0)
    last[:, :-1] = torch.where(edge, number[:, :-1], values.shape[1] - 1)
    first, last = first.cummax(dim=1).values, last.flip(1).cummin(dim=1).values.flip(1)
    return torch.empty_like(values, dtype=torch.float64).scatter_(1, place, (first + last).double() / 2 + 1)
