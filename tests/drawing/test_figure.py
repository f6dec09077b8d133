"""Pictures show what the arrays hold, where they hold it, and their text can be read."""

import inspect
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from figures import (
    LONG_TITLE,
    colour_at_voxel,
    frame_boxes,
    frame_titles,
    frames,
    layout_faults,
    render,
    voxel_of_pixels,
)
from jaxtyping import Bool, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from vidact.core.errors import EnvironmentProblem, VidactError
from vidact.drawing.figure import hotspot_overlay, relevance_heatmap, save_png
from vidact.drawing.grid import HOTSPOT_OPACITY
from vidact.drawing.text import fit_text, plain_text


def gray_noise(*shape: int) -> UInt8[np.ndarray, "..."]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("colours", [1, 3])
def test_hotspots_change_the_pixels_of_their_region_and_no_others(colours: int) -> None:
    video = gray_noise(colours, 4, 48, 64)
    hotspots = np.zeros((4, 48, 64), dtype=bool)
    hotspots[1, 20:40, 30:60] = True
    numbers, times = frames(4)
    figure = hotspot_overlay(video, hotspots, numbers, times, title="wave")
    with_spots = render(figure)
    without = render(hotspot_overlay(video, np.zeros_like(hotspots), numbers, times, title="wave"))
    changed = (with_spots != without).any(axis=-1)
    x, y = np.moveaxis(voxel_of_pixels(figure, 1, (48, 64)), -1, 0)
    inside = (x > 29.5) & (x < 59.5) & (y > 19.5) & (y < 39.5)
    nearby = (x > 28.5) & (x < 60.5) & (y > 18.5) & (y < 40.5)
    assert inside.sum() > 5000
    assert changed[inside].mean() > 0.99
    assert not changed[~nearby].any()


def test_the_picture_is_still_seen_through_hotspots() -> None:
    video = np.zeros((1, 1, 20, 20), dtype=np.uint8)
    video[..., 10:] = 255
    figure = hotspot_overlay(video, np.ones((1, 20, 20), dtype=bool), *frames(1), title="")
    picture = render(figure)
    dark, bright = (colour_at_voxel(figure, picture, 0, x=x, y=10, size=(20, 20)) for x in (4, 15))
    assert all(b - a > 100 for a, b in zip(dark, bright, strict=True))
    assert dark[0] - dark[1] > 50


def test_hotspots_are_outlined_along_the_edges_of_their_voxels() -> None:
    hotspots = np.zeros((2, 8, 8), dtype=bool)
    hotspots[0, 2, 3] = hotspots[0, 2, 4] = hotspots[1, 7, 7] = True
    video = np.zeros((1, 2, 8, 8), dtype=np.uint8)
    figure = hotspot_overlay(video, hotspots, *frames(2), title="")
    picture = render(figure)
    edges = [(x, y, frame) for frame, x, y in ((0, 2.5, 2), (0, 4.5, 2), (0, 3, 1.5), (0, 4, 2.5), (1, 6.5, 7))]
    insides = [(3.5, 2, 0), (3, 2, 0), (4, 2, 0), (7, 7, 1)]
    on_edges, inside = (
        [strongest(figure, picture, frame, x=x, y=y) for x, y, frame in places] for places in (edges, insides)
    )
    assert min(on_edges) > 220  # of red, of which the line has 255
    assert max(inside) == pytest.approx(HOTSPOT_OPACITY * 255, abs=2)
    assert max(strongest(figure, picture, frame, x=x, y=y) for frame, x, y in ((0, 6, 6), (0, 2, 4), (1, 3, 2))) == 0


def strongest(figure: Figure, picture: UInt8[np.ndarray, "height width 4"], frame: int, *, x: float, y: float) -> int:
    """The most red within two pixels of a place in a frame of 8 x 8."""
    near = np.linspace(-0.06, 0.06, 9)  # a voxel is 34 pixels wide
    return max(colour_at_voxel(figure, picture, frame, x=x + a, y=y + b, size=(8, 8))[0] for a in near for b in near)


def test_colour_frames_keep_their_colours() -> None:
    video = np.zeros((3, 2, 10, 10), dtype=np.uint8)
    video[0, 0], video[2, 1] = 200, 150
    figure = hotspot_overlay(video, np.zeros((2, 10, 10), dtype=bool), *frames(2), title="")
    picture = render(figure)
    assert colour_at_voxel(figure, picture, 0, x=5, y=5, size=(10, 10)) == (200, 0, 0)
    assert colour_at_voxel(figure, picture, 1, x=5, y=5, size=(10, 10)) == (0, 0, 150)


