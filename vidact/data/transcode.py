"""Write a small copy of a data set, with the same names, layout and frames, for slow disks and small transfers.

A copy has its clip's frames, one for one and at the same times, only smaller: frame numbers, split files and masks
stay true (masks are resized when they are read). No frame refers to a later one and groups of pictures are closed,
so readers that seek get the right frames as well, but of H.264 in AVI: AVI keeps no display times, and decord's
sparse read then starts at a wrong key frame, whatever the encoder's options.
"""

import contextlib
import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Literal, cast

import av
import torch
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter
from filelock import FileLock, Timeout
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from vidact.core import ConfigError, DataError, EnvironmentProblem
from vidact.data.containers import missing_bytes
from vidact.data.copies import Clock, small_size
from vidact.data.display import UPRIGHT, turn_of
from vidact.data.index import ENDINGS
from vidact.data.measuring import MAX_FRAME_PIXELS, measure_video, reason_of, stamp_of
from vidact.data.own_copies import Copies
from vidact.data.video import checked_path, main_stream, open_container, read_frames
from vidact.folders import is_workshop, remove_abandoned, workshop

Codec = Literal["h264", "mpeg4"]

# One thread each, so that the bytes do not depend on the machine's number of cores; clips run in parallel.
_COMMON = {"threads": "1", "bf": "0", "g": "30"}
_ENCODERS = {
    "h264": ("libx264", {**_COMMON, "preset": "medium", "crf": "20"}),
    "mpeg4": ("mpeg4", {**_COMMON, "qmin": "3", "qmax": "3"}),
}
# WebM holds neither. No look-ahead and no hidden reference frames, for the sake of readers that seek.
_NOTHING_HIDDEN = {"auto-alt-ref": "0", "lag-in-frames": "0"}
_WEBM = ("libvpx-vp9", {"threads": "1", "g": "30", "crf": "24", "b": "0", "cpu-used": "4", **_NOTHING_HIDDEN})
# A copy must look like its clip: the first and the last frame, this small, this close in grey levels on average.
_LOOK_SIZE, _LOOK_TOLERANCE = (16, 16), 6.0
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_FORMAT_VERSION = 1
_MARK, _LOCK, _COPIES = "transcode.json", ".transcode.lock", ".transcode.copies"
_COPIED_FOLDERS = {"splits", "testTrainMulti_7030_splits", "ucfTrainTestlist", "masks", "puppet_mask"}
_COPIED_ENDINGS = {".txt", ".csv"}  # at the top
_CLOCK_NS = 10_000_000  # what coarse file systems keep of a time


@dataclass(frozen=True)
class TranscodeSettings:
    """What the copies are like.

    Attributes:
        short_side: The shorter side of a frame in pixels, even; smaller frames stay as small as they are.
        codec: `mpeg4`, or `h264`: smaller, slower to write, and in .avi files only for readers that decode from
            the first frame on, as vidact does. In .webm files it is VP9 with either.
    """

    short_side: int = 128
    codec: Codec = "mpeg4"

    def __post_init__(self) -> None:
        if self.short_side < 16 or self.short_side % 2:
            raise ConfigError(f"--short-side is an even number of pixels, at least 16, got {self.short_side}")


@dataclass(frozen=True)
class TranscodeReport:
    """How many clips were copied now, had a copy already, how many split files and masks were copied as they are.

    `left_out` has a line for each clip, link and folder without a copy; `ignored` counts files that are none of these;
    bytes are of clips that have a copy.
    """

    written: int
    kept: int
    copied: int
    left_out: tuple[str, ...]
    ignored: int
    bytes_before: int
    bytes_after: int


def transcode(
    root: Path,
    out: Path,
    *,
    settings: TranscodeSettings = TranscodeSettings(),
    progress: Callable[[int, int], None] | None = None,
) -> TranscodeReport:
    """Write a small copy of every clip of a data set, and copy its split files and masks.

    Every copy appears whole or not at all and bears its clip's time of change, so that a run that was stopped is
    taken up where it ended, and a clip that changed is copied again. The rest goes on when a clip is broken.
    The layout may be any; `progress` is called with how many clips are done and how many there are.

    Raises:
        DataError: no clips, `out` holds something else or is in use, or one folder lies in the other.
        EnvironmentProblem: `out` cannot be written.
    """
    root, out = root.resolve(), out.resolve()
    if root.is_relative_to(out) or out.is_relative_to(root):
        raise DataError(f"{out}: the copy and the data set {root} must not lie in each other; choose another folder")
    clips, copied, left_out, ignored = _list_files(root)
    outcomes: list[str | DataError] = []
    with _claimed(out, settings) as room, ThreadPoolExecutor(os.cpu_count()) as pool:
        copies = Copies(out, out / _COPIES, [*clips, *copied])
        bring = partial(_bring, root=root, copies=copies, room=room)
        try:
            for outcome in pool.map(partial(bring, make=partial(transcode_clip, settings=settings)), clips):
                outcomes.append(outcome)
                if progress:
                    progress(len(outcomes), len(clips))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        carried = [bring(name, make=shutil.copyfile) for name in copied]
    left_out += [str(outcome) for outcome in (*outcomes, *carried) if isinstance(outcome, DataError)]
    done = [name for name, outcome in zip(clips, outcomes, strict=True) if isinstance(outcome, str)]
    before, after = (sum((folder / name).stat().st_size for name in done) for folder in (root, out))
    written, kept = (outcomes.count(what) for what in ("written", "kept"))
    return TranscodeReport(written, kept, len(copied), tuple(left_out), ignored, before, after)


