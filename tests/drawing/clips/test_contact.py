"""A sheet shows few frames of a long video, at their resolution, with hotspots where they are."""

import re

import numpy as np
import pytest
from figures import LONG_TITLE, colour_at_voxel, frame_titles, frames, layout_faults, render, voxel_of_pixels

from vidact.core.errors import VidactError
from vidact.drawing.clips.contact import contact_sheet
from vidact.drawing.figure import svg_text


@pytest.mark.parametrize(("count", "size"), [(1, (64, 36)), (5, (36, 64)), (16, (64, 36)), (300, (36, 64))])
def test_at_most_sixteen_frames_are_drawn_with_their_times(count: int, size: tuple[int, int]) -> None:
    numbers, times = frames(count)
    pictures = np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    spots = np.random.default_rng(0).random((count, 10, 12)) > 0.9
    pictures[-1], spots[-1] = (40, 90, 200), False
    pictures[-1, : size[0] // 2] = (250, 160, 10)
    figure = contact_sheet(pictures, spots, numbers, times, title=LONG_TITLE)
    titles = frame_titles(figure)
    assert len(titles) == min(count, 16)
    assert titles[0] == "frame 0 · 0.00 s"
    assert titles[-1] == f"frame {numbers[-1]} · {times[-1]:.2f} s"
    upper, lower = (
        colour_at_voxel(figure, render(figure), -1, x=size[1] / 2, y=share * size[0], size=size) for share in (0.4, 0.6)
    )
    assert (upper, lower) == ((250, 160, 10), (40, 90, 200))
    assert layout_faults(figure) == []


def test_a_hotspot_of_the_network_lies_where_it_is_in_the_frame() -> None:
    spots = np.zeros((1, 10, 10), dtype=bool)
    spots[0, 2, 7] = True
    pictures = [np.zeros((50, 200, 3), dtype=np.uint8)]
    figure = contact_sheet(pictures, spots, *frames(1), title="")
    picture, places = render(figure), voxel_of_pixels(figure, 0, (50, 200))
    inside = ((places > -0.5) & (places < (199.5, 49.5))).all(axis=-1)
    red, green = picture[..., 0].astype(int), picture[..., 1]
    marked = places[inside & (red > green + 80)]
    a_pixel = 200 / (inside.any(axis=0).sum())
    assert marked.min(axis=0) == pytest.approx((139.5, 9.5), abs=1.5 * a_pixel)
    assert marked.max(axis=0) == pytest.approx((159.5, 14.5), abs=1.5 * a_pixel)
    assert colour_at_voxel(figure, picture, 0, x=149.5, y=12, size=(50, 200))[0] > 80
    assert colour_at_voxel(figure, picture, 0, x=130, y=12, size=(50, 200)) == (0, 0, 0)


def test_a_sheet_says_what_is_wrong() -> None:
    two = [np.zeros((8, width, 3), dtype=np.uint8) for width in (8, 9)]
    with pytest.raises(VidactError, match="of one size"):
        contact_sheet(two, np.zeros((2, 4, 4), dtype=bool), *frames(2), title="")
    with pytest.raises(VidactError, match=r"hotspots \[T, h, w\] of 2 frames, got hotspots\.shape = \(3, 4, 4\)"):
        contact_sheet(two[:1] * 2, np.zeros((3, 4, 4), dtype=bool), *frames(2), title="")


def test_svg_keeps_text_as_text_and_is_the_same_every_time() -> None:
    def draw() -> str:
        pictures = np.zeros((2, 8, 8, 3), dtype=np.uint8)
        return svg_text(contact_sheet(pictures, np.ones((2, 4, 4), dtype=bool), *frames(2), title="a <b> & $c_^"))

    text = draw()
    assert text == draw()
    assert re.search(r"<text[^>]*>a &lt;b&gt; &amp; \$c_\^</text>", text)
    assert "<dc:date>" not in text
    sides = re.findall(r'<image[^>]* width="([\d.]+)" height="([\d.]+)"', text)
    assert [(float(width), float(height)) for width, height in sides] == [
        pytest.approx((131, 131), abs=0.5)
    ] * 2  # 1.82 inches at 72 dpi
    assert "http" not in re.sub(r'(xmlns(:\w+)?|rdf:resource)="[^"]*"|<!DOCTYPE[^>]*>', "", text)
