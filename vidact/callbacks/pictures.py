"""Put pictures where a person finds them: files under the run folder, and the same files in wandb.

It does not know what the pictures show.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger

from vidact.callbacks.loggers import BarChart, GuardedWandbLogger, as_chart, as_media

MAX_WANDB_IMAGES = 108  # wandb shows no more of one list


def run_folder(trainer: Trainer) -> Path:
    """Name the folder of this run's checkpoints, config and pictures; call it on every process."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def log_pictures(trainer: Trainer, key: str, paths: Sequence[Path], captions: Sequence[str]) -> None:
    """Hand PNG files to wandb, if it is used; as `key`, `key_2`, … where they are more than wandb shows of one."""
    for logger in _wandb_loggers(trainer):
        for number, start in enumerate(range(0, len(paths), MAX_WANDB_IMAGES), start=1):
            part = slice(start, start + MAX_WANDB_IMAGES)
            name = key if number == 1 else f"{key}_{number}"
            logger.log_image(name, [str(path) for path in paths[part]], caption=list(captions[part]))


def log_videos(trainer: Trainer, key: str, paths: Sequence[Path], captions: Sequence[str]) -> None:
    """Hand MP4 files to wandb, if it is used; at most as many as wandb shows of one list."""
    for logger in _wandb_loggers(trainer):
        part = slice(MAX_WANDB_IMAGES)
        logger.log_video(key, [str(path) for path in paths[part]], caption=list(captions[part]))


def log_table(trainer: Trainer, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Hand a table to wandb, if it is used; a path in it becomes the picture or the video that lies there."""
    for logger in _wandb_loggers(trainer):
        logger.log_table(key, columns=list(columns), data=[[as_media(value) for value in row] for row in rows])


def log_bars(trainer: Trainer, charts: Mapping[str, BarChart]) -> None:
    """Hand numbers to wandb, if it is used, as charts of its own: its slider goes through the epochs."""
    for logger in _wandb_loggers(trainer):
        logger.log_metrics({key: as_chart(chart) for key, chart in charts.items()})


def log_file(trainer: Trainer, path: Path, *, name: str, kind: str) -> None:
    """Keep a file as an artifact of the run in wandb, if it is used."""
    log_files(trainer, {path.name: path}, name=name, kind=kind)


def log_files(trainer: Trainer, paths: Mapping[str, Path], *, name: str, kind: str) -> None:
    """Keep files, by their names there, as an artifact of the run in wandb, if it is used."""
    for logger in _wandb_loggers(trainer):
        if isinstance(logger, GuardedWandbLogger):
            logger.log_files(paths, name=name, kind=kind)


def _wandb_loggers(trainer: Trainer) -> list[WandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