def test_relevance_is_red_for_blue_against_and_white_at_zero_in_its_voxel() -> None:
    relevance = np.zeros((2, 10, 10))
    relevance[0, 2, 7], relevance[1, 8, 1] = 0.004, -0.004
    figure = relevance_heatmap(relevance, *frames(2), unit="units of the logit", title="wave")
    picture = render(figure)
    assert colour_at_voxel(figure, picture, 0, x=7, y=2, size=(10, 10)) == (0x67, 0x00, 0x1F)
    assert colour_at_voxel(figure, picture, 1, x=1, y=8, size=(10, 10)) == (0x05, 0x30, 0x61)
    assert colour_at_voxel(figure, picture, 0, x=1, y=8, size=(10, 10)) == (255, 255, 255)
    assert colour_at_voxel(figure, picture, 1, x=7, y=2, size=(10, 10)) == (255, 255, 255)


def test_all_frames_share_one_symmetric_scale_that_a_lone_maximum_does_not_stretch() -> None:
    relevance = np.full((10, 10, 10), -0.5)  # 1000 voxels: the 99.8th percentile leaves out one
    relevance[3, 4, 5] = 80.0
    figure = relevance_heatmap(relevance, *frames(10), unit="units of the logit", title="wave")
    picture = render(figure)
    colours = [colour_at_voxel(figure, picture, frame, x=2, y=3, size=(10, 10)) for frame in range(10)]
    assert set(colours) == {(0x05, 0x30, 0x61)}  # the end of the scale
    assert colour_at_voxel(figure, picture, 3, x=5, y=4, size=(10, 10)) == (0x67, 0x00, 0x1F)
    ticks = figure.axes[0].get_xticklabels()
    assert (ticks[0].get_text(), ticks[-1].get_text()) == ("-0.5", "0.5")
    assert "99.8th percentile" in figure.texts[-1].get_text()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_a_single_relevant_voxel_sets_the_scale_whatever_its_size(scale: float) -> None:
    relevance = np.zeros((1, 40, 40))
    relevance[0, 3, 3] = scale
    figure = relevance_heatmap(relevance, *frames(1), unit="units of the logit", title="")
    assert figure.axes[0].get_xticklabels()[-1].get_text() == f"{scale:.2g}"
    assert figure.axes[0].get_xlim() == (-scale, scale)
    assert colour_at_voxel(figure, render(figure), 0, x=3, y=3, size=(40, 40)) == (0x67, 0x00, 0x1F)


def test_zero_relevance_is_a_white_picture_that_says_so() -> None:
    figure = relevance_heatmap(np.zeros((2, 12, 12), dtype=np.float32), *frames(2), unit="units of the logit", title="")
    picture = render(figure)
    assert {colour_at_voxel(figure, picture, frame, x=6, y=6, size=(12, 12)) for frame in (0, 1)} == {(255, 255, 255)}
    assert "zero everywhere" in figure.texts[-1].get_text()


@pytest.mark.parametrize(("count", "title"), [(1, LONG_TITLE), (5, "wave"), (16, "wave"), (32, LONG_TITLE)])
def test_the_text_of_a_grid_neither_overlaps_nor_is_cut_off(count: int, title: str) -> None:
    numbers, times = frames(count)
    overlay = hotspot_overlay(
        gray_noise(1, count, 12, 16), gray_noise(count, 12, 16) > 200, numbers + 1_000_000, times + 100_000, title=title
    )
    assert layout_faults(overlay) == []
    relevance = np.linspace(-1, 1, count * 200).reshape(count, 20, 10) ** 9 * 1.234e-5
    assert layout_faults(relevance_heatmap(relevance, numbers, times, unit="units of the logit", title=title)) == []


def test_each_frame_has_its_number_and_time() -> None:
    figure = relevance_heatmap(
        np.zeros((5, 4, 4)), np.array([0, 12, 7, 7, 9]), np.arange(5) / 2.5, unit="units of the logit", title=""
    )
    labels = frame_titles(figure)
    assert labels[:2] == ["frame 0 · 0.00 s", "frame 12 · 0.40 s"]
    assert labels[4] == "frame 9 · 1.60 s"


def test_a_grid_is_near_square_and_read_row_by_row() -> None:
    figure = relevance_heatmap(np.zeros((16, 4, 4)), *frames(16), unit="units of the logit", title="")
    corners = [(round(box.x0, 3), -round(box.y0, 3)) for box in frame_boxes(figure)]
    assert len(corners) == 16
    assert len({x for x, _ in corners}) == len({y for _, y in corners}) == 4
    assert corners == sorted(corners, key=lambda corner: corner[::-1])


