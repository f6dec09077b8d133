"""Videos whose every picture tells its own number by a barcode, in any container and codec."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from jaxtyping import UInt8

BITS, HEIGHT, WIDTH = 6, 96, 128
CORNERS = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (120, 120, 120))  # of the left and the right, top and bottom


def barcode(number: int, height: int = HEIGHT, width: int = WIDTH) -> UInt8[np.ndarray, "H W 3"]:
    """Draw a picture with four coloured corners, and in its middle six stripes that are black or white."""
    picture = np.zeros((height, width, 3), np.uint8)
    middle, centre = height // 2, width // 2
    for place, colour in enumerate(CORNERS):
        rows = slice(None, middle) if place < 2 else slice(middle, None)
        columns = slice(None, centre) if place % 2 == 0 else slice(centre, None)
        picture[rows, columns] = colour
    for bit in range(BITS):
        stripe = slice(bit * width // BITS, (bit + 1) * width // BITS)
        picture[height // 3 : 2 * height // 3, stripe] = 235 if number >> bit & 1 else 16
    return picture


def numbers_of(video: torch.Tensor) -> list[int]:
    """Tell the numbers of pictures, uint8 [3, T, H, W]."""
    gray = video.float().mean(dim=0)  # [T, H, W]
    height, width = gray.shape[1:]
    row = gray[:, height * 9 // 20 : height * 11 // 20].mean(dim=1)  # [T, W]
    lit = [row[:, bit * width // BITS + 4 : (bit + 1) * width // BITS - 4].mean(dim=1) > 125 for bit in range(BITS)]
    return sum(bits.int() << bit for bit, bits in enumerate(lit)).tolist()  # type: ignore[union-attr]


def write_barcodes(
    path: Path,
    numbers: Sequence[int],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    container: str | None = None,
    options: dict[str, str] | None = None,
    shift: int = 0,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    pixel_aspect: Fraction | None = None,
    other_first: Sequence[int] | None = None,
) -> Path:
    """Write pictures at 30 per second.

    Args:
        path: Where to.
        numbers: Of the pictures.
        codec: FFmpeg's name of the encoder.
        pix_fmt: As it is stored.
        container: FFmpeg's name; by the ending of `path` if None.
        options: The encoder's.
        shift: Ticks of 1/1000 s that every packet is moved by; negative ones make negative times.
        size: Height and width.
        pixel_aspect: Width of a stored pixel by its height.
        other_first: A second video stream before that one, smaller, with other pictures.
    """
    muxing = {"avoid_negative_ts": "disabled"} if shift else {}
    with av.open(str(path), "w", format=container, container_options=muxing) as file:
        streams: list[tuple[Any, Sequence[int], tuple[int, int]]] = []
        for shown, pixels in ((other_first, (48, 64)), (numbers, size)):
            if shown is not None:
                stream: Any = file.add_stream(codec, rate=Fraction(30), options={"threads": "1", **(options or {})})
                stream.height, stream.width, stream.pix_fmt = *pixels, pix_fmt
                if pixel_aspect:
                    stream.sample_aspect_ratio = pixel_aspect
                streams.append((stream, shown, pixels))
        packets = []
        for stream, shown, pixels in streams:
            for number in shown:
                frame = av.VideoFrame.from_ndarray(barcode(number, *pixels), format="rgb24")
                packets += stream.encode(frame)
            packets += stream.encode()
        for packet in packets:
            if shift:
                move = round(Fraction(shift, 1000) / packet.time_base)
                packet.pts, packet.dts = packet.pts + move, packet.dts + move
            file.mux(packet)
    return path


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Write the four numbers of an MP4's display matrix that turn and mirror, in units of 65536."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40  # behind the box's fixed fields, version 0
    values = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    content[place : place + 36] = struct.pack(">9i", *values)
    path.write_bytes(content)
