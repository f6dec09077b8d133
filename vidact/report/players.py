"""Arrange clips for the players in the page: what one or several runs show of a clip, on one time line."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np

from vidact.report.contents import ClipView, RelevanceView, RunView
from vidact.report.encoding import Sprite, pack_frames, pack_relevance

NO_EXPLANATION = -1
_SHARED_ROLES = ("predicted", "true")  # every run has its own class for these


@dataclass(frozen=True)
class Panel:
    """What one run shows of a clip.

    Attributes:
        run: The run's name.
        probabilities: Class and probability, the most probable first.
        is_right: Whether the prediction is the true class; None if unknown.
        width: Of the pictures, in pixels.
        height: Of the pictures, in pixels.
    """

    run: str
    probabilities: tuple[tuple[str, float], ...]
    is_right: bool | None
    width: int
    height: int


@dataclass(frozen=True)
class Player:
    """A clip with a panel for each run that shows it.

    Attributes:
        clip_id: `class/name`, or a file's name.
        true_class: None if unknown.
        panels: In the order of the runs.
        methods: Methods that the reader can choose.
        targets: Targets that the reader can choose.
        num_steps: Moments of the time line.
        data: What the script draws from; plain values.
        left_out: What could not be shown, a line each with the reason.
    """

    clip_id: str
    true_class: str | None
    panels: tuple[Panel, ...]
    methods: tuple[str, ...]
    targets: tuple[str, ...]
    num_steps: int
    data: dict[str, Any] = field(repr=False)
    left_out: tuple[str, ...] = ()

    @property
    def verdicts(self) -> str:
        """Whether each run is right, as the filter reads it: `right wrong`, `unknown`."""
        words = {True: "right", False: "wrong", None: "unknown"}
        return " ".join(words[panel.is_right] for panel in self.panels)


def gather_players(runs: Sequence[RunView], *, threshold: float) -> list[Player]:
    """Bring together what all runs show of each clip; clips are in the order in which runs show them."""
    shown: dict[str, list[tuple[str, ClipView]]] = {}
    for run in runs:
        for clip in run.clips:
            shown.setdefault(clip.clip_id, []).append((run.name, clip))
    return [make_player(views, threshold=threshold) for views in shown.values()]


def make_player(views: Sequence[tuple[str, ClipView]], *, threshold: float) -> Player:
    """Arrange a clip for its player.

    Args:
        views: Names of runs, and what each shows of this clip.
        threshold: A voxel is a hotspot if its relevance is at least this share of max|R| over the clip.
    """
    names = [name for name, _ in views]
    clips = [clip for _, clip in views]
    usable = [[e for e in clip.explanations if np.isfinite(e.relevance).all()] for clip in clips]
    sprites = [pack_frames(clip.video) for clip in clips]
    methods = list(dict.fromkeys(e.method for explanations in usable for e in explanations))
    targets = _target_labels(usable)
    times, steps = _time_line(clips)
    # Runs often show the same frames: each sprite is in the page once.
    pictures = list(dict.fromkeys(sprite.uri for sprite in sprites))
    runs = []
    for clip, sprite, explanations, places in zip(clips, sprites, usable, steps, strict=True):
        packed = [_packed(explanation, threshold=threshold) for explanation in explanations]
        choices = [[_choose(explanations, clip, method, key) for key in targets] for method in methods]
        frames = {**asdict(sprite), "uri": pictures.index(sprite.uri)}
        moments = {"numbers": clip.frame_numbers.tolist(), "seconds": clip.times_seconds.tolist(), "places": places}
        runs.append({"sprite": frames, **moments, "explanations": packed, "choices": choices})
    return Player(
        clip_id=clips[0].clip_id,
        true_class=next((clip.true_class for clip in clips if clip.true_class is not None), None),
        panels=tuple(_panel(*each) for each in zip(names, clips, sprites, strict=True)),
        methods=tuple(methods),
        targets=tuple(targets.values()),
        num_steps=len(times),
        data={"pictures": pictures, "times": times, "runs": runs},
        left_out=tuple(_not_finite(views)),
    )


def _panel(name: str, clip: ClipView, sprite: Sprite) -> Panel:
    is_known = clip.true_class is not None and clip.probabilities
    is_right = clip.probabilities[0][0] == clip.true_class if is_known else None
    return Panel(name, clip.probabilities, is_right, sprite.width, sprite.height)


def _packed(explanation: RelevanceView, *, threshold: float) -> dict[str, Any]:
    conservation = explanation.conservation
    return {
        "method": explanation.method,
        "target": explanation.target,
        "role": explanation.role,
        "unit": explanation.unit,
        "score": _number(explanation.score),
        "conservation": None if conservation is None else _number(conservation),
        "where": explanation.where,
        **asdict(pack_relevance(explanation.relevance, threshold=threshold)),
    }


def _number(value: float) -> float | None:
    """Replace NaN and infinity, which JSON does not have, by None."""
    return float(value) if math.isfinite(value) else None


def _not_finite(views: Iterable[tuple[str, ClipView]]) -> Iterable[str]:
    for run, clip in views:
        for e in clip.explanations:
            if broken := int(np.sum(~np.isfinite(e.relevance))):
                yield f"{clip.clip_id}, {run}: {e.method} of {e.target}: {broken} voxels are NaN or infinite"


def _time_line(clips: Sequence[ClipView]) -> tuple[list[float], list[list[int]]]:
    """Lay the frames of all runs on one time line.

    Returns:
        The moments in seconds, and for each run which of its frames each moment shows: the nearest in time.
    """
    first = clips[0].times_seconds
    if all(np.array_equal(clip.times_seconds, first) for clip in clips):
        return first.tolist(), [list(range(len(first)))] * len(clips)
    times = np.unique(np.concatenate([clip.times_seconds for clip in clips]))
    return times.tolist(), [np.abs(times[:, None] - clip.times_seconds).argmin(axis=1).tolist() for clip in clips]


def _target_key(explanation: RelevanceView) -> tuple[str, str]:
    return explanation.role, "" if explanation.role in _SHARED_ROLES else explanation.target


def _target_labels(explanations: Iterable[Iterable[RelevanceView]]) -> dict[tuple[str, str], str]:
    """Name each target that can be chosen: `predicted: run`, or `predicted class` if runs predict different ones."""
    found: dict[tuple[str, str], set[str]] = {}
    for one_run in explanations:
        for explanation in one_run:
            found.setdefault(_target_key(explanation), set()).add(explanation.target)
    return {
        key: f"{key[0]}: {next(iter(targets))}" if len(targets) == 1 else f"{key[0]} class"
        for key, targets in found.items()
    }


def _choose(explanations: Sequence[RelevanceView], clip: ClipView, method: str, key: tuple[str, str]) -> int:
    """Find the explanation by a method of a target; where a run is right, its predicted class is the true one."""
    classes = {"true": clip.true_class, "predicted": clip.probabilities[0][0] if clip.probabilities else None}
    candidates = [(number, e) for number, e in enumerate(explanations) if e.method == method]
    for number, explanation in candidates:
        if _target_key(explanation) == key:
            return number
    for number, explanation in candidates:
        if explanation.role in _SHARED_ROLES and explanation.target == classes.get(key[0]):
            return number
    return NO_EXPLANATION


def fair_order(players: Sequence[Player]) -> list[int]:
    """Order clips so that any number of the first holds all runs, right and wrong ones, and classes evenly."""
    groups: dict[tuple[Any, ...], dict[str, list[int]]] = {}
    for number, player in enumerate(players):
        kind = (*(panel.run for panel in player.panels), player.verdicts)
        groups.setdefault(kind, {}).setdefault(player.true_class or "", []).append(number)
    return _in_turn([_in_turn(list(classes.values())) for classes in groups.values()])


def _in_turn(lists: Sequence[Sequence[int]]) -> list[int]:
    """Take from each list in turn: `[[1, 2, 3], [4]]` gives `[1, 4, 2, 3]`."""
    return [number for turn in zip_longest(*lists) for number in turn if number is not None]
