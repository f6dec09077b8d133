"""Pixels that are drawn fast are those that matplotlib draws, but for the place of text within a pixel."""

import io

import numpy as np
import pytest
from figures import LONG_TITLE, frames, render
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import uniform_filter

from vidact.drawing.clips.bars import frame_relevance_bars
from vidact.drawing.figure import hotspot_overlay, relevance_heatmap
from vidact.drawing.raster import pixels, png


def ink(picture: UInt8[np.ndarray, "H W c"]) -> Float[np.ndarray, "H W"]:
    """How dark the surroundings of each pixel are."""
    return np.asarray(uniform_filter(255.0 - picture[..., :3].mean(axis=-1), 5))


def words(text: str, *, colour: str = "black", dpi: float = 100.0, points: float = 9.0, angle: float = 0.0) -> Figure:
    figure = Figure(figsize=(4, 4), dpi=dpi, facecolor="white")
    figure.text(0.5, 0.5, text, ha="center", va="center", color=colour, fontsize=points, rotation=angle)
    return figure


def grids() -> list[Figure]:
    generator = np.random.default_rng(0)
    relevance = generator.normal(size=(9, 12, 12)) * 1e-4
    video = generator.integers(0, 256, (3, 9, 12, 12), dtype=np.uint8)
    own = {"title": LONG_TITLE}
    positive, negative = (part.sum(axis=(1, 2)) for part in (relevance.clip(0), relevance.clip(max=0)))
    return [
        hotspot_overlay(video, relevance > 2e-4, *frames(9), **own),
        relevance_heatmap(relevance, *frames(9), unit="units of the logit", **own),
        frame_relevance_bars(positive, negative, *frames(9), unit="units of the logit", **own),
    ]


@pytest.mark.parametrize("number", range(3))
def test_a_picture_is_what_matplotlib_draws(number: int) -> None:
    figure = grids()[number]
    fast, slow = pixels(figure), render(figure)[..., :3]
    assert fast.shape == slow.shape
    difference = np.abs(fast.astype(int) - slow).max(axis=-1)
    assert (difference > 30).mean() < 0.03  # the rims of letters
    assert np.abs(ink(fast) - ink(slow)).max() < 45  # of 255: no letter is missing or elsewhere
    blank = render(Figure(figsize=figure.get_size_inches(), dpi=figure.dpi, facecolor="white"))
    assert np.abs(ink(blank) - ink(slow)).max() > 150


@pytest.mark.parametrize(
    ("text", "angle"), [("frame 12 · 0.40 s", 0.0), ("two\nlines (gy)", 90.0), ("$x^2$", 0.0), ("$x^2$", 90.0)]
)
def test_text_stands_within_a_pixel_of_its_place(text: str, angle: float) -> None:
    figure = words(text, angle=angle)
    boxes = []
    for picture in (pixels(figure), render(figure)):
        rows, columns = np.nonzero(picture[..., :3].min(axis=-1) < 160)
        boxes.append((rows.min(), rows.max(), columns.min(), columns.max()))
    assert boxes[0] == pytest.approx(boxes[1], abs=1)


def test_a_text_is_remembered_with_its_colour_size_and_resolution() -> None:
    ways = [{}, {"colour": "red"}, {"dpi": 200.0}, {"points": 18.0}, {"angle": 90.0}]
    first = [pixels(words("frame 7", **way)) for way in ways]
    again = [pixels(words("frame 7", **way)) for way in reversed(ways)][::-1]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert first[1].min(axis=(0, 1)).tolist() == [255, 0, 0]
    for way, picture in zip(ways, first, strict=True):
        slow = render(words("frame 7", **way))
        assert picture.shape[:2] == slow.shape[:2]
        assert ink(picture).sum() == pytest.approx(ink(slow).sum(), rel=0.03)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (480, 640)])
def test_a_png_holds_its_pixels_and_resolution(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(png(picture, dpi=150))) as image:
        image.verify()  # every checksum
    with Image.open(io.BytesIO(png(picture, dpi=150))) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.02)
        assert (np.asarray(image) == picture).all()
