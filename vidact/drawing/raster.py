"""Render a figure to pixels, and pixels to a PNG file, faster than matplotlib does.

Text takes most of the time of a small figure, and labels repeat from picture to picture, so drawn texts are cached.
"""

import math
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.backend_bases import GraphicsContextBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from PIL import Image

REMEMBERED = 512  # texts; a label is about 30 kB
_PAD = 2  # pixels around a text, for what a glyph draws beyond its box


def pixels(figure: Figure) -> UInt8[np.ndarray, "height width 3"]:
    """Draw a figure on white at its own resolution."""
    width, height = (int(side) for side in figure.bbox.size)
    renderer = _Renderer(width, height, figure.dpi)
    figure.draw(renderer)
    return np.asarray(Image.fromarray(np.asarray(renderer.buffer_rgba())).convert("RGB"))


def png(picture: UInt8[np.ndarray, "height width 3"], *, dpi: int) -> bytes:
    """Pack pixels as PNG; level 1 of compression is four times as fast as the default, for a little larger file."""
    packed = BytesIO()
    Image.fromarray(picture).save(packed, "png", dpi=(dpi, dpi), compress_level=1)
    return packed.getvalue()


class _Renderer(RendererAgg):
    """Matplotlib's Agg renderer with a cache of texts: horizontal ones without formulas, placed on whole pixels."""

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        ismath: Any = False,
        mtext: Text | None = None,
    ) -> None:
        if angle or ismath or gc.get_alpha() != 1:
            super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)  # type: ignore[no-untyped-call]
            return
        picture, below = _text_picture(s, prop.copy(), self.dpi, to_hex(gc.get_rgb()))
        self.draw_image(gc, round(x) - _PAD, round(self.height - y) - below, picture)

    def get_text_width_height_descent(self, s: str, prop: FontProperties, ismath: Any) -> tuple[float, float, float]:
        if ismath:
            return super().get_text_width_height_descent(s, prop, ismath)  # type: ignore[no-any-return,no-untyped-call]
        return _text_size(s, prop.copy(), self.dpi)


@lru_cache(maxsize=8 * REMEMBERED)
def _text_size(text: str, font: FontProperties, dpi: int | float) -> tuple[float, float, float]:
    """Measure the width, height and descent of a text in pixels."""
    width, height, descent = RendererAgg(1, 1, dpi).get_text_width_height_descent(text, font, False)
    return float(width), float(height), float(descent)


@lru_cache(maxsize=REMEMBERED)
def _text_picture(
    text: str, font: FontProperties, dpi: int | float, colour: str
) -> tuple[UInt8[np.ndarray, "height width 4"], int]:
    """Draw a text on a transparent ground, lowest row first; gives also the number of rows below the base line."""
    width, height, descent = _text_size(text, font, dpi)
    below = math.ceil(descent) + _PAD
    renderer = RendererAgg(math.ceil(width) + 2 * _PAD, math.ceil(height - descent) + below + _PAD, dpi)
    gc = renderer.new_gc()
    gc.set_foreground(colour)
    renderer.draw_text(gc, _PAD, renderer.height - below, text, font, 0)
    return np.asarray(renderer.buffer_rgba())[::-1].copy(), below
