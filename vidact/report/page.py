"""Render run views as one HTML page, and write it; the page needs no network, no server and no other file."""

import base64
import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from vidact.attribution.names import HOTSPOT_THRESHOLD
from vidact.core.errors import VidactError
from vidact.core.files import atomic_writer
from vidact.drawing import figure as images
from vidact.drawing import grid
from vidact.report.contents import ClipView, Outcome, RunView
from vidact.report.encoding import FULL_SCALE, ZERO_BYTE
from vidact.report.findings.contents import Triplet
from vidact.report.players import Player, fair_order, gather_players, make_player
from vidact.report.summary import beats_all, confusion_cells, interval_text, levels, percent, verdict

LIMIT_BYTES = 20_000_000
GENERATOR = b'<meta name="generator" content="vidact">'
_SCRIPTS = ("drawing.js", "charts.js", "player.js", "triplets.js", "report.js")


def report_page(
    runs: Sequence[RunView],
    *,
    title: str = "",
    threshold: float = HOTSPOT_THRESHOLD,
    limit_bytes: int = LIMIT_BYTES,
) -> str:
    """Render one trained network, or several side by side, as one HTML page.

    Args:
        runs: At least one; clips that several of them show are played side by side.
        title: Of the page; empty names the runs.
        threshold: A voxel is a hotspot if its relevance is at least this share of max|R| over the clip.
        limit_bytes: Of the page. Clips that do not fit are omitted, evenly over runs, classes, and right and
            wrong ones, and the page says so.

    Raises:
        VidactError: there is no run, the threshold is not in [0, 1], or the page is too large without any clip.
    """
    if not runs:
        raise VidactError("expected at least one run to report on, got none")
    _check_threshold(threshold)
    players = gather_players(runs, threshold=threshold)
    bodies = [_player_body(player, number, several=len(runs) > 1) for number, player in enumerate(players)]
    title = title or ", ".join(run.name for run in runs)
    return _Report(runs, players, bodies, title=title, threshold=threshold, limit_bytes=limit_bytes).fitted()


def clip_page(clip: ClipView, *, threshold: float = HOTSPOT_THRESHOLD) -> str:
    """Show one clip's player as a page of its own, to be put into an `<iframe srcdoc="…">`.

    Raises:
        VidactError: the threshold is not in [0, 1], or there is no frame.
    """
    _check_threshold(threshold)
    player = make_player([("", clip)], threshold=threshold)
    body = _player_body(player, 0, several=False)
    return _page("clip.html.j2", title=clip.clip_id, threshold=threshold, player=player, body=body)


