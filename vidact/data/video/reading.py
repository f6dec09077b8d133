"""Read frames of video files by number, with decord or PyAV, and write video files.

Only this module imports decord. decord's sparse reads return wrong frames, silently, wherever a stream has B-frames,
which is every clip of HMDB51 (dmlc/decord#195; docs/background/sparse-reads.md). Decoding from frame 0 onwards and
keeping the wanted frames is right. decord converts every frame that it decodes to RGB, PyAV only the wanted ones, in
half the time.
"""

import stat
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

import av
import numpy as np
import torch  # before decord: importing decord first makes torch's import crash
from av.stream import Disposition
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.dlpack import from_dlpack

import decord  # isort: skip

from vidact.core.errors import DataError
from vidact.data.video.display import Painter

decord.logging.set_level(decord.logging.QUIET)
av.logging.set_level(None)

Decoder = Literal["decord", "pyav"]
VERSIONS: dict[Decoder, str] = {"decord": f"decord {decord.__version__}", "pyav": f"PyAV {av.__version__}"}
RGB = 3


def checked_path(path: Path) -> Path:
    """Make a path absolute, and make sure that it is a regular file that is not empty.

    FFmpeg takes relative paths with a colon for URLs, and hangs on a FIFO.

    Raises:
        DataError: missing, not a regular file, or empty.
    """
    path = path.absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{str(path)!r}: its name is not valid UTF-8, which decord cannot open; rename it") from error
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: not a regular file")
    if status.st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes)")
    return path


def open_container(path: Path) -> av.container.InputContainer:
    """Open a video file with PyAV.

    The headers of some clips of HMDB51 hold bytes that are not UTF-8. PyAV 19 accepts them and no longer has the
    parameter that earlier versions need.
    """
    try:
        return av.open(str(path), metadata_errors="ignore")
    except TypeError:
        return av.open(str(path))


def main_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """Choose the video stream: FFmpeg's best one, never an attached picture such as a cover."""
    own = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    return next((stream for stream in own if stream is best), own[0] if own else None)


def read_frames(
    path: Path, frame_numbers: Sequence[int], *, size: tuple[int, int], gray: bool, decoder: Decoder = "decord"
) -> UInt8[Tensor, "C T H W"]:
    """Read frames by number, exactly, and resize them.

    Decodes from frame 0 up to the last frame that is wanted, and no further. Resizing is bilinear with
    antialiasing; gray is ITU-R 601 luma.

    Args:
        path: A video file.
        frame_numbers: From 0, in any order, with repeats if wanted.
        size: Height and width of the result in pixels; the frame's aspect is not kept.
        gray: One colour channel in place of three.
        decoder: The library that decodes. PyAV reads every file rightly, rotated and mirrored as it is to be seen;
            decord gives the same frames, up to rounding, for files whose inspection says so.

    Raises:
        DataError: the file does not open, or has fewer frames than were asked for.
        ValueError: no frame or a negative one is asked for.
    """
    wanted = set(frame_numbers)
    if min(wanted, default=-1) < 0:
        raise ValueError(f"expected one or more frame numbers, each at least 0, got {frame_numbers}")
    decode = {"decord": _decode_with_decord, "pyav": _decode_with_pyav}[decoder]
    frames = decode(checked_path(path), wanted)
    rows, inverse = np.unique(np.asarray(frame_numbers), return_inverse=True)
    video = torch.cat([_resize(frames[row], size) for row in rows.tolist()])  # [T, C, H, W]
    if gray:
        video = _to_gray(video)
    ordered: Tensor = video[torch.from_numpy(inverse)]
    return ordered.transpose(0, 1).contiguous()


def to_network_size(picture: UInt8[Tensor, "H W C"], size: tuple[int, int], *, gray: bool) -> UInt8[Tensor, "c h w"]:
    """Resize one RGB picture and convert its colours, as `read_frames` does."""
    resized = _resize(picture, size)
    return (_to_gray(resized) if gray else resized)[0]


# torchvision is imported late: processes that only inspect clips start in half the time without it.
def _to_gray(video: UInt8[Tensor, "T 3 H W"]) -> UInt8[Tensor, "T 1 H W"]:
    from torchvision.transforms.v2 import functional as transforms

    gray: Tensor = transforms.rgb_to_grayscale(video)
    return gray


