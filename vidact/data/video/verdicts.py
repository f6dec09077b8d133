"""The words for what is known of a clip's file: its verdict and its measures.

It does not know how they are found out.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from vidact.data.video.similarity import FrameHashes


class Verdict(StrEnum):
    """What is the matter with a clip.

    The order is the order of precedence: where several hold, the first one listed here is given. Wrong_times,
    duplicate, near_duplicate and too_short need to know the table, other clips, the split or the sampler; the others a
    file alone tells.

    Attributes:
        MISSING: No such file; also a link that leads nowhere, or in a circle.
        NOT_A_FILE: A directory, FIFO, device or socket.
        UNREADABLE: The file exists, but may not or cannot be read.
        EMPTY: 0 bytes.
        TIME_OUT: Measuring took longer than the time limit and was killed.
        CRASHED: A decoder ended the process that measured it.
        NOT_A_VIDEO: FFmpeg finds no video in it.
        UNSUPPORTED: A video, but not one that can be read rightly.
        TRUNCATED: The file ends before its container does; usable as far as it is whole, where decord copes.
        DAMAGED: Frames are damaged, so that the others cannot be told by number; not usable.
        WRONG_TIMES: Its start or end, which a table gave, is not within the file; not usable.
        DUPLICATE: The same bytes as another clip, of the same time.
        NEAR_DUPLICATE: Looks like a clip on another side of the split.
        PYAV_ONLY: PyAV reads it; decord gives other pictures, or none. It is read with PyAV, whatever was asked for.
        HEADER_OVERSTATES: The header claims more frames than decode, though nothing is missing.
        TOO_SHORT: Fewer frames than a window spans; its last frame is repeated.
        OK: Nothing is the matter.
    """

    MISSING = "missing"
    NOT_A_FILE = "not_a_file"
    UNREADABLE = "unreadable"
    EMPTY = "empty"
    TIME_OUT = "time_out"
    CRASHED = "crashed"
    NOT_A_VIDEO = "not_a_video"
    UNSUPPORTED = "unsupported"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    WRONG_TIMES = "wrong_times"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    PYAV_ONLY = "pyav_only"
    HEADER_OVERSTATES = "header_overstates"
    TOO_SHORT = "too_short"
    OK = "ok"

    @property
    def is_note(self) -> bool:
        """True where training copes by itself; every verdict but these and OK is a fault."""
        return self in {Verdict.TOO_SHORT, Verdict.HEADER_OVERSTATES, Verdict.PYAV_ONLY}

    @property
    def is_fault(self) -> bool:
        """True where a person should look, because a clip is lost, cut short, or counted twice."""
        return self is not Verdict.OK and not self.is_note


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds, measured by decoding all of it.

    Attributes:
        num_frames: Frames that really decode, whole and in a row from the first one: those that may be asked for.
        header_frames: Frames that the container's header claims (0 where it claims nothing).
        width: Square pixels, of the picture as it is to be seen.
        height: Square pixels.
        fps: Frames per second, on the whole.
        codec: FFmpeg's name of it.
        only_pyav: Why it is read with PyAV, whatever was asked for; empty where decord gives the same pictures.
        times_seconds: When each frame is shown, from the first one on; empty where that is its number / fps.
    """

    num_frames: int
    header_frames: int
    width: int
    height: int
    fps: float
    codec: str = ""
    only_pyav: str = ""
    times_seconds: tuple[float, ...] = ()

    @cached_property
    def shown_at(self) -> tuple[float, ...]:
        """When each frame is shown, from the first one on."""
        return self.times_seconds or tuple(number / (self.fps or 1.0) for number in range(self.num_frames))


@dataclass(frozen=True)
class Inspection:
    """What is known of one file: its measures, or the reason why it cannot be used.

    Attributes:
        verdict: What the file alone tells: never `wrong_times`, `duplicate`, `near_duplicate` or `too_short`.
        reason: Why, as a clause; empty where the verdict is ok.
        info: None where no frame may be asked for.
        num_bytes: Size of the file.
        sha1: Of the whole file, in hexadecimal; empty where it was not read.
        missing_bytes: What the container claims beyond the end of the file.
        decoded_frames: All frames that decode, damaged ones and those after them too.
        damaged_frames: Frames that are damaged or do not decode at all.
        frame_hashes: Fingerprints of five frames, to find copies by.
        time_limit_seconds: The limit that was exceeded; 0 where none was.
        rotated: Whether it is to be shown turned or mirrored.
        compared: Whether decord was asked as well, or needed not to be.
    """

    verdict: Verdict
    reason: str = ""
    info: VideoInfo | None = None
    num_bytes: int = 0
    sha1: str = ""
    missing_bytes: int = 0
    decoded_frames: int = 0
    damaged_frames: int = 0
    frame_hashes: FrameHashes = ()
    time_limit_seconds: float = 0.0
    rotated: bool = False
    compared: bool = False

    @property
    def usable(self) -> bool:
        """True where some frames may be asked for."""
        return self.info is not None

    def tells_for(self, decoder: str) -> bool:
        """True where it is known with which decoder the file is to be read, if this one is asked for."""
        return decoder != "decord" or self.compared or not self.usable

    def record(self) -> dict[str, Any]:
        """List everything in plain types."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Inspection":
        """Undo `record`, after a journey through JSON."""
        info = record["info"]
        values = {
            "verdict": Verdict(record["verdict"]),
            "info": VideoInfo(**info | {"times_seconds": tuple(info["times_seconds"])}) if info else None,
            "frame_hashes": tuple(record["frame_hashes"]),
        }
        return cls(**(record | values))