def test_mathtext_signs_and_scripts_that_the_font_lacks_are_harmless() -> None:
    figure = hotspot_overlay(
        gray_noise(3, 1, 8, 8), np.zeros((1, 8, 8), dtype=bool), *frames(1), title="$_^$ 挥手\tq\x00\udc80"
    )
    render(figure)  # a formula that does not parse raises, a glyph that is missing warns
    assert figure.texts[0].get_text() == "$_^$ �� q��"


def test_plain_text_keeps_what_the_font_has() -> None:
    assert plain_text("wave_1 · é Ω $&#[]\\") == "wave_1 · é Ω $&#[]\\"


@pytest.mark.parametrize("text", [LONG_TITLE, "W" * 200, "il_" * 90, "a b"])
def test_fitted_lines_are_no_wider_than_asked_and_lose_nothing_before_the_ellipsis(text: str) -> None:
    fitted = fit_text(text, points=10.0, inches=2.5, max_lines=3)
    figure = Figure(figsize=(8, 2), dpi=150)
    canvas = FigureCanvasAgg(figure)
    drawn = figure.text(0, 0, fitted, fontsize=10, parse_math=False)
    assert drawn.get_window_extent(canvas.get_renderer()).width / 150 <= 2.5 * 1.05  # hinting widens glyphs
    kept = "".join(fitted.replace("…", "").split())
    whole = "".join(plain_text(text).split())
    assert whole.startswith(kept)
    assert (kept == whole) == ("…" not in fitted)
    assert fitted.count("\n") <= 2


def test_a_grid_of_16_frames_is_saved_1200_pixels_wide_on_white(tmp_path: Path) -> None:
    figure = hotspot_overlay(gray_noise(1, 16, 10, 10), gray_noise(16, 10, 10) > 250, *frames(16), title="wave")
    save_png(figure, tmp_path / "hotspots.png")
    picture = imread(tmp_path / "hotspots.png")
    assert picture.shape[1] == 1200
    assert picture[0, 0].tolist() == [1, 1, 1]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    figure = relevance_heatmap(np.zeros((1, 4, 4)), *frames(1), unit="units of the logit", title="")
    with pytest.raises(EnvironmentProblem, match=r"file/a\.png: cannot be written \(Not a directory|File exists"):
        save_png(figure, tmp_path / "file" / "a.png")


@pytest.mark.parametrize(
    ("video", "hotspots", "count", "message"),
    [
        (gray_noise(2, 4, 8, 8), np.zeros((4, 8, 8), dtype=bool), 4, r"C 1 or 3, got video\.shape = \(2, 4, 8, 8\)"),
        (gray_noise(4, 8, 8), np.zeros((4, 8, 8), dtype=bool), 4, r"C 1 or 3, got video\.shape = \(4, 8, 8\)"),
        (gray_noise(1, 4, 8, 8), np.zeros((4, 8, 9), dtype=bool), 4, r"\(4, 8, 8\).* hotspots\.shape = \(4, 8, 9\)"),
        (gray_noise(1, 4, 8, 8), np.zeros((4, 8, 8), dtype=bool), 3, r"4 frames, got .*\(3,\)"),
        (gray_noise(1, 0, 8, 8), np.zeros((0, 8, 8), dtype=bool), 0, "at least one frame"),
    ],
)
def test_an_overlay_says_which_shape_is_wrong(
    video: UInt8[np.ndarray, "..."], hotspots: Bool[np.ndarray, "..."], count: int, message: str
) -> None:
    with pytest.raises(VidactError, match=message):
        # unwrapped: the message is for runs, in which nothing checks the annotations
        inspect.unwrap(hotspot_overlay)(video, hotspots, *frames(count), title="")


def test_a_heatmap_says_what_is_wrong_with_the_relevance() -> None:
    draw = partial(inspect.unwrap(relevance_heatmap), unit="units of the logit")
    with pytest.raises(VidactError, match=r"\[T, H, W\], got relevance\.shape = \(4, 4\)"):
        draw(np.zeros((4, 4)), *frames(4), title="")
    with pytest.raises(VidactError, match="2 frames"):
        draw(np.zeros((2, 4, 4)), *frames(4), title="")
    relevance = np.zeros((2, 4, 4))
    relevance[0, 0, :2] = np.nan, np.inf
    with pytest.raises(VidactError, match="2 NaN or infinite voxels"):
        draw(relevance, *frames(2), title="")
