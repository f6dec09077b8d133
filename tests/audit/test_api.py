"""`audit` from Python, with factors of one's own."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from vidact.audit import audit
from vidact.audit.factors.clips import Clips
from vidact.core.errors import ConfigError


class Corner:
    """The upper left corner of so many pixels."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __repr__(self) -> str:
        return f"Corner({self.side})"

    def exchange(self, clips: Clips, donors: Clips) -> Tensor:
        clips.video[..., : self.side, : self.side] = donors.video[..., : self.side, : self.side]
        return clips.video


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"sections": ("border",), "donors": 2, "accelerator": "cpu"}


def test_a_factor_of_ones_own_is_asked_beside_the_sections(
    small_run: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "audit"
    found = audit(small_run, factors={"logo": Corner(8)}, out=out, **settings)
    assert set(found.content["sections"]) == {"border", "logo"}
    assert "the logo" in found.verdict or "logo" in found.verdict
    assert found["logo"].verdict == "cannot say"
    assert found["logo"].same.mean == found["logo"].main.same.mean
    assert found.content["settings"]["method"] is None
    with pytest.raises(KeyError, match="'background' was not asked; there are border, logo"):
        found["background"]
    assert found.check("logo.lean.high > 0.2"), "what could not be measured fails where it must be sure"
    with pytest.raises(ConfigError, match="background"):
        found.check("background.lean.high > 0.2")


def test_another_factor_by_the_same_name_is_asked_anew(
    small_run: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    def modified(side: int) -> dict[Path, int]:
        audit(small_run, factors={"logo": Corner(side)}, out=tmp_path / "audit", **settings)
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "audit" / "clips").rglob("*.json")}

    first = modified(8)
    assert modified(8) == first, "the same is kept"
    other = modified(16)
    assert all(other[path] != time for path, time in first.items())


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"cuts": Corner(3)}, "a factor cannot be named cuts"),
        ({"regions": Corner(3)}, "a factor cannot be named regions"),
        ({"leans": Corner(3)}, "a factor cannot be named leans"),
        ({"my logo": Corner(3)}, "a factor's name is one of letters, digits and _, got 'my logo'"),
    ],
)
def test_names_that_mean_something_else_are_refused(
    small_run: Path, settings: dict[str, Any], factors: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        audit(small_run, factors=factors, **settings)
