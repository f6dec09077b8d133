"""Paint a confounder into a clip: a sign at a known place and time that correlates with the class."""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, UInt8

Confounder = Literal["patch", "band", "flicker"]
KINDS: tuple[Confounder, ...] = get_args(Confounder)

NUM_CODES = 8
_DARK, _BRIGHT = 26, 230
_SHARE = 1 / 6  # of the frame's shorter side: a patch
_THICKNESS = 1 / 16  # of its height: a band


def draw_code(label: int, *, agreement: float, generator: np.random.Generator) -> int:
    """Draw the sign of a clip: that of its class with probability `agreement`, else another.

    Args:
        label: The class, below `NUM_CODES`.
        agreement: From 1 / NUM_CODES, where the sign carries no information, to 1.
        generator: Random generator; always draws two numbers.
    """
    agrees = generator.random() < agreement
    other = (label + int(generator.integers(1, NUM_CODES))) % NUM_CODES
    return label if agrees else other


def plant(
    video: UInt8[np.ndarray, "T H W 3"], *, kind: Confounder, code: int
) -> tuple[UInt8[np.ndarray, "T H W 3"], Bool[np.ndarray, "T H W"]]:
    """Paint a sign over a copy of a clip.

    `patch`: a dark square in the upper left corner with a bright dot at one of eight places, in all frames.
    `band`: a dark band over the whole width, at one of eight heights, in all frames.
    `flicker`: a square in the upper left corner that is lit during one of eight parts of the time (with fewer than
    eight frames some signs are equal).

    Args:
        video: The clip, which is not changed.
        kind: One of `KINDS`.
        code: Number of the sign, below `NUM_CODES`.

    Returns:
        The clip with the sign, and a mask that is True where it was painted.
    """
    painted, mask = video.copy(), np.zeros(video.shape[:3], dtype=bool)
    _PAINTERS[kind](painted, mask, code)
    return painted, mask


def _paint_patch(video: UInt8[np.ndarray, "T H W 3"], mask: Bool[np.ndarray, "T H W"], code: int) -> None:
    side = max(3, round(_SHARE * min(video.shape[1:3])))
    video[:, :side, :side] = _DARK
    row, column = divmod(code if code < 4 else code + 1, 3)  # the eight places around the middle
    edge = np.rint(np.linspace(0, side, 4)).astype(int)
    video[:, edge[row] : edge[row + 1], edge[column] : edge[column + 1]] = _BRIGHT
    mask[:, :side, :side] = True


def _paint_band(video: UInt8[np.ndarray, "T H W 3"], mask: Bool[np.ndarray, "T H W"], code: int) -> None:
    height = video.shape[1]
    thickness = max(1, round(_THICKNESS * height))
    top = round(code * (height - thickness) / (NUM_CODES - 1))
    video[:, top : top + thickness] = _DARK
    mask[:, top : top + thickness] = True


def _paint_flicker(video: UInt8[np.ndarray, "T H W 3"], mask: Bool[np.ndarray, "T H W"], code: int) -> None:
    side = max(3, round(_SHARE * min(video.shape[1:3])))
    first, last = (number * len(video) // NUM_CODES for number in (code, code + 1))
    lit = slice(first, max(last, first + 1))
    video[lit, :side, :side] = _BRIGHT
    mask[lit, :side, :side] = True


_PAINTERS: dict[str, Callable[[UInt8[np.ndarray, "T H W 3"], Bool[np.ndarray, "T H W"], int], None]] = {
    "patch": _paint_patch,
    "band": _paint_band,
    "flicker": _paint_flicker,
}
