"""Draw the explanation of a clip for the relevance callback: pictures, a video, and charts for wandb."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vidact.attribution.hotspots import frame_relevance, hotspots, hotspots_per_frame
from vidact.attribution.names import PREDICTED, unit_of
from vidact.core.clips import ClipBatch
from vidact.core.errors import VidactError
from vidact.drawing.clips.bars import frame_relevance_bars, hotspots_per_frame_bars
from vidact.drawing.figure import hotspot_overlay, relevance_heatmap, save_png
from vidact.drawing.video.file import DisplayFrame, write_overlay_video
from vidact.drawing.video.overlay import SampledRelevance
from vidact.runs.loggers.media import BarChart
from vidact.runs.loggers.wandb_names import file_stem
from vidact.training.callbacks.relevance.findings import Finding

PICTURES = ("overlay", "heatmap", "frame_relevance", "hotspots")
VIDEO = "overlay_video"
MAX_CHARTED_CLIPS = 16  # wandb shows a panel for each


def draw_finding(
    folder: Path, clips: ClipBatch, finding: Finding, *, title: str, threshold: float
) -> tuple[dict[str, Path], list[str]]:
    """Write the pictures and the video of one finding.

    Returns:
        The files by name, and the reasons why others are missing.
    """
    relevance = torch.from_numpy(finding.relevance)[None, None]  # [B, C, T, H, W]
    spots = hotspots(relevance, threshold=threshold)
    positive, negative = (part[0].numpy() for part in frame_relevance(relevance))
    numbers, times = clips.frame_numbers[finding.position].numpy(), clips.times_seconds[finding.position].numpy()
    video = clips.video[finding.position].numpy()
    counts, unit = hotspots_per_frame(spots)[0].numpy(), unit_of(finding.method)
    at: dict[str, Any] = {"frame_numbers": numbers, "times_seconds": times, "title": title}
    writers: dict[str, Callable[[Path], None]] = {
        "overlay": lambda path: save_png(hotspot_overlay(video, spots[0].numpy(), **at), path),
        "heatmap": lambda path: save_png(relevance_heatmap(finding.relevance, unit=unit, **at), path),
        "frame_relevance": lambda path: save_png(frame_relevance_bars(positive, negative, unit=unit, **at), path),
        "hotspots": lambda path: save_png(hotspots_per_frame_bars(counts, threshold=threshold, **at), path),
        VIDEO: lambda path: _write_video(
            path, video, finding.relevance, times.astype(np.float64), title=title, threshold=threshold, unit=unit
        ),
    }
    written, failed = {}, []
    for name, write in writers.items():
        path = _path(folder, clips.clip_id[finding.position], finding.kind, name)
        try:
            write(path)
        except VidactError as error:  # a full disk, a name that is too long: the others may be written
            failed.append(str(error))
        else:
            written[name] = path
    return written, failed


def _path(folder: Path, clip: str, kind: str, name: str) -> Path:
    ending = f".{kind}.overlay.mp4" if name == VIDEO else f".{kind}.{name}.png"
    parent, _, stem = clip.rpartition("/")
    return folder / parent / f"{file_stem(stem, ending=ending)}{ending}"


def _write_video(
    path: Path,
    video: UInt8[np.ndarray, "C T H W"],
    relevance: Float[np.ndarray, "T H W"],
    times_seconds: Float[np.ndarray, " T"],
    *,
    title: str,
    threshold: float,
    unit: str,
) -> None:
    """Write each frame of a window once: the last frame of a short clip is repeated, and gets its summed relevance."""
    times, first, place = np.unique(times_seconds, return_index=True, return_inverse=True)
    maps = np.zeros((len(times), *relevance.shape[1:]), relevance.dtype)
    np.add.at(maps, place, relevance)
    write_overlay_video(
        path,
        _display_frames(video[:, first], times),
        relevance=SampledRelevance(
            maps=maps,
            positive=maps.clip(min=0).sum(axis=(1, 2), dtype=np.float64),
            negative=maps.clip(max=0).sum(axis=(1, 2), dtype=np.float64),
            times_seconds=times,
            largest=float(np.abs(maps).max()),
            threshold=threshold,
            unit=unit,
        ),
        title=title,
    )


def _display_frames(
    video: UInt8[np.ndarray, "C T H W"], times_seconds: Float[np.ndarray, " T"]
) -> Iterator[DisplayFrame]:
    for picture, time in zip(video.transpose(1, 2, 3, 0), times_seconds, strict=True):
        yield DisplayFrame(np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3))), float(time))


def frame_charts(clips: ClipBatch, findings: Sequence[Finding], *, threshold: float) -> dict[str, BarChart]:
    """Make two charts per clip, for its predicted class: relevance and hotspots of each frame.

    Only of the first MAX_CHARTED_CLIPS clips; the names are the same in every epoch.
    """
    charts: dict[str, BarChart] = {}
    for finding in [one for one in findings if one.kind == PREDICTED][:MAX_CHARTED_CLIPS]:
        relevance = torch.from_numpy(finding.relevance)[None, None]
        net = sum(frame_relevance(relevance))[0].tolist()  # type: ignore[index]
        counts = hotspots_per_frame(hotspots(relevance, threshold=threshold))[0].tolist()
        names = [
            f"{place:02d} · {time:.2f} s" for place, time in enumerate(clips.times_seconds[finding.position].tolist())
        ]
        clip = clips.clip_id[finding.position]
        charts |= {
            f"frame_relevance/{clip}": BarChart(
                f"relevance per frame · {clip}",
                "frame",
                f"relevance ({unit_of(finding.method)})",
                list(zip(names, net, strict=True)),
            ),
            f"frame_hotspots/{clip}": BarChart(
                f"hotspots per frame · {clip}", "frame", "hotspots (voxels)", list(zip(names, counts, strict=True))
            ),
        }
    return charts
