"""Charts show the numbers they are given, and their text can be read."""

import inspect
from functools import partial

import numpy as np
import pytest
from figures import LONG_TITLE, frames, layout_faults
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from vidact.core.errors import VidactError
from vidact.drawing.clips.bars import frame_relevance_bars, hotspots_per_frame_bars
from vidact.drawing.results.confusion import confusion_matrix


def relevance_parts(count: int) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    generator = np.random.default_rng(0)
    return generator.exponential(2, count), -generator.exponential(1, count)


def matrix_of(num_classes: int) -> Int[np.ndarray, "K K"]:
    return np.random.default_rng(0).poisson(2.0, (num_classes, num_classes))


def test_relevance_bars_are_as_high_as_the_relevance_and_the_line_is_their_sum() -> None:
    positive, negative = relevance_parts(6)
    axes = frame_relevance_bars(positive, negative, *frames(6), unit="units of the logit", title="wave").axes[0]
    up, down = axes.containers
    assert [bar.get_height() for bar in up] == positive.tolist()
    assert [bar.get_height() for bar in down] == negative.tolist()
    assert {bar.get_y() for bar in (*up, *down)} == {0}
    reds, blues = ({bar.get_facecolor()[:3] for bar in bars} for bars in (up, down))
    assert all(red > blue for red, _, blue in reds)
    assert all(blue > red for red, _, blue in blues)
    assert axes.lines[0].get_ydata() == pytest.approx(positive + negative)
    assert [bar.get_center()[0] for bar in up] == pytest.approx(axes.lines[0].get_xdata())


def test_the_legend_names_all_three_and_lies_outside_of_the_bars() -> None:
    figure = frame_relevance_bars(*relevance_parts(5), *frames(5), unit="units of the logit", title="wave")
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert {text.get_text() for text in legend.get_texts()} == {"for the target", "against the target", "net"}
    assert legend.get_window_extent().y0 >= axes.patch.get_window_extent().y1


def test_count_bars_are_as_high_as_the_counts_and_the_threshold_is_said() -> None:
    counts = np.array([3, 0, 17, 5])
    axes = hotspots_per_frame_bars(counts, *frames(4), title="wave", threshold=0.25).axes[0]
    assert [bar.get_height() for bar in axes.containers[0]] == counts.tolist()
    assert "0.25" in axes.get_ylabel()
    assert all(float(tick).is_integer() for tick in axes.get_yticks())


def test_frames_are_labelled_with_number_and_time_below_their_bars() -> None:
    counts = np.arange(40)
    axes = hotspots_per_frame_bars(counts, *frames(40), title="", threshold=0.3).axes[0]
    places = axes.get_xticks().tolist()
    assert 8 < len(places) < 40
    assert [text.get_text() for text in axes.get_xticklabels()] == [f"{3 * p}\n{p / 10:.2f}" for p in places]


@pytest.mark.parametrize(("count", "title"), [(1, LONG_TITLE), (5, "wave"), (16, "wave"), (32, LONG_TITLE)])
def test_the_text_of_bars_neither_overlaps_nor_is_cut_off(count: int, title: str) -> None:
    numbers, times = frames(count)
    positive, negative = relevance_parts(count)
    bars = frame_relevance_bars(
        positive * 1.2e-7, negative * 1e-4, numbers + 1000, times + 100, unit="units of the logit", title=title
    )
    assert layout_faults(bars) == []
    counts = hotspots_per_frame_bars(50_000 + np.arange(count), numbers, times, title=title, threshold=0.123)
    assert layout_faults(counts) == []


@pytest.mark.parametrize("count", [101, 5000])
def test_of_many_frames_neighbours_share_a_bar_and_the_axis_says_so(count: int) -> None:
    numbers, times = frames(count)
    positive, negative = relevance_parts(count)
    counts = np.random.default_rng(0).integers(0, 900, count)
    size = -(-count // 100)
    starts = range(0, count, size)
    bars = frame_relevance_bars(positive, negative, numbers, times, unit="units of the logit", title=LONG_TITLE)
    up, down = bars.axes[0].containers
    assert [bar.get_height() for bar in up] == pytest.approx([positive[at : at + size].mean() for at in starts])
    assert [bar.get_height() for bar in down] == pytest.approx([negative[at : at + size].mean() for at in starts])
    spots = hotspots_per_frame_bars(counts, numbers, times, title=LONG_TITLE, threshold=0.3)
    heights = [bar.get_height() for bar in spots.axes[0].containers[0]]
    assert heights == pytest.approx([counts[at : at + size].mean() for at in starts])
    for figure in (bars, spots):
        axes = figure.axes[0]
        assert f"mean of {size} frames" in axes.get_xlabel()
        labels = [text.get_text() for text in axes.get_xticklabels()]
        assert labels == [f"{numbers[p * size]}\n{times[p * size]:.2f}" for p in axes.get_xticks().astype(int)]
        assert layout_faults(figure) == []


def test_charts_without_any_relevance_are_drawn() -> None:
    zeros = np.zeros(3)
    assert layout_faults(frame_relevance_bars(zeros, zeros, *frames(3), unit="units of the logit", title="")) == []
    assert layout_faults(hotspots_per_frame_bars(np.zeros(3, dtype=int), *frames(3), title="", threshold=1.0)) == []


def test_the_matrix_has_its_numbers_in_its_cells_true_classes_downwards() -> None:
    matrix = matrix_of(4) * 1000
    names = ["wave", "run", "kiss", "eat"]
    axes = confusion_matrix(matrix, names, title="validation").axes[0]
    cells = np.full((4, 4), -1)
    for text in axes.texts:
        column, row = text.get_position()
        cells[int(row), int(column)] = int(text.get_text())
    assert cells.tolist() == matrix.tolist()
    assert [text.get_text() for text in axes.get_yticklabels()] == names
    assert [text.get_text() for text in axes.get_xticklabels()] == names
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "predicted class")
    assert axes.yaxis_inverted()


