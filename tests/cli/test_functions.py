from dataclasses import dataclass

import pytest

from vidact.cli.functions import run_function
from vidact.core.errors import ConfigError


@dataclass(frozen=True)
class Drawing:
    """How it is drawn.

    Attributes:
        colours: Names of colours, as '[red]'; the first is
            that of lines.
        width: In pixels.
    """

    colours: tuple[str, ...] = ("red",)
    width: int | None = None

    def __post_init__(self) -> None:
        if self.width == 0:
            raise ConfigError("--width must be at least 1")


given: list[object] = []


def draw(names: list[str], *, drawing: Drawing, json: bool = False) -> int:
    """Draw it.

    Args:
        names: What is drawn.
        drawing: How.
        json: Print JSON.
    """
    given.append((names, drawing, json))
    return 7


def test_the_fields_of_a_settings_dataclass_are_options_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_function(draw, "draw", ["a", "b"]) == 7
    assert given[-1] == (["a", "b"], Drawing(), False)
    assert run_function(draw, "draw", ["a", "--colours", "[blue, green]", "--width=3", "--json"]) == 7
    assert given[-1] == (["a"], Drawing(("blue", "green"), 3), True)
    run_function(draw, "draw", ["a", "--colours+=blue"])
    assert given[-1] == (["a"], Drawing(("red", "blue")), False)
    with pytest.raises(SystemExit):
        run_function(draw, "draw", ["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "Names of colours, as '[red]'; the first is that of lines. (type: list[str], default: ['red'])" in told
    assert "--drawing" not in told


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["a", "--width", "wide"], r"draw: --width: expected int \| None, got wide; see python -m vidact draw --help"),
        (["a", "--widht", "3"], "unrecognized arguments: --widht 3; nearest: --width"),
        (["a", "--width", "0"], "--width must be at least 1"),
    ],
)
def test_a_mistake_is_told_in_one_line(args: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_function(draw, "draw", args)
