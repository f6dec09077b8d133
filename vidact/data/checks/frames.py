"""Check frame by frame that vidact reads the requested frames, and count how often decord's sparse reads do not.

The reference is PyAV's decoding of each file from its first frame on. Two builds of FFmpeg may round the inverse cosine
transform differently, so a picture counts as frame k if it differs from PyAV's frame k by 6 grey levels at most and by
less than 0.05 in the mean, and from no neighbour of k by less.
"""

import os
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vidact.core.errors import DataError
from vidact.core.terminal import printable, printable_lines
from vidact.data.datasets.index import Clip
from vidact.data.video.agreement import difference, is_same
from vidact.data.video.display import Painter
from vidact.data.video.reading import VERSIONS, Decoder, checked_path, decode_all, read_frames, read_sparsely
from vidact.data.video.sampling import Stride, windows

COARSE = 8  # every so many pixels are compared, to find which frame a wrong picture shows
WINDOW_FRAMES, NUM_WINDOWS = 16, 3  # at the start, in the middle and at the end
STRIDES: tuple[Stride, ...] = (1, 2, "adaptive")
HEAD = ("class", "clips", "frames", "wrong, vidact", "wrong, sparse", "clips with one, sparse", "furthest off, sparse")

Picture = UInt8[np.ndarray, "H W C"]
Pictures = UInt8[np.ndarray, "T H W C"]
_Reader = Callable[[Path, Sequence[int], tuple[int, int]], Pictures]


@dataclass(frozen=True)
class Mismatch:
    """Errors of one reader.

    Attributes:
        num_wrong: Pictures that are not the requested frame.
        furthest: Largest distance, in frames, from the requested frame to the one that was returned.
    """

    num_wrong: int
    furthest: int


@dataclass(frozen=True)
class ClipCheck:
    """Errors of both readers for one clip.

    Attributes:
        clip: The clip.
        num_compared: Requested frames, over all sampling schemes.
        vidact: Errors of vidact's reader.
        sparse: Errors of decord's sparse reads.
        reason: Why nothing could be compared; empty if it was.
    """

    clip: Clip
    num_compared: int
    vidact: Mismatch
    sparse: Mismatch
    reason: str = ""


