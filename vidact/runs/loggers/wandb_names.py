"""Shorten names so that wandb takes them, the same way in every run, and without making two names equal.

wandb makes an artifact `run-<id>-<key>_table` of every table and chart, refuses names above 128 characters, drops some
characters, and makes files of keys, which some disks do not tell apart by upper and lower case. So a name that is long,
or has other than plain characters, is cut and a hash of the whole is appended. Titles and cells keep the whole name.
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
    """Name an artifact; it may have no `/`."""
    return _cut(name, plain=r"[a-z0-9_][a-z0-9_.-]*", other=r"[^\w.-]", limit=MAX_ARTIFACT)


def media_key(key: str, *, run_id: str = "") -> str:
    """Name a table, a chart, pictures or videos; `/` separates sections."""
    limit = max(LEAST, min(MAX_MEDIA, MAX_ARTIFACT - _AROUND - len(run_id)))
    return _cut(key, plain=r"[a-z0-9_][a-z0-9_-]*(/[a-z0-9_][a-z0-9_-]*)*", other=r"[^\w/-]", limit=limit)


def printable(name: str) -> str:
    """Name a metric or a run: unchanged, unless it is very long or not printable."""
    is_plain = len(name) <= MAX_PRINTED and name.isprintable() and name
    return name if is_plain else _shortened(name, r"[^\w/. :-]", MAX_PRINTED)


def file_stem(stem: str, *, ending: str) -> str:
    """Shorten the stem of a file so that stem and ending are no longer than a file system takes."""
    room = MAX_FILE_BYTES - len(ending.encode())
    return stem if len(stem.encode(errors="surrogateescape")) <= room else _shortened(stem, r"[^\w.-]", room)


def _cut(name: str, *, plain: str, other: str, limit: int) -> str:
    """Keep a plain name, unless it looks like one that was shortened."""
    is_plain = re.fullmatch(plain, name) and not _HASHED.fullmatch(name)
    return name if is_plain and len(name) <= limit else _shortened(name, other, limit)


def _shortened(name: str, other: str, limit: int) -> str:
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_HASH_DIGITS]
    text = re.sub(other, "_", name, flags=re.ASCII)[: limit - _HASH_DIGITS - 1].rstrip("/-_.")
    text = re.sub(r"//+", "/", text).lstrip("/")
    return f"{text}-{digest}" if text else f"_{digest}"
