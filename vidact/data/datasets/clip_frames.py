"""Find the frames of its file that belong to a clip; `loading`, `checks` and `splits` use it."""

import math

from vidact.core.errors import DataError
from vidact.data.datasets.index import Clip
from vidact.data.video.timeline import timeline
from vidact.data.video.verdicts import Inspection, VideoInfo


def frames_of(clip: Clip, info: VideoInfo, *, fps: float | None = None) -> tuple[int, ...]:
    """List the frame numbers of a clip in its file; see `timeline`.

    Raises:
        DataError: the clip's start and end are not within its file.
    """
    if fps is None and clip.start_seconds is None and clip.end_seconds is None:
        return tuple(range(info.num_frames))
    return timeline(info.shown_at, start=clip.start_seconds, end=clip.end_seconds, fps=fps)


def why_unusable(clip: Clip, inspection: Inspection) -> str:
    """Return why no frame of a clip can be used; empty where some can."""
    if inspection.info is None:
        return inspection.reason
    try:
        frames_of(clip, inspection.info)
    except DataError as error:
        return str(error)
    return ""


def share_time(first: Clip, second: Clip) -> bool:
    """Return whether two clips of one file, or of copies of it, overlap in time."""
    starts = [clip.start_seconds or 0.0 for clip in (first, second)]
    ends = [math.inf if clip.end_seconds is None else clip.end_seconds for clip in (first, second)]
    return max(starts) < min(ends)
