"""Give things names that wandb takes: short, the same in every run, and no two alike however wandb writes them.

wandb makes an artifact `run-<id>-<key>_table` of every table and chart, refuses names above 128 characters, drops
characters of them, and makes files of keys, which some disks write without capital letters. So a name that is long or
not plain is cut, and a hash of the whole of it is put behind. Titles and cells of tables have the whole name.
"""

import hashlib
import re

MAX_ARTIFACT = 128
MAX_MEDIA = 64  # more than a person reads; it leaves 46 characters to the run's id
MAX_PRINTED = 128
LEAST = 24  # whatever the run is called
MAX_FILE_BYTES = 255
_AROUND = len("run--_table") + len("-hashes")  # what wandb puts around the key, with its own hash of dropped characters
_HASH_DIGITS = 8
_HASHED = re.compile(rf".*-[0-9a-f]{{{_HASH_DIGITS}}}", re.DOTALL)


def artifact_name(name: str) -> str:
    """Name an artifact, which has no folders."""
    return _cut(name, plain=r"[a-z0-9_][a-z0-9_.-]*", other=r"[^\w.-]", limit=MAX_ARTIFACT)


def media_key(key: str, *, run_id: str = "") -> str:
    """Name a table, a chart, pictures or videos; `/` divides sections."""
    limit = max(LEAST, min(MAX_MEDIA, MAX_ARTIFACT - _AROUND - len(run_id)))
    return _cut(key, plain=r"[a-z0-9_][a-z0-9_-]*(/[a-z0-9_][a-z0-9_-]*)*", other=r"[^\w/-]", limit=limit)


def printable(name: str) -> str:
    """Name a number or a run: as it is, unless it is very long or cannot be printed."""
    is_plain = len(name) <= MAX_PRINTED and name.isprintable() and name
    return name if is_plain else _shortened(name, r"[^\w/. :-]", MAX_PRINTED)


def file_stem(stem: str, *, ending: str) -> str:
    """Name a file that has the stem and an ending, which together may be longer than a file system takes."""
    room = MAX_FILE_BYTES - len(ending.encode())
    return stem if len(stem.encode(errors="surrogateescape")) <= room else _shortened(stem, r"[^\w.-]", room)


def _cut(name: str, *, plain: str, other: str, limit: int) -> str:
    """Leave a plain name alone, but for one that looks as if it had been shortened."""
    is_plain = re.fullmatch(plain, name) and not _HASHED.fullmatch(name)
    return name if is_plain and len(name) <= limit else _shortened(name, other, limit)


def _shortened(name: str, other: str, limit: int) -> str:
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_HASH_DIGITS]
    text = re.sub(other, "_", name, flags=re.ASCII)[: limit - _HASH_DIGITS - 1].rstrip("/-_.")
    text = re.sub(r"//+", "/", text).lstrip("/")
    return f"{text}-{digest}" if text else f"_{digest}"
