"""Draw the strip under a video: relevance per frame over time, a title, a cursor and a clock.

The strip is drawn once; the cursor and the clock are stamped on copies of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vidact.drawing.figure import AGAINST_COLOUR, FOR_COLOUR, add_axes
from vidact.drawing.raster import pixels
from vidact.drawing.text import LINE_HEIGHT, fit_text, lines_inches, text_inches
from vidact.drawing.timeline import means_over_time, shown_until

POINTS_PER_INCH = 72
SMALL = 0.88  # the size of captions and tick labels, of the title's
PLOT_LINES = 4.0  # height of the bars, of the title's size
_CLOCK_SIGNS = "0123456789.-s "


@dataclass(frozen=True)
class Timeline:
    """What the strip shows.

    Attributes:
        positive: Sum of the positive relevance of each sampled frame.
        negative: Sum of its negative relevance, zero or below.
        times_seconds: When the sampled frames are shown, increasing.
        start_seconds: When the video begins.
        end_seconds: When it ends.
    """

    positive: Float[np.ndarray, " S"]
    negative: Float[np.ndarray, " S"]
    times_seconds: Float[np.ndarray, " S"]
    start_seconds: float
    end_seconds: float

    def edges(self) -> Float[np.ndarray, " edges"]:
        """Give the times between which each sampled frame is the nearest one."""
        edges = shown_until(self.times_seconds, start=self.start_seconds, end=self.end_seconds)
        edges[-1] = max(edges[-1], edges[0] + 1e-3)  # a lone frame has a width
        return edges

    def steps(
        self, columns: int
    ) -> tuple[Float[np.ndarray, " edges"], Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Give edges, positive and negative parts of as many steps as can be told apart in so many columns."""
        edges = self.edges()
        if len(self.positive) <= columns:
            return edges, self.positive, self.negative
        grid = np.linspace(edges[0], edges[-1], columns + 1)
        positive, negative = (means_over_time(part, edges, grid=grid) for part in (self.positive, self.negative))
        return grid, positive, negative


@dataclass(frozen=True)
class Strip:
    """A strip without cursor and clock, and where they go.

    Attributes:
        picture: What does not move.
        columns: The first and the last column of the bars.
        rows: The first row of the bars and the one below the last.
        seconds: The times at the first and the last column.
        cursor_pixels: How wide the cursor is.
        clock_corner: Row and column of the upper right corner of the clock.
        signs: Pictures of the signs of the clock.
    """

    picture: UInt8[np.ndarray, "height width 3"]
    columns: tuple[int, int]
    rows: tuple[int, int]
    seconds: tuple[float, float]
    cursor_pixels: int
    clock_corner: tuple[int, int]
    signs: Mapping[str, UInt8[np.ndarray, "rows columns 3"]]

    def cursor_column(self, seconds: float) -> int:
        """Find the column of a time; times beyond the ends stay at the ends."""
        share = (seconds - self.seconds[0]) / (self.seconds[1] - self.seconds[0])
        return round(self.columns[0] + min(max(share, 0.0), 1.0) * (self.columns[1] - self.columns[0]))

    def stamp(self, target: UInt8[np.ndarray, "height width 3"], *, seconds: float) -> None:
        """Draw the strip with its cursor and clock at a time."""
        target[:] = self.picture
        left = self.cursor_column(seconds) - self.cursor_pixels // 2
        bars = target[slice(*self.rows)]
        bars[:, max(left - 1, 0) : left + self.cursor_pixels + 1] = 255  # a rim, seen on dark bars
        bars[:, max(left, 0) : left + self.cursor_pixels] = 0
        row, column = self.clock_corner
        for sign in reversed(clock_text(seconds)):
            glyph = self.signs[sign]
            column -= glyph.shape[1]
            target[row : row + glyph.shape[0], column : column + glyph.shape[1]] = glyph


def clock_text(seconds: float) -> str:
    """Write a time as the clock shows it."""
    return f"{seconds:.2f} s"


