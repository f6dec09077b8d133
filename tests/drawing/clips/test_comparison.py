"""Explanations of one clip stand under each other, each on its own scale."""

import inspect

import numpy as np
import pytest
from figures import LONG_TITLE, frames, layout_faults, render
from jaxtyping import UInt8

from vidact.core.errors import VidactError
from vidact.drawing.clips.comparison import side_by_side


def clip(colours: int, count: int, *size: int) -> UInt8[np.ndarray, "C T H W"]:
    return np.random.default_rng(0).integers(0, 256, (colours, count, *size), dtype=np.uint8)


def test_every_row_has_its_own_symmetric_scale_and_states_it() -> None:
    generator = np.random.default_rng(0)
    maps = {"LRP": generator.normal(size=(16, 8, 8)), "gradient": 1e-4 * generator.normal(size=(16, 8, 8))}
    figure = side_by_side(maps, clip(3, 16, 24, 32), *frames(16), title="wave")
    rows = [figure.axes[start : start + 8] for start in (0, 8, 16)]
    for row, relevance in zip(rows[1:], maps.values(), strict=True):
        limits = {axes.images[0].get_clim() for axes in row}
        assert len(limits) == 1
        low, high = limits.pop()
        assert low == -high == pytest.approx(-np.percentile(np.abs(relevance), 99.8))
        assert f"±{high:.2g}" in row[0].texts[0].get_text()
        assert (row[7].images[0].get_array() == relevance[15]).all()
    assert [axes.get_title().split("\n")[0] for axes in rows[0]] == ["0", "6", "12", "18", "27", "33", "39", "45"]


def test_curves_are_shares_of_the_largest_frame() -> None:
    maps = {"LRP": np.ones((4, 2, 2)) * np.array([1.0, -2.0, 0.5, 0.0])[:, None, None], "none": np.zeros((4, 2, 2))}
    figure = side_by_side(maps, clip(1, 4, 8, 8), *frames(4), title="")
    panel = figure.axes[-1]
    assert panel.lines[0].get_ydata().tolist() == [0.5, -1.0, 0.25, 0.0]
    assert panel.lines[1].get_ydata().tolist() == [0.0] * 4
    assert panel.lines[0].get_xdata().tolist() == frames(4)[1].tolist()
    assert "zero everywhere" in figure.axes[8].texts[0].get_text()
    render(figure)


@pytest.mark.parametrize(
    ("count", "size", "methods"),
    [(1, (20, 60), 5), (2, (40, 20), 5), (16, (24, 32), 1), (16, (20, 60), 5), (300, (40, 20), 1), (300, (24, 32), 5)],
)
def test_the_text_neither_overlaps_nor_is_cut_off(count: int, size: tuple[int, int], methods: int) -> None:
    numbers, times = frames(count)
    names = ["LRP", "$gradient_^ 挥手 of a checkpoint " * 3, "a", "b", "c"][:methods]
    maps = {name: 1.23e-5 * np.random.default_rng(0).normal(size=(count, 6, 6)) for name in names}
    figure = side_by_side(maps, clip(3, count, *size), numbers + 10_000, times + 1000, title=LONG_TITLE)
    assert layout_faults(figure) == []


def test_a_comparison_says_what_is_wrong() -> None:
    draw = inspect.unwrap(side_by_side)
    video = clip(3, 4, 8, 8)
    with pytest.raises(VidactError, match="one to 5 explanations, got 0"):
        draw({}, video, *frames(4), title="")
    with pytest.raises(VidactError, match=r"\[4, h, w\] of a, got maps\.shape = \(3, 8, 8\)"):
        draw({"a": np.zeros((3, 8, 8))}, video, *frames(4), title="")
    with pytest.raises(VidactError, match="relevance of a, got 1 NaN"):
        draw({"a": np.where(np.arange(4) == 2, np.nan, 1.0)[:, None, None]}, video, *frames(4), title="")
    with pytest.raises(VidactError, match="C 1 or 3"):
        draw({"a": np.zeros((4, 8, 8))}, video[:2], *frames(4), title="")
