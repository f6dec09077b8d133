"""Download one file from one address into a part file that can be continued, also by a later run.

`mirrors` verifies the part and gives it its name.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from vidact.core.files import require_space

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_WORTH_A_RETRY = {408, 416, 425, 429, 500, 502, 503, 504}
_LONGEST_PAUSE_SECONDS = 30.0
WEB_PAGE = "the server sent a web page, not the file: it may have moved, or the network asks you to log in"


class Refused(Exception):
    """This address does not have the file; another may."""


class _Cut(httpx.RequestError):
    """The response ended early, or does not continue the part: worth another try."""


@dataclass(frozen=True)
class Patience:
    """When to give up on a server.

    Attributes:
        attempts: Number of tries in a row that bring no new byte.
        pause_seconds: Wait after the first of them; it doubles each time, up to 30.
        timeout_seconds: Longest time without data.
    """

    attempts: int = 5
    pause_seconds: float = 1.0
    timeout_seconds: float = 30.0


@dataclass(frozen=True)
class Transfer:
    """One file to download from one address.

    Attributes:
        url: Address.
        part: Part file for its bytes; a file beside it holds what the server said about the file.
        num_bytes: Length, where known.
        has_checksum: Whether a checksum will detect a cut file.
        find_problem: Returns from a file's first bytes why it is the wrong file; None if it may be right.
        progress: Called with the bytes received and the length (0 where the server does not say).
    """

    url: str
    part: Path
    num_bytes: int | None
    has_checksum: bool
    find_problem: Callable[[bytes], str | None]
    progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class _State:
    """What the server said about the file of a part."""

    validator: str | None
    num_bytes: int | None


def open_client(patience: Patience) -> httpx.Client:
    """Open a client that follows redirects and refuses compression, so that byte ranges are those of the file."""
    headers = {"Accept-Encoding": "identity"}
    return httpx.Client(follow_redirects=True, timeout=patience.timeout_seconds, headers=headers)


def part_path(folder: Path, *, name: str, url: str) -> Path:
    """Name the part of a file, one for each address, so that a bad mirror cannot destroy the part of a good one."""
    return folder / f".{name}.{hashlib.sha256(url.encode()).hexdigest()[:12]}.part"


def discard(part: Path) -> None:
    """Remove a part, its bytes first, so that a state never describes another file's bytes."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def discard_all(folder: Path, *, name: str) -> None:
    """Remove the parts of a file from all addresses."""
    for path in folder.iterdir():
        if re.fullmatch(rf"\.{re.escape(name)}\.[0-9a-f]{{12}}\.part(\.json)?", path.name):
            path.unlink(missing_ok=True)


def fetch(client: httpx.Client, transfer: Transfer, *, patience: Patience) -> bool:
    """Download a part to its full length; return whether it was put together from several responses.

    Raises:
        Refused: the address does not have the file, or the connection was cut too often; the part is kept.
        EnvironmentProblem: not enough space.
        OSError: the part cannot be written.
    """
    most = start = _length(transfer.part)
    num_responses = 0

    def advance() -> bool:
        """Return whether the part is complete; raise where it has not grown either."""
        nonlocal most, num_responses
        num_responses += 1
        try:
            _continue(client, transfer)
            return True
        except httpx.RequestError as error:
            if _is_final(error, nothing_came=most == 0):
                raise Refused(_describe(error)) from error
            if (length := _length(transfer.part)) <= most:
                raise
            most = length
            return False

    retry = Retrying(
        stop=stop_after_attempt(patience.attempts),
        wait=wait_exponential(patience.pause_seconds, max=_LONGEST_PAUSE_SECONDS),
        retry=retry_if_exception_type(httpx.RequestError),
        reraise=True,
    )
    try:
        while not retry(advance):  # each call counts its tries from 0: a server may be slow as long as it sends
            continue
    except httpx.RequestError as error:
        kept = f"; {length} bytes are kept to continue from" if (length := _length(transfer.part)) else ""
        raise Refused(f"{_describe(error)}, at each of {patience.attempts} tries{kept}") from error
    return num_responses > 1 or start > 0


