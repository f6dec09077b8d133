"""Measure how many clips trained networks recognise, also with frozen, shuffled or reversed frames.

`python -m vidact accuracy` uses it.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidact.core.errors import ConfigError
from vidact.core.files import atomic_writer
from vidact.core.intervals import ClusteredMean, clustered_mean
from vidact.core.terminal import printable
from vidact.data.datamodule import VideoDataModule
from vidact.data.video.sampling import FrameOrder
from vidact.runs.accuracy.parts import measure_part
from vidact.runs.folder import relative
from vidact.runs.run import Run

TAGS = "tags"
ALL, ENSEMBLE = "all", "ensemble"


@dataclass(frozen=True)
class Accuracy:
    """How many clips of a part a network recognises.

    Attributes:
        name: Where the run is; `all` for several runs together, `ensemble` where their probabilities are averaged.
        frame_order: Order in which it saw the frames, see `sampling.reorder`.
        clips: Share of the clips, with the 95 % interval by source; where several runs measure the same clips, or
            clips of the same source, these are one group.
        classes: Mean of the classes' shares.
        chance: One in K.
        tags: Accuracy of guessing from the tags in file names; None where there are none.
        parameters: Number of weights, of an ensemble that of all its networks; None for several networks of
            different sizes.
    """

    name: str
    frame_order: FrameOrder
    clips: ClusteredMean
    classes: float
    chance: float
    tags: float | None
    parameters: int | None


@dataclass(frozen=True)
class _Measured:
    """Predictions on a part, by one network or by several whose probabilities are averaged."""

    clips: tuple[str, ...]
    sources: tuple[str, ...]
    label: Int[Tensor, " N"]
    probabilities: Float[Tensor, "N K"]
    tags: float | None
    parameters: int

    @property
    def is_right(self) -> Bool[Tensor, " N"]:
        return self.probabilities.argmax(dim=1) == self.label


def parse_frame_orders(names: Sequence[str]) -> list[FrameOrder]:
    """Check names of frame orders.

    Raises:
        ConfigError: an unknown order, one given twice, or none.
    """
    known: dict[str, FrameOrder] = {order: order for order in get_args(FrameOrder)}
    for number, name in enumerate(names or [""]):
        if name not in known:
            raise ConfigError(f"--frame_orders: expected some of {', '.join(known)}, got {name!r}")
        if name in names[:number]:
            raise ConfigError(f"--frame_orders: {name} is given twice")
    return [known[name] for name in names]


def trained_frame_order(runs: Sequence[Run]) -> FrameOrder:
    """Give the frame order that all runs were trained with.

    Raises:
        ConfigError: they were trained with different ones.
    """
    orders = [str(run.data_settings.get("frame_order", "natural")) for run in runs]
    if len(set(orders)) > 1:
        told = ", ".join(f"{run.name} with {order}" for run, order in zip(runs, orders, strict=True))
        raise ConfigError(f"the runs were trained with different orders of frames ({told}); name --frame_orders")
    return parse_frame_orders(orders[:1])[0]


def check_part(part: str) -> None:
    """Refuse a part that is neither validation nor test.

    Raises:
        ConfigError: it is another one.
    """
    if part not in ("validation", "test"):
        raise ConfigError(f"--part is validation or test, got {part!r}")


def measure_accuracies(
    runs: Sequence[Run], *, part: str, orders: Sequence[FrameOrder], device: torch.device
) -> list[Accuracy]:
    """Measure runs one by one, several also together, and those that share their clips also as an ensemble.

    Args:
        runs: Of the same classes.
        part: `validation` or `test`.
        orders: Each run is measured with each.
        device: Where to.

    Raises:
        ConfigError: an unknown part, a run given twice, or runs of different classes.
        DataError: the data of a run is not where it was.
    """
    check_part(part)
    for run in runs[1:]:
        if run.class_names != runs[0].class_names:
            raise ConfigError(
                f"{run.name} knows the classes {list(run.class_names)}, {runs[0].name} {list(runs[0].class_names)}; "
                "measure them apart"
            )
    times = Counter(run.checkpoint.resolve() for run in runs)
    if twice := [path for path, number in times.items() if number > 1]:
        raise ConfigError(f"{relative(twice[0])} is given more than once; give each run once")
    folders = [run.folder or run.checkpoint for run in runs]
    names = [
        relative(run.checkpoint if folders.count(folder) > 1 else folder)
        for run, folder in zip(runs, folders, strict=True)
    ]
    rows, data = [], [run.build_data() for run in runs]
    for order in orders:
        measured = [
            _measure(run, own, part=part, order=order, device=device) for run, own in zip(runs, data, strict=True)
        ]
        for name, one in zip(names, measured, strict=True):
            rows.append(_accuracy([one], name=name, order=order))
        if len(measured) > 1:
            rows.append(_accuracy(measured, name=ALL, order=order))
        if ensembles := _ensembles(measured):
            rows.append(_accuracy(ensembles, name=ENSEMBLE, order=order))
    return rows


def _measure(run: Run, data: VideoDataModule, *, part: str, order: FrameOrder, device: torch.device) -> _Measured:
    data.order_frames(order)
    found = measure_part(run, part, device=device, data=data)
    clips = [found.window(clip).clip for clip in range(len(found.label))]
    guess = next((one for one in data.leakage.guesses if one.feature == TAGS), None)
    return _Measured(
        clips=tuple(clip.clip_id for clip in clips),
        sources=tuple(clip.source for clip in clips),
        label=found.label,
        probabilities=found.probabilities,
        tags=None if guess is None else getattr(guess, part),
        parameters=sum(parameter.numel() for parameter in run.network.parameters()),
    )


def _ensembles(measured: Sequence[_Measured]) -> list[_Measured]:
    """Average the probabilities of networks measured on the same clips; none if a network has clips of its own."""
    alike: dict[tuple[str, ...], list[_Measured]] = {}
    for one in measured:
        alike.setdefault(one.clips, []).append(one)
    if any(len(group) == 1 for group in alike.values()):
        return []
    return [
        replace(
            group[0],
            probabilities=torch.stack([one.probabilities for one in group]).mean(dim=0),
            parameters=sum(one.parameters for one in group),
        )
        for group in alike.values()
    ]


def _accuracy(measured: Sequence[_Measured], *, name: str, order: FrameOrder) -> Accuracy:
    right = torch.cat([one.is_right for one in measured]).double()
    sources = [source for one in measured for source in one.sources]
    tags = [one.tags for one in measured if one.tags is not None]
    sizes = {one.parameters for one in measured}
    return Accuracy(
        name=name,
        frame_order=order,
        clips=clustered_mean(right, sources),
        classes=mean(map(_class_mean, measured)),
        chance=1 / measured[0].probabilities.shape[1],
        tags=mean(tags) if tags else None,
        parameters=sizes.pop() if len(sizes) == 1 else None,
    )


def _class_mean(measured: _Measured) -> float:
    classes = sorted(set(measured.label.tolist()))
    return mean(float(measured.is_right[measured.label == label].double().mean()) for label in classes)


def table(rows: Sequence[Accuracy]) -> str:
    """Format accuracies as a Markdown table."""
    head = (
        "run",
        "frames",
        "clips recognised (95 %)",
        "mean of classes",
        "clips",
        "sources",
        "chance",
        "tags",
        "parameters",
    )
    lines = [
        (
            printable(row.name),
            row.frame_order,
            f"{100 * row.clips.value:.1f} % ({100 * row.clips.low:.1f}–{100 * row.clips.high:.1f})",
            f"{100 * row.classes:.1f} %",
            str(row.clips.count),
            str(row.clips.num_groups),
            f"{100 * row.chance:.1f} %",
            "–" if row.tags is None else f"{100 * row.tags:.1f} %",
            "–" if row.parameters is None else f"{row.parameters:,}",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in (head, rule, *lines)
    )


def holds_accuracies(path: Path) -> bool:
    """Say whether a file is one that `write_accuracies` wrote.

    Raises:
        OSError, ValueError: it cannot be read as JSON.
    """
    return set(json.loads(path.read_bytes())) == {"part", "accuracies"}


def write_accuracies(path: Path, rows: Sequence[Accuracy], *, part: str) -> None:
    """Write accuracies as JSON.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    record: dict[str, Any] = {"part": part, "accuracies": [asdict(row) for row in rows]}
    with atomic_writer(path) as file:
        file.write(json.dumps(record, indent=1) + "\n")
