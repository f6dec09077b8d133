"""Pack frames and relevance into text that a browser unpacks: a sprite of pictures, a byte per voxel.

`players` packs clips with it, and `drawing.js` in the page unpacks them.
"""

import base64
import io
import math
import zlib
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from vidact.core.errors import VidactError
from vidact.core.explanation import find_hotspots
from vidact.drawing.figure import colour_limit

MAX_HEIGHT_PIXELS = 240
MAX_WIDTH_PIXELS = 480
ZERO_BYTE = 128
FULL_SCALE = 127  # bytes from zero to max|R|
_WEBP_SIDE_PIXELS = 16383  # what the format can hold
_WEBP_QUALITY = 82


@dataclass(frozen=True)
class Sprite:
    """All frames of a clip as one picture, row by row.

    Attributes:
        uri: `data:image/webp;base64,…`.
        width: Of a frame, in pixels.
        height: Of a frame, in pixels.
        columns: Frames in a row.
    """

    uri: str = field(repr=False)
    width: int
    height: int
    columns: int


@dataclass(frozen=True)
class PackedRelevance:
    """One explanation in a byte per voxel, with the sums that rounding to bytes would make inexact.

    A byte is 128 + 127 · sign(R) · √(|R| / max|R|), rounded: fine steps near zero, where most voxels are.

    Attributes:
        data: The bytes in the order T, h, w; deflated (zlib), base64.
        height: Voxels in a column.
        width: Voxels in a row.
        largest: max|R|.
        limit: |R| at which the heatmap's scale ends.
        hotspot_byte: A voxel is a hotspot exactly if its byte is at least this; above 255 where there are none.
        positive: Sum of each frame's positive relevance.
        negative: Sum of each frame's negative relevance.
        hotspots: Number of hotspots of each frame.
    """

    data: str = field(repr=False)
    height: int
    width: int
    largest: float
    limit: float
    hotspot_byte: int
    positive: tuple[float, ...]
    negative: tuple[float, ...]
    hotspots: tuple[int, ...]


def pack_frames(video: UInt8[np.ndarray, "C T H W"]) -> Sprite:
    """Pack a gray or RGB video as a WebP sprite, frames no larger than 480x240 pixels.

    Raises:
        VidactError: no frame, or neither one colour nor three.
    """
    if video.ndim != 4 or video.shape[0] not in (1, 3) or 0 in video.shape:
        raise VidactError(f"expected video [C, T, H, W] with C 1 or 3 and at least one frame, got {video.shape = }")
    _, num_frames, *size = video.shape
    columns = math.ceil(math.sqrt(num_frames))
    height, width = _frame_size((size[0], size[1]), columns=columns)
    sheet = Image.new("RGB", (columns * width, math.ceil(num_frames / columns) * height))
    pictures = np.broadcast_to(video, (3, *video.shape[1:])).transpose(1, 2, 3, 0)  # [T, H, W, C]
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        frame = Image.fromarray(np.ascontiguousarray(picture))
        sheet.paste(frame.resize((width, height), Image.Resampling.LANCZOS), (column * width, row * height))
    file = io.BytesIO()
    sheet.save(file, "WEBP", quality=_WEBP_QUALITY)
    return Sprite(f"data:image/webp;base64,{_base64(file.getvalue())}", width, height, columns)


def _frame_size(size: tuple[int, int], *, columns: int) -> tuple[int, int]:
    """Shrink height and width, in proportion, to what a page and the file format hold."""
    height, width = size
    side = _WEBP_SIDE_PIXELS // columns
    shrink = min(1.0, min(MAX_HEIGHT_PIXELS, side) / height, min(MAX_WIDTH_PIXELS, side) / width)
    return max(1, math.floor(height * shrink)), max(1, math.floor(width * shrink))


def pack_relevance(relevance: Float[np.ndarray, "T h w"], *, threshold: float) -> PackedRelevance:
    """Pack an explanation; see `PackedRelevance`.

    Args:
        relevance: Signed, finite.
        threshold: A voxel is a hotspot if its relevance is at least this share of max|R| over the clip.
    """
    relevance = relevance.astype(np.promote_types(relevance.dtype, np.float32), copy=False)
    largest = np.abs(relevance).max()
    spots = find_hotspots(relevance, largest=largest, threshold=threshold)
    # The byte of a voxel exactly at the threshold, by the companding below.
    step = math.ceil(FULL_SCALE * math.sqrt(threshold)) if largest else FULL_SCALE + 1
    _, height, width = relevance.shape
    precise = relevance.astype(np.float64)  # sums in float32 would differ from those of the explanation
    return PackedRelevance(
        data=_base64(zlib.compress(_companded(precise, spots, step=step).tobytes(), 9)),
        height=height,
        width=width,
        largest=float(largest),
        limit=colour_limit(relevance),
        hotspot_byte=ZERO_BYTE + step,
        positive=tuple(precise.clip(min=0).sum(axis=(1, 2)).tolist()),
        negative=tuple(precise.clip(max=0).sum(axis=(1, 2)).tolist()),
        hotspots=tuple(spots.sum(axis=(1, 2)).tolist()),
    )


def _companded(
    relevance: Float[np.ndarray, "T h w"], spots: Bool[np.ndarray, "T h w"], *, step: int
) -> UInt8[np.ndarray, "T h w"]:
    """Compand to bytes, and keep `spots` at or above `step` and all others below it, whatever rounding says."""
    largest = np.abs(relevance).max() or 1.0
    signed = np.rint(FULL_SCALE * np.sign(relevance) * np.sqrt(np.abs(relevance) / largest))
    signed = np.where(spots, np.maximum(signed, step), np.minimum(signed, step - 1))
    return np.asarray(signed + ZERO_BYTE, dtype=np.uint8)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