def is_page(path: Path) -> bool:
    """Say whether a file is a page that `write_page` wrote.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return GENERATOR in file.read(1000)


def write_page(html: str, path: Path) -> None:
    """Write a page; the file appears under its name only when it is whole.

    Raises:
        EnvironmentProblem: it cannot be written there.
    """
    with atomic_writer(path) as file:
        file.write(html)


class _Report:
    """A report that is rendered with as many clips as fit into its limit of bytes."""

    def __init__(
        self,
        runs: Sequence[RunView],
        players: Sequence[Player],
        bodies: Sequence[Markup],
        *,
        limit_bytes: int,
        **settings: Any,
    ) -> None:
        self.runs, self.players, self.bodies, self.settings = runs, players, bodies, settings
        self.limit_bytes = limit_bytes

    def fitted(self) -> str:
        """Render the page with as many clips as fit."""
        limit_bytes = self.limit_bytes
        shown = list(range(len(self.players)))
        order = fair_order(self.players)
        html = self.render(shown)
        if _size(html) > limit_bytes:
            room = limit_bytes - _size(self.render([]))
            if room < 0:
                raise VidactError(
                    f"the report takes {limit_bytes - room} bytes without any clip, more than {limit_bytes = }; "
                    "raise the limit or report on fewer runs"
                )
            shown = _that_fit([_size(body) for body in self.bodies], order, room=room)
            # Around a body the page has links and names as well, so the last few may not fit after all.
            while _size(html := self.render(shown)) > limit_bytes:
                shown.remove(max(shown, key=order.index))
        return html

    def render(self, shown: Sequence[int]) -> str:
        """Render the page with some of the clips."""
        players = [self.players[number] for number in sorted(shown)]
        links = {player.clip_id: f"clip-{number}" for number, player in enumerate(self.players) if number in shown}
        omitted = [player.clip_id for number, player in enumerate(self.players) if number not in shown]
        return _page(
            "report.html.j2",
            runs=self.runs,
            bodies=[self.bodies[number] for number in sorted(shown)],
            classes=sorted({player.true_class for player in players if player.true_class is not None}),
            methods=list(dict.fromkeys(method for player in players for method in player.methods)),
            links=links,
            omitted=omitted,
            num_clips=len(self.players),
            unusable=[line for player in self.players for line in player.left_out],
            limit_bytes=self.limit_bytes,
            **self.settings,
        )


def _that_fit(sizes: Sequence[int], order: Sequence[int], *, room: int) -> list[int]:
    """Choose clips that fit, in the given order; a smaller one may follow one that is too large."""
    chosen = []
    for number in order:
        if sizes[number] <= room:
            chosen.append(number)
            room -= sizes[number]
    return chosen


def _player_body(player: Player, number: int, *, several: bool) -> Markup:
    return Markup(_environment().get_template("player.html.j2").render(player=player, number=number, several=several))


def _page(template: str, *, threshold: float, **values: Any) -> str:
    style, script = _texts("report.css"), _texts(*_SCRIPTS)
    html = (
        _environment()
        .get_template(template)
        .render(
            style=Markup(style),
            script=Markup(script),
            # Names of files and classes are escaped; should one get through, the browser runs no script but ours.
            policy=(
                "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
                f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
            ),
            constants=_constants(threshold),
            threshold=threshold,
            **values,
        )
    )
    # File names may hold what no encoding can write; such characters are shown by their numbers.
    return html.encode("utf-8", "backslashreplace").decode("utf-8")


def _constants(threshold: float) -> dict[str, Any]:
    """Give the script the colours and numbers of `figure`, `grid` and `encoding`, so that each is defined once."""
    return {
        "relevanceColours": images.RELEVANCE_COLOURS,
        "numShades": images.NUM_RELEVANCE_SHADES,
        "forColour": images.FOR_COLOUR,
        "againstColour": images.AGAINST_COLOUR,
        "hotspotColour": grid.HOTSPOT_COLOUR,
        "hotspotOpacity": grid.HOTSPOT_OPACITY,
        "clipPercentile": images.CLIP_PERCENTILE,
        "threshold": threshold,
        "zeroByte": ZERO_BYTE,
        "fullScale": FULL_SCALE,
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("vidact.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Browsers parse neither NaN nor Infinity in JSON, so they must fail here.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters |= {
        "percent": percent,
        "interval": interval_text,
        "base64": _base64,
        "plain": _plain,
        "triplet": _triplet,
        "breakable": _breakable,
    }
    environment.globals |= {
        "levels": levels,
        "verdict": verdict,
        "beats_all": beats_all,
        "confusion_cells": confusion_cells,
    }
    return environment


@cache
def _texts(*names: str) -> str:
    folder = files("vidact.report") / "templates"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "replace")).decode("ascii")


def _plain(outcome: Outcome) -> dict[str, Any]:
    """Write an outcome as JSON has it, where a probability that is no number is null."""
    return asdict(outcome) | ({} if math.isfinite(outcome.probability) else {"probability": None})


def _triplet(one: Triplet) -> dict[str, Any]:
    """Give the script what it draws from."""
    return {"sprite": asdict(one.sprite), "frames": one.num_frames, "gap": one.gap}


def _breakable(name: str) -> Markup:
    """Escape a name, and allow line breaks after `_`, `/`, `.` and `-`."""
    return Markup("<wbr>").join(escape(part) for part in re.findall(r"[^_/.-]*[_/.-]*", name))


def _size(text: str) -> int:
    return len(text.encode("utf-8", "backslashreplace"))


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise VidactError(f"expected a hotspot threshold from 0 to 1, got {threshold}")
