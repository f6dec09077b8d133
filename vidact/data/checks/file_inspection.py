"""Inspect one video file by decoding all of it, and compare what its header claims with what decodes.

As a program (`python -m vidact.data.checks.file_inspection`) it is a child of `inspection`, which may have to kill it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from vidact.core.errors import DataError
from vidact.data.checks.children import serve
from vidact.data.video.agreement import Samples
from vidact.data.video.containers import file_sha1, missing_bytes
from vidact.data.video.display import UPRIGHT, Painter, Turn, shown_size, turn_of
from vidact.data.video.paths import path_fault
from vidact.data.video.reading import Decoder, decord_pictures, main_stream, open_container
from vidact.data.video.similarity import PICTURE_SIDE_PIXELS, hash_frames
from vidact.data.video.timeline import measured_times
from vidact.data.video.verdicts import Inspection, Verdict
from vidact.data.video.verdicts import VideoInfo as VideoInfo

# decord reserves memory for the frames that a header claims; so many times too many would exhaust it.
MAX_HEADER_FACTOR = 100
MAX_FRAME_PIXELS = 2**26  # decoders reserve memory for a frame of the claimed size
HASH_EVERY_FRAMES = 4
BEYOND_END_FRAMES = 100  # by then an error in decord's thread has surfaced
_RECODE = "re-encode it: `ffmpeg -i OLD -c:v libx264 -crf 18 NEW.mp4`"


def inspect_video(path: Path, *, decoder: Decoder = "decord") -> VideoInfo:
    """Inspect a trusted file in this process, which a malicious file could crash; see `inspect_file`.

    Raises:
        DataError: no frame of it can be read.
    """
    found = inspect_file(path, decoder=decoder)
    if found.info is None:
        raise DataError(f"{path.absolute()}: {found.reason}")
    return found.info


def inspect_file(path: Path, *, decoder: Decoder = "decord") -> Inspection:
    """Inspect a file in this process, which a malicious file could crash; problems become the verdict.

    PyAV decides which frames there are. If decord does not give the same pictures, the file is read with PyAV.

    Args:
        path: The file.
        decoder: The library that is to read it; for pyav, decord is not tried.
    """
    path = path.absolute()
    if fault := path_fault(path):
        return fault
    try:
        size, sha1, missing = path.stat().st_size, file_sha1(path), missing_bytes(path)
        bare = Inspection(Verdict.OK, num_bytes=size, sha1=sha1, missing_bytes=missing, compared=decoder == "decord")
    except OSError as error:
        return Inspection(Verdict.UNREADABLE, f"cannot be read ({error.strerror or error})")
    return _inspect_frames(path, bare)


@dataclass
class _Decoded:
    """Counts and samples of the frames that PyAV decodes."""

    intact: int = 0  # before the first damage
    decoded: int = 0
    damaged: int = 0  # concealed by the decoder, or not decoded at all
    failed: int = 0  # not decoded at all
    how: Turn = UPRIGHT  # of the first frame
    turned: bool = False  # whether any frame is
    pictures: list[np.ndarray] = field(default_factory=list)
    samples: Samples = field(default_factory=Samples)
    stamps: list[float | None] = field(default_factory=list)  # of the intact ones


def _inspect_frames(path: Path, bare: Inspection) -> Inspection:
    try:
        with open_container(path) as container:
            stream = main_stream(container)
            if stream is None:
                return _no_video(bare, "holds no video stream")
            if stream.codec_context is None:
                return _no_video(bare, "holds a video stream of no known codec")
            claim = _claim(stream)
            if claim.width * claim.height > MAX_FRAME_PIXELS:
                return replace(bare, verdict=Verdict.UNSUPPORTED, reason=f"claims frames of {_size(claim)} pixels")
            found = _decode(container, stream, sampling=bare.compared)
            height, width = shown_size(
                claim.height, claim.width, pixel_aspect=stream.sample_aspect_ratio, how=found.how
            )
    except (av.error.FFmpegError, ValueError) as error:
        return _no_video(bare, f"not a video that FFmpeg can read ({reason_of(error)})")
    except DataError as error:
        return replace(bare, verdict=Verdict.UNSUPPORTED, reason=f"{error}; {_RECODE}")
    counted = replace(bare, decoded_frames=found.decoded, damaged_frames=found.damaged, rotated=found.turned)
    fps, times = measured_times(found.stamps, claimed_fps=claim.fps)
    info = replace(claim, num_frames=found.intact, width=width, height=height, fps=fps, times_seconds=times)
    if fault := _fault(counted, info, found):
        return fault
    if bare.compared:
        info = replace(info, only_pyav=_why_not_decord(path, counted, claim, found))
    inspected = replace(counted, info=info, frame_hashes=hash_frames(found.pictures))
    verdict, reason = _judge(inspected, info)
    return replace(inspected, verdict=verdict, reason=reason)


def _claim(stream: av.VideoStream) -> VideoInfo:
    """Read what the header claims."""
    fps = float(stream.average_rate or stream.guessed_rate or 0)
    return VideoInfo(0, stream.frames, stream.width, stream.height, fps, stream.codec_context.codec.canonical_name)


def _no_video(bare: Inspection, reason: str) -> Inspection:
    """Choose the verdict on a file without video: a cut MP4 lacks its index, so FFmpeg finds nothing in it."""
    if bare.missing_bytes:
        return replace(bare, verdict=Verdict.TRUNCATED, reason=f"{_cut(bare)}; no frame is left ({reason})")
    return replace(bare, verdict=Verdict.NOT_A_VIDEO, reason=reason)


def _decode(container: av.container.InputContainer, stream: av.VideoStream, *, sampling: bool) -> _Decoded:
    """Decode everything in order; after the first damage frames are only counted."""
    found = _Decoded()
    shrinker, painter = VideoReformatter(), Painter()  # one for all frames: they cache tables
    for frame in _frames(container, stream):
        found.decoded += frame is not None
        found.failed += frame is None
        if frame is None or frame.is_corrupt:
            found.damaged += 1
        elif not found.damaged:
            how = turn_of(frame)
            found.turned = found.turned or how != UPRIGHT
            if found.intact == 0:
                found.how = how
            if found.intact % HASH_EVERY_FRAMES == 0:
                found.pictures.append(_shrink(shrinker, frame))
            if sampling:
                found.samples.add(painter.stored(frame))
            found.stamps.append(stamp_of(frame, container))
            found.intact += 1
    return found


def stamp_of(frame: av.VideoFrame, container: av.container.InputContainer) -> float | None:
    """Read when a frame is shown; None where the file does not say.

    AVI stores only when frames are decoded, which is another order with B-frames; FFmpeg guesses the rest.
    """
    if container.format.name != "avi":
        return frame.time
    if frame.pict_type == PictureType.B or frame.dts is None or frame.time_base is None:
        return None
    return float(frame.dts * frame.time_base)


def _frames(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame | None]:
    """Yield the frames in order, and None for each packet that does not decode."""
    stream.codec_context.thread_count = 1  # one core for each child, and errors at the frame that causes them
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


def _fault(counted: Inspection, info: VideoInfo, found: _Decoded) -> Inspection | None:
    """Return an inspection with a fault if no frame of a file can be used; None otherwise.

    In a damaged file two builds of FFmpeg drop different frames, so frame numbers are unreliable. A file that was cut
    but is intact up to there is usable.
    """
    damage = f"{found.damaged} of {max(found.decoded + found.failed, info.header_frames)} frames are damaged"
    if found.intact == 0:
        return _unusable(counted, f"no frame decodes intact ({damage})")
    only_cut = counted.missing_bytes and not found.failed and found.intact + found.damaged == found.decoded
    if found.damaged and not only_cut:
        return _unusable(counted, f"{damage}, the first {found.intact} are intact; {_RECODE}")
    if not info.fps:
        reason = f"gives neither its frames per second nor the times of its frames; {_RECODE}"
        return replace(counted, verdict=Verdict.UNSUPPORTED, reason=reason)
    return None


def _unusable(counted: Inspection, reason: str) -> Inspection:
    if counted.missing_bytes:
        return replace(counted, verdict=Verdict.TRUNCATED, reason=f"{_cut(counted)}; {reason}")
    verdict = Verdict.DAMAGED if counted.damaged_frames else Verdict.NOT_A_VIDEO
    return replace(counted, verdict=verdict, reason=reason)


def _why_not_decord(path: Path, counted: Inspection, claim: VideoInfo, found: _Decoded) -> str:
    """Return why a file must be read with PyAV; empty if decord gives the same pictures."""
    if claim.header_frames > MAX_HEADER_FACTOR * (found.decoded + MAX_HEADER_FACTOR):
        return f"the header claims {claim.header_frames:,} frames, for which decord would reserve memory"
    if found.turned:
        return "it is to be shown rotated or mirrored, which decord does differently or not at all"
    if not claim.fps:
        return "its header does not give its frames per second"
    whole = not (counted.damaged_frames or counted.missing_bytes)
    most = found.decoded if whole else found.decoded + BEYOND_END_FRAMES
    count = 0
    try:
        for picture in islice(decord_pictures(path), most):
            if count < found.intact and (fault := found.samples.difference_to(count, picture.numpy())):
                return f"decord's picture {count} is not PyAV's, it {fault}"
            count += 1
    except DataError as error:
        return f"{str(error).removeprefix(f'{path}: ')} (codec {claim.codec}, {_size(claim)} pixels)"
    return "" if count >= found.intact else f"decord stops after {count} of {found.intact} frames"


def _judge(inspected: Inspection, info: VideoInfo) -> tuple[Verdict, str]:
    """Choose the verdict on a file whose frames can be read: the first that applies."""
    of_header = f" of {info.header_frames}" if info.header_frames else ""
    if inspected.missing_bytes:
        usable = f"the first {info.num_frames}{of_header} frames are intact and can be used"
        return Verdict.TRUNCATED, "; ".join(filter(None, [_cut(inspected), usable, info.only_pyav]))
    if info.only_pyav:
        return Verdict.PYAV_ONLY, info.only_pyav
    if info.header_frames > info.num_frames + 1:  # one more is common and harmless
        return Verdict.HEADER_OVERSTATES, f"{info.num_frames} of the header's {info.header_frames} frames exist"
    return Verdict.OK, ""


def _cut(found: Inspection) -> str:
    return f"the file ends {found.missing_bytes:,} bytes before its container does"


def _size(claim: VideoInfo) -> str:
    return f"{claim.width}x{claim.height}"


def reason_of(error: Exception) -> str:
    """Return the message of FFmpeg or the system, without its error number."""
    return getattr(error, "strerror", None) or str(error)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    return inspect_file(Path(question["path"]), decoder=question["decoder"]).record()


if __name__ == "__main__":
    serve(_answer)
