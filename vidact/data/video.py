"""Read and write video files; the only file that knows decord.

It does not know which frames are wanted, nor what the clips show.

decord's sparse reads return wrong frames, silently, wherever a stream has B-frames, which is every clip of
HMDB51 (dmlc/decord#195). Decoding from frame 0 onwards and keeping the wanted frames is right, and as fast.
"""

import stat
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import torch  # before decord: importing decord first makes torch's import crash
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

import decord  # isort: skip

from vidact.core import DataError

decord.logging.set_level(decord.logging.QUIET)
av.logging.set_level(None)

RGB = 3


def checked_path(path: Path) -> Path:
    """Make sure that a decoder gets an absolute path of an existing regular file with something in it.

    FFmpeg takes a path for a URL where it can, and hangs on a FIFO.

    Raises:
        DataError: missing, not a regular file, or empty.
    """
    path = path.absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{path!r}: its name is not valid UTF-8, which decord cannot open; rename it") from error
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: not a regular file")
    if status.st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes)")
    return path


def read_frames(
    path: Path, frame_numbers: Sequence[int], *, size: tuple[int, int], gray: bool
) -> UInt8[Tensor, "C T H W"]:
    """Read frames by number, exactly, and bring them to one size.

    Decodes from frame 0 up to the last frame that is wanted, and no further. Resizing is bilinear with
    antialiasing; gray is ITU-R 601 luma.

    Args:
        path: A video file.
        frame_numbers: From 0, in any order, with repeats if wanted.
        size: Height and width of the result in pixels; the frame's aspect is not kept.
        gray: One colour channel in place of three.

    Raises:
        DataError: the file does not open, or has fewer frames than were asked for.
    """
    path = checked_path(path)
    frames = _decode(path, wanted=set(frame_numbers))
    rows, inverse = np.unique(np.asarray(frame_numbers), return_inverse=True)
    video = torch.from_numpy(np.stack([frames[row] for row in rows.tolist()]))  # [T, H, W, C]
    video = transforms.resize(video.permute(0, 3, 1, 2), list(size), antialias=True)  # [T, C, H, W]
    if gray:
        video = transforms.rgb_to_grayscale(video)
    ordered: Tensor = video[torch.from_numpy(inverse)]
    return ordered.transpose(0, 1).contiguous()


def _decode(path: Path, wanted: set[int]) -> dict[int, UInt8[np.ndarray, "H W C"]]:
    frames = {}
    try:
        # One reader per call, dropped at once: a kept reader decodes ahead and cannot cross a fork.
        reader = decord.VideoReader(str(path), num_threads=1)
        for number in range(max(wanted) + 1):
            frame = reader.next()
            if frame.shape[2] != RGB:
                raise DataError(f"{path}: decord garbles frames of this width ({frame.shape[1]} pixels); scale them up")
            if number in wanted:
                frames[number] = frame.asnumpy()
    except StopIteration as error:
        raise DataError(f"{path}: frame {max(wanted)} was asked for, decoding ends before it") from error
    except (decord.DECORDError, RuntimeError) as error:
        raise DataError(f"{path}: decord cannot decode it up to frame {max(wanted)}") from error
    return frames


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
        path: Where to; its folder exists.
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
