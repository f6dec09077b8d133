"""Write RAR archives whose entries are stored, not compressed: RAR 5.0, honest and hostile, and plain RAR 4.

Format: https://www.rarlab.com/technote.htm
"""

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

SIGNATURE = b"Rar!\x1a\x07\x01\x00"
MAIN, FILE, END = 1, 2, 5
SYMLINK, HARD_LINK = 1, 4


@dataclass(frozen=True)
class RarEntry:
    """What an archive says of an entry; the fields after `data` are lies or rarities."""

    name: str
    data: bytes = b""
    mode: int = 0o100644
    method: int = 0  # 0 is stored, 1 to 5 are compressed (the data is then not)
    crc: int | None = None
    num_bytes: int | None = None
    link: tuple[int, str] | None = None
    is_folder: bool = False


def rar_bytes(entries: Iterable[RarEntry] | Mapping[str, bytes], *, end: bool = True) -> bytes:
    """Make an archive in memory; without `end`, its last block is missing."""
    if isinstance(entries, Mapping):
        entries = [RarEntry(name, data) for name, data in entries.items()]
    blocks = [_block(MAIN, _number(0)), *map(_file, entries)]
    return SIGNATURE + b"".join(blocks) + (_block(END, _number(0)) if end else b"")


def rar4_bytes(files: Mapping[str, bytes], *, end: bool = True) -> bytes:
    """Make an archive as RAR 3 and 4 did; the last block may be missing there."""
    blocks = [_block4(0x73, 0, bytes(6))]
    for name, data in files.items():
        raw = name.replace("/", "\\").encode("ascii")
        body = struct.pack("<LLBLLBBHL", len(data), len(data), 3, zlib.crc32(data), 0, 20, 0x30, len(raw), 0o100644)
        blocks.append(_block4(0x74, 0x8000, body + raw) + data)
    return b"Rar!\x1a\x07\x00" + b"".join(blocks) + (_block4(0x7B, 0x4000, b"") if end else b"")


def _block4(kind: int, flags: int, body: bytes) -> bytes:
    header = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
    return struct.pack("<H", zlib.crc32(header) & 0xFFFF) + header


def write_rar(path: Path, entries: Iterable[RarEntry] | Mapping[str, bytes]) -> Path:
    """Write an archive and give its path back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(rar_bytes(entries))
    return path


def _file(entry: RarEntry) -> bytes:
    name = entry.name.encode()
    crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
    body = (
        _number(0x04 | entry.is_folder)  # has a CRC
        + _number(len(entry.data) if entry.num_bytes is None else entry.num_bytes)
        + _number(entry.mode)
        + crc.to_bytes(4, "little")
        + _number(entry.method << 7)
        + _number(1)  # made on Unix
        + _number(len(name))
        + name
    )
    extra = b""
    if entry.link:
        kind, target = entry.link
        record = _number(5) + _number(kind) + _number(0) + _number(len(target)) + target.encode()
        extra = _number(len(record)) + record
    return _block(FILE, body, extra=extra, data=entry.data)


def _block(kind: int, body: bytes, *, extra: bytes = b"", data: bytes | None = None) -> bytes:
    header = _number(kind) + _number((0x01 if extra else 0) | (0 if data is None else 0x02))
    header += _number(len(extra)) if extra else b""
    header += b"" if data is None else _number(len(data))
    header += body + extra
    sized = _number(len(header)) + header
    return zlib.crc32(sized).to_bytes(4, "little") + sized + (data or b"")


def _number(value: int) -> bytes:
    """Seven bits to a byte, lowest first; the eighth says that more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