def _resize(frame: UInt8[Tensor, "H W C"], size: tuple[int, int]) -> UInt8[Tensor, "1 C h w"]:
    from torchvision.transforms.v2 import functional as transforms

    resized: Tensor = transforms.resize(frame.permute(2, 0, 1)[None], list(size), antialias=True)
    return resized


def _decode_with_decord(path: Path, wanted: set[int]) -> dict[int, UInt8[Tensor, "H W C"]]:
    frames, last = {}, max(wanted)
    for number, picture in enumerate(decord_pictures(path)):
        if number in wanted:
            frames[number] = picture
        if number == last:
            return frames
    raise _ends_before(path, last)


def decord_pictures(path: Path) -> Iterator[UInt8[Tensor, "H W 3"]]:
    """Yield the pictures of a checked file in order, as decord decodes them.

    Ask for no more pictures than there are: beyond a stream's end decord may loop for ever (dmlc/decord#373). Errors
    of its decoding thread show up at a random frame, also before the damage.

    Raises:
        DataError: decord does not open the file, fails in it, or garbles its pictures.
    """
    number = 0
    try:
        # One reader per call, dropped at once: a kept reader decodes ahead and cannot cross a fork.
        reader = decord.VideoReader(str(path), num_threads=1)
        while True:
            frame = reader.next()
            if frame.shape[2] != RGB:
                raise DataError(f"{path}: decord garbles frames of this width ({frame.shape[1]} pixels)")
            yield from_dlpack(frame.to_dlpack())  # decord's own memory, not copied
            number += 1
    except StopIteration:
        return
    except (decord.DECORDError, RuntimeError) as error:
        raise DataError(f"{path}: decord cannot decode it from frame {number} on") from error


def _decode_with_pyav(path: Path, wanted: set[int]) -> dict[int, UInt8[Tensor, "H W C"]]:
    frames, last, painter = {}, max(wanted), Painter()
    for number, frame in enumerate(decode_all(path)):
        if number in wanted:
            try:
                frames[number] = torch.from_numpy(painter.upright(frame))
            except DataError as error:
                raise DataError(f"{path}: {error}") from error
        if number == last:
            return frames
    raise _ends_before(path, last)


def _ends_before(path: Path, last: int) -> DataError:
    return DataError(f"{path}: frame {last} was asked for, decoding ends before it")


def decode_all(path: Path) -> Iterator[av.VideoFrame]:
    """Yield the frames of a checked file in order, as PyAV decodes them.

    Raises:
        DataError: it holds no video, or does not decode to its end.
    """
    number = 0
    try:
        with open_container(path) as container:
            stream = main_stream(container)
            if stream is None:
                raise DataError(f"{path}: holds no video stream")
            stream.codec_context.thread_count = 1  # clips are read in parallel by worker processes
            for frame in container.decode(stream):
                yield frame
                number += 1
    except (av.error.FFmpegError, ValueError) as error:
        raise DataError(f"{path}: PyAV cannot decode it beyond frame {number} ({error})") from error


def read_sparsely(path: Path, frame_numbers: Sequence[int]) -> UInt8[Tensor, "T H W C"]:
    """Read frames with decord's `get_batch`, which may return wrong ones: for comparison only, never for training.

    Args:
        path: A video file.
        frame_numbers: From 0, below the number of frames.

    Returns:
        As many RGB pictures, possibly of other frames.

    Raises:
        DataError: decord cannot read them.
    """
    path = checked_path(path)
    try:
        batch = decord.VideoReader(str(path), num_threads=1).get_batch(list(frame_numbers))
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        raise DataError(f"{path}: decord cannot read {len(frame_numbers)} frames of it by number") from error
    return from_dlpack(batch.to_dlpack())


def write_video(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "H W C"]],
    *,
    fps: int,
    codec: str = "mpeg4",
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
) -> None:
    """Write RGB frames to a video file; the ending of its name chooses the container.

    Args:
        path: The file; its folder exists.
        frames: RGB, all of one size, height and width even.
        fps: Frames per second.
        codec: FFmpeg's name of the encoder.
        options: The encoder's own settings, as FFmpeg spells them.
        pix_fmt: The pixel format that is stored.
    """
    # One thread: the bytes do not depend on the machine's number of cores.
    options = {"threads": "1", **(options or {})}
    with av.open(str(path), "w") as container:
        stream = None
        for image in frames:
            if stream is None:
                stream = cast(av.VideoStream, container.add_stream(codec, rate=Fraction(fps), options=options))
                stream.height, stream.width, stream.pix_fmt = image.shape[0], image.shape[1], pix_fmt
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())
