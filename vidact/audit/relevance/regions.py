"""Regions of the frame that one half of the sources points to, and random ones to compare them with."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from vidact.runs.clips.chosen import draw_key

Grid = Float[np.ndarray, "h w"]
SHARE = 1 / 16  # of the frame that a region takes
NUM_RANDOM = 20
_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


def halves(sources: Mapping[str, int], *, seed: int) -> dict[str, int]:
    """Divide sources into two halves, 0 and 1, at random, those of each class evenly; no source is in both.

    Args:
        sources: The class that each source has most clips of.
        seed: Of the draw.
    """
    names = sorted(sources, key=lambda name: (sources[name], draw_key(seed, "half", name)))
    return {name: number % 2 for number, name in enumerate(names)}


def top_region(evidence: Grid, *, share: float = SHARE) -> Bool[np.ndarray, "h w"] | None:
    """Find the connected region with the most evidence, grown to a share of the frame.

    From the cell with the most evidence on, the neighbour with the most is added, one at a time. None where there is
    no evidence for anything.

    Args:
        evidence: For each cell; only what is above 0 counts.
        share: Of all cells.
    """
    if not np.isfinite(evidence).all() or evidence.max() <= 0:
        return None
    region = np.zeros(evidence.shape, bool)
    region.flat[int(evidence.argmax())] = True
    for _ in range(max(1, round(share * evidence.size)) - 1):
        ring = ndimage.binary_dilation(region) & ~region
        region.flat[int(np.where(ring, evidence, -np.inf).argmax())] = True
    return region


def random_regions(
    region: Bool[np.ndarray, "h w"], *, energy: Grid, seed: int, words: Sequence[str] = (), count: int = NUM_RANDOM
) -> list[Bool[np.ndarray, "h w"]]:
    """Draw regions of the same size elsewhere in the frame, each connected, of motion as like as there is.

    Each grows from a cell outside the region by random neighbours. Of ten times as many as are wanted, without
    repetition, those whose motion energy is nearest to the region's are kept. Fewer come where there are no more.

    Args:
        region: What they are compared with.
        energy: Mean change between frames of each cell.
        seed: Of the draw.
        words: Further words for the draw.
        count: How many at most.
    """
    draw = np.random.default_rng(int.from_bytes(draw_key(seed, "regions", *words)[:8], "big"))
    size, places = int(region.sum()), np.flatnonzero(~region)
    found: dict[bytes, Bool[np.ndarray, "h w"]] = {}
    for _ in range(10 * count if len(places) else 0):
        grown = np.zeros_like(region)
        grown.flat[draw.choice(places)] = True
        while grown.sum() < size:
            ring = np.flatnonzero(ndimage.binary_dilation(grown) & ~grown)
            grown.flat[draw.choice(ring)] = True
        if (grown & region).sum() <= size / 4:
            found.setdefault(grown.tobytes(), grown)
    own = float(energy[region].mean())
    return sorted(found.values(), key=lambda one: abs(float(energy[one].mean()) - own))[:count]


def p_value(found: float, others: Sequence[float]) -> float:
    """Compute how often a random region shows as much: (1 + number of those that do) / (1 + number of all)."""
    return (1 + sum(other >= found for other in others)) / (1 + len(others))


def where(region: Bool[np.ndarray, "h w"]) -> str:
    """Say in words where a region lies: `upper left`, `centre`."""
    row, column = ndimage.center_of_mass(region)
    vertical = _ROWS[min(2, int(3 * (row + 0.5) / region.shape[0]))]
    horizontal = _COLUMNS[min(2, int(3 * (column + 0.5) / region.shape[1]))]
    if (vertical, horizontal) == ("middle", "centre"):
        return "centre"
    return f"{vertical} {horizontal}"


def tensor_of(region: Bool[np.ndarray, "h w"]) -> Bool[Tensor, "h w"]:
    """Turn a region into what a factor takes."""
    return torch.from_numpy(region.copy())


def mean_maps(records: Sequence[Mapping[str, object]], key: str) -> dict[int, Grid]:
    """Average a map of clips over each class."""
    found: dict[int, list[Grid]] = {}
    for record in records:
        if key in record:
            found.setdefault(int(record["label"]), []).append(np.asarray(record[key], dtype=float))  # type: ignore[call-overload]
    return {label: np.mean(maps, axis=0) for label, maps in found.items()}
