"""Log pictures, videos, tables, charts and files to wandb, if it is used.

What wandb does not take is skipped there, with one warning per kind.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger

from vidact.runs.loggers.wandb import GuardedWandbLogger, guard_of, media_key_of

MAX_WANDB_IMAGES = 108  # wandb shows no more of one list
PICTURE, VIDEO, TABLE, CHART = "a picture", "a video", "a table", "a chart"


@dataclass(frozen=True)
class BarChart:
    """A bar chart that wandb draws itself.

    Attributes:
        title: What they show.
        label: What the bars are called.
        value: What their height means, with its unit.
        bars: Name and height of each.
    """

    title: str
    label: str
    value: str
    bars: Sequence[tuple[str, float | int]]


def log_pictures(trainer: Trainer, key: str, paths: Sequence[Path], captions: Sequence[str]) -> None:
    """Log PNG files to wandb, under `key`, `key_2`, … if they are more than wandb shows of one key."""
    for logger in _wandb_loggers(trainer):
        for number, start in enumerate(range(0, len(paths), MAX_WANDB_IMAGES), start=1):
            part = slice(start, start + MAX_WANDB_IMAGES)
            name = key if number == 1 else f"{key}_{number}"
            _log_list(logger, name, paths[part], captions[part], kind=PICTURE)


def log_videos(trainer: Trainer, key: str, paths: Sequence[Path], captions: Sequence[str]) -> None:
    """Log MP4 files to wandb, at most as many as it shows of one key."""
    for logger in _wandb_loggers(trainer):
        _log_list(logger, key, paths[:MAX_WANDB_IMAGES], captions[:MAX_WANDB_IMAGES], kind=VIDEO)


def log_table(trainer: Trainer, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Log a table to wandb; a path in it becomes the picture or video of that file."""
    for logger in _wandb_loggers(trainer):
        data = [[_cell(logger, value) for value in row] for row in rows]
        _log(logger, key, partial(wandb.Table, columns=list(columns), data=data), kind=TABLE)


def log_bars(trainer: Trainer, charts: Mapping[str, BarChart]) -> None:
    """Log charts that wandb draws itself; its slider goes through the epochs."""
    for logger in _wandb_loggers(trainer):
        for key, chart in charts.items():
            _log(logger, key, partial(_drawn_by_wandb, chart), kind=CHART)


def log_file(trainer: Trainer, path: Path, *, name: str, kind: str) -> None:
    """Log a file to wandb as an artifact of the run."""
    log_files(trainer, {path.name: path}, name=name, kind=kind)


def log_files(trainer: Trainer, paths: Mapping[str, Path], *, name: str, kind: str) -> None:
    """Log files to wandb, by their names there, as an artifact of the run."""
    for logger in _wandb_loggers(trainer):
        if isinstance(logger, GuardedWandbLogger):
            logger.log_files(paths, name=name, kind=kind)


def _wandb_loggers(trainer: Trainer) -> list[WandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def _log(logger: WandbLogger, key: str, make: Callable[[], Any], *, kind: str) -> None:
    """Make a thing of wandb's and log it."""
    log = WandbLogger.log_metrics  # not the guarded one, which does not know of what kind it is
    guard_of(logger).attempt(kind, lambda: log(logger, {media_key_of(logger, key): make()}), name=key)


def _log_list(logger: WandbLogger, key: str, paths: Sequence[Path], captions: Sequence[str], *, kind: str) -> None:
    """Log files under one key, without those that cannot be read."""
    pairs = zip(paths, captions, strict=True)
    made = [_media(logger, path, caption=caption) for path, caption in pairs]
    if known := [one for one in made if one is not None]:
        _log(logger, key, lambda: known, kind=kind)


def _cell(logger: WandbLogger, value: Any) -> Any:
    return _media(logger, value) if isinstance(value, Path) else value


def _media(logger: WandbLogger, path: Path, **settings: Any) -> Any:
    """Make wandb's picture or video of a file; None if wandb cannot read it."""
    is_video = path.suffix == ".mp4"
    make = wandb.Video if is_video else wandb.Image
    kind = VIDEO if is_video else PICTURE
    return guard_of(logger).attempt(kind, lambda: make(str(path), **settings), name=path.name)


def _drawn_by_wandb(chart: BarChart) -> Any:
    table = wandb.Table(columns=[chart.label, chart.value], data=[list(bar) for bar in chart.bars])
    return wandb.plot.bar(table, chart.label, chart.value, title=chart.title)
