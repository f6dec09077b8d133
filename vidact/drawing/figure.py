"""Draw a clip's hotspots and heatmap; also the title, axes, colours and saving that all figures share.

Every size in a figure is in inches and measured before it is drawn, so that nothing overlaps and nothing is cut off.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from vidact.core.errors import EnvironmentProblem, VidactError
from vidact.drawing.grid import FrameGrid
from vidact.drawing.raster import pixels, png
from vidact.drawing.text import LABEL_POINTS, TICK_POINTS, TITLE_POINTS, fit_text, lines_inches

DPI = 150
MARGIN_INCHES = 0.12
MAX_TITLE_LINES = 2
LABEL_PAD_INCHES = 3 / 72
TITLE_SHARE = 0.92  # of the width; hinting makes drawn text up to 5 % wider than measured
FOR_COLOUR = "#b2182b"
AGAINST_COLOUR = "#2166ac"
CLIP_PERCENTILE = 99.8
# ColorBrewer's RdBu, safe for the colour-blind, through pure white; from against to for.
RELEVANCE_COLOURS = (
    *("#053061", AGAINST_COLOUR, "#4393c3", "#92c5de", "#d1e5f0", "#ffffff"),
    *("#fddbc7", "#f4a582", "#d6604d", FOR_COLOUR, "#67001f"),
)
NUM_RELEVANCE_SHADES = 257  # odd: zero has one of its own, in the middle
MAX_LINES = 5
# Okabe and Ito's palette; the lines differ in their dashes too.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "black")
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))


def hotspot_overlay(
    video: UInt8[np.ndarray, "C T H W"],
    hotspots: Bool[np.ndarray, "T H W"],
    frame_numbers: Int[np.ndarray, " T"],
    times_seconds: Float[np.ndarray, " T"],
    *,
    title: str,
) -> Figure:
    """Draw every frame with its hotspots in magenta: a translucent fill, and a line around each region.

    Args:
        video: Pixels, 0 to 255, gray (C = 1) or RGB (C = 3).
        hotspots: True where a voxel is a hotspot.
        frame_numbers: Which frames of the file these are, from 0.
        times_seconds: When they are shown.
        title: Of any length and in any script; what the font lacks is drawn as �.

    Raises:
        VidactError: the shapes do not fit each other.
    """
    if video.ndim != 4 or video.shape[0] not in (1, 3):
        raise VidactError(f"expected video [C, T, H, W] with C 1 or 3, got {video.shape = }")
    if hotspots.shape != video.shape[1:]:
        raise VidactError(f"expected hotspots {video.shape[1:]} as in the video, got {hotspots.shape = }")
    labels = frame_labels(frame_numbers, times_seconds, num_frames=video.shape[1])
    grid = frame_grid(labels, frame_size=hotspots.shape[1:], title=title)
    grid.show(np.broadcast_to(video, (3, *hotspots.shape)).transpose(1, 2, 3, 0), smooth=True)  # [T, H, W, C]
    grid.mark(hotspots)
    return grid.figure


def relevance_heatmap(
    relevance: Float[np.ndarray, "T H W"],
    frame_numbers: Int[np.ndarray, " T"],
    times_seconds: Float[np.ndarray, " T"],
    *,
    title: str,
    unit: str,
) -> Figure:
    """Draw the relevance of every voxel: red speaks for the target, blue against it, white is zero.

    All frames share one scale. A few voxels hold far more than all others, so a scale up to max|R| would leave
    the map white: it ends at ± the 99.8th percentile of |R| over the clip (at max|R| if that is zero), voxels
    beyond it have the end colours, and the colour bar says so.

    Args:
        relevance: Signed, summed over colour.
        frame_numbers: Which frames of the file these are, from 0.
        times_seconds: When they are shown.
        title: Of any length and in any script; what the font lacks is drawn as �.
        unit: Of the relevance.

    Raises:
        VidactError: the shapes do not fit each other, or a value is not finite.
    """
    if relevance.ndim != 3:
        raise VidactError(f"expected relevance [T, H, W], got {relevance.shape = }")
    if not np.isfinite(relevance).all():
        raise VidactError(f"expected finite relevance, got {np.sum(~np.isfinite(relevance))} NaN or infinite voxels")
    labels = frame_labels(frame_numbers, times_seconds, num_frames=relevance.shape[0])
    grid = frame_grid(labels, frame_size=relevance.shape[1:], title=title, footer_inches=0.8)
    limit = colour_limit(relevance)
    scale = ScalarMappable(Normalize(-limit, limit), relevance_colours())
    # As one row of values: of four dimensions, three would be taken for colours.
    colours = scale.to_rgba(relevance.reshape(1, -1), bytes=True).reshape(*relevance.shape, 4)
    grid.show(colours[..., :3], smooth=False)
    _draw_colour_bar(grid.figure, scale, limit=limit, largest=float(np.abs(relevance).max()), unit=unit)
    return grid.figure


def colour_limit(relevance: Float[np.ndarray, "T H W"]) -> float:
    """Choose where the scale of a clip's heatmap ends: the 99.8th percentile of |R|, else max|R|, else 1."""
    magnitude = np.abs(relevance.astype(np.float64))
    return float(np.percentile(magnitude, CLIP_PERCENTILE) or magnitude.max() or 1.0)


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG on white; a grid of 4 x 4 frames is 1200 pixels wide.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    content = png(pixels(figure), dpi=DPI)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot be written ({error.strerror or error})") from error


