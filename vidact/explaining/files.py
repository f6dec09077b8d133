"""Write what explains a video into a folder: an overlay that moves, pictures, arrays, and a record of it all.

It does not know how the explanation came about. The folder appears when it is whole. Where there is an older
explanation, its files are replaced; everything else that lies there stays.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from vidact.attribution.account import NEGLIGIBLE_SCORE
from vidact.attribution.names import HOTSPOT_THRESHOLD, LRP, unit_of
from vidact.core.errors import ConfigError, EnvironmentProblem
from vidact.data.loading.streaming import Video, pick_frames
from vidact.data.video.reading import open_container
from vidact.drawing.clips.bars import frame_relevance_bars, hotspots_per_frame_bars
from vidact.drawing.clips.comparison import side_by_side
from vidact.drawing.clips.contact import MAX_FRAMES, contact_sheet
from vidact.drawing.figure import relevance_heatmap, save_png
from vidact.drawing.results.accuracy import top_classes_bars
from vidact.drawing.timeline import evenly_spread
from vidact.drawing.video.file import DisplayFrame, write_overlay_video
from vidact.drawing.video.overlay import MAX_WIDTH, MIN_WIDTH, Layout, SampledRelevance
from vidact.drawing.video.sound import Sound
from vidact.explaining.folder import ARRAYS, COMPARISON, OVERLAY, RECORD, put_in_place, write_record
from vidact.explaining.videos import VideoExplanation

MAX_COMPARED_FRAMES = 96
LIBRARIES = ("torch", "zennit", "lightning", "numpy", "av")


@dataclass(frozen=True)
class FileSettings:
    """What is written.

    Attributes:
        threshold: A voxel is a hotspot from this share of the video's largest |R| on.
        top_k: How many classes are named.
        layout: Whether the overlay stands beside the original or over it.
        max_width: The overlay video's greatest width in pixels.
    """

    threshold: float = HOTSPOT_THRESHOLD
    top_k: int = 3
    layout: Layout = "beside"
    max_width: int = MAX_WIDTH

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"threshold is a share of the largest |R|, in (0, 1], got {self.threshold}")
        if self.top_k < 1:
            raise ConfigError(f"top_k must be at least 1, got {self.top_k}")
        if self.layout not in ("beside", "over"):
            raise ConfigError(f"layout is beside or over, got {self.layout!r}")
        if self.max_width < MIN_WIDTH:
            raise ConfigError(f"max_width must be at least {MIN_WIDTH} pixels, got {self.max_width}")


def write_files(
    folder: Path,
    explanation: VideoExplanation,
    video: Video,
    *,
    room: Path,
    settings: FileSettings,
    request: Mapping[str, Any],
    beside: VideoExplanation | None = None,
) -> dict[str, Any]:
    """Write everything into a folder, in place of what an earlier run wrote there; gives the record.

    Args:
        folder: Where to.
        explanation: What is shown.
        video: The same one.
        room: An empty folder on the same disk, for what is not finished.
        settings: What is written.
        request: What all of it depends on; kept in the record.
        beside: Another explanation of the video, to be drawn below the first.

    Raises:
        ConfigError: the other explanation is of other frames, or something of somebody else's is in the way.
        EnvironmentProblem: the folder cannot be written.
        DataError: the video does not decode any more.
    """
    part = room / "files"
    try:
        part.mkdir()
        counts = _count_hotspots(explanation, settings.threshold)
        sound = _draw(part, explanation, video, counts, settings=settings)
        if beside is not None:
            _compare(part / COMPARISON, explanation, beside, video)
        _write_arrays(part / ARRAYS, explanation, counts)
        names = sorted([RECORD, *(path.name for path in part.iterdir())])
        record = _record(explanation, video, settings) | {"sound": sound.account}
        record |= {"files": names, "request": dict(request)}
        write_record(part / RECORD, record)
        put_in_place(part, folder, record)
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder}: cannot be written ({error.strerror or error}); choose another --out"
        ) from error
    return record


def title_of(explanation: VideoExplanation) -> str:
    """Say in one line what is shown."""
    name, probability = explanation.top_classes(1)[0]
    return (
        f"{explanation.method} · {explanation.target_name}, logit {explanation.score:.2f} · predicted {name}, "
        f"{100 * probability:.1f} % · {explanation.name}"
    )


def _is_hotspot(explanation: VideoExplanation, number: int, threshold: float) -> Bool[np.ndarray, "h w"]:
    return (explanation.relevance[number] >= threshold * explanation.largest) & (explanation.largest > 0)


def _count_hotspots(explanation: VideoExplanation, threshold: float) -> Int[np.ndarray, " T"]:
    frames = range(len(explanation.relevance))
    return np.array([_is_hotspot(explanation, number, threshold).sum() for number in frames])


def _draw(
    folder: Path,
    explanation: VideoExplanation,
    video: Video,
    counts: Int[np.ndarray, " T"],
    *,
    settings: FileSettings,
) -> Sound:
    title = title_of(explanation)
    numbers, times = explanation.frame_numbers, explanation.times_seconds
    chosen = evenly_spread(len(numbers), at_most=MAX_FRAMES).tolist()
    spots = np.stack([_is_hotspot(explanation, place, settings.threshold) for place in chosen])
    pictures = [frame.shown for frame in pick_frames(video, numbers[chosen].tolist())]
    maps = np.stack([explanation.relevance[place] for place in chosen])
    own, unit = {"title": title}, unit_of(explanation.method)
    for name, figure in {
        "frames": contact_sheet(pictures, spots, numbers[chosen], times[chosen], **own),
        "heatmap": relevance_heatmap(maps, numbers[chosen], times[chosen], unit=unit, **own),
        "frame_relevance": frame_relevance_bars(
            explanation.positive, explanation.negative, numbers, times, unit=unit, **own
        ),
        "hotspots": hotspots_per_frame_bars(counts, numbers, times, threshold=settings.threshold, **own),
        "classes": top_classes_bars(
            explanation.probabilities, explanation.class_names, true_class=None, top=settings.top_k, **own
        ),
    }.items():
        save_png(figure, folder / f"{name}.png")
    with Sound(getattr(video, "path", None), open_file=open_container) as sound:
        write_overlay_video(
            folder / OVERLAY,
            (DisplayFrame(frame.shown, frame.time_seconds) for frame in video.frames()),
            relevance=SampledRelevance(
                maps=explanation.relevance,
                positive=explanation.positive,
                negative=explanation.negative,
                times_seconds=times,
                largest=explanation.largest,
                threshold=settings.threshold,
                unit=unit,
            ),
            title=title,
            layout=settings.layout,
            end_seconds=video.times_seconds[-1],
            max_width=settings.max_width,
            sound=sound,
        )
    return sound


def _compare(path: Path, first: VideoExplanation, second: VideoExplanation, video: Video) -> None:
    """Draw two explanations of a video, at most MAX_COMPARED_FRAMES of their frames."""
    if not np.array_equal(first.frame_numbers, second.frame_numbers):
        raise ConfigError(
            f"--beside: {first.method} is explained at {len(first.frame_numbers)} frames, {second.method} at "
            f"{len(second.frame_numbers)} others; compare networks with the same num_frames, stride and frame rate"
        )
    chosen = evenly_spread(len(first.frame_numbers), at_most=MAX_COMPARED_FRAMES).tolist()
    pictures = [frame.shown for frame in pick_frames(video, first.frame_numbers[chosen].tolist())]
    names = [f"{one.method}: {one.target_name}" for one in (first, second)]
    if names[0] == names[1]:
        names = [f"{mark}. {name}" for mark, name in zip("AB", names, strict=True)]
    maps = [np.stack([one.relevance[place] for place in chosen]) for one in (first, second)]
    figure = side_by_side(
        dict(zip(names, maps, strict=True)),
        np.stack(pictures).transpose(3, 0, 1, 2),
        first.frame_numbers[chosen],
        first.times_seconds[chosen],
        title=first.name,
    )
    save_png(figure, path)


def _write_arrays(path: Path, explanation: VideoExplanation, counts: Int[np.ndarray, " T"]) -> None:
    """Write an .npz frame by frame: relevance as float16, in units of `relevance_scale`, which is max |R|."""
    scale = explanation.largest or 1.0
    small = {
        "relevance_scale": np.float64(scale),
        "frames": explanation.frame_numbers,
        "times": explanation.times_seconds,
        "positive": explanation.positive,
        "negative": explanation.negative,
        "hotspots": counts,
        "window_starts": np.array(explanation.window_starts),
        "window_scores": explanation.window_scores,
        "probabilities": explanation.probabilities,
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("relevance.npy", "w", force_zip64=True) as entry:
            header = {"descr": "<f2", "fortran_order": False, "shape": explanation.relevance.shape}
            np.lib.format.write_array_header_1_0(entry, header)
            for frame in explanation.relevance:
                entry.write((frame / scale).astype("<f2").tobytes())
        for name, values in small.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.asarray(values), allow_pickle=False)


def _record(explanation: VideoExplanation, video: Video, settings: FileSettings) -> dict[str, Any]:
    """List in plain values what a person or a program wants to know of it."""
    clear = np.abs(explanation.window_scores) > NEGLIGIBLE_SCORE * explanation.largest_logit
    ratios = explanation.window_conservation[clear]
    conservation = None
    if explanation.method.startswith(LRP):
        conservation = {
            "mean": float(ratios.mean()) if len(ratios) else None,
            "worst": float(ratios[np.abs(ratios - 1).argmax()]) if len(ratios) else None,
            "windows_with_a_score_near_zero": int((~clear).sum()),
        }
    return {
        "video": explanation.name,
        "num_frames": video.num_frames,
        "duration_seconds": float(video.times_seconds[-1]),
        "classes": [list(pair) for pair in explanation.top_classes(settings.top_k)],
        "target": explanation.target_name,
        "score": explanation.score,
        "method": explanation.method,
        "conservation": conservation,
        "account": explanation.parts,
        "where_the_score_is": explanation.where,
        "relevance_warning": explanation.warning,
        "largest_relevance": explanation.largest,
        "windows": len(explanation.window_starts),
        "sampled_frames": len(explanation.frame_numbers),
        "units": f"relevance: {unit_of(explanation.method)} of a window; times: seconds from the first frame",
        "frame_rate": explanation.note,
        "warning": getattr(video, "warning", ""),
        "versions": {name: version(name) for name in LIBRARIES},
    }
