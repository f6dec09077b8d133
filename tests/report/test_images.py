"""Pictures show what the arrays hold, where they hold it, and their text can be read."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from figures import LONG_TITLE, frames, layout_faults, render
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from vidact.core import EnvironmentProblem, VidactError
from vidact.report.images import hotspot_overlay, relevance_heatmap, save_png
from vidact.report.text import fit_text, plain_text


def gray_noise(*shape: int) -> UInt8[np.ndarray, "..."]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def voxel_of_pixels(axes: Axes, figure: Figure) -> Float[np.ndarray, "height width 2"]:
    """Where in the frame of these axes each pixel of the figure lies: x and y in voxels."""
    width, height = (int(side) for side in figure.bbox.size)
    x, y = np.meshgrid(np.arange(width) + 0.5, height - np.arange(height) - 0.5)
    voxels = axes.transData.inverted().transform(np.stack([x.ravel(), y.ravel()], axis=1))
    return np.asarray(voxels).reshape(height, width, 2)


def colour_at_voxel(picture: UInt8[np.ndarray, "height width 4"], axes: Axes, x: int, y: int) -> tuple[int, ...]:
    column, row = axes.transData.transform((x, y))
    return tuple(picture[int(len(picture) - row), int(column), :3].tolist())


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
    x, y = np.moveaxis(voxel_of_pixels(figure.axes[1], figure), -1, 0)
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
    dark, bright = (colour_at_voxel(picture, figure.axes[0], x, 10) for x in (4, 15))
    assert all(b - a > 100 for a, b in zip(dark, bright, strict=True))
    assert dark[0] - dark[1] > 50


def test_hotspots_are_outlined_along_the_edges_of_their_voxels() -> None:
    hotspots = np.zeros((1, 8, 8), dtype=bool)
    hotspots[0, 2, 3] = hotspots[0, 7, 7] = True
    figure = hotspot_overlay(gray_noise(1, 1, 8, 8), hotspots, *frames(1), title="")
    segments = {tuple(map(tuple, segment.tolist())) for segment in figure.axes[0].collections[0].get_segments()}
    sides = set()
    for x, y in ((3, 2), (7, 7)):
        sides |= {((x - 0.5, y + s), (x + 0.5, y + s)) for s in (-0.5, 0.5)}
        sides |= {((x + s, y - 0.5), (x + s, y + 0.5)) for s in (-0.5, 0.5)}
    assert segments == sides


def test_colour_frames_keep_their_colours() -> None:
    video = np.zeros((3, 2, 10, 10), dtype=np.uint8)
    video[0, 0], video[2, 1] = 200, 150
    figure = hotspot_overlay(video, np.zeros((2, 10, 10), dtype=bool), *frames(2), title="")
    picture = render(figure)
    assert colour_at_voxel(picture, figure.axes[0], 5, 5) == (200, 0, 0)
    assert colour_at_voxel(picture, figure.axes[1], 5, 5) == (0, 0, 150)


def test_relevance_is_red_for_blue_against_and_white_at_zero_in_its_voxel() -> None:
    relevance = np.zeros((2, 10, 10))
    relevance[0, 2, 7], relevance[1, 8, 1] = 0.004, -0.004
    figure = relevance_heatmap(relevance, *frames(2), title="wave")
    picture = render(figure)
    first, second = figure.axes[:2]
    assert colour_at_voxel(picture, first, 7, 2) == (0x67, 0x00, 0x1F)
    assert colour_at_voxel(picture, second, 1, 8) == (0x05, 0x30, 0x61)
    assert colour_at_voxel(picture, first, 1, 8) == (255, 255, 255)
    assert colour_at_voxel(picture, second, 7, 2) == (255, 255, 255)


def test_all_frames_share_one_symmetric_scale_that_a_lone_maximum_does_not_stretch() -> None:
    relevance = np.full((10, 10, 10), -0.5)  # 1000 voxels: the 99.8th percentile leaves out one
    relevance[3, 4, 5] = 80.0
    figure = relevance_heatmap(relevance, *frames(10), title="wave")
    limits = {axes.images[0].get_clim() for axes in figure.axes[:10]}
    assert limits == {(-0.5, 0.5)}
    assert figure.axes[10].get_xticklabels()[0].get_text() == "-0.5"
    assert "99.8th percentile" in figure.texts[-1].get_text()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_a_single_relevant_voxel_sets_the_scale_whatever_its_size(scale: float) -> None:
    relevance = np.zeros((1, 40, 40))
    relevance[0, 3, 3] = scale
    figure = relevance_heatmap(relevance, *frames(1), title="")
    assert figure.axes[0].images[0].get_clim() == (-scale, scale)
    assert colour_at_voxel(render(figure), figure.axes[0], 3, 3) == (0x67, 0x00, 0x1F)


def test_zero_relevance_is_a_white_picture_that_says_so() -> None:
    figure = relevance_heatmap(np.zeros((2, 12, 12), dtype=np.float32), *frames(2), title="")
    picture = render(figure)
    assert {colour_at_voxel(picture, axes, 6, 6) for axes in figure.axes[:2]} == {(255, 255, 255)}
    assert "zero everywhere" in figure.texts[-1].get_text()


@pytest.mark.parametrize("count", [1, 5, 16, 32])
@pytest.mark.parametrize("title", ["wave", LONG_TITLE])
def test_the_text_of_a_grid_neither_overlaps_nor_is_cut_off(count: int, title: str) -> None:
    numbers, times = frames(count)
    overlay = hotspot_overlay(
        gray_noise(1, count, 12, 16), gray_noise(count, 12, 16) > 200, numbers + 1_000_000, times + 100_000, title=title
    )
    assert layout_faults(overlay) == []
    relevance = np.linspace(-1, 1, count * 200).reshape(count, 20, 10) ** 9 * 1.234e-5
    assert layout_faults(relevance_heatmap(relevance, numbers, times, title=title)) == []


def test_each_frame_has_its_number_and_time() -> None:
    figure = relevance_heatmap(np.zeros((5, 4, 4)), np.array([0, 12, 7, 7, 9]), np.arange(5) / 2.5, title="")
    labels = [axes.get_title() for axes in figure.axes[:5]]
    assert labels[:2] == ["frame 0 · 0.00 s", "frame 12 · 0.40 s"]
    assert labels[4] == "frame 9 · 1.60 s"


def test_a_grid_is_near_square_and_read_row_by_row() -> None:
    figure = relevance_heatmap(np.zeros((16, 4, 4)), *frames(16), title="")
    corners = [(round(axes.get_position().x0, 6), -round(axes.get_position().y0, 6)) for axes in figure.axes[:16]]
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
    assert picture[0, 0].tolist() == [1, 1, 1, 1]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    figure = relevance_heatmap(np.zeros((1, 4, 4)), *frames(1), title="")
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
    draw = inspect.unwrap(relevance_heatmap)
    with pytest.raises(VidactError, match=r"\[T, H, W\], got relevance\.shape = \(4, 4\)"):
        draw(np.zeros((4, 4)), *frames(4), title="")
    with pytest.raises(VidactError, match="2 frames"):
        draw(np.zeros((2, 4, 4)), *frames(4), title="")
    relevance = np.zeros((2, 4, 4))
    relevance[0, 0, :2] = np.nan, np.inf
    with pytest.raises(VidactError, match="2 NaN or infinite voxels"):
        draw(relevance, *frames(2), title="")
