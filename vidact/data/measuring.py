"""Measure a video file: what it claims and what really decodes.

It does not know what the clips show, nor what is remembered of them. As a program (`python -m
vidact.data.measuring`) it measures the files that a parent process names, one after the other, and may be killed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vidact.core import DataError
from vidact.data.children import serve
from vidact.data.containers import file_sha1, missing_bytes
from vidact.data.paths import path_fault
from vidact.data.similarity import PICTURE_SIDE_PIXELS, hash_frames
from vidact.data.verdicts import Inspection, Verdict
from vidact.data.verdicts import VideoInfo as VideoInfo
from vidact.data.video import count_frames, open_container

# A header that claims this many times more than there is would end the process: decord reserves room for it.
MAX_HEADER_FACTOR = 100
MAX_FRAME_PIXELS = 2**26  # decoders reserve room for a frame before they see one
HASH_EVERY_FRAMES = 4
BEYOND_END_FRAMES = 100  # by then an error in decord's thread has come up
_COPY = "copy it into a new container: `ffmpeg -i OLD -c copy NEW.avi`"
_RECODE = "encode it anew: `ffmpeg -i OLD -c:v libx264 -crf 18 NEW.mp4`"


def measure_video(path: Path) -> VideoInfo:
    """Measure a file in this process, which a hostile file may end.

    Raises:
        DataError: no frame of it may be asked for.
    """
    found = measure_file(path)
    if found.info is None:
        raise DataError(f"{path.absolute()}: {found.reason}")
    return found.info


def measure_file(path: Path) -> Inspection:
    """Measure a file in this process, which a hostile file may end; what is wrong becomes the verdict."""
    path = path.absolute()
    if fault := path_fault(path):
        return fault
    try:
        bare = Inspection(
            Verdict.OK, num_bytes=path.stat().st_size, sha1=file_sha1(path), missing_bytes=missing_bytes(path)
        )
    except OSError as error:
        return Inspection(Verdict.UNREADABLE, f"cannot be read ({error.strerror or error})")
    return _measure_frames(path, bare)


@dataclass
class _Decoded:
    """What comes out of a decoder, counted while it comes."""

    intact: int = 0  # before the first damage
    decoded: int = 0
    damaged: int = 0  # concealed by the decoder, or not decoded at all
    failed: int = 0  # not decoded at all
    rotated: bool = False
    pictures: list[np.ndarray] = field(default_factory=list)


def _measure_frames(path: Path, bare: Inspection) -> Inspection:
    try:
        with open_container(path) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.VideoStream):
                return _no_video(bare, "holds no video stream")
            if stream.codec_context is None:
                return _no_video(bare, "holds a video stream of no known codec")
            claim = _claim(stream)
            if claim.width * claim.height > MAX_FRAME_PIXELS:
                return replace(bare, verdict=Verdict.UNSUPPORTED, reason=f"claims frames of {_size(claim)} pixels")
            found = _decode(container, stream)
            if found.rotated:
                reason = f"is shown turned, which decord does and PyAV does not; {_RECODE}"
                whole = found.decoded if not found.damaged else 0
                return replace(
                    bare, verdict=Verdict.UNSUPPORTED, reason=reason, decoded_frames=whole, rotated=whole > 0
                )
    except (av.error.FFmpegError, ValueError) as error:
        return _no_video(bare, f"not a video that FFmpeg can read ({_reason(error)})")
    counted = replace(bare, decoded_frames=found.decoded, damaged_frames=found.damaged)
    if fault := _fault(counted, claim, found):
        return fault
    return _measure_with_decord(path, counted, claim, found)


def _claim(stream: av.VideoStream) -> VideoInfo:
    """What the header says, with no frame counted yet."""
    fps = float(stream.average_rate or stream.guessed_rate or 0)
    return VideoInfo(0, stream.frames, stream.width, stream.height, fps, stream.codec_context.codec.canonical_name)


def _no_video(bare: Inspection, reason: str) -> Inspection:
    """A cut MP4 has lost its index, a cut AVI its header: FFmpeg then finds nothing in it."""
    if bare.missing_bytes:
        return replace(bare, verdict=Verdict.TRUNCATED, reason=f"{_cut(bare)}; no frame is left ({reason})")
    return replace(bare, verdict=Verdict.NOT_A_VIDEO, reason=reason)


def _decode(container: av.container.InputContainer, stream: av.VideoStream) -> _Decoded:
    """Decode everything, in order; after damage only to count it."""
    found = _Decoded()
    shrinker = VideoReformatter()  # one for all: it keeps its tables
    for frame in _frames(container, stream):
        found.decoded += frame is not None
        found.failed += frame is None
        found.rotated = found.rotated or (frame is not None and frame.rotation != 0)
        if frame is None or frame.is_corrupt:
            found.damaged += 1
        elif not found.damaged:
            if found.intact % HASH_EVERY_FRAMES == 0:
                found.pictures.append(_shrink(shrinker, frame))
            found.intact += 1
    return found


def _frames(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame | None]:
    """Give the frames in order, and None for each packet that does not decode."""
    stream.codec_context.thread_count = 1  # one core for each child, and errors where they belong
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError:
            yield None  # the container is broken from here on
            return
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            yield None


def _shrink(shrinker: VideoReformatter, frame: av.VideoFrame) -> np.ndarray:
    side = PICTURE_SIDE_PIXELS
    return shrinker.reformat(frame, side, side, "gray", interpolation="AREA").to_ndarray()


def _fault(counted: Inspection, claim: VideoInfo, found: _Decoded) -> Inspection | None:
    """Tell why decord should not see a file at all.

    In a file with damage two builds of FFmpeg drop other frames, so that a frame's number means nothing; and an error
    in decord's thread comes up at any frame, each time at another, or ends the process. A file that was cut and
    is whole up to there is sound.
    """
    if claim.header_frames > MAX_HEADER_FACTOR * (found.decoded + MAX_HEADER_FACTOR):
        reason = f"the header claims {claim.header_frames:,} frames, {found.decoded} decode; {_COPY}"
        return replace(counted, verdict=Verdict.HEADER_OVERSTATES, reason=reason)
    damage = f"{found.damaged} of {max(found.decoded + found.failed, claim.header_frames)} frames are damaged"
    if found.intact == 0:
        return _unusable(counted, f"no frame decodes whole ({damage})")
    only_cut = counted.missing_bytes and not found.failed and found.intact + found.damaged == found.decoded
    if found.damaged and not only_cut:
        return _unusable(counted, f"{damage}, the first {found.intact} are whole; {_RECODE}")
    if not claim.fps:
        return replace(counted, verdict=Verdict.UNSUPPORTED, reason=f"does not say its frames per second; {_RECODE}")
    return None


def _unusable(counted: Inspection, reason: str) -> Inspection:
    if counted.missing_bytes:
        return replace(counted, verdict=Verdict.TRUNCATED, reason=f"{_cut(counted)}; {reason}")
    verdict = Verdict.DAMAGED if counted.damaged_frames else Verdict.NOT_A_VIDEO
    return replace(counted, verdict=verdict, reason=reason)


def _measure_with_decord(path: Path, counted: Inspection, claim: VideoInfo, found: _Decoded) -> Inspection:
    """Count what the reader that trains can read, and give the verdict."""
    whole = not (counted.damaged_frames or counted.missing_bytes)
    try:
        count = count_frames(path, at_most=found.decoded if whole else found.decoded + BEYOND_END_FRAMES)
        num_frames = min(count, found.intact)
        reason = "" if num_frames else "decord decodes none of its frames"
    except DataError as error:
        num_frames, reason = 0, str(error).removeprefix(f"{path}: ")
    if not num_frames:
        reason = f"{reason} (codec {claim.codec}, {_size(claim)} pixels); {_RECODE}"
        if not whole:
            return _unusable(counted, f"{found.intact} frames are whole, but {reason}")
        return replace(counted, verdict=Verdict.UNSUPPORTED, reason=reason)
    hashes = hash_frames(found.pictures[: (num_frames - 1) // HASH_EVERY_FRAMES + 1])
    measured = replace(counted, info=replace(claim, num_frames=num_frames), frame_hashes=hashes)
    verdict, reason = _judge(measured, num_frames, claim.header_frames)
    return replace(measured, verdict=verdict, reason=reason)


def _judge(measured: Inspection, num_frames: int, header_frames: int) -> tuple[Verdict, str]:
    """Say what holds of a file some frames of which can be read; the first that applies."""
    of_header = f" of {header_frames}" if header_frames else ""
    usable = f"{num_frames}{of_header} frames are whole and can be used"
    if measured.missing_bytes:
        return Verdict.TRUNCATED, f"{_cut(measured)}; the first {usable}"
    if num_frames < measured.decoded_frames:
        return Verdict.UNSUPPORTED, f"decord stops after {num_frames} of {measured.decoded_frames} frames; {_RECODE}"
    if header_frames > num_frames + 1:  # one more is common and harmless
        return Verdict.HEADER_OVERSTATES, f"{num_frames} of the header's {header_frames} frames exist"
    return Verdict.OK, ""


def _cut(found: Inspection) -> str:
    return f"the file ends {found.missing_bytes:,} bytes before its container does"


def _size(claim: VideoInfo) -> str:
    return f"{claim.width}x{claim.height}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    return measure_file(Path(question["path"])).record()


if __name__ == "__main__":
    serve(_answer)
