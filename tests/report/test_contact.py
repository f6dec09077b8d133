"""A sheet shows few frames of a long video, at their resolution, with hotspots where they are."""

import re

import numpy as np
import pytest
from figures import LONG_TITLE, frames, layout_faults, render

from vidact.core import VidactError
from vidact.report.contact import contact_sheet
from vidact.report.images import svg_text


@pytest.mark.parametrize("count", [1, 5, 16, 300])
@pytest.mark.parametrize("size", [(36, 64), (64, 36)])
def test_at_most_sixteen_frames_are_drawn_with_their_times(count: int, size: tuple[int, int]) -> None:
    numbers, times = frames(count)
    pictures = np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    spots = np.random.default_rng(0).random((count, 10, 12)) > 0.9
    figure = contact_sheet(pictures, spots, numbers, times, title=LONG_TITLE)
    assert len(figure.axes) == min(count, 16)
    assert figure.axes[0].get_title() == "frame 0 · 0.00 s"
    assert figure.axes[-1].get_title() == f"frame {numbers[-1]} · {times[-1]:.2f} s"
    assert (figure.axes[-1].images[0].get_array() == pictures[-1]).all()
    assert layout_faults(figure) == []


def test_a_hotspot_of_the_network_lies_where_it_is_in_the_frame() -> None:
    spots = np.zeros((1, 10, 10), dtype=bool)
    spots[0, 2, 7] = True
    pictures = [np.zeros((50, 200, 3), dtype=np.uint8)]
    figure = contact_sheet(pictures, spots, *frames(1), title="")
    axes = figure.axes[0]
    corners = np.concatenate(axes.collections[0].get_segments())
    assert (corners.min(axis=0).tolist(), corners.max(axis=0).tolist()) == ([139.5, 9.5], [159.5, 14.5])
    picture = render(figure)
    x, y = axes.transData.transform((149.5, 12))
    assert picture[int(len(picture) - y), int(x), 0] > 80
    x, y = axes.transData.transform((130, 12))
    assert picture[int(len(picture) - y), int(x), :3].tolist() == [0, 0, 0]


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
    assert "http" not in re.sub(r'(xmlns(:\w+)?|rdf:resource)="[^"]*"|<!DOCTYPE[^>]*>', "", text)
