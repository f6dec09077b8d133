"""Draw several explanations of one clip, such as those of two methods or two checkpoints, under each other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vidact.core.errors import VidactError
from vidact.drawing.figure import (
    CLIP_PERCENTILE,
    MARGIN_INCHES,
    MAX_LINES,
    add_axes,
    check_frames,
    colour_limit,
    draw_line,
    legend_above,
    relevance_colours,
    titled_figure,
)
from vidact.drawing.text import LABEL_POINTS, TICK_POINTS, fit_text
from vidact.drawing.timeline import evenly_spread

MAX_COLUMNS = 8
NAME_INCHES = 1.25
PANEL_INCHES = 1.6
WIDTH_INCHES = 8.0
FOOTER_INCHES = 0.78


def side_by_side(
    relevance: Mapping[str, Float[np.ndarray, "T _ _"]],
    video: UInt8[np.ndarray, "C T H W"],
    frame_numbers: Int[np.ndarray, " T1"],
    times_seconds: Float[np.ndarray, " T2"],
    *,
    title: str,
) -> Figure:
    """Draw the frames, a row of heatmaps per explanation, and the relevance of each over time.

    Every row has its own symmetric scale, which is stated beside it: methods differ in units. For the same reason the
    curves are shares of each one's largest frame.

    Args:
        relevance: Signed, summed over colour; one to five, by the name of the method or checkpoint.
        video: Pixels, 0 to 255, gray (C = 1) or RGB (C = 3).
        frame_numbers: Which frames of the file these are, from 0.
        times_seconds: When they are shown.
        title: Of any length and in any script.

    Raises:
        VidactError: the shapes do not fit each other, a value is not finite, or there are none or more than five.
    """
    _check(relevance, video)
    num_frames = video.shape[1]
    check_frames(frame_numbers, times_seconds, num_frames=num_frames)
    chosen = evenly_spread(num_frames, at_most=MAX_COLUMNS)
    figure, rows, panel = _layout(1 + len(relevance), len(chosen), aspect=video.shape[2] / video.shape[3], title=title)
    for axes, place in zip(rows[0], chosen.tolist(), strict=True):
        axes.imshow(np.broadcast_to(video[:, place], (3, *video.shape[2:])).transpose(1, 2, 0))
        axes.set_title(f"{frame_numbers[place]}\n{times_seconds[place]:.2f} s", fontsize=TICK_POINTS, pad=2)
    _name_row(rows[0][0], "frame number\nand time")
    for (name, maps), row in zip(relevance.items(), rows[1:], strict=True):
        limit = colour_limit(maps)
        for axes, place in zip(row, chosen.tolist(), strict=True):
            extent = (-0.5, video.shape[3] - 0.5, video.shape[2] - 0.5, -0.5)
            axes.imshow(maps[place], cmap=relevance_colours(), vmin=-limit, vmax=limit, extent=extent)
        fitted = fit_text(name, points=TICK_POINTS, inches=0.92 * NAME_INCHES, max_lines=2)
        scale = f"scale ±{limit:.2g}" if maps.any() else "zero everywhere"
        _name_row(row[0], f"{fitted}\n{scale}")
    _draw_curves(panel, relevance, times_seconds)
    remark = "maps: red for the target, blue against it, white zero; "
    remark += f"a row's scale ends at the {CLIP_PERCENTILE}th percentile of its |R|"
    x, y = MARGIN_INCHES / WIDTH_INCHES, 0.1 / figure.get_figheight()
    figure.text(x, y, remark, ha="left", va="bottom", fontsize=LABEL_POINTS)
    return figure


def _check(relevance: Mapping[str, Float[np.ndarray, "_ _ _"]], video: UInt8[np.ndarray, "C T H W"]) -> None:
    if video.ndim != 4 or video.shape[0] not in (1, 3):
        raise VidactError(f"expected video [C, T, H, W] with C 1 or 3, got {video.shape = }")
    if not 1 <= len(relevance) <= MAX_LINES:
        raise VidactError(f"expected one to {MAX_LINES} explanations, got {len(relevance)}")
    for name, maps in relevance.items():
        if maps.ndim != 3 or len(maps) != video.shape[1]:
            raise VidactError(f"expected relevance [{video.shape[1]}, h, w] of {name}, got {maps.shape = }")
        if not np.isfinite(maps).all():
            raise VidactError(
                f"expected finite relevance of {name}, got {np.sum(~np.isfinite(maps))} NaN or infinite voxels"
            )


def _layout(num_rows: int, columns: int, *, aspect: float, title: str) -> tuple[Figure, list[list[Axes]], Axes]:
    """Lay out rows of frames with room for names at the left and for times above, and a panel below."""
    gap = 0.05
    room = WIDTH_INCHES - NAME_INCHES - 2 * MARGIN_INCHES
    step = min(room / columns, 1.5)
    cell_width = step - gap
    cell_height = cell_width * min(max(aspect, 0.45), 2.0)
    legend = 0.17 * (num_rows - 1) + 0.1
    bottom = FOOTER_INCHES + PANEL_INCHES + legend + MARGIN_INCHES
    figure = titled_figure(WIDTH_INCHES, bottom + num_rows * (cell_height + gap) + 0.32, title=title)
    rows = []
    for row in range(num_rows):
        y = bottom + (num_rows - 1 - row) * (cell_height + gap)
        lefts = (MARGIN_INCHES + NAME_INCHES + column * step for column in range(columns))
        rows.append([add_axes(figure, left, y, width=cell_width, height=cell_height) for left in lefts])
        for axes in rows[-1]:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color="0.6", linewidth=0.5)
    panel = add_axes(figure, NAME_INCHES, FOOTER_INCHES, width=WIDTH_INCHES - NAME_INCHES - 0.3, height=PANEL_INCHES)
    return figure, rows, panel


def _name_row(axes: Axes, text: str) -> None:
    place: dict[str, Any] = {"xy": (0, 0.5), "xycoords": "axes fraction"}
    place |= {"xytext": (-5, 0), "textcoords": "offset points"}
    axes.annotate(text, ha="right", va="center", fontsize=TICK_POINTS, parse_math=False, annotation_clip=False, **place)


def _draw_curves(
    axes: Axes, relevance: Mapping[str, Float[np.ndarray, "T _ _"]], times_seconds: Float[np.ndarray, " T"]
) -> None:
    for number, (name, maps) in enumerate(relevance.items()):
        frames = maps.sum(axis=(1, 2), dtype=np.float64)
        shares = frames / (np.abs(frames).max() or 1.0)
        label = fit_text(name, points=TICK_POINTS, inches=5.5, max_lines=1)
        draw_line(axes, times_seconds, shares, number=number, label=label)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylim(-1.08, 1.08)
    if len(times_seconds) == 1:
        axes.set_xticks(times_seconds)
    axes.set_xlabel("time (s)", fontsize=LABEL_POINTS)
    axes.set_ylabel("net relevance per frame\n(share of the largest)", fontsize=LABEL_POINTS)
    axes.tick_params(labelsize=TICK_POINTS)
    axes.spines[["top", "right"]].set_visible(False)
    legend_above(axes)