def test_a_cell_has_the_colour_of_its_share_of_the_row_and_a_row_without_clips_is_gray() -> None:
    matrix = np.array([[30, 10, 0], [0, 0, 0], [1, 1, 2]])
    figure = confusion_matrix(matrix, ["a", "b", "c"], title="")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())
    shares = [[0.75, 0.25, 0.0], None, [0.25, 0.25, 0.5]]
    for row, column in np.ndindex(3, 3):
        x, y = figure.axes[0].transData.transform((column - 0.4, row - 0.4))
        colour = picture[int(len(picture) - y), int(x), :3] / 255
        share = shares[row]
        expected = to_rgb("0.9") if share is None else colormaps["Blues"](share[column])[:3]
        assert colour == pytest.approx(expected, abs=0.01)


def test_numbers_stand_out_from_their_cells() -> None:
    matrix = np.array([[100, 0, 0], [50, 50, 0], [64, 36, 0]])
    axes = confusion_matrix(matrix, ["a", "b", "c"], title="").axes[0]
    for text in axes.texts:
        column, row = (int(place) for place in text.get_position())
        cell = colormaps["Blues"](matrix[row, column] / 100)[:3]
        assert _contrast(to_rgb(text.get_color()), cell) > 3.5


def _contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Contrast ratio of WCAG 2, from 1 to 21."""
    light, dark = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: tuple[float, ...]) -> float:
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("num_classes", [2, 20, 51])
def test_the_text_of_a_matrix_neither_overlaps_nor_is_cut_off(num_classes: int) -> None:
    names = [f"class_{number}_" + "swing_$baseball^_" * (number % 5) for number in range(num_classes)]
    figure = confusion_matrix(matrix_of(num_classes) * 12_345, names, title=LONG_TITLE)
    assert layout_faults(figure) == []
    axes = figure.axes[0]
    assert len(axes.get_xticklabels()) == len(axes.get_yticklabels()) == num_classes
    assert len(axes.texts) == (num_classes**2 if num_classes <= 20 else 0)


def test_odd_class_names_are_drawn_as_they_are() -> None:
    figure = confusion_matrix(matrix_of(2), ["$_^$", "挥手_wave"], title="$_^$")
    FigureCanvasAgg(figure).draw()  # a formula that does not parse raises, a glyph that is missing warns
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["$_^$", "��_wave"]


def test_a_matrix_without_any_clip_is_drawn() -> None:
    figure = confusion_matrix(np.zeros((3, 3), dtype=int), ["a", "b", "c"], title="")
    assert layout_faults(figure) == []
    assert [text.get_text() for text in figure.axes[0].texts] == ["0"] * 9


def test_relevance_bars_say_what_is_wrong() -> None:
    # unwrapped: the messages are for runs, in which nothing checks the annotations
    draw = partial(inspect.unwrap(frame_relevance_bars), unit="units of the logit")
    with pytest.raises(VidactError, match=r"positive\.shape = \(3,\), negative\.shape = \(4,\)"):
        draw(np.ones(3), -np.ones(4), *frames(3), title="")
    with pytest.raises(VidactError, match=r"3 frames, got .*\(4,\)"):
        draw(np.ones(3), -np.ones(3), *frames(4), title="")
    with pytest.raises(VidactError, match="at least one frame"):
        draw(np.ones(0), np.ones(0), *frames(0), title="")
    with pytest.raises(VidactError, match=r"negative <= 0, got .* negative\.max\(\) = 1"):
        draw(np.ones(3), np.ones(3), *frames(3), title="")
    with pytest.raises(VidactError, match="finite"):
        draw(np.full(3, np.nan), np.zeros(3), *frames(3), title="")


def test_count_bars_say_what_is_wrong() -> None:
    draw = inspect.unwrap(hotspots_per_frame_bars)
    with pytest.raises(VidactError, match=r"counts\.shape = \(3, 1\)"):
        draw(np.ones((3, 1), dtype=int), *frames(3), title="", threshold=0.3)
    with pytest.raises(VidactError, match=r"2 frames, got .*\(3,\)"):
        draw(np.ones(2, dtype=int), *frames(3), title="", threshold=0.3)
    with pytest.raises(VidactError, match=r"counts\.min\(\) = .*-1"):
        draw(np.array([1, -1]), *frames(2), title="", threshold=0.3)


@pytest.mark.parametrize(
    ("shape", "names"), [((3, 3), ["a", "b"]), ((2, 3), ["a", "b"]), ((2,), ["a", "b"]), ((0, 0), [])]
)
def test_a_matrix_says_which_shape_is_wrong(shape: tuple[int, ...], names: list[str]) -> None:
    with pytest.raises(VidactError, match=rf"matrix\.shape = \({shape[0]}, ?"):
        inspect.unwrap(confusion_matrix)(np.zeros(shape, dtype=int), names, title="")


def test_a_matrix_with_counts_below_zero_is_refused() -> None:
    with pytest.raises(VidactError, match=r"matrix\.min\(\) = .*-1"):
        confusion_matrix(np.array([[1, -1], [0, 2]]), ["a", "b"], title="")
