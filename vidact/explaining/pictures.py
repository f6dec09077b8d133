"""Draw an explained video: gather frames, maps and hotspots once, then make pictures and the overlay video of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.figure import Figure

from vidact.attribution.names import unit_of
from vidact.core.errors import ConfigError
from vidact.data.loading.streaming import Video, pick_frames
from vidact.data.video.reading import open_container
from vidact.drawing.clips.bars import frame_relevance_bars, hotspots_per_frame_bars
from vidact.drawing.clips.comparison import side_by_side
from vidact.drawing.clips.contact import MAX_FRAMES, contact_sheet
from vidact.drawing.figure import relevance_heatmap
from vidact.drawing.results.accuracy import top_classes_bars
from vidact.drawing.timeline import evenly_spread
from vidact.drawing.video.file import DisplayFrame, write_overlay_video
from vidact.drawing.video.overlay import SampledRelevance
from vidact.drawing.video.sound import Sound
from vidact.explaining.settings import FileSettings
from vidact.explaining.videos import VideoExplanation

MAX_COMPARED_FRAMES = 96


@dataclass(frozen=True)
class Material:
    """What the pictures of an explained video show.

    Attributes:
        explanation: Of the whole video.
        relevance: The same, for the overlay video.
        hotspot_counts: Hotspot voxels of each sampled frame.
        chosen: Places of the frames that still pictures show, among the sampled ones.
        pictures: These frames as people see them; they may differ in size.
        spots: Their hotspots, at the network's resolution.
    """

    explanation: VideoExplanation
    relevance: SampledRelevance
    hotspot_counts: Int[np.ndarray, " T"] = field(repr=False)
    chosen: Sequence[int]
    pictures: Sequence[UInt8[np.ndarray, "H W 3"]] = field(repr=False)
    spots: Bool[np.ndarray, "N h w"] = field(repr=False)


def gather_material(explanation: VideoExplanation, video: Video, *, threshold: float) -> Material:
    """Read the frames that still pictures show, and find the hotspots of all sampled frames.

    Raises:
        DataError: the video does not decode any more.
    """
    relevance = SampledRelevance(
        maps=explanation.relevance,
        positive=explanation.positive,
        negative=explanation.negative,
        times_seconds=explanation.times_seconds,
        largest=explanation.largest,
        threshold=threshold,
        unit=unit_of(explanation.method),
    )
    count = len(explanation.frame_numbers)
    chosen = evenly_spread(count, at_most=MAX_FRAMES).tolist()
    return Material(
        explanation,
        relevance,
        hotspot_counts=np.array([relevance.hotspots(place).sum() for place in range(count)]),
        chosen=chosen,
        pictures=_read_frames(explanation, video, chosen),
        spots=np.stack([relevance.hotspots(place) for place in chosen]),
    )


def _read_frames(
    explanation: VideoExplanation, video: Video, chosen: Sequence[int]
) -> list[UInt8[np.ndarray, "H W 3"]]:
    return [frame.shown for frame in pick_frames(video, explanation.frame_numbers[list(chosen)].tolist())]


def title_of(explanation: VideoExplanation) -> str:
    """Say in one line what is shown."""
    name, probability = explanation.top_classes(1)[0]
    return (
        f"{explanation.method} · {explanation.target_name}, logit {explanation.score:.2f} · predicted {name}, "
        f"{100 * probability:.1f} % · {explanation.name}"
    )


def draw_pictures(material: Material, *, top_k: int) -> dict[str, Figure]:
    """Draw the still pictures, by the names of their files without the ending."""
    explanation, chosen = material.explanation, list(material.chosen)
    numbers, times = explanation.frame_numbers, explanation.times_seconds
    maps: Float[np.ndarray, "N h w"] = np.stack([explanation.relevance[place] for place in chosen])
    own, unit = {"title": title_of(explanation)}, material.relevance.unit
    return {
        "frames": contact_sheet(material.pictures, material.spots, numbers[chosen], times[chosen], **own),
        "heatmap": relevance_heatmap(maps, numbers[chosen], times[chosen], unit=unit, **own),
        "frame_relevance": frame_relevance_bars(
            explanation.positive, explanation.negative, numbers, times, unit=unit, **own
        ),
        "hotspots": hotspots_per_frame_bars(
            material.hotspot_counts, numbers, times, threshold=material.relevance.threshold, **own
        ),
        "classes": top_classes_bars(
            explanation.probabilities, explanation.class_names, true_class=None, top=top_k, **own
        ),
    }


def draw_comparison(first: VideoExplanation, second: VideoExplanation, video: Video) -> Figure:
    """Draw two explanations of a video one below the other, at most MAX_COMPARED_FRAMES of their frames.

    Raises:
        ConfigError: they are of different frames.
    """
    if not np.array_equal(first.frame_numbers, second.frame_numbers):
        raise ConfigError(
            f"--beside: {first.method} is explained at {len(first.frame_numbers)} frames, {second.method} at "
            f"{len(second.frame_numbers)} others; compare networks with the same num_frames, stride and frame rate"
        )
    chosen = evenly_spread(len(first.frame_numbers), at_most=MAX_COMPARED_FRAMES).tolist()
    names = [f"{one.method}: {one.target_name}" for one in (first, second)]
    if names[0] == names[1]:
        names = [f"{mark}. {name}" for mark, name in zip("AB", names, strict=True)]
    maps = [np.stack([one.relevance[place] for place in chosen]) for one in (first, second)]
    return side_by_side(
        dict(zip(names, maps, strict=True)),
        np.stack(_read_frames(first, video, chosen)).transpose(3, 0, 1, 2),
        first.frame_numbers[chosen],
        first.times_seconds[chosen],
        title=first.name,
    )


def write_overlay(path: Path, material: Material, video: Video, *, settings: FileSettings) -> Sound:
    """Write the overlay video, with the sound of the original where there is one; gives what became of the sound."""
    with Sound(getattr(video, "path", None), open_file=open_container) as sound:
        write_overlay_video(
            path,
            (DisplayFrame(frame.shown, frame.time_seconds) for frame in video.frames()),
            relevance=material.relevance,
            title=title_of(material.explanation),
            layout=settings.layout,
            end_seconds=video.times_seconds[-1],
            max_width=settings.max_width,
            sound=sound,
        )
    return sound
