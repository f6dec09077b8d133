"""Copy the sound of a video into another file, in step with its frames, encoded as AAC, which every MP4 player has."""

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av

_RATES = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000}  # of AAC, in Hz, the usual ones
_USUAL_RATE = 48_000
_AHEAD_SECONDS = 0.5  # players want sound and pictures near each other in the file


class Sound:
    """The sound of a video, copied into another one while that is written.

    `account` says what became of it: `none`, `kept`, or why it, or its end, is missing.

    Args:
        path: A video file, with or without sound; None for no sound.
        open_file: Opens it with PyAV.
    """

    def __init__(self, path: Path | None, *, open_file: Callable[[Path], av.container.InputContainer]) -> None:
        self._path, self._open = path, open_file
        self._stack = contextlib.ExitStack()
        self._frames: Iterator[av.AudioFrame] = iter(())
        self._next: av.AudioFrame | None = None
        self._target: av.AudioStream | None = None
        self.account = "none"

    def __enter__(self) -> "Sound":
        if self._path is not None:
            with self._forgiving():
                source = self._stack.enter_context(self._open(self._path.absolute()))
                stream = source.streams.best("audio")
                if isinstance(stream, av.AudioStream):
                    self._frames = _decode(source, stream, since=self._first_picture(self._path))
                    self._next = next(self._frames, None)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def join(self, container: av.container.OutputContainer) -> None:
        """Add its stream to a file, before anything is written there."""
        first = self._next
        if first is None:
            return
        with self._forgiving():
            rate = first.sample_rate if first.sample_rate in _RATES else _USUAL_RATE
            stream = container.add_stream("aac", rate=rate)
            stream.codec_context.layout = "mono" if first.layout.nb_channels == 1 else "stereo"
            self._target, self.account = stream, "kept"

    def write(self, container: av.container.OutputContainer, *, until_seconds: float | None) -> None:
        """Write what is heard until shortly after a time; None: all the rest."""
        while self._target is not None and self._next is not None:
            frame = self._next
            if until_seconds is not None and frame.time is not None and frame.time > until_seconds + _AHEAD_SECONDS:
                return
            with self._forgiving():
                packets = self._target.encode(frame)
                self._next = None
                self._next = next(self._frames, None)
            for packet in packets:
                container.mux(packet)
        if until_seconds is None and self._target is not None:
            for packet in self._target.encode(None):
                container.mux(packet)

    def _first_picture(self, path: Path) -> float:
        """Say when the first picture is shown, in the file's own time, in seconds."""
        with self._open(path.absolute()) as container:
            stream = container.streams.best("video")
            if stream is None:
                return 0.0
            if container.format.name == "avi":  # which has no display times, only places: those of frames are guesses
                return float((stream.start_time or 0) * (stream.time_base or 0))
            frame = next(container.decode(stream), None)
            return float(getattr(frame, "time", None) or 0.0)

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        """Go on without sound if it cannot be read: the pictures matter more."""
        try:
            yield
        except (OSError, ValueError, av.error.FFmpegError) as error:
            self._next = None
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            self.account = f"{'cut off' if self._target is not None else 'skipped'}, as it cannot be read: {reason}"


def _decode(source: av.container.InputContainer, stream: av.AudioStream, *, since: float) -> Iterator[av.AudioFrame]:
    """Give frames of sound with their times from the first picture on; what is heard before it is dropped."""
    following = Fraction(0)
    for frame in source.decode(stream):
        time = following if frame.time is None else Fraction(frame.time) - Fraction(since)
        following = time + Fraction(frame.samples, frame.sample_rate)
        if following <= 0:
            continue
        frame.time_base = Fraction(1, frame.sample_rate)
        frame.pts = round(time * frame.sample_rate)
        yield frame
