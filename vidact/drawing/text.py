"""Measure text before it is drawn, and break or cut it so that it fits."""

import re
from bisect import bisect_right
from functools import lru_cache

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

TITLE_POINTS = 10.0
LABEL_POINTS = 8.0
TICK_POINTS = 7.5
LINE_HEIGHT = 1.3  # of the font size
REMEMBERED = 4096  # measuring a text takes as long as drawing it, and labels come again with each picture


def plain_text(text: str) -> str:
    """Replace what the font cannot draw by �, and every run of white space by one space."""
    font = get_font(findfont(FontProperties()))
    text = re.sub(r"\s+", " ", text).strip()
    return "".join(c if c.isprintable() and font.get_char_index(ord(c)) else "\ufffd" for c in text)


@lru_cache(maxsize=REMEMBERED)
def text_inches(text: str, *, points: float) -> float:
    """Measure the width of one line of plain text."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=points), ismath=False)
    return float(width) / 72


@lru_cache(maxsize=REMEMBERED)
def fit_text(text: str, *, points: float, inches: float, max_lines: int) -> str:
    """Break text into lines no wider than `inches`, and end it with … where `max_lines` do not hold it.

    Lines break after a space, an underscore, a hyphen or a slash; a longer word breaks anywhere.
    """
    lines = [""]
    for word in re.findall(r"[^ _/-]*[ _/-]?", plain_text(text)):
        if lines[-1] and text_inches((lines[-1] + word).rstrip(), points=points) > inches:
            lines.append("")
        lines[-1] += word
        while fit := _fitting_length(lines[-1].rstrip(), points=points, inches=inches):
            lines[-1:] = [lines[-1][:fit], lines[-1][fit:]]
    if len(lines) > max_lines:
        line = lines[max_lines - 1]
        fit = _fitting_length(line, points=points, inches=inches - text_inches("…", points=points))
        lines = [*lines[: max_lines - 1], line[: fit or None] + "…"]
    return "\n".join(line.strip() for line in lines)


def _fitting_length(line: str, *, points: float, inches: float) -> int:
    """Count the characters of a line that is too wide that do fit, at least 1; 0 if all of it fits."""
    if len(line) < 2 or text_inches(line, points=points) <= inches:
        return 0
    lengths = range(1, len(line))
    return max(1, bisect_right(lengths, inches, key=lambda length: text_inches(line[:length], points=points)))


def lines_inches(text: str, *, points: float) -> float:
    """Measure the height of the lines of a text; an empty text has none."""
    return len(text.split("\n")) * bool(text) * points * LINE_HEIGHT / 72
