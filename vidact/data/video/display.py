"""Rotate and mirror decoded frames as their file says, and compute their size in square pixels.

A file may hold a display matrix, which says how to rotate or mirror its pictures (phones write one), and a sample
aspect ratio other than 1 (DV and DVD). FFmpeg's decoders leave applying both to the caller.
"""

import math
import struct
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from vidact.core.errors import DataError

_MATRIX = struct.Struct("=9i")
# A larger ratio is taken for a mistake in the header, and ignored.
MAX_PIXEL_ASPECT = 4
MAX_SLANT = 0.01  # of a quarter turn's matrix, whose other two entries should be 0


class Turn(NamedTuple):
    """Steps that bring a stored picture upright, in this order.

    Attributes:
        transposed: Rows become columns.
        columns_reversed: Left becomes right.
        rows_reversed: Top becomes bottom.
    """

    transposed: bool = False
    columns_reversed: bool = False
    rows_reversed: bool = False


UPRIGHT = Turn()


def turn_of(frame: av.VideoFrame) -> Turn:
    """Read from a frame's display matrix how to rotate and mirror it.

    A pixel in column p and row q is shown in column a p + c q and row b p + d q, up to a shift (FFmpeg's
    libavutil/display.h). A singular matrix is ignored, as players do.

    Raises:
        DataError: the angle is not a multiple of 90°.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d, *_ = _MATRIX.unpack(matrix)
    if a * d == b * c:
        return UPRIGHT
    straight, crossed = max(abs(a), abs(d)), max(abs(b), abs(c))
    if min(straight, crossed) > MAX_SLANT * max(straight, crossed):
        degrees = round(math.degrees(math.atan2(b, a))) % 360
        raise DataError(f"is to be shown rotated by {degrees}° or sheared, expected a multiple of 90°")
    if straight > crossed:
        return Turn(False, a < 0, d < 0)
    return Turn(True, c < 0, b < 0)


def turn(picture: UInt8[np.ndarray, "h w C"], how: Turn) -> UInt8[np.ndarray, "H W C"]:
    """Rotate and mirror a picture."""
    if how == UPRIGHT:
        return picture
    if how.transposed:
        picture = picture.transpose(1, 0, 2)
    step_down, step_right = -1 if how.rows_reversed else 1, -1 if how.columns_reversed else 1
    return np.ascontiguousarray(picture[::step_down, ::step_right])  # torch takes no negative strides


def shown_size(height: int, width: int, *, pixel_aspect: Fraction | None, how: Turn = UPRIGHT) -> tuple[int, int]:
    """Compute the height and width in square pixels at which a frame is shown.

    Args:
        height: Height of the stored frame.
        width: Width of the stored frame.
        pixel_aspect: Width of a stored pixel over its height; None or 0 where the file does not say.
        how: How the frame is turned.
    """
    aspect = pixel_aspect or Fraction(1)
    if not Fraction(1, MAX_PIXEL_ASPECT) <= aspect <= MAX_PIXEL_ASPECT:
        aspect = Fraction(1)
    size = height, max(1, round(width * aspect))
    return (size[1], size[0]) if how.transposed else size


class Painter:
    """Convert decoded frames to RGB pictures; use one for many frames, because it caches FFmpeg's conversion tables."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def stored(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
        """Convert a frame as it is stored."""
        return self._reformatter.reformat(frame, format="rgb24").to_ndarray()

    def upright(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
        """Convert a frame, rotated and mirrored as it is to be seen, without resizing.

        Raises:
            DataError: the angle is not a multiple of 90°.
        """
        return turn(self.stored(frame), turn_of(frame))
