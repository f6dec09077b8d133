"""Reads an offline wandb run back from its folder (wandb itself has no Python reader for it any more)."""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

_HEADER = b":W&B\xe1\xbe\x00"
_BLOCK = 32 * 1024
_CHUNK = struct.Struct("<IHB")  # crc32 of type and data, length, type: 1 whole, 2 first, 3 middle, 4 last


@dataclass(frozen=True)
class OfflineRun:
    """What an offline run left on disk; `finished` says whether it was ended by `wandb.finish()`."""

    config: dict[str, Any]
    history: list[dict[str, Any]]  # one row per `log` call; a nested or media value is a dict of its own
    artifacts: dict[str, list[Path]]  # the files of each artifact, by its name
    files: dict[str, Path]  # everything under files/, by its name there
    finished: bool

    def values(self, key: str) -> list[Any]:
        """All values logged under the key, in order."""
        return [row[key] for row in self.history if key in row]

    def media(self, key: str) -> list[Path]:
        """All files logged under the key (images, videos, tables), in order; KeyError if one is not there."""
        logged = self.values(key)
        return [self.files[n] for v in logged for n in (v["filenames"] if "filenames" in v else [v["path"]])]

    def images(self, key: str) -> list[Path]:
        """All PNG images logged under the key, in order."""
        return [path for path in self.media(key) if path.suffix == ".png"]

    def table(self, key: str, index: int = -1) -> tuple[list[str], list[list[Any]]]:
        """Columns and rows of one table logged under the key, by default the last."""
        table = json.loads(self.media(key)[index].read_text(encoding="utf-8"))
        return table["columns"], table["data"]


def find_offline_runs(wandb_dir: Path) -> list[Path]:
    """The folders of the offline runs in or under a folder, oldest first."""
    return sorted(wandb_dir.rglob("offline-run-*"), key=lambda folder: folder.name)


def read_offline_run(folder: Path) -> OfflineRun:
    """Reads a run's folder (`offline-run-*`); of a run that was killed, all whole records."""
    [log] = folder.glob("run-*.wandb")
    records = [wandb_internal_pb2.Record.FromString(payload) for payload in _records(log.read_bytes())]
    config: dict[str, Any] = {}
    for record in records:
        _update(config, [*record.run.config.update, *record.config.update])
    history = [_update({}, record.history.item) for record in records if record.HasField("history")]
    root = folder / "files"
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    artifacts = {
        record.artifact.name: [Path(entry.local_path) for entry in record.artifact.manifest.contents]
        for record in records
        if record.HasField("artifact")
    }
    return OfflineRun(config, history, artifacts, files, finished=any(record.HasField("exit") for record in records))


def _records(log: bytes) -> Iterator[bytes]:
    """The payloads of a LevelDB-style log; stops at an end that was cut off."""
    assert log.startswith(_HEADER), f"not a wandb log: it begins with {log[:7]!r}"
    start, record = len(_HEADER), b""
    while start + _CHUNK.size <= len(log):
        crc, length, kind = _CHUNK.unpack_from(log, start)
        data = start + _CHUNK.size
        if kind == 0 or data + length > len(log):
            return
        assert zlib.crc32(log[start + 6 : data + length]) == crc, f"wrong checksum at byte {start}"
        record = (b"" if kind in (1, 2) else record) + log[data : data + length]
        if kind in (1, 4):
            yield record
        start = data + length
        if (left := -start % _BLOCK) < _CHUNK.size:  # no chunk begins in the last six bytes of a block
            start += left


def _update(target: dict[str, Any], items: Any) -> dict[str, Any]:
    """Sets a record's items, JSON-decoded, at their keys or nested keys; returns the same dict."""
    for item in items:
        *parents, last = item.nested_key or [item.key]
        place = target
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = json.loads(item.value_json)
    return target