def save_figures(folder: Path, figures: Mapping[str, Figure]) -> dict[str, Path]:
    """Write figures as `<name>.png` into a folder, as `save_png` does; gives their files by name.

    Raises:
        EnvironmentProblem: a file cannot be written.
    """
    paths = {name: folder / f"{name}.png" for name in figures}
    for name, figure in figures.items():
        save_png(figure, paths[name])
    return paths


def svg_text(figure: Figure) -> str:
    """Draw a figure as SVG with real text; the same figure always gives the same bytes."""
    buffer = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "vidact"}):
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def titled_figure(width: float, body_height: float, *, title: str) -> Figure:
    """Make an empty white figure: room for a title of two lines, and below it `body_height` inches.

    The room is the same for every title: wandb shows lists of pictures of one size only.
    """
    text = fit_text(title, points=TITLE_POINTS, inches=TITLE_SHARE * width, max_lines=MAX_TITLE_LINES)
    room = "\n" * (MAX_TITLE_LINES - 1)
    title_height = lines_inches(room, points=TITLE_POINTS) + 2 * MARGIN_INCHES
    height = body_height + title_height
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    figure.text(
        0.5,
        1 - title_height / 2 / height,
        text,
        ha="center",
        va="center",
        fontsize=TITLE_POINTS,
        parse_math=False,
    )
    return figure


def add_axes(figure: Figure, left: float, bottom: float, *, width: float, height: float) -> Axes:
    """Add axes at a place given in inches from the lower left corner of the figure."""
    figure_width, figure_height = figure.get_size_inches()
    return figure.add_axes((left / figure_width, bottom / figure_height, width / figure_width, height / figure_height))


def check_frames(
    frame_numbers: Int[np.ndarray, " T1"], times_seconds: Float[np.ndarray, " T2"], *, num_frames: int
) -> None:
    """Make sure that there are frames, and that each has one number and one time.

    Raises:
        VidactError: there are none, or more or fewer numbers or times than frames.
    """
    if num_frames == 0:
        raise VidactError("expected at least one frame, got T = 0")
    if np.shape(frame_numbers) != (num_frames,) or np.shape(times_seconds) != (num_frames,):
        raise VidactError(
            f"expected a frame number and a time for each of {num_frames} frames, "
            f"got {np.shape(frame_numbers) = }, {np.shape(times_seconds) = }"
        )


def frame_labels(
    frame_numbers: Int[np.ndarray, " T1"], times_seconds: Float[np.ndarray, " T2"], *, num_frames: int
) -> list[str]:
    """Say for each frame which one it is and when it is shown."""
    check_frames(frame_numbers, times_seconds, num_frames=num_frames)
    pairs = zip(frame_numbers, times_seconds, strict=True)
    return [f"frame {number} · {seconds:.2f} s" for number, seconds in pairs]


