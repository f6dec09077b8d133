"""How a decoded frame is to be seen: turned, mirrored, and with which shape of pixels.

It does not know who decodes, nor what the pictures are for.

A file may say by a display matrix that its pictures are to be turned or mirrored (phones write one), and by a sample
aspect ratio that its pixels are not square (DV and DVD have such). FFmpeg's decoders leave both to whoever shows them.
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
# A pixel that claims to be longer than that is taken for a header's mistake, and for square.
MAX_PIXEL_ASPECT = 4
MAX_SLANT = 0.01  # of a quarter turn's matrix, whose other two numbers are to be 0


class Turn(NamedTuple):
    """What to do with a picture, in this order.

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
    """Say how a frame is to be turned and mirrored, by its display matrix.

    A pixel in column p and row q is shown in column a p + c q and row b p + d q, up to a shift (FFmpeg's
    libavutil/display.h). A matrix that shows nothing at all is passed over, as players do.

    Raises:
        DataError: it is to be turned by an odd angle.
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
        raise DataError(f"is to be shown turned by {degrees}° or slanted, not by a quarter turn")
    if straight > crossed:
        return Turn(False, a < 0, d < 0)
    return Turn(True, c < 0, b < 0)


def turn(picture: UInt8[np.ndarray, "h w C"], how: Turn) -> UInt8[np.ndarray, "H W C"]:
    """Turn and mirror a picture."""
    if how == UPRIGHT:
        return picture
    if how.transposed:
        picture = picture.transpose(1, 0, 2)
    step_down, step_right = -1 if how.rows_reversed else 1, -1 if how.columns_reversed else 1
    return np.ascontiguousarray(picture[::step_down, ::step_right])


def shown_size(height: int, width: int, *, pixel_aspect: Fraction | None, how: Turn = UPRIGHT) -> tuple[int, int]:
    """Give the height and width in square pixels at which a frame is to be seen.

    Args:
        height: Of the frame as it is stored.
        width: Of the frame as it is stored.
        pixel_aspect: Width of a stored pixel by its height; None or 0 where nobody says.
        how: How the frame is turned.
    """
    aspect = pixel_aspect or Fraction(1)
    if not Fraction(1, MAX_PIXEL_ASPECT) <= aspect <= MAX_PIXEL_ASPECT:
        aspect = Fraction(1)
    size = height, max(1, round(width * aspect))
    return (size[1], size[0]) if how.transposed else size


class Painter:
    """Makes RGB pictures of decoded frames; one for many frames, because it keeps its tables."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def stored(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
        """Give the picture as it is stored."""
        return self._reformatter.reformat(frame, format="rgb24").to_ndarray()

    def upright(self, frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
        """Give the picture turned and mirrored as it is to be seen, with the pixels that are stored.

        Raises:
            DataError: it is to be turned by an odd angle.
        """
        return turn(self.stored(frame), turn_of(frame))
