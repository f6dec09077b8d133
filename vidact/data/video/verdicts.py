"""Define `Inspection`: what decoding a clip's file showed (`VideoInfo`), and what is wrong with it (`Verdict`)."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from vidact.data.video.similarity import FrameHashes


class Verdict(StrEnum):
    """What is wrong with a clip.

    In order of precedence: where several apply, the first one counts. Wrong_times, duplicate, near_duplicate and
    too_short depend on the table, other clips, the split or the sampling; the others on the file alone.

    Attributes:
        MISSING: No such file, or a link that leads nowhere or in a circle.
        NOT_A_FILE: A directory, FIFO, device or socket.
        UNREADABLE: The file exists, but may not or cannot be read.
        EMPTY: 0 bytes.
        TIME_OUT: Decoding took longer than the time limit and was killed.
        CRASHED: A decoder crashed the process that inspected the file.
        NOT_A_VIDEO: FFmpeg finds no video in it.
        UNSUPPORTED: A video, but not one that can be read rightly.
        TRUNCATED: The file ends before its container does; usable up to the first damaged frame.
        DAMAGED: Some frames are damaged, so the numbers of the others are unreliable; not usable.
        WRONG_TIMES: The start or end that a table gives is not within the file; not usable.
        DUPLICATE: The same bytes as another clip, of the same time.
        NEAR_DUPLICATE: Looks like a clip on another side of the split.
        PYAV_ONLY: decord gives other pictures than PyAV, or none; it is read with PyAV, whatever `decoder` says.
        HEADER_OVERSTATES: The header claims more frames than the file has, though it is complete.
        TOO_SHORT: Fewer frames than a window spans; its last frame is repeated.
        OK: Nothing is wrong.
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
        """True for verdicts that need no action; all others but OK are faults."""
        return self in {Verdict.TOO_SHORT, Verdict.HEADER_OVERSTATES, Verdict.PYAV_ONLY}

    @property
    def is_fault(self) -> bool:
        """True where the user should look: a clip is lost, cut short, or counted twice."""
        return self is not Verdict.OK and not self.is_note


@dataclass(frozen=True)
class VideoInfo:
    """What a video file contains, measured by decoding all of it.

    Attributes:
        num_frames: Intact frames in a row from the first one: those that can be read.
        header_frames: Frames that the container's header claims (0 where it does not say).
        width: Width in square pixels, of the picture as it is to be seen.
        height: Height in square pixels.
        fps: Mean frames per second.
        codec: FFmpeg's name of the codec.
        only_pyav: Why it must be read with PyAV; empty where decord gives the same pictures.
        times_seconds: When each frame is shown, from the first one on; empty where frame n is shown at n / fps.
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
    """What the inspection of one file found.

    Attributes:
        verdict: Verdict on the file alone: never `wrong_times`, `duplicate`, `near_duplicate` or `too_short`.
        reason: Reason for the verdict, as a clause; empty for ok.
        info: What the file contains; None where no frame can be read.
        num_bytes: Size of the file.
        sha1: SHA-1 of the file, in hexadecimal; empty where it was not read.
        missing_bytes: Bytes that the container claims beyond the end of the file.
        decoded_frames: All frames that decode, including damaged ones and those after them.
        damaged_frames: Frames that are damaged or do not decode at all.
        frame_hashes: Perceptual hashes of five frames, for finding copies.
        time_limit_seconds: The limit that was exceeded; 0 where none was.
        rotated: Whether it is to be shown rotated or mirrored.
        compared: Whether decord's pictures were compared with PyAV's, or need not be.
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
        """True where some frames can be read."""
        return self.info is not None

    def covers(self, decoder: str) -> bool:
        """True where the inspection was thorough enough for reading with a decoder; decord needs the comparison."""
        return decoder != "decord" or self.compared or not self.usable

    def record(self) -> dict[str, Any]:
        """Convert to plain types, for JSON."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Inspection":
        """Restore an inspection from `record`, after JSON turned its tuples into lists."""
        info = record["info"]
        values = {
            "verdict": Verdict(record["verdict"]),
            "info": VideoInfo(**info | {"times_seconds": tuple(info["times_seconds"])}) if info else None,
            "frame_hashes": tuple(record["frame_hashes"]),
        }
        return cls(**(record | values))
