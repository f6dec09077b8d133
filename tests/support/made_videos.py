"""Videos that are made frame by frame, of any length, and files whose frames have times of their own."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vidact.data.checks.file_inspection import inspect_file
from vidact.data.loading import streaming
from vidact.data.loading.streaming import Frame
from vidact.data.video.reading import Decoder
from vidact.data.video.verdicts import Inspection


def inspect_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files inspected in this process: a child takes a second to start, and has tests of its own."""

    def inspect(paths: Sequence[Path], *, decoder: Decoder, time_limit_seconds: float) -> dict[Path, Inspection]:
        return {path: inspect_file(path, decoder=decoder) for path in paths}

    monkeypatch.setattr(streaming, "inspect_clips", inspect)


class MadeVideo:
    """Seeded noise that changes from frame to frame; no frame is kept."""

    name = "made"

    def __init__(self, num_frames: int, size: tuple[int, int] = (20, 24)) -> None:
        self.num_frames, self.size = num_frames, size

    @property
    def times_seconds(self) -> tuple[float, ...]:
        return tuple(number / 25 for number in range(self.num_frames))

    def frames(self) -> Iterator[Frame]:
        for number in range(self.num_frames):
            picture = np.random.default_rng(number).integers(0, 256, (*self.size, 3), dtype=np.uint8)
            yield Frame(number, number / 25, picture)


def write_timed(
    path: Path, times: Sequence[Fraction], levels: Sequence[int] | None = None, *, size: tuple[int, int] = (48, 64)
) -> Path:
    """Write gray frames, each shown at its own time; their levels tell them apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = [8 + 9 * number for number in range(len(times))] if levels is None else levels
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "1", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 600)
        for time, level in zip(times, levels, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = int(time * 600), Fraction(1, 600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
