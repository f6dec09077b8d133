"""Hash a video file, and count the bytes that are missing at its end according to its container.

A cut file is told by its size, not by its frames: headers of complete files often claim too many frames, but a
container that claims bytes beyond the end of the file was cut. Formats: RIFF with OpenDML's further RIFF chunks (AVI),
ISO/IEC 14496-12 boxes (MP4, MOV), EBML (RFC 8794: Matroska, WebM).
"""

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

_UNFINISHED_RIFF = (0, 0xFFFFFFFF)  # what a streaming writer leaves, which cannot go back to fill in the size
_BOX_HEADER_BYTES = 8
_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"pnot", b"uuid"}
_EBML_MAGIC = bytes.fromhex("1A45DFA3")


def file_sha1(path: Path) -> str:
    """Compute the SHA-1 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def missing_bytes(path: Path) -> int:
    """Count the bytes from the end of a file to where its container's last top-level element should end.

    Args:
        path: A regular file of any kind.

    Returns:
        0 for a complete file, for a container that does not state its size, and for other formats than AVI, MP4, MOV,
        Matroska and WebM. An MP4 that ends between two boxes but has no `moov` lacks at least that box's header, 8
        bytes.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        magic = file.read(_BOX_HEADER_BYTES)
        if magic[:4] == b"RIFF":
            end = _riff_end(file, size)
        elif magic[4:] in _FIRST_BOXES:
            end = _boxes_end(file, size)
        elif magic[:4] == _EBML_MAGIC:
            end = _ebml_end(file, size)
        else:
            end = 0
    return max(end - size, 0)


def _riff_end(file: BinaryIO, size: int) -> int:
    """Walk over RIFF chunks; trailing bytes after the last one are ignored."""
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or len(head) < 8 or length in _UNFINISHED_RIFF:
            break
        end += 8 + length
        if end < size:
            end += length % 2  # padded to an even length; writers often omit the last pad byte
    return end


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Walk over boxes, and count a header more where `moov` is absent; trailing bytes are ignored."""
    end, kinds = 0, set()
    while end < size:
        file.seek(end)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:  # the length follows in 8 bytes
            length = int.from_bytes(head[8:16], "big")
        if len(kind) < 4 or not kind.isalnum() or 0 < length < _BOX_HEADER_BYTES:
            break
        kinds.add(kind)
        end = end + length if length else size  # 0: up to the end of the file
    return end if b"moov" in kinds else max(end, size + _BOX_HEADER_BYTES)


def _ebml_end(file: BinaryIO, size: int) -> int:
    """Walk over the EBML header and the segments."""
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(12)
        id_bytes = _vint_bytes(head)
        length_bytes = _vint_bytes(head[id_bytes:])
        field = head[id_bytes : id_bytes + length_bytes]
        if not id_bytes or not length_bytes or len(field) < length_bytes:
            break
        length = int.from_bytes(field, "big") - (1 << 7 * length_bytes)  # without the length marker bit
        if length == (1 << 7 * length_bytes) - 1:  # all ones: unknown
            break
        end += id_bytes + length_bytes + length
    return end


def _vint_bytes(head: bytes) -> int:
    """Read an EBML number's length from its leading zero bits; 0 where there is no number."""
    return 9 - head[0].bit_length() if head and head[0] else 0
