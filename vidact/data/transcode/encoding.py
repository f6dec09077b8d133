"""Encode a small copy of one video file, and verify it by reading it back."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

import av
import torch
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from vidact.core.errors import ConfigError, DataError, EnvironmentProblem
from vidact.data.checks.file_inspection import MAX_FRAME_PIXELS, inspect_video, reason_of, stamp_of
from vidact.data.transcode.times import Clock
from vidact.data.video.containers import missing_bytes
from vidact.data.video.display import UPRIGHT, turn_of
from vidact.data.video.reading import checked_path, main_stream, open_container, read_frames

Codec = Literal["h264", "mpeg4"]

# One thread each, so that the bytes do not depend on the machine's number of cores; clips run in parallel.
_COMMON = {"threads": "1", "bf": "0", "g": "30"}
_ENCODERS = {
    # Without x264's macroblock tree: with AVX-512, it gives a third of the copies other bytes from run to run.
    "h264": ("libx264", {**_COMMON, "preset": "medium", "crf": "20", "mbtree": "0"}),
    "mpeg4": ("mpeg4", {**_COMMON, "qmin": "3", "qmax": "3"}),
}


@dataclass(frozen=True)
class TranscodeSettings:
    """Size and codec of the copies.

    Attributes:
        short_side: Shorter side of a frame in pixels, even; smaller frames are not enlarged.
        codec: `mpeg4`, or `h264`: smaller, slower to write, and in .avi files only for readers that decode from
            the first frame on, as vidact does. Files in .webm are VP9 with either.
    """

    short_side: int = 128
    codec: Codec = "mpeg4"

    def __post_init__(self) -> None:
        if self.short_side < 16 or self.short_side % 2:
            raise ConfigError(f"--short-side must be an even number of pixels, at least 16, got {self.short_side}")


_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
# A copy must look like its clip: the first and the last frame, this small, this close in grey levels on average.
_LOOK_SIZE, _LOOK_TOLERANCE = (16, 16), 6.0
# WebM allows neither codec. No look-ahead and no hidden reference frames, for the sake of readers that seek.
_NOTHING_HIDDEN = {"auto-alt-ref": "0", "lag-in-frames": "0"}
_WEBM = ("libvpx-vp9", {"threads": "1", "g": "30", "crf": "24", "b": "0", "cpu-used": "4", **_NOTHING_HIDDEN})


DEFAULT = TranscodeSettings()


def transcode_clip(path: Path, out: Path, *, settings: TranscodeSettings) -> int:
    """Write a small copy of a video file, without sound, verify it, and return its number of frames.

    A copy would hide damage, so a clip that is cut or has a damaged frame is refused. The ending of `out` chooses
    the container; its folder must exist.

    Raises:
        DataError: the clip is damaged, or cannot be copied faithfully.
        EnvironmentProblem: `out` cannot be written.
    """
    path = checked_path(path)
    try:
        if lacking := missing_bytes(path):
            raise DataError(f"{path}: the file ends {lacking:,} bytes before its container does; download it again")
        with open_container(path) as container:
            stream = main_stream(container)
            if stream is None or not (stream.average_rate or stream.guessed_rate):
                raise DataError(f"{path}: holds no video stream, or none that gives its frames per second")
            num_frames, looks = _encode(path, stream, out, settings=settings, clock=_clock_of(path, ending=out.suffix))
    except (OSError, av.error.FFmpegError, ValueError) as error:
        raise DataError(f"{path}: not a video that FFmpeg can read ({reason_of(error)})") from error
    _verify(out, path=path, num_frames=num_frames, looks=looks)
    return num_frames


def _clock_of(path: Path, *, ending: str) -> Clock:
    with open_container(path) as container:
        stream = cast(av.VideoStream, main_stream(container))
        stamps, rate = [stamp_of(frame, container) for frame in _whole_frames(path, stream)], stream.average_rate
        return Clock.of(stamps, rate=Fraction(rate or stream.guessed_rate or 0), ending=ending)


def _encode(
    path: Path, source: av.VideoStream, out: Path, *, settings: TranscodeSettings, clock: Clock
) -> tuple[int, UInt8[Tensor, "2 H W"]]:
    """Encode all frames, each at its time; return their number, and small pictures of the first and the last."""
    encoder, options = _WEBM if out.suffix.lower() == ".webm" else _ENCODERS[settings.codec]
    size = small_size(source.height, source.width, short_side=settings.short_side)
    shrinker = VideoReformatter()  # one for all frames: it caches tables
    number, pts, first, last = -1, -1, None, None
    try:
        with av.open(str(out.absolute()), "w") as container:
            stream = cast(av.VideoStream, container.add_stream(encoder, rate=clock.rate, options=options))
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            stream.codec_context.time_base = 1 / clock.ticks
            for name in ("sample_aspect_ratio", "colorspace", "color_primaries", "color_trc"):
                if meaning := getattr(source.codec_context, name):
                    setattr(stream.codec_context, name, meaning)
            for number, last in enumerate(_whole_frames(path, source)):
                first = first or last
                # Limited range, as players assume for yuv420p; no picture type, so that the encoder chooses its own.
                small = shrinker.reformat(last, *size[::-1], "yuv420p", interpolation="BICUBIC", dst_color_range="MPEG")
                pts = clock.tick(number, after=pts)
                small.pts, small.time_base, small.pict_type = pts, 1 / clock.ticks, PictureType.NONE
                container.mux(stream.encode(small))
            container.mux(stream.encode())
    except (av.error.FFmpegError, ValueError) as error:
        if getattr(error, "errno", None) in _DISK_ERRORS:
            raise EnvironmentProblem(f"{out}: cannot be written ({reason_of(error)})") from error
        what = f"{encoder} in {out.suffix} at {clock.rate} frames per second"
        raise DataError(f"{path}: cannot be copied as {what} ({reason_of(error)}); try another --codec") from error
    if first is None or last is None:
        raise DataError(f"{path}: no frame decodes (the header claims {source.frames})")
    return number + 1, torch.cat([_look(first), _look(last)])


def small_size(height: int, width: int, *, short_side: int) -> tuple[int, int]:
    """Compute the height and width of a copy in pixels: even, of the same aspect, never larger than the original."""
    factor = min(Fraction(short_side, min(height, width)), Fraction(1))
    small_height, small_width = (max(min(2 * round(side * factor / 2), side // 2 * 2), 2) for side in (height, width))
    return small_height, small_width


def _whole_frames(path: Path, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    if stream.width * stream.height > MAX_FRAME_PIXELS:
        raise DataError(f"{path}: claims frames of {stream.width}x{stream.height} pixels")
    stream.codec_context.thread_count = 1
    try:
        for number, frame in enumerate(cast(av.container.InputContainer, stream.container).decode(stream)):
            if frame.is_corrupt:
                raise DataError(f"{path}: frame {number} is damaged; download the file again")
            if turn_of(frame) != UPRIGHT:
                raise DataError(f"{path}: is to be shown rotated or mirrored, which a copy would lose")
            yield frame
    except av.error.FFmpegError as error:
        raise DataError(f"{path}: does not decode to its end ({reason_of(error)}); download it again") from error


def _verify(out: Path, *, path: Path, num_frames: int, looks: UInt8[Tensor, "2 H W"]) -> None:
    """Read a copy back as training does, and compare it with the original."""
    try:
        info = inspect_video(out)
        if info.only_pyav:
            raise DataError(info.only_pyav)
        found = info.num_frames
        pictures = read_frames(out, [0, found - 1], size=_LOOK_SIZE, gray=True)[0]
    except DataError as error:
        reason = str(error).removeprefix(f"{out.absolute()}: ")
        raise DataError(f"{path}: its copy cannot be read back ({reason}); try another --short-side") from error
    if found != num_frames:
        raise DataError(f"{path}: has {num_frames} frames, {found} of its copy can be read; try another --codec")
    difference = (pictures.float() - looks.float()).abs().mean(dim=(1, 2)).max().item()
    if difference > _LOOK_TOLERANCE:
        raise DataError(f"{path}: its copy looks different, by {difference:.0f} of 255 grey levels on average")


def _look(frame: av.VideoFrame) -> UInt8[Tensor, "1 H W"]:
    picture = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)
    gray: Tensor = transforms.rgb_to_grayscale(transforms.resize(picture, list(_LOOK_SIZE), antialias=True))
    return gray
