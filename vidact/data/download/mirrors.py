"""Download a file from the first mirror that gives it whole: resumed, checked, and named only when it is complete.

It does not know what is in the file; of archives it knows only how they begin.
"""

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

# Called with what is under way, how much of it is done, and of how much (0 where nobody knows).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DownloadSource:
    """One place where a file can be had, and what is known of the file.

    Attributes:
        name: The file's name on this machine; `.rar` and `.zip` files must begin as such.
        url: Where it is, http or https.
        sha256: Its SHA-256 in hexadecimal, where known.
        md5: Its MD5 in hexadecimal, where only that is known: it finds damage, not malice.
        num_bytes: Its length, where known.
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
    """Download a file from the first source that gives it whole.

    What an earlier run left is continued, if the server still has the same file. A file that is already in
    the folder under its name is taken as it is.

    Args:
        sources: In the order in which they are tried.
        folder: Where the file, and its parts until it is whole, lie.
        progress: Called with the file's name, the bytes that are here, and all its bytes.
        patience: When to give up on a server.

    Returns:
        The file, under the name of the source that gave it.

    Raises:
        EnvironmentProblem: no source gave the file (with the cause for each), or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _take_first(sources, folder, progress=progress, patience=patience or Patience())
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder}: cannot be written ({error.strerror or error}); make space, or take another folder"
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
        f"no mirror gave {names}: {'; '.join(causes) or 'none is known'}; try again later, or name one with --mirrors"
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
    joined = fetch(client, transfer, patience=patience)
    problem = _find_problem(source, transfer.part)
    if problem and joined:  # perhaps halves of two files: fetch it once more, from the beginning
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
    """Say why a file that begins so is not of the kind that its name says, or None."""
    ending = Path(name).suffix.lower()
    expected = SIGNATURES.get(ending, b"")
    if head[: len(expected)] == expected[: len(head)]:
        return None
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return WEB_PAGE
    return f"expected a {ending} archive, got a file that begins with {head[:8]!r}"


def _find_problem(source: DownloadSource, part: Path) -> str | None:
    """Say why a part of full length is not the file, or None."""
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
