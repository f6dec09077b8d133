"""Give each method the same look in all figures of an evaluation: colours for methods, grays for controls."""

from collections.abc import Sequence
from dataclasses import dataclass

# Okabe and Ito's palette without yellow, which white paper swallows: told apart by colour-blind readers.
METHOD_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "black")
CONTROL_COLOUR = "0.5"
_MARKERS = ("s", "^", "D", "v", "P", "X", "o")  # a circle last: a line without a marker has it where dots are runs


@dataclass(frozen=True)
class MethodStyle:
    """How a method is drawn.

    Attributes:
        colour: As matplotlib takes it.
        marker: On its line; empty for none.
    """

    colour: str
    marker: str


def method_styles(methods: Sequence[str], *, controls: Sequence[str]) -> dict[str, MethodStyle]:
    """Give each method a look of its own, by its place among the methods: the same in all figures of one evaluation.

    Methods differ in colour, and from the eighth on in their markers too; controls are gray and differ in markers.

    Args:
        methods: All, controls among them or not.
        controls: Those that look at no network.
    """
    styles = {}
    for place, name in enumerate(name for name in methods if name not in controls):
        turn, colour = divmod(place, len(METHOD_COLOURS))
        marker = _MARKERS[(turn - 1) % len(_MARKERS)] if turn else ""
        styles[name] = MethodStyle(METHOD_COLOURS[colour], marker)
    for place, name in enumerate(controls):
        styles[name] = MethodStyle(CONTROL_COLOUR, _MARKERS[-1 - place % len(_MARKERS)])
    return styles