def frame_grid(
    labels: Sequence[str], *, frame_size: tuple[int, ...], title: str, footer_inches: float = 0.0
) -> FrameGrid:
    """Lay out one labelled and bordered place per frame, row by row in a near-square grid."""
    columns = math.ceil(math.sqrt(len(labels)))
    rows = math.ceil(len(labels) / columns)
    width = max(min(8.0, max(4.0, 2.0 * columns)), 1.3 * columns)
    step = (width - MARGIN_INCHES) / columns
    cell_width = step - MARGIN_INCHES
    cell_height = cell_width * min(max(frame_size[0] / frame_size[1], 0.25), 3.0)
    labels = [fit_text(text, points=LABEL_POINTS, inches=cell_width, max_lines=2) for text in labels]
    label_height = max(lines_inches(text, points=LABEL_POINTS) for text in labels) + MARGIN_INCHES / 2
    row_height = cell_height + label_height + MARGIN_INCHES / 2
    figure = titled_figure(width, rows * row_height + footer_inches + MARGIN_INCHES / 2, title=title)
    row, column = np.divmod(np.arange(len(labels)), columns)
    bottom = footer_inches + MARGIN_INCHES + (rows - 1 - row) * row_height
    left = MARGIN_INCHES + column * step
    places = np.stack(np.broadcast_arrays(left, bottom, cell_width, cell_height), axis=-1)
    inches = figure.dpi_scale_trans
    for label, (x, y) in zip(labels, places[:, :2] + (cell_width / 2, cell_height + LABEL_PAD_INCHES), strict=True):
        figure.text(x, y, label, ha="center", va="baseline", fontsize=LABEL_POINTS, transform=inches)
    corners = places[:, None, :2] + np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * places[:, None, 2:]
    borders = Outline.make_compound_path_from_polys(corners)
    figure.add_artist(
        PathPatch(borders, edgecolor="0.6", linewidth=0.5, fill=False, snap=True, zorder=2.5, transform=inches)
    )
    return FrameGrid(figure, places)


@cache
def relevance_colours() -> Colormap:
    """Build the colour map of relevance: ColorBrewer's RdBu, with pure white at zero."""
    return LinearSegmentedColormap.from_list("relevance", RELEVANCE_COLOURS, N=NUM_RELEVANCE_SHADES)


def _draw_colour_bar(figure: Figure, scale: ScalarMappable, *, limit: float, largest: float, unit: str) -> None:
    width = min(figure.get_figwidth() - 1.0, 6.0)
    axes = add_axes(figure, (figure.get_figwidth() - width) / 2, 0.56, width=width, height=0.14)
    extend = "both" if largest > limit else "neither"
    bar = figure.colorbar(scale, cax=axes, orientation="horizontal", extend=extend)
    ticks = np.linspace(-limit, limit, 5)
    bar.set_ticks(ticks.tolist(), labels=[f"{tick:.2g}" for tick in ticks])
    axes.tick_params(labelsize=LABEL_POINTS, length=3)
    end = f"ends at the {CLIP_PERCENTILE}th percentile of |R|" if largest > limit else "ends at max |R|"
    remark = f"red: for, blue: against; the scale {end}" if largest else "the relevance is zero everywhere"
    text = f"relevance per voxel ({unit})\n{remark}"
    figure.text(0.5, 0.06 / figure.get_figheight(), text, ha="center", va="bottom", fontsize=LABEL_POINTS)


def draw_line(axes: Axes, *points: Shaped[np.ndarray, " N"], number: int, label: str) -> None:
    """Draw a line through x and y; each number has a colour and dashes of its own."""
    marker = "o" if len(points[0]) <= 40 else ""
    style = {"color": _COLOURS[number], "linestyle": _DASHES[number], "marker": marker, "markersize": 3}
    axes.plot(*points, label=label, linewidth=1.4, **style)


def legend_above(axes: Axes) -> None:
    """Put a legend above axes, one line below the other; names with `$` are not parsed as formulas."""
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderpad": 0.1, "handlelength": 3}
    for text in axes.legend(fontsize=TICK_POINTS, frameon=False, **place).get_texts():
        text.set_parse_math(False)
