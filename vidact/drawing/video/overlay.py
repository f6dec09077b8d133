"""Compose the picture of one moment of a video: the frame, its hotspots, and the strip below.

The canvas is allocated once; hotspots are recomputed only when the nearest sampled frame changes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Real, UInt8
from matplotlib.colors import to_rgb
from scipy.ndimage import binary_erosion

from vidact.core.errors import VidactError
from vidact.core.explanation import find_hotspots
from vidact.drawing.grid import HOTSPOT_COLOUR, HOTSPOT_OPACITY
from vidact.drawing.video.strip import Strip, Timeline, draw_strip

Layout = Literal["beside", "over"]
MIN_HEIGHT = 240  # smaller frames are scaled up: overlay and strip could not be read
MIN_WIDTH = 320
MAX_WIDTH = 1920  # many players decode no more
WIDESCREEN = 16 / 9
BLOCK = 16  # sides of whole macroblocks: x264 encodes these best
_COLOUR = np.rint(255 * np.array(to_rgb(HOTSPOT_COLOUR))).astype(np.uint8)


@runtime_checkable
class RelevanceMaps(Protocol):
    """Maps by the number of the sampled frame: an array [S, h, w], or something that makes them when asked."""

    def __getitem__(self, index: int, /) -> Real[np.ndarray, "h w"]:
        """Give the relevance of one sampled frame, summed over colour."""


@dataclass(frozen=True)
class SampledRelevance:
    """The relevance of the frames that a network saw.

    Attributes:
        maps: Signed relevance of each sampled frame, at the resolution of the network.
        positive: Sum of each sampled frame's positive relevance.
        negative: Sum of each sampled frame's negative relevance, zero or below.
        times_seconds: When the sampled frames are shown, increasing.
        largest: max |R| over the video.
        unit: Of the relevance.
        threshold: A voxel is a hotspot if its relevance is at least this share of `largest`.
    """

    maps: RelevanceMaps
    positive: Float[np.ndarray, " S1"]
    negative: Float[np.ndarray, " S2"]
    times_seconds: Float[np.ndarray, " S3"]
    largest: float
    unit: str
    threshold: float

    def __post_init__(self) -> None:
        shapes = self.positive.shape, self.negative.shape, self.times_seconds.shape
        if len(set(shapes)) > 1 or self.positive.size == 0:
            raise VidactError(f"expected positive, negative and times_seconds [S], S of 1 or more, got {shapes = }")
        if not all(np.isfinite(values).all() for values in (self.positive, self.negative, self.times_seconds)):
            raise VidactError("expected finite relevance and times, got NaN or infinite values")
        if self.positive.min() < 0 or self.negative.max() > 0:
            raise VidactError(f"expected positive >= 0 >= negative, got {self.positive.min() = :g}")
        if (np.diff(self.times_seconds) <= 0).any():
            raise VidactError("expected the times of the sampled frames to increase")

    def nearest(self, seconds: float) -> int:
        """Find the sampled frame that is nearest in time, the earlier of two."""
        after = min(int(np.searchsorted(self.times_seconds, seconds)), len(self.times_seconds) - 1)
        before = max(after - 1, 0)
        nearer = seconds - self.times_seconds[before] <= self.times_seconds[after] - seconds
        return before if nearer else after

    def hotspots(self, index: int) -> Bool[np.ndarray, "h w"]:
        """Find the voxels of a sampled frame whose relevance is at least `threshold` of the largest.

        Raises:
            VidactError: the map is not [h, w], or not finite.
        """
        relevance = np.asarray(self.maps[index])
        if relevance.ndim != 2 or not np.isfinite(relevance).all():
            raise VidactError(f"expected finite relevance [h, w] of sampled frame {index}, got {relevance.shape = }")
        return find_hotspots(relevance.astype(np.float64), largest=self.largest, threshold=self.threshold)

    def caption(self) -> str:
        """Say what the bars and the colours are."""
        return (
            f"relevance per frame ({self.unit}): red speaks for the target, blue against it; "
            f"magenta: R ≥ {self.threshold:g} · max |R|"
        )


@dataclass(frozen=True)
class Stage:
    """Where things are on the canvas, in pixels.

    Attributes:
        frame_size: Height and width of a frame on the canvas.
        original: Row and column of the upper left corner of the untouched frame; None where it is not shown.
        overlay: The same of the frame with hotspots.
        canvas_size: Height of the frames, and width in whole blocks of 16.
        strip_row: Where the strip begins.
    """

    frame_size: tuple[int, int]
    original: tuple[int, int] | None
    overlay: tuple[int, int]
    canvas_size: tuple[int, int]
    strip_row: int


def text_size(height: int, width: int) -> int:
    """Choose a size of text, in pixels, that stays legible when the picture fills a small window."""
    return round(max(12, width / 90, height / 50))


def frames_on_canvas(size: tuple[int, int], *, layout: Layout, max_width: int = MAX_WIDTH) -> tuple[Stage, int]:
    """Place the frames: one, two side by side, or one above the other where that comes closer to 16 : 9.

    Small frames are scaled up by a whole number; where the canvas would be wider than `max_width`, at least MIN_WIDTH,
    they are as large as they fit.

    Returns:
        The places, as yet without a strip, and the size of the text in pixels.
    """
    scale = max(1, math.ceil(MIN_HEIGHT / size[0]))
    height, width = size[0] * scale, size[1] * scale
    way = "over" if layout == "over" else min(("beside", "below"), key=lambda way: _strangeness(height, width, way=way))
    most = max_width // BLOCK * BLOCK
    fitting = width
    while (columns := _canvas(height, fitting, way=way)[1]) > most:
        fitting = min(fitting - 1, fitting * most // columns)
    height, width = max(1, round(height * fitting / width)), fitting
    return _stage(height, width, way=way)


def _gap(width: int) -> int:
    return max(4, 2 * round(width / 160))


def _canvas(height: int, width: int, *, way: str) -> tuple[int, int]:
    """Give the height and the width of frames that are shown in one of the ways; the width in whole blocks."""
    if way == "beside":
        return height, max(_in_blocks(2 * width + _gap(width)), MIN_WIDTH)
    return (2 * height + _gap(width) if way == "below" else height), max(_in_blocks(width), MIN_WIDTH)


def _strangeness(height: int, width: int, *, way: str) -> float:
    gap = _gap(width)
    rows, columns = (height, 2 * width + gap) if way == "beside" else (2 * height + gap, width)
    return abs(math.log(columns / (rows + 9 * text_size(rows, columns)) / WIDESCREEN))


def _stage(height: int, width: int, *, way: str) -> tuple[Stage, int]:
    rows, full_width = _canvas(height, width, way=way)
    gap = _gap(width)
    columns = 2 * width + gap if way == "beside" else width
    left = (full_width - columns) // 4 * 2  # even: colour has half the resolution
    original = None if way == "over" else (0, left)
    overlay = {"over": (0, left), "beside": (0, left + width + gap), "below": (height + gap, left)}[way]
    return Stage((height, width), original, overlay, (rows, full_width), strip_row=rows), text_size(rows, full_width)


def _in_blocks(pixels: int) -> int:
    return math.ceil(pixels / BLOCK) * BLOCK


class Composer:
    """Makes the picture of every moment on one canvas, which the next picture overwrites."""

    def __init__(
        self,
        size: tuple[int, int],
        *,
        relevance: SampledRelevance,
        title: str,
        layout: Layout,
        span_seconds: tuple[float, float],
        resize: Callable[[UInt8[np.ndarray, "H W 3"], tuple[int, int]], UInt8[np.ndarray, "height width 3"]],
        max_width: int = MAX_WIDTH,
    ) -> None:
        self.stage, text_pixels = frames_on_canvas(size, layout=layout, max_width=max_width)
        self._size, self._relevance, self._resize = size, relevance, resize
        rows, width = self.stage.canvas_size
        timeline = Timeline(relevance.positive, relevance.negative, relevance.times_seconds, *span_seconds)
        self.strip: Strip = draw_strip(
            timeline, width=width, text_pixels=text_pixels, title=title, caption=relevance.caption()
        )
        rows += len(self.strip.picture)
        self._canvas: UInt8[np.ndarray, "rows width 3"] = np.full((_in_blocks(rows), width, 3), 255, dtype=np.uint8)
        self._shown = -1
        self._fill: Int[np.ndarray, " pixels"]
        self._line: Int[np.ndarray, " pixels"]

    def compose(self, frame: UInt8[np.ndarray, "H W 3"], *, seconds: float) -> UInt8[np.ndarray, "rows width 3"]:
        """Draw a frame as it is shown at a time; the picture lasts until the next call.

        Raises:
            VidactError: the frame is not RGB, or of another size than the first.
        """
        if frame.shape != (*self._size, 3):
            raise VidactError(f"expected frames {(*self._size, 3)}, all of one size, got {frame.shape = }")
        picture = frame if self.stage.frame_size == self._size else self._resize(frame, self.stage.frame_size)
        if self.stage.original is not None:
            self._panel(self.stage.original)[:] = picture
        self._panel(self.stage.overlay)[:] = self._with_hotspots(picture, seconds=seconds)
        row = self.stage.strip_row
        self.strip.stamp(self._canvas[row : row + len(self.strip.picture)], seconds=seconds)
        return self._canvas

    def _panel(self, corner: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
        (row, column), (height, width) = corner, self.stage.frame_size
        return self._canvas[row : row + height, column : column + width]

    def _with_hotspots(
        self, picture: UInt8[np.ndarray, "height width 3"], *, seconds: float
    ) -> UInt8[np.ndarray, "height width 3"]:
        index = self._relevance.nearest(seconds)
        if index != self._shown:
            self._fill, self._line = _hotspot_pixels(self._relevance.hotspots(index), size=self.stage.frame_size)
            self._shown = index
        painted = np.array(picture, order="C")
        pixels = painted.reshape(-1, 3)
        opacity = round(256 * HOTSPOT_OPACITY)
        below = pixels[self._fill].astype(np.uint16)
        pixels[self._fill] = (below * (256 - opacity) + _COLOUR * np.uint16(opacity)) >> 8
        pixels[self._line] = _COLOUR
        return painted


def _hotspot_pixels(
    mask: Bool[np.ndarray, "h w"], *, size: tuple[int, int]
) -> tuple[Int[np.ndarray, " inner"], Int[np.ndarray, " rim"]]:
    """Find the pixels inside hotspots and those of their rims, as flat numbers, in a frame of another size."""
    rows, columns = (np.arange(pixels) * voxels // pixels for pixels, voxels in zip(size, mask.shape, strict=True))
    region = mask[rows[:, None], columns]
    inside = binary_erosion(region, iterations=max(1, round(size[0] / 240)))
    return np.flatnonzero(inside), np.flatnonzero(region & ~inside)
