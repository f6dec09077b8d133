"""Write a video that shows the relevance while it plays.

Frames are handled one at a time, so memory does not grow with the length. Every frame keeps its own time.
"""

import contextlib
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from jaxtyping import UInt8

from vidact.core.errors import EnvironmentProblem, VidactError
from vidact.drawing.video.overlay import MAX_WIDTH, Composer, Layout, SampledRelevance
from vidact.drawing.video.sound import Sound

TICK = Fraction(1, 90_000)  # of MPEG
ALONE_SECONDS = 1 / 25  # how long the only frame of a video is shown, if nobody says
BT709 = 1  # the number of primaries, transfer and matrix in H.264; players take an untagged video for what they like
# No B-frames: every player starts at the first frame and finds each one at its time. One thread: drawing
# takes as long as encoding, and two were no faster. Key frames often, for scrubbing.
ENCODER = {"preset": "veryfast", "crf": "20", "bf": "0", "threads": "1", "g": "50"}


@dataclass(frozen=True)
class DisplayFrame:
    """A frame of a video, as it is shown.

    Attributes:
        picture: RGB, all of one size.
        seconds: When it is shown.
        duration_seconds: How long; used for the last frame only. None: as long as the one before.
    """

    picture: UInt8[np.ndarray, "H W 3"]
    seconds: float | Fraction
    duration_seconds: float | Fraction | None = None


def write_overlay_video(
    path: Path,
    frames: Iterable[DisplayFrame],
    *,
    relevance: SampledRelevance,
    title: str,
    layout: Layout = "beside",
    time_base: Fraction = TICK,
    end_seconds: float | None = None,
    max_width: int = MAX_WIDTH,
    sound: Sound | None = None,
) -> int:
    """Write H.264 in MP4: each frame, its hotspots in magenta, and under them the relevance over time with a cursor.

    The file appears under its name when it is whole. Frames below 240 pixels of height are scaled up by a whole
    number, those of which the video would be too wide are scaled down. A frame between two sampled ones has the
    hotspots of the nearer.

    Args:
        path: Where to; its folder is made.
        frames: In the order of their times; they may be made while they are written.
        relevance: Of the frames that the network saw.
        title: For instance class and score; of any length and in any script.
        layout: `beside` shows the untouched frame too, at the left or, for very wide frames, above; `over` does not.
        time_base: Seconds per tick of the file; the source's own keeps its times exactly.
        end_seconds: When the video ends, for the axis of the strip; the last sampled frame if nobody knows.
        max_width: The greatest width of the video in pixels, at least 320.
        sound: What is heard along with it, opened.

    Returns:
        How many frames were written.

    Raises:
        VidactError: there is no frame, frames differ in size, or a time is not later than the one before.
        EnvironmentProblem: the file cannot be written, or this FFmpeg has no x264.
    """
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise VidactError(f"{path}: no frames to write")
    if first.picture.ndim != 3 or 0 in first.picture.shape:
        raise VidactError(f"expected frames [H, W, 3], got {first.picture.shape = }")
    start = float(first.seconds)
    end = float(relevance.times_seconds[-1]) if end_seconds is None else end_seconds
    height, width, _ = first.picture.shape
    composer = Composer(
        (height, width),
        relevance=relevance,
        title=title,
        layout=layout,
        span_seconds=(start, max(start, end)),
        resize=partial(_resize, VideoReformatter()),
        max_width=max_width,
    )
    with _whole_or_not_at_all(path) as part, _Encoder(part, time_base=time_base, named=path, sound=sound) as encoder:
        for frame in chain([first], iterator):
            encoder.write(composer.compose(frame.picture, seconds=float(frame.seconds)), frame)
    return encoder.count


@contextlib.contextmanager
def _whole_or_not_at_all(path: Path) -> Iterator[Path]:
    """Give the path of a file beside `path` that takes its name at the end, and is gone if anything fails."""
    path = path.absolute()  # FFmpeg takes a path with a colon for a URL
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with _naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with _naming(path):
            part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn what the system and FFmpeg say into one line that names the file."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EnvironmentProblem(f"{path}: cannot be written ({reason}); choose another place") from error
    except UnicodeEncodeError as error:
        raise EnvironmentProblem(f"{str(path)!r}: its name is not valid UTF-8; choose another place") from error


