"""Draw frames and their hotspots into places of a figure.

A few artists of the figure draw all frames, as axes for each frame would take ten times as long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.artist import Artist
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.transforms import Bbox, BboxBase, TransformedBbox
from PIL import Image

HOTSPOT_COLOUR = "#ff00c8"  # a magenta that neither skin, grass nor sky has
HOTSPOT_OPACITY = 0.4


class FrameImage(Artist):
    """A picture that fills a box of a figure; Pillow scales it, five times as fast as matplotlib."""

    zorder = 0

    def __init__(self, picture: UInt8[np.ndarray, "H W 3"], box: BboxBase, *, smooth: bool) -> None:
        super().__init__()
        self.picture, self.box = picture, box
        self._filter = Image.Resampling.HAMMING if smooth else Image.Resampling.NEAREST

    def get_window_extent(self, renderer: RendererBase | None = None) -> Bbox:
        """Give the box, in pixels of the figure from its lower left corner."""
        return self.box.frozen()

    def draw(self, renderer: Any) -> None:  # a RendererBase, or for SVG its substitute
        """Draw the picture on whole pixels."""
        left, bottom, right, top = (round(side) for side in self.box.extents)
        finer = renderer.get_image_magnification()  # an SVG keeps more pixels than its own 72 per inch
        size = round(finer * (right - left)), round(finer * (top - bottom))
        image = Image.fromarray(np.ascontiguousarray(self.picture)).resize(size, self._filter)
        rows = np.asarray(image.convert("RGBA"))[::-1]  # the renderer takes them from the bottom up
        renderer.draw_image(renderer.new_gc(), left, bottom, rows)


@dataclass(frozen=True)
class FrameGrid:
    """A figure with a labelled place for each frame.

    Attributes:
        figure: The figure.
        places: Left, bottom, width and height of each frame, in inches.
    """

    figure: Figure
    places: Float[np.ndarray, "T 4"]

    def show(
        self, pictures: Sequence[UInt8[np.ndarray, "H W 3"]] | UInt8[np.ndarray, "T H W 3"], *, smooth: bool
    ) -> None:
        """Show a picture in each place, with its pixels blended into each other or as squares."""
        for picture, place in zip(pictures, self.places, strict=True):
            box = TransformedBbox(Bbox.from_bounds(*place), self.figure.dpi_scale_trans)
            self.figure.add_artist(FrameImage(picture, box, smooth=smooth))

    def mark(self, hotspots: Bool[np.ndarray, "T h w"]) -> None:
        """Lay a translucent fill and a line around each region over the frames, whose resolution may be another."""
        if not hotspots.any():
            return
        area = Outline.make_compound_path_from_polys(self._to_inches(*_runs(hotspots), size=hotspots.shape[1:]))
        edges = self._to_inches(*_edges(hotspots), size=hotspots.shape[1:]).reshape(-1, 2)
        rim = Outline(edges, np.tile([Outline.MOVETO, Outline.LINETO], len(edges) // 2))
        style: dict[str, Any] = {"transform": self.figure.dpi_scale_trans}
        fill = (*to_rgb(HOTSPOT_COLOUR), HOTSPOT_OPACITY)
        self.figure.add_artist(PathPatch(area, facecolor=fill, linewidth=0, antialiased=False, **style))
        self.figure.add_artist(
            PathPatch(rim, edgecolor=HOTSPOT_COLOUR, linewidth=0.8, fill=False, snap=True, zorder=2, **style)
        )

    def _to_inches(
        self, frames: Int[np.ndarray, " n"], shapes: Float[np.ndarray, "n points 2"], *, size: tuple[int, ...]
    ) -> Float[np.ndarray, "n points 2"]:
        """Place shapes that are given in voxels from the upper left corner of their frames."""
        left, bottom, width, height = self.places[frames].T[..., None]
        x, y = shapes[..., 0], shapes[..., 1]
        return np.stack([left + x * width / size[1], bottom + height - y * height / size[0]], axis=-1)


def _runs(
    hotspots: Bool[np.ndarray, "T h w"],
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 4 2"]]:
    """Find each row's runs of hotspots, as a frame number and the corners of a rectangle in voxels."""
    steps = np.diff(np.pad(hotspots, ((0, 0), (0, 0), (1, 1))).astype(np.int8))
    frame, row, start = np.nonzero(steps == 1)
    end = np.nonzero(steps == -1)[2]
    x, y = np.stack([start, end, end, start], axis=-1), np.stack([row, row, row + 1, row + 1], axis=-1)
    return frame, np.stack([x, y], axis=-1).astype(np.float64)


def _edges(hotspots: Bool[np.ndarray, "T h w"]) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 2 2"]]:
    """Find the voxel edges between a region and what is around it, as a frame number and two ends in voxels."""
    padded = np.pad(hotspots, ((0, 0), (1, 1), (1, 1)))
    above, row, column = np.nonzero(np.diff(padded[:, :, 1:-1], axis=1))
    across = np.stack([column, row, column + 1, row], axis=-1)
    beside, row, column = np.nonzero(np.diff(padded[:, 1:-1], axis=2))
    down = np.stack([column, row, column, row + 1], axis=-1)
    ends = np.concatenate([across, down]).reshape(-1, 2, 2).astype(np.float64)
    return np.concatenate([above, beside]), ends
