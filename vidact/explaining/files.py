"""Write the files of an explained video into its folder: pictures, an overlay video, arrays and a record.

The folder appears when it is complete. Where there is an older explanation, its files are replaced; everything else
that lies there stays.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from vidact.attribution.account import NEGLIGIBLE_SCORE
from vidact.attribution.names import LRP, unit_of
from vidact.core.errors import EnvironmentProblem
from vidact.core.jobs import installed_versions
from vidact.data.loading.streaming import Video
from vidact.drawing.figure import save_png
from vidact.explaining.folder import ARRAYS, COMPARISON, OVERLAY, RECORD, put_in_place, write_record
from vidact.explaining.pictures import draw_comparison, draw_pictures, gather_material, write_overlay
from vidact.explaining.settings import FileSettings
from vidact.explaining.videos import VideoExplanation

LIBRARIES = ("torch", "zennit", "lightning", "numpy", "av")


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
    """Draw and write all files of an explained video, in place of those of an earlier run; gives the record.

    Args:
        folder: Where to.
        explanation: What is shown.
        video: The explained video.
        room: An empty folder on the same disk, for unfinished files.
        settings: What is written.
        request: Everything that the files depend on; kept in the record.
        beside: Another explanation of the video, to be drawn below the first.

    Raises:
        ConfigError: the other explanation is of other frames, or a file that vidact did not write is in the way.
        EnvironmentProblem: the folder cannot be written.
        DataError: the video does not decode any more.
    """
    part = room / "files"
    try:
        part.mkdir()
        material = gather_material(explanation, video, threshold=settings.threshold)
        figures = draw_pictures(material, top_k=settings.top_k)
        if beside is not None:
            figures[Path(COMPARISON).stem] = draw_comparison(explanation, beside, video)
        for name, figure in figures.items():
            save_png(figure, part / f"{name}.png")
        sound = write_overlay(part / OVERLAY, material, video, settings=settings)
        _write_arrays(part / ARRAYS, explanation, material.hotspot_counts)
        names = sorted([RECORD, *(path.name for path in part.iterdir())])
        record = _describe(explanation, video, settings) | {"sound": sound.account}
        record |= {"files": names, "request": dict(request)}
        write_record(part / RECORD, record)
        put_in_place(part, folder, record)
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder}: cannot be written ({error.strerror or error}); choose another --out"
        ) from error
    return record


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
            # float16 in shares of the largest |R| keeps three digits; frame by frame, so that memory holds one.
            for frame in explanation.relevance:
                entry.write((frame / scale).astype("<f2").tobytes())
        for name, values in small.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.asarray(values), allow_pickle=False)


def _describe(explanation: VideoExplanation, video: Video, settings: FileSettings) -> dict[str, Any]:
    """List in plain values what people and programs may want to know about an explanation."""
    # Of a score near zero a share means nothing.
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
        "versions": installed_versions(LIBRARIES),
    }
