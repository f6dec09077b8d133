"""Download a file from the first mirror that has it: resume, verify, and rename it only when it is complete."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from vidact.core.errors import ConfigError, EnvironmentProblem
from vidact.core.files import flush_file, flush_folder
from vidact.data.download.archives import SIGNATURES
from vidact.data.download.transfer import (
    WEB_PAGE,
    Patience,
    Refused,
    Transfer,
    discard,
    discard_all,
    fetch,
    open_client,
    part_path,
)

# Called with (title, done, total); the total is 0 where it is unknown.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DownloadSource:
    """One address of a file, and what is known about the file.

    Attributes:
        name: Local file name; `.rar` and `.zip` files must begin as such.
        url: Address, http or https.
        sha256: SHA-256 in hexadecimal, where known.
        md5: MD5 in hexadecimal, where only that is known: it detects damage, not malice.
        num_bytes: Length, where known.
    """

    name: str
    url: str
    sha256: str | None = None
    md5: str | None = None
    num_bytes: int | None = None

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"mirror {self.url!r} is not an address ({error})") from error
        if url.scheme not in {"http", "https"} or not url.host:
            raise ConfigError(f"mirror {self.url!r}: expected an address that begins with http:// or https://")


def download(
    sources: Sequence[DownloadSource],
    folder: Path,
    *,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Path:
    """Download a file from the first source that has it.

    A partial download of an earlier run is continued, if the server still has the same file. A file that already
    exists is returned as it is.

    Args:
        sources: Sources, tried in this order.
        folder: Folder for the file, and for its parts until it is complete.
        progress: Called with the file's name, the bytes received, and its length.
        patience: When to give up on a server.

    Returns:
        The file, under the name of its source.

    Raises:
        EnvironmentProblem: no source has the file (with the cause for each), or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _take_first(sources, folder, progress=progress, patience=patience or Patience())
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder}: cannot be written ({error.strerror or error}); free some space, or choose another folder"
        ) from error


def _take_first(
    sources: Sequence[DownloadSource], folder: Path, *, progress: Progress | None, patience: Patience
) -> Path:
    causes = []
    with open_client(patience) as client:
        for source in sources:
            try:
                if not (folder / source.name).is_file():
                    _download_one(client, source, folder=folder, progress=progress, patience=patience)
                discard_all(folder, name=source.name)
                return folder / source.name
            except Refused as error:
                causes.append(f"{source.url}: {error}")
    names = " or ".join(dict.fromkeys(source.name for source in sources)) or "the file"
    raise EnvironmentProblem(
        f"no mirror has {names}: {'; '.join(causes) or 'none is known'}; try again later, or name one with --mirrors"
    )


def _download_one(
    client: httpx.Client, source: DownloadSource, *, folder: Path, progress: Progress | None, patience: Patience
) -> None:
    transfer = Transfer(
        url=source.url,
        part=part_path(folder, name=source.name, url=source.url),
        num_bytes=source.num_bytes,
        has_checksum=bool(source.sha256 or source.md5),
        find_problem=functools.partial(_wrong_beginning, source.name),
        progress=functools.partial(progress, source.name) if progress else None,
    )
    resumed = fetch(client, transfer, patience=patience)
    problem = _find_problem(source, transfer.part)
    if problem and resumed:  # the server may have replaced the file in between: fetch it again from the start
        discard(transfer.part)
        fetch(client, transfer, patience=patience)
        problem = _find_problem(source, transfer.part)
    if problem:
        discard(transfer.part)
        raise Refused(problem)
    with transfer.part.open("r+b") as file:
        flush_file(file)
    transfer.part.replace(folder / source.name)
    flush_folder(folder)


def _wrong_beginning(name: str, head: bytes) -> str | None:
    """Return why a file's first bytes do not fit its name; None if they do."""
    ending = Path(name).suffix.lower()
    expected = SIGNATURES.get(ending, b"")
    if head[: len(expected)] == expected[: len(head)]:
        return None
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return WEB_PAGE
    return f"expected a {ending} archive, got a file that begins with {head[:8]!r}"


def _find_problem(source: DownloadSource, part: Path) -> str | None:
    """Return why a complete part is not the expected file; None if it is."""
    num_bytes = part.stat().st_size
    with part.open("rb") as file:
        head = file.read(16)
    if problem := _wrong_beginning(source.name, head):
        return problem
    if not num_bytes or source.num_bytes not in {None, num_bytes}:
        return f"expected {source.num_bytes or 'more than 0'} bytes, got {num_bytes}"
    for name, expected in (("sha256", source.sha256), ("md5", source.md5)):
        if expected and (got := _checksum(part, name)) != expected.lower():
            return f"wrong checksum: expected {name} {expected.lower()}, got {got}"
    return None


def _checksum(path: Path, name: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(name, usedforsecurity=False)).hexdigest()
