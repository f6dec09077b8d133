"""Draw what was found of a clip while a network trains: pictures, a video, and numbers for wandb's own charts.

It does not know how it was found, nor who looks at it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vidact.analysis.frames import frame_relevance, hotspots, hotspots_per_frame
from vidact.attribution.explainers import unit_of
from vidact.attribution.targets import PREDICTED
from vidact.callbacks.findings import Finding
from vidact.callbacks.loggers import BarChart
from vidact.core import ClipBatch
from vidact.report.charts import frame_relevance_bars, hotspots_per_frame_bars
from vidact.report.images import hotspot_overlay, relevance_heatmap, save_png
from vidact.report.overlay import SampledRelevance
from vidact.report.video import DisplayFrame, write_overlay_video

PICTURES = ("overlay", "heatmap", "frame_relevance", "hotspots")
VIDEO = "overlay_video"
MAX_CHARTED_CLIPS = 16  # wandb shows a panel for each


def draw_finding(folder: Path, clips: ClipBatch, finding: Finding, *, title: str, threshold: float) -> dict[str, Path]:
    """Write the pictures and the video of one finding; gives their files by name.

    Raises:
        EnvironmentProblem: a file cannot be written.
    """
    relevance = torch.from_numpy(finding.relevance)[None, None]  # [B, C, T, H, W]
    spots = hotspots(relevance, threshold=threshold)
    positive, negative = (part[0].numpy() for part in frame_relevance(relevance))
    numbers, times = clips.frame_numbers[finding.position].numpy(), clips.times_seconds[finding.position].numpy()
    video = clips.video[finding.position].numpy()
    counts, unit = hotspots_per_frame(spots)[0].numpy(), unit_of(finding.method)
    figures = {
        "overlay": hotspot_overlay(video, spots[0].numpy(), numbers, times, title=title),
        "heatmap": relevance_heatmap(finding.relevance, numbers, times, title=title, unit=unit),
        "frame_relevance": frame_relevance_bars(positive, negative, numbers, times, title=title, unit=unit),
        "hotspots": hotspots_per_frame_bars(counts, numbers, times, title=title, threshold=threshold),
    }
    stem = folder / f"{clips.clip_id[finding.position]}.{finding.kind}"
    paths = {name: stem.with_name(f"{stem.name}.{name}.png") for name in figures}
    for name, figure in figures.items():
        save_png(figure, paths[name])
    paths[VIDEO] = stem.with_name(f"{stem.name}.overlay.mp4")
    _write_video(
        paths[VIDEO], video, finding.relevance, times.astype(np.float64), title=title, threshold=threshold, unit=unit
    )
    return paths


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
    """Show each frame of a window once: a short clip's last frame has all the relevance of its repeats."""
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
    """Make the numbers of two charts per clip, for its predicted class: relevance and hotspots of each frame.

    Of the first MAX_CHARTED_CLIPS clips; their names stay the same over the epochs.
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