class _Encoder:
    """An MP4 file to which pictures with times are written; the first one sets its size."""

    def __init__(self, part: Path, *, time_base: Fraction, named: Path, sound: Sound | None) -> None:
        self._sound = sound
        self._path, self._named, self._time_base = part, named, time_base
        self._stream: av.VideoStream | None = None
        self._reformatter = VideoReformatter()  # one for all frames: making it takes longer than using it
        self._durations: dict[int, int] = {}  # of frames that the encoder still holds, by their times, in ticks
        self._last: int | None = None
        self.count = 0
        self._gap = max(1, round(ALONE_SECONDS / time_base))

    def __enter__(self) -> "_Encoder":
        # Without a movie_timescale of its own the beginning would be rounded to milliseconds.
        timing = {"movflags": "+faststart", "movie_timescale": str(self._time_base.denominator)}
        with _naming(self._named):
            self._container = av.open(str(self._path), "w", format="mp4", options=timing)
        return self

    def write(self, picture: UInt8[np.ndarray, "height width 3"], frame: DisplayFrame) -> None:
        """Write one picture at the time of a frame.

        Raises:
            VidactError: it is not later than the one before.
            EnvironmentProblem: the file cannot be written.
        """
        ticks = round(frame.seconds / self._time_base)
        if self._last is not None and ticks <= self._last:
            raise VidactError(
                f"{self._named}: frames in the order of their times are expected, at least {self._time_base} s apart; "
                f"got {float(frame.seconds):.6f} s after {float(self._last * self._time_base):.6f} s"
            )
        self._gap = self._gap if self._last is None else ticks - self._last
        given = frame.duration_seconds
        self._durations[ticks] = self._gap if given is None else max(1, round(given / self._time_base))
        self._last = ticks
        with _naming(self._named):
            self._stream = self._stream or self._add_stream(picture.shape)
            self._mux(self._as_yuv(picture, pts=ticks))
            if self._sound is not None:
                self._sound.write(self._container, until_seconds=float(frame.seconds))
        self.count += 1

    def _add_stream(self, shape: tuple[int, ...]) -> av.VideoStream:
        try:
            stream = self._container.add_stream("libx264", rate=30, options=ENCODER)
        except (av.codec.codec.UnknownCodecError, ValueError) as error:
            raise EnvironmentProblem("this build of PyAV has no libx264; install the one from PyPI") from error
        stream.height, stream.width, stream.pix_fmt = shape[0], shape[1], "yuv420p"
        context = stream.codec_context
        context.time_base = self._time_base
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = ColorRange.MPEG
        if self._sound is not None:
            self._sound.join(self._container)
        return stream

    def _as_yuv(self, picture: UInt8[np.ndarray, "height width 3"], *, pts: int) -> av.VideoFrame:
        frame = av.VideoFrame.from_numpy_buffer(picture, format="rgb24")  # not copied: the next line does that
        frame = self._reformatter.reformat(
            frame, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1
        )
        frame.pts, frame.time_base = pts, self._time_base
        return frame

    def _mux(self, frame: av.VideoFrame | None) -> None:
        assert self._stream is not None
        for packet in self._stream.encode(frame):
            assert packet.pts is not None
            packet.duration = self._durations.pop(packet.pts)  # the encoder itself would guess the last one's
            self._container.mux(packet)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with contextlib.suppress(OSError, av.error.FFmpegError):
                self._container.close()
            return
        with _naming(self._named):
            self._mux(None)
            if self._sound is not None:
                self._sound.write(self._container, until_seconds=None)
            self._container.close()


def _resize(
    reformatter: VideoReformatter, frame: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "height width 3"]:
    """Scale a frame to another size: up bicubically, down by the mean over areas."""
    height, width = size
    way = Interpolation.AREA if height < frame.shape[0] else Interpolation.BICUBIC
    picture = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(frame), format="rgb24")
    return reformatter.reformat(picture, width=width, height=height, interpolation=way, threads=1).to_ndarray()
