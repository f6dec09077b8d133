"""Measure a video file: what it claims and what really decodes.

It does not know what the clips show, nor what is remembered of them.
"""

from dataclasses import dataclass
from pathlib import Path

import av

from vidact.core import DataError
from vidact.data.video import checked_path, read_frames

# A header that claims this many times more than there is would end the process: decord reserves room for it.
MAX_HEADER_FACTOR = 100


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds, measured by decoding all of it.

    Attributes:
        num_frames: Frames that really decode.
        header_frames: Frames that the container's header claims (0 where it claims nothing).
        width: Pixels.
        height: Pixels.
        fps: Frames per second.
    """

    num_frames: int
    header_frames: int
    width: int
    height: int
    fps: float


def measure_video(path: Path) -> VideoInfo:
    """Decode a whole file once and count what comes out; make sure that decord can open it as well.

    Raises:
        DataError: missing, empty, not a video, or no frame decodes.
    """
    path = checked_path(path)
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise DataError(f"{path}: holds no video stream")
            stream = container.streams.video[0]
            num_frames = _count_frames(container, stream)
            fps = float(stream.average_rate or stream.guessed_rate or 0)
            info = VideoInfo(num_frames, stream.frames, stream.width, stream.height, fps)
    except (av.error.FFmpegError, ValueError) as error:
        raise DataError(f"{path}: not a video that FFmpeg can read ({_reason(error)})") from error
    if info.header_frames > MAX_HEADER_FACTOR * (info.num_frames + MAX_HEADER_FACTOR):
        raise DataError(f"{path}: the header claims {info.header_frames:,} frames, {info.num_frames} decode")
    if not info.fps:
        raise DataError(f"{path}: does not say its frames per second")
    if info.num_frames == 0:
        raise DataError(f"{path}: no frame decodes (the header claims {info.header_frames})")
    read_frames(path, [0], size=(info.height, info.width), gray=False)
    return info


def _count_frames(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """Count the frames before the first damaged packet."""
    count = 0
    try:
        for _ in container.decode(stream):
            count += 1
    except av.error.FFmpegError:
        if count == 0:
            raise
    return count


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