def draw_strip(timeline: Timeline, *, width: int, text_pixels: int, title: str, caption: str) -> Strip:
    """Draw title, caption and, below them, the bars: red upwards for the target, blue downwards against it.

    Args:
        timeline: The relevance of the sampled frames; more of them than there are columns are averaged.
        width: In pixels.
        text_pixels: Size of the title's font; the heights follow from it.
        title: Of any length and in any script.
        caption: What the bars are, and in which units.
    """
    pad, small = text_pixels // 2, SMALL * text_pixels
    signs = _draw_signs(text_pixels)
    clock_pixels = sum(signs[sign].shape[1] for sign in clock_text(timeline.end_seconds)) + text_pixels
    title = fit_text(
        title, points=float(text_pixels), inches=_inches(0.95 * (width - clock_pixels - 2 * pad)), max_lines=2
    )
    caption = fit_text(caption, points=small, inches=_inches(0.95 * (width - 2 * pad)), max_lines=3)
    title_pixels = POINTS_PER_INCH * lines_inches(title or " ", points=float(text_pixels))
    head = round(pad + title_pixels + POINTS_PER_INCH * lines_inches(caption, points=small) + pad)
    plot, foot = round(PLOT_LINES * text_pixels), round(1.4 * LINE_HEIGHT * small + pad / 2)
    figure = _blank(width, head + plot + foot)
    style: dict[str, Any] = {"ha": "left", "va": "top", "linespacing": 1.15, "parse_math": False}
    x, height = pad / width, head + plot + foot
    figure.text(x, 1 - pad / height, title, fontsize=text_pixels, **style)
    figure.text(x, 1 - (pad + title_pixels) / height, caption, fontsize=small, color="0.25", **style)
    left, right = _draw_bars(figure, timeline, small=small, rows=(head, head + plot))
    return Strip(
        picture=pixels(figure),
        columns=(left, right - 1),
        rows=(head, head + plot),
        seconds=(float(timeline.edges()[0]), float(timeline.edges()[-1])),
        cursor_pixels=max(2, text_pixels // 6),
        clock_corner=(pad, width - pad),
        signs=signs,
    )


def _draw_bars(figure: Figure, timeline: Timeline, *, small: float, rows: tuple[int, int]) -> tuple[int, int]:
    """Draw the bars between two rows of pixels from the top; give their first column and the one after the last."""
    width, height = (round(side * POINTS_PER_INCH) for side in figure.get_size_inches())
    low, high = _limits(timeline)
    labels = [f"{value:+.2g}" if value else "0" for value in (low, high)]
    room = max(POINTS_PER_INCH * text_inches(label, points=small) for label in labels)
    left, right = round(room + 1.2 * small), round(width - 1.5 * small)
    place = (_inches(left), _inches(height - rows[1]))
    axes = add_axes(figure, *place, width=_inches(right - left), height=_inches(rows[1] - rows[0]))
    edges, positive, negative = timeline.steps(right - left)
    axes.stairs(positive, edges, fill=True, color=FOR_COLOUR, linewidth=0)
    axes.stairs(negative, edges, fill=True, color=AGAINST_COLOUR, linewidth=0)
    axes.axhline(0, color="black", linewidth=max(0.8, small / 14))
    axes.set(xlim=(edges[0], edges[-1]), ylim=(low, high))
    _label_ticks(axes, small=small, columns=right - left, rows=rows[1] - rows[0])
    return left, right


def _label_ticks(axes: Axes, *, small: float, columns: int, rows: int) -> None:
    low, high = axes.get_ylim()
    least = 1.7 * small / rows * (high - low)  # closer to zero, labels would overlap
    ticks = [0.0, *(end for end in (low, high) if abs(end) > least)]
    axes.set_yticks(ticks, [f"{tick:+.2g}" if tick else "0" for tick in ticks], fontsize=small)
    for label, tick in zip(axes.get_yticklabels(), ticks, strict=True):
        label.set_verticalalignment("center_baseline" if tick == 0 else "top" if tick > 0 else "bottom")
    start, end = axes.get_xlim()
    few = max(2, int(columns / (5 * small)))
    times = [t for t in MaxNLocator(few, steps=[1, 2, 2.5, 5, 10]).tick_values(start, end) if start <= t <= end]
    axes.set_xticks(times, [f"{time:.6g} s" for time in times], fontsize=small)
    axes.tick_params(length=small / 4, width=small / 14, pad=small / 4, color="0.4")
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set(color="0.4", linewidth=small / 14)


def _limits(timeline: Timeline) -> tuple[float, float]:
    """Choose the ends of the vertical axis: the largest bars, and a little on the side that has none."""
    high, low = float(timeline.positive.max(initial=0)), float(timeline.negative.min(initial=0))
    span = (high - low) or 1.0
    return min(low, -0.04 * span), max(high, 0.04 * span)


@lru_cache(maxsize=8)
def _draw_signs(text_pixels: int) -> dict[str, UInt8[np.ndarray, "rows columns 3"]]:
    widths = [round(POINTS_PER_INCH * text_inches(f"0{sign}0", points=float(text_pixels))) for sign in _CLOCK_SIGNS]
    digits = POINTS_PER_INCH * text_inches("00", points=float(text_pixels))
    columns = [max(1, round(width - digits)) for width in widths]
    starts = np.concatenate([[0], np.cumsum(columns)])
    height = round(LINE_HEIGHT * text_pixels)
    figure = _blank(int(starts[-1]), height)
    for sign, start in zip(_CLOCK_SIGNS, starts[:-1], strict=True):
        figure.text(start / starts[-1], 1, sign, ha="left", va="top", fontsize=text_pixels)
    picture = pixels(figure)
    return {sign: picture[:, a:b] for sign, a, b in zip(_CLOCK_SIGNS, starts[:-1], starts[1:], strict=True)}


def _inches(pixels: int | float) -> float:
    return pixels / POINTS_PER_INCH


def _blank(width: int, height: int) -> Figure:
    """Make a white figure of so many pixels, in which a point is a pixel."""
    slack = 1e-6  # or rounding might lose a pixel
    return Figure(figsize=(_inches(width + slack), _inches(height + slack)), dpi=POINTS_PER_INCH, facecolor="white")
