"""Divide a clip into the units that are replaced together: tubes, frames or columns."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidact.core.errors import ConfigError
from vidact.evaluation.measures.maps import without_rounding
from vidact.evaluation.names import COLUMNS, FRAMES, TUBES

TUBE_SIZE = (2, 10, 10)  # frames, height and width: 800 in 16 frames of 100×100 pixels
COLUMN_SIZE = (10, 10)


@dataclass(frozen=True)
class Units:
    """A division of a clip: every voxel belongs to one unit.

    Attributes:
        name: What kind of units these are.
        number: The unit of each voxel, from 0; all colours of a voxel belong to it.
        count: How many units there are (U).
    """

    name: str
    number: Int[Tensor, "T H W"]
    count: int

    @property
    def clip(self) -> tuple[int, int, int]:
        """The clip's frames, height and width."""
        frames, height, width = self.number.shape
        return frames, height, width


def tubes(clip: tuple[int, int, int], *, size: tuple[int, int, int] = TUBE_SIZE) -> Units:
    """Divide a clip into boxes of some frames, numbered by time, height, width; those at the far edges may be smaller.

    Args:
        clip: Its frames, height and width.
        size: A tube's frames, height and width.

    Raises:
        ConfigError: a tube of no voxel, or one that is larger than the clip.
    """
    return _grid(TUBES, clip, size)


def frames(clip: tuple[int, int, int]) -> Units:
    """Divide a clip into its frames, which show *when*.

    Args:
        clip: Its frames, height and width.
    """
    return _grid(FRAMES, clip, (1, *clip[1:]))


def columns(clip: tuple[int, int, int], *, size: tuple[int, int] = COLUMN_SIZE) -> Units:
    """Divide a clip into boxes that last from its first frame to its last, which show *where*.

    Args:
        clip: Its frames, height and width.
        size: A column's height and width; those at the far edges may be smaller.

    Raises:
        ConfigError: a column of no voxel, or one that is larger than the clip.
    """
    return _grid(COLUMNS, clip, (clip[0], *size))


def sum_by_unit(values: Float[Tensor, "*batch T H W"], units: Units) -> Float[Tensor, "*batch U"]:
    """Sum each unit's voxels, in float64: R_u of relevance that was summed over colour.

    Sums that are only rounding errors are 0 (`without_rounding`), so that such units tie.

    Args:
        values: One value per voxel.
        units: The division of such clips.

    Raises:
        ConfigError: clips of another size than the units'.
    """
    check_clip(units, values)
    *batch, _, _, _ = values.shape
    number = units.number.flatten().to(values.device).expand(*batch, -1)
    wide = values.flatten(-3).double()
    none = torch.zeros(*batch, units.count, dtype=torch.float64, device=values.device)
    total, size = (none.scatter_add(-1, number, own) for own in (wide, wide.abs()))
    return without_rounding(total, size).to(values.dtype)


def check_clip(units: Units, clips: Tensor) -> None:
    """Check that clips [..., T, H, W] have the size that the units divide.

    Raises:
        ConfigError: they are not.
    """
    size = tuple(clips.shape[-3:])
    if size != units.clip:
        raise ConfigError(f"these {units.name} divide clips of {units.clip} frames, height and width, got {size}")


def _grid(name: str, clip: tuple[int, int, int], size: tuple[int, int, int]) -> Units:
    if min(size) < 1 or any(part > whole for part, whole in zip(size, clip, strict=True)):
        raise ConfigError(
            f"{name} are at least one voxel and no larger than the clip, in frames, height and width; "
            f"got {size} for a clip of {clip}"
        )
    t, h, w = (torch.arange(whole) // part for part, whole in zip(size, clip, strict=True))
    rows, places = int(h[-1]) + 1, int(w[-1]) + 1
    number = (t[:, None, None] * rows + h[:, None]) * places + w
    return Units(name, number, int(number[-1, -1, -1]) + 1)