def _list_files(root: Path) -> tuple[list[Path], list[Path], list[str], int]:
    """List the clips and what to copy as it is, by names from `root` on, and say what of the rest."""
    clips, copied, left_out, ignored = [], [], [], 0
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        as_it_is = _COPIED_FOLDERS & set(name.parts[:-1]) or (len(name.parts) == 1 and path.suffix in _COPIED_ENDINGS)
        if any(part.startswith(".") for part in name.parts):
            continue
        if path.is_symlink() and (path.is_dir() or not Path(os.path.realpath(path)).is_relative_to(root)):
            left_out.append(f"{path}: a link to a folder or out of {root}, which is not followed")
        elif path.is_dir():
            if not os.access(path, os.R_OK | os.X_OK):
                left_out.append(f"{path}: a folder that may not be read")
        elif as_it_is and path.is_file():
            copied.append(name)
        elif path.suffix.lower() in ENDINGS:
            clips.append(name)
        else:
            ignored += 1
    if not clips:
        raise DataError(f"{root}: expected a data set's folder, found no clip in it ({', '.join(ENDINGS)})")
    return clips, copied, left_out, ignored


@contextlib.contextmanager
def _claimed(out: Path, settings: TranscodeSettings) -> Iterator[Path]:
    """Claim the folder of a copy, mark it, and lend an empty folder in it for what is not finished."""
    record = {"format_version": _FORMAT_VERSION, **asdict(settings)}
    try:
        _check_mark(out, record)
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / _LOCK, timeout=0):
            _check_mark(out, record)
            remove_abandoned(out)
            with workshop(out) as room:
                (room / _MARK).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
                (room / _MARK).replace(out / _MARK)
                yield room
    except Timeout as error:
        raise DataError(f"{out}: another run is writing this copy; wait for it, or choose another folder") from error
    except OSError as error:
        raise EnvironmentProblem(f"{out}: the copy cannot be written ({error})") from error


def _check_mark(out: Path, record: dict[str, object]) -> None:
    """Make sure that a folder is missing, empty, or a copy with the same settings."""
    try:
        found = json.loads((out / _MARK).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        found = "other files"
    others = [path for path in out.iterdir() if path.name != _LOCK and not is_workshop(path)] if out.is_dir() else []
    if found != record and others:
        raise DataError(f"{out}: expected nothing or a copy with {record}, found {found}; choose another folder")


def _bring(
    name: Path, *, root: Path, copies: Copies, room: Path, make: Callable[[Path, Path], object]
) -> str | DataError:
    """Bring one file's copy about; 'written', 'kept', or what is wrong with the file."""
    source, target, temporary = root / name, copies.folder / name, room / f"{threading.get_ident()}{name.suffix}"
    try:
        status = checked_path(source).stat()
        if target.is_file() and abs(target.stat().st_mtime_ns - status.st_mtime_ns) <= _CLOCK_NS:
            return "kept"
        copies.check_own(name)
    except DataError as error:
        return error
    try:
        make(source, temporary)
    except DataError as error:  # a copy that it had would hide what has become of it
        temporary.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        return error
    os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
    target.parent.mkdir(parents=True, exist_ok=True)
    copies.put(temporary, name)
    return "written"


def transcode_clip(path: Path, out: Path, *, settings: TranscodeSettings) -> int:
    """Write a small copy of a video file, without its sound, read it back and count its frames, the same in both.

    A copy would hide damage, so a clip that is cut or has a damaged frame is refused. The ending of `out` chooses
    the container; its folder exists.

    Raises:
        DataError: the clip is not whole, or cannot be copied faithfully.
        EnvironmentProblem: `out` cannot be written.
    """
    path = checked_path(path)
    try:
        if lacking := missing_bytes(path):
            raise DataError(f"{path}: the file ends {lacking:,} bytes before its container does; get it anew")
        with open_container(path) as container:
            stream = main_stream(container)
            if stream is None or not (stream.average_rate or stream.guessed_rate):
                raise DataError(f"{path}: holds no video stream, or none that says its frames per second")
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
    """Encode all frames, each at its time; give their number, and how the first and the last of the source look."""
    encoder, options = _WEBM if out.suffix.lower() == ".webm" else _ENCODERS[settings.codec]
    size = small_size(source.height, source.width, short_side=settings.short_side)
    shrinker = VideoReformatter()  # one for all: it keeps its tables
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


def _whole_frames(path: Path, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    if stream.width * stream.height > MAX_FRAME_PIXELS:
        raise DataError(f"{path}: claims frames of {stream.width}x{stream.height} pixels")
    stream.codec_context.thread_count = 1
    try:
        for number, frame in enumerate(cast(av.container.InputContainer, stream.container).decode(stream)):
            if frame.is_corrupt:
                raise DataError(f"{path}: frame {number} is damaged; get the file anew")
            if turn_of(frame) != UPRIGHT:
                raise DataError(f"{path}: is to be shown turned or mirrored, which its copy would not be")
            yield frame
    except av.error.FFmpegError as error:
        raise DataError(f"{path}: does not decode to its end ({reason_of(error)}); get it anew") from error


def _verify(out: Path, *, path: Path, num_frames: int, looks: UInt8[Tensor, "2 H W"]) -> None:
    """Read a copy back as training will, and compare it with what it should be."""
    try:
        info = measure_video(out)
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
