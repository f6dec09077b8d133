"""Measure how well trained networks do on clips they have not seen, also with less than the clips tell.

It trains and explains nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch

from vidact.analysis.intervals import ClusteredMean, clustered_mean
from vidact.core import ConfigError
from vidact.data.datamodule import VideoDataModule
from vidact.data.sampling import FrameOrder
from vidact.durable import atomic_writer
from vidact.measured import SEED, MeasuredPart, measure_part
from vidact.runs import Run, relative

TAGS = "tags"


@dataclass(frozen=True)
class Accuracy:
    """How many clips of a part a network recognises.

    Attributes:
        name: Where the run is; `all` for several runs together.
        frame_order: In what order it saw the frames, see `sampling.reorder`.
        clips: Share of the clips, with the 95 % interval by source; where several runs measure the same clips, or
            clips of the same source, these are one group.
        classes: Mean of the classes' shares.
        chance: One in K.
        tags: What the tags of the file names reach without a pixel; None where they cannot be read.
        parameters: Numbers that the network has learned.
    """

    name: str
    frame_order: FrameOrder
    clips: ClusteredMean
    classes: float
    chance: float
    tags: float | None
    parameters: int


@dataclass(frozen=True)
class _Measured:
    accuracy: Accuracy
    right: torch.Tensor
    sources: list[str]


def frame_orders_named(names: Sequence[str]) -> list[FrameOrder]:
    """Give the orders of frames by their names.

    Raises:
        ConfigError: an order that there is not, or none is named.
    """
    known: dict[str, FrameOrder] = {order: order for order in get_args(FrameOrder)}
    for name in names or [""]:
        if name not in known:
            raise ConfigError(f"--frame_orders: expected some of {', '.join(known)}, got {name!r}")
    return [known[name] for name in names]


def measure_accuracies(
    runs: Sequence[Run], *, part: str, orders: Sequence[FrameOrder], device: torch.device
) -> list[Accuracy]:
    """Measure runs, and all of them together where they are several.

    Args:
        runs: Of the same classes.
        part: `validation` or `test`.
        orders: Each run is measured with each.
        device: Where to.

    Raises:
        ConfigError: an unknown part, or runs of different classes.
        DataError: the data of a run is not where it was.
    """
    if part not in ("validation", "test"):
        raise ConfigError(f"--part is validation or test, got {part!r}")
    for run in runs[1:]:
        if run.class_names != runs[0].class_names:
            raise ConfigError(
                f"{run.name} knows the classes {list(run.class_names)}, {runs[0].name} {list(runs[0].class_names)}; "
                "measure them apart"
            )
    rows, data = [], [run.build_data() for run in runs]
    for order in orders:
        measured = [
            _measure(run, own, part=part, order=order, device=device) for run, own in zip(runs, data, strict=True)
        ]
        rows += [one.accuracy for one in measured]
        if len(measured) > 1:
            rows.append(_together(measured))
    return rows


def _measure(run: Run, data: VideoDataModule, *, part: str, order: FrameOrder, device: torch.device) -> _Measured:
    data.order_frames(order)
    found = measure_part(run, part, device=device, data=data)
    sources = [found.window(clip).clip.source for clip in range(len(found.label))]
    accuracy = Accuracy(
        name=relative(run.folder or run.checkpoint),
        frame_order=order,
        clips=_mean(found.is_right, sources),
        classes=_class_mean(found),
        chance=1 / len(run.class_names),
        tags=_tags(found),
        parameters=sum(parameter.numel() for parameter in run.network.parameters()),
    )
    return _Measured(accuracy, found.is_right, sources)


def _mean(right: torch.Tensor, sources: list[str]) -> ClusteredMean:
    return clustered_mean(right.double(), sources, generator=torch.Generator().manual_seed(SEED))


def _class_mean(found: MeasuredPart) -> float:
    classes = sorted(set(found.label.tolist()))
    shares = [found.is_right[found.label == label].double().mean() for label in classes]
    return float(torch.stack(shares).mean())


def _tags(found: MeasuredPart) -> float | None:
    guess = next((one for one in found.data.leakage.guesses if one.feature == TAGS), None)
    return None if guess is None else getattr(guess, found.part)


def _together(measured: Sequence[_Measured]) -> Accuracy:
    rows = [one.accuracy for one in measured]
    tags = [row.tags for row in rows if row.tags is not None]
    return replace(
        rows[0],
        name="all",
        clips=_mean(torch.cat([one.right for one in measured]), [name for one in measured for name in one.sources]),
        classes=sum(row.classes for row in rows) / len(rows),
        tags=sum(tags) / len(tags) if tags else None,
    )


def table(rows: Sequence[Accuracy]) -> str:
    """Lay accuracies out as Markdown."""
    head = ("run", "frames", "clips recognised (95 %)", "mean of classes", "clips", "sources", "chance", "tags")
    lines = [
        (
            row.name,
            row.frame_order,
            f"{100 * row.clips.value:.1f} % ({100 * row.clips.low:.1f}–{100 * row.clips.high:.1f})",
            f"{100 * row.classes:.1f} %",
            str(row.clips.count),
            str(row.clips.num_groups),
            f"{100 * row.chance:.1f} %",
            "–" if row.tags is None else f"{100 * row.tags:.1f} %",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in (head, rule, *lines)
    )


def write_accuracies(path: Path, rows: Sequence[Accuracy], *, part: str) -> None:
    """Write accuracies as JSON.

    Raises:
        EnvironmentProblem: the file cannot be written.
    """
    record: dict[str, Any] = {"part": part, "accuracies": [asdict(row) for row in rows]}
    with atomic_writer(path) as file:
        file.write(json.dumps(record, indent=1) + "\n")
