"""Curves are where their numbers are, methods are listed by what lies between them, and their text can be read."""

import numpy as np
import pytest
from figures import LONG_TITLE, drawn_texts, layout_faults
from jaxtyping import Float
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from vidact.core.errors import VidactError
from vidact.drawing.evaluation.perturbation import Band, FillPanel, MethodCurves, gap_text, perturbation_curves
from vidact.drawing.evaluation.styles import CONTROL_COLOUR, method_styles

METHODS = ["lrp:epsilon_plus", "gradient", "grad_cam:features.3_$with_^a_very_long_name_of_a_layer", "smoothgrad"]
CONTROLS = ["centre", "motion_energy"]


def band(mean: Float[np.ndarray, " S"], *, half: float = 0.3) -> Band:
    return Band(mean, mean - half, mean + half)


def curves(method: str, *, gap: float, steps: int = 11) -> MethodCurves:
    falling = np.linspace(4.0, 0.0, steps)
    return MethodCurves(method, band(falling), band(falling + gap))


def panel(fill: str = "noise", *, count: int = 6, steps: int = 11) -> FillPanel:
    names = [*METHODS, *CONTROLS, *(f"method_{number}" for number in range(20))][:count]
    methods = tuple(curves(name, gap=float(place), steps=steps) for place, name in enumerate(names))
    return FillPanel(fill, np.linspace(0, 1, steps), methods, band(np.linspace(4.0, 0.0, steps)))


def figure_of(*panels: FillPanel, title: str = "curves") -> Figure:
    return perturbation_curves(panels, controls=CONTROLS, unit_name="tubes", title=title)


def test_both_orders_of_each_method_and_the_random_one_are_drawn() -> None:
    one = panel(count=2)
    axes = next(axes for axes in figure_of(one).axes if axes.get_xlabel())
    drawn = [line.get_ydata() for line in axes.lines]
    expected = [band.mean for c in one.methods for band in (c.least_first, c.most_first)]
    assert one.random_order is not None
    for mean in [*expected, one.random_order.mean]:
        assert any(np.array_equal(mean, line) for line in drawn)
    assert len(axes.collections) == 5, "a band of each"
    assert axes.get_xlim() == (0, 100)
    assert {line.get_linestyle() for line in axes.lines[1:]} == {"-", "--"}


def test_of_many_methods_only_the_best_and_the_best_control_have_bands() -> None:
    figure = figure_of(panel(count=6))  # the later, the wider apart
    axes = next(axes for axes in figure.axes if axes.get_xlabel())
    colours = [to_rgba(band.get_facecolor()[0])[:3] for band in axes.collections]
    fourth = method_styles([*METHODS, *CONTROLS], controls=CONTROLS)["smoothgrad"].colour
    expected = {to_rgba(fourth)[:3]: 2, to_rgba(CONTROL_COLOUR)[:3]: 2, to_rgba("0.85")[:3]: 1}
    assert {colour: colours.count(colour) for colour in colours} == expected


def test_bands_that_reach_far_do_not_make_the_curves_flat() -> None:
    falling = np.linspace(5.0, 4.0, 11)
    one = MethodCurves("a", band(falling, half=90.0), band(falling + 1, half=90.0))
    axes = next(axes for axes in figure_of(FillPanel("n", np.linspace(0, 1, 11), (one,))).axes if axes.get_xlabel())
    assert axes.get_ylim() == pytest.approx((3.4, 6.6))
    flat = MethodCurves("a", band(np.ones(11), half=0.0), band(np.ones(11), half=0.0))
    assert layout_faults(figure_of(FillPanel("n", np.linspace(0, 1, 11), (flat,)))) == []


def test_methods_are_listed_by_the_area_between_their_curves_and_those_without_come_last() -> None:
    methods = [curves("a", gap=1.0), curves("b", gap=2.5), curves("c", gap=float("nan")), curves("d", gap=-0.5)]
    figure = figure_of(FillPanel("noise", np.linspace(0, 1, 11), tuple(methods)))
    listed = [text.get_text() for text in figure.axes[2].texts]
    assert listed == ["ABPC", "b", "2.50", "a", "1.00", "d", "−0.50", "c", "none"]


def test_controls_are_gray_and_methods_have_the_same_colour_in_every_panel() -> None:
    figure = figure_of(panel("a"), FillPanel("b", np.linspace(0, 1, 11), tuple(reversed(panel().methods))))
    places = [axes for axes in figure.axes if len(axes.texts) > 6]
    assert len(places) == 2
    for axes in places:
        names = [text.get_text() for text in axes.texts[1::2]]
        colours = dict(zip(names, [line.get_color() for line in axes.lines], strict=True))
        assert all(colours[name] == CONTROL_COLOUR for name in CONTROLS)
        assert [colours[name] for name in ("lrp:epsilon_plus", "gradient")] == ["#0072b2", "#d55e00"]


def test_no_two_methods_look_alike() -> None:
    names = [f"method_{number}" for number in range(20)]
    styles = method_styles([*names, *CONTROLS], controls=CONTROLS)
    assert len(set(styles.values())) == 22
    assert all(to_rgba(styles[name].colour)[:3] == to_rgba("0.5")[:3] for name in CONTROLS)


@pytest.mark.parametrize(
    ("num_panels", "count", "title"),
    [(1, 1, LONG_TITLE), (1, 14, "curves"), (2, 6, LONG_TITLE), (5, 1, "curves"), (5, 14, LONG_TITLE)],
)
def test_the_text_neither_overlaps_nor_is_cut_off(num_panels: int, count: int, title: str) -> None:
    fills = ["temporal mean of the unit (removes motion)", "noise", "x", "y" * 90, "mean of the data set"]
    figure = figure_of(*(panel(fill, count=count) for fill in fills[:num_panels]), title=title)
    assert layout_faults(figure) == []
    assert any(text.get_text() == "tubes replaced (%)" for text in drawn_texts(figure))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scores_of_any_size_and_without_a_value_are_drawn(scale: float) -> None:
    nothing = np.full(11, np.nan)
    falling = scale * np.linspace(4.0, 0.0, 11)
    partly = np.where(np.arange(11) > 5, np.nan, falling)
    methods = tuple(
        MethodCurves(str(number), band(mean), band(falling)) for number, mean in enumerate((nothing, partly))
    )
    figure = figure_of(FillPanel("noise", np.linspace(0, 1, 11), methods, Band(falling, nothing, nothing)))
    assert layout_faults(figure) == []


def test_curves_that_do_not_fit_are_named() -> None:
    with pytest.raises(VidactError, match="at least one panel"):
        figure_of()
    with pytest.raises(VidactError, match="noise: expected a value at each of 5 steps"):
        FillPanel("noise", np.linspace(0, 1, 5), (curves("a", gap=1.0),))
    with pytest.raises(VidactError, match="both ends at every step"):
        Band(np.zeros(3), np.zeros(2), np.zeros(3))
    assert gap_text(float("inf")) == "none"