def _is_final(error: Exception, *, nothing_came: bool) -> bool:
    """Return whether trying again is useless; a lost connection in the middle of a file may be temporary."""
    if isinstance(error, httpx.ConnectError):
        return nothing_came
    return isinstance(error, (httpx.UnsupportedProtocol, httpx.TooManyRedirects))


def _describe(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"no answer in time ({type(error).__name__})"
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_state(part: Path) -> _State | None:
    """Read what the server said when the part was begun; None where there is nothing to continue."""
    if not _length(part):
        return None
    try:
        return _State(**json.loads(_state_path(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # killed between writing the two files: start again


def _continue(client: httpx.Client, transfer: Transfer) -> None:
    """Request the missing bytes of a part once, and append what comes."""
    part = transfer.part
    state = _read_state(part)
    start = _length(part) if state else 0
    if state and state.num_bytes == start:
        return  # killed between the last byte and the verification
    with client.stream("GET", transfer.url, headers=_range_headers(start, state)) as response:
        _check_status(response, part)
        if state and response.status_code == HTTPStatus.PARTIAL_CONTENT:
            _check_same_file(response, part, state=state)
        else:
            state = _begin(response, transfer)
        _append(response, transfer, total=state.num_bytes or 0)
    if state.num_bytes is not None and _length(part) != state.num_bytes:
        raise _Cut(f"the response ended after {_length(part)} of {state.num_bytes} bytes")


def _range_headers(start: int, state: _State | None) -> dict[str, str]:
    if not start or not state:
        return {}
    condition = {"If-Range": state.validator} if state.validator else {}
    return {"Range": f"bytes={start}-", **condition}


def _check_status(response: httpx.Response, part: Path) -> None:
    code = response.status_code
    said = f"the server answered {code} {response.reason_phrase}".rstrip()
    if code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        discard(part)  # the part is longer than the file, which was replaced
    if code in _WORTH_A_RETRY:
        raise _Cut(said)
    if code not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        raise Refused(said)
    if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/html":
        raise Refused(WEB_PAGE)


def _check_same_file(response: httpx.Response, part: Path, *, state: _State) -> None:
    """Discard the part if the response does not continue the same file."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    total = int(match[2]) if match and match[2] != "*" else None
    same = _validator(response) in {None, state.validator}
    same_length = total == state.num_bytes or (state.num_bytes is None and state.validator is not None)
    if not (match and int(match[1]) == _length(part) and same_length and same):
        discard(part)
        raise _Cut("the file on the server changed")


def _validator(response: httpx.Response) -> str | None:
    """Read the file's ETag or date, which change with the file, in a form that If-Range allows."""
    etag: str | None = response.headers.get("ETag")
    # RFC 9110, 13.1.5: weak ETags must not be used in If-Range.
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _begin(response: httpx.Response, transfer: Transfer) -> _State:
    """Start an empty part, and record what the server says about the file."""
    if response.status_code != HTTPStatus.OK:
        raise Refused("the server sent a piece of the file, which was not requested")
    length: str | None = response.headers.get("Content-Length")
    state = _State(_validator(response), int(length) if length else None)
    if length is None and response.headers.get("Transfer-Encoding") != "chunked" and not transfer.has_checksum:
        raise Refused("the server does not give the file's length, and no checksum is known")
    if None not in (transfer.num_bytes, state.num_bytes) and transfer.num_bytes != state.num_bytes:
        raise Refused(f"expected {transfer.num_bytes} bytes, the server has {state.num_bytes}")
    discard(transfer.part)
    transfer.part.touch()
    _state_path(transfer.part).write_text(json.dumps(asdict(state)), encoding="utf-8")
    return state


def _append(response: httpx.Response, transfer: Transfer, *, total: int) -> None:
    with transfer.part.open("ab") as file:
        require_space(transfer.part.parent, total - file.tell(), what="the download needs another")
        for chunk in response.iter_raw():
            if not file.tell() and (problem := transfer.find_problem(chunk)):
                raise Refused(problem)
            file.write(chunk)
            if transfer.progress:
                transfer.progress(file.tell(), total)
