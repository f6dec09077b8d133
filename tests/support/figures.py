"""Looks at figures as a reader would: which texts are seen, and whether they can be read."""

from itertools import combinations

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from vidact.drawing.grid import FrameImage

LONG_TITLE = "brush_hair/" + "Aussie_Brunette_$Brushing_[II]_#4&_" * 3 + "u_nm_np1_ri_med_3.avi 中文 é · predicted kiss"


def render(figure: Figure) -> UInt8[np.ndarray, "height width 4"]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def drawn_texts(figure: Figure) -> list[Text]:
    """All texts that are seen: without the labels of ticks that lie beyond the limits of their axis."""
    unseen = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            slack = 1e-9 * (high - low)
            unseen |= {
                tick.label1 for tick in axis.get_major_ticks() if not low - slack <= tick.get_loc() <= high + slack
            }
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text() and text not in unseen]


def layout_faults(figure: Figure) -> list[str]:
    """Name the texts that overlap, leave the figure, lie on axes to which they do not belong, or are too small."""
    render(figure)
    texts = drawn_texts(figure)
    assert len(texts) >= 2
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    faults = [f"{a!r} meets {b!r}" for (a, box_a), (b, box_b) in combinations(boxes, 2) if _overlap(box_a, box_b)]
    faults += [f"{name!r} is cut off" for name, box in boxes if not _inside(box, figure.bbox)]
    inner = {text for axes in figure.axes for text in axes.texts}
    frames = [*(axes.patch.get_window_extent() for axes in figure.axes), *frame_boxes(figure)]
    outer = [(text.get_text(), text.get_window_extent()) for text in texts if text not in inner]
    faults += [f"{name!r} lies on axes or a frame" for name, box in outer for frame in frames if _overlap(box, frame)]
    return faults + [f"{text.get_text()!r} is small" for text in texts if text.get_fontsize() < 7]


def _overlap(a: Bbox, b: Bbox) -> bool:
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 0.5 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5


def _inside(box: Bbox, outer: Bbox) -> bool:
    return box.x0 >= outer.x0 and box.y0 >= outer.y0 and box.x1 <= outer.x1 and box.y1 <= outer.y1


def frame_boxes(figure: Figure) -> list[Bbox]:
    """Where the frames of a grid lie, in their order, in pixels from the lower left corner."""
    return [artist.get_window_extent() for artist in figure.artists if isinstance(artist, FrameImage)]


def voxel_of_pixels(figure: Figure, frame: int, size: tuple[int, int]) -> Float[np.ndarray, "height width 2"]:
    """Where in a frame of (height, width) voxels each pixel of the figure lies: x and y in voxels, 0 in the first."""
    box = frame_boxes(figure)[frame]
    columns, rows = (int(side) for side in figure.bbox.size)
    x, y = np.meshgrid(np.arange(columns) + 0.5, rows - np.arange(rows) - 0.5)
    return np.stack([(x - box.x0) / box.width * size[1], (box.y1 - y) / box.height * size[0]], axis=-1) - 0.5


def colour_at_voxel(
    figure: Figure,
    picture: UInt8[np.ndarray, "height width 4"],
    frame: int,
    *,
    x: float,
    y: float,
    size: tuple[int, int],
) -> tuple[int, ...]:
    """The colour at a place in a frame of (height, width) voxels."""
    box = frame_boxes(figure)[frame]
    column, row = box.x0 + (x + 0.5) / size[1] * box.width, len(picture) - box.y1 + (y + 0.5) / size[0] * box.height
    return tuple(picture[int(row), int(column), :3].tolist())


def frame_titles(figure: Figure) -> list[str]:
    """What stands closely above each frame, and over its middle."""
    render(figure)
    labels = [(text.get_text(), text.get_window_extent()) for text in figure.texts if text.get_text()]
    return [
        next(
            name
            for name, box in labels
            if abs(box.x0 + box.x1 - frame.x0 - frame.x1) < 4 and 0 < box.y0 - frame.y1 < 12
        )
        for frame in frame_boxes(figure)
    ]


def frames(count: int) -> tuple[Int[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    numbers = 3 * np.arange(count)
    return numbers, numbers / 30