@dataclass(frozen=True)
class FrameCheck:
    """The check of a data set."""

    clips: tuple[ClipCheck, ...]

    @property
    def passed(self) -> bool:
        """True where vidact read every requested frame."""
        return not any(check.vidact.num_wrong for check in self.clips)

    def rows(self) -> list[tuple[str, ...]]:
        """List one row per class and one for all, in the order of `HEAD`."""
        compared = [check for check in self.clips if not check.reason]
        names = dict.fromkeys(check.clip.class_name for check in compared)
        groups = [(name, [check for check in compared if check.clip.class_name == name]) for name in names]
        return [_row(printable(name), checks) for name, checks in [*groups, ("all", compared)]]

    def text(self) -> str:
        """Format a table for the terminal, with the clips that could not be compared or that vidact got wrong."""
        rows = [HEAD, *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
        table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([*table, printable_lines(self._remarks())])

    def markdown(self) -> str:
        """Format a Markdown table."""
        rule = ("---", *["--:"] * (len(HEAD) - 1))
        return "\n".join(f"| {' | '.join(row)} |" for row in [HEAD, rule, *self.rows()])

    def _remarks(self) -> list[str]:
        wrong = [check for check in self.clips if check.vidact.num_wrong]
        unread = [check for check in self.clips if check.reason]
        return [
            ", ".join(VERSIONS.values()),
            *[f"not compared: {check.clip.clip_id}: {check.reason}" for check in unread],
            *[f"WRONG: {check.clip.clip_id}: {check.vidact.num_wrong} of {check.num_compared}" for check in wrong],
        ]


def _row(name: str, checks: Sequence[ClipCheck]) -> tuple[str, ...]:
    numbers = (
        len(checks),
        sum(check.num_compared for check in checks),
        sum(check.vidact.num_wrong for check in checks),
        sum(check.sparse.num_wrong for check in checks),
        sum(check.sparse.num_wrong > 0 for check in checks),
        max((check.sparse.furthest for check in checks), default=0),
    )
    return (name, *(f"{number:,}" for number in numbers))


def check_frames(
    clips: Sequence[Clip],
    *,
    only_pyav: Collection[Path] = (),
    progress: Callable[[int, int], None] | None = None,
    num_threads: int | None = None,
) -> FrameCheck:
    """Compare frames read by vidact and by decord's `get_batch` with PyAV's, clip by clip.

    Each thread holds all frames of a clip in memory.

    Args:
        clips: The clips.
        only_pyav: Files that vidact reads with PyAV, because decord gives other pictures; decord reads the rest.
        progress: Called after each clip with (done, total).
        num_threads: Number of threads; as many as the machine has cores if None.
    """
    checks = []
    with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        decoders: list[Decoder] = ["pyav" if clip.path in only_pyav else "decord" for clip in clips]
        for check in pool.map(check_clip, clips, decoders):
            checks.append(check)
            if progress:
                progress(len(checks), len(clips))
    return FrameCheck(tuple(checks))


def check_clip(clip: Clip, decoder: Decoder = "decord") -> ClipCheck:
    """Compare frames of one clip, for every sampling scheme."""
    try:
        truth = _decode_all(clip.path)
    except DataError as error:
        return ClipCheck(clip, 0, Mismatch(0, 0), Mismatch(0, 0), reason=str(error))
    schemes = list(sampling_schemes(len(truth)))
    return ClipCheck(
        clip,
        num_compared=sum(map(len, schemes)),
        vidact=_compare(partial(_read_exactly, decoder=decoder), clip.path, truth=truth, schemes=schemes),
        sparse=_compare(_read_sparsely, clip.path, truth=truth, schemes=schemes),
    )


def sampling_schemes(num_frames: int) -> Iterator[tuple[int, ...]]:
    """List frame numbers to request: windows at every stride and place, the last frame, random frames."""
    for stride in STRIDES:
        yield from windows(num_frames, num_frames=WINDOW_FRAMES, stride=stride, num_windows=NUM_WINDOWS)
    yield (num_frames - 1,)
    yield tuple(random.Random(num_frames).choices(range(num_frames), k=WINDOW_FRAMES))


def _decode_all(path: Path) -> Pictures:
    """Decode from the first frame to the last, or to the first damaged packet."""
    frames: list[Picture] = []
    painter = Painter()
    try:
        frames.extend(painter.upright(frame) for frame in decode_all(checked_path(path)))
    except DataError:
        if not frames:
            raise
    if len({frame.shape for frame in frames}) != 1:
        raise DataError("PyAV finds no frames, or frames of several sizes")
    return np.stack(frames)


def _read_exactly(path: Path, frame_numbers: Sequence[int], size: tuple[int, int], *, decoder: Decoder) -> Pictures:
    return read_frames(path, frame_numbers, size=size, gray=False, decoder=decoder).permute(1, 2, 3, 0).numpy()


def _read_sparsely(path: Path, frame_numbers: Sequence[int], size: tuple[int, int]) -> Pictures:
    return read_sparsely(path, frame_numbers).numpy()


def _compare(read: _Reader, path: Path, *, truth: Pictures, schemes: Sequence[tuple[int, ...]]) -> Mismatch:
    """Count wrong pictures; if a reader fails, all requested ones count."""
    num_wrong = furthest = 0
    coarse = np.ascontiguousarray(truth[:, ::COARSE, ::COARSE])
    for wanted in schemes:
        try:
            pictures = read(path, wanted, truth[0].shape[:2])
        except DataError:
            num_wrong += len(wanted)
            continue
        pairs = zip(pictures, wanted, strict=True)
        wrong = [(picture, number) for picture, number in pairs if not is_frame(picture, number, truth=truth)]
        num_wrong += len(wrong)
        furthest = max([furthest, *(_distance(picture, number, coarse=coarse) for picture, number in wrong)])
    return Mismatch(num_wrong, furthest)


def is_frame(picture: UInt8[np.ndarray, "h w c"], number: int, *, truth: Pictures) -> bool:
    """Return whether a picture is frame `number` of a clip, and neither neighbour is more similar."""
    if picture.shape != truth[number].shape:
        return False
    if np.array_equal(picture, truth[number]):
        return True
    if not is_same(picture, truth[number]):
        return False
    own = difference(picture, truth[number]).mean()
    neighbours = [other for other in (number - 1, number + 1) if 0 <= other < len(truth)]
    return all(difference(picture, truth[other]).mean() >= own for other in neighbours)


def _distance(picture: Picture, number: int, *, coarse: UInt8[np.ndarray, "T y x C"]) -> int:
    """Compute the distance from the requested frame to the most similar one, on a part of the pixels."""
    part = picture[::COARSE, ::COARSE]
    if part.shape != coarse.shape[1:]:
        return 0
    sums = difference(coarse, part).sum(axis=(1, 2, 3))
    return int(np.abs(np.flatnonzero(sums == sums.min()) - number).min())
