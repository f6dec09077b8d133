import functools
import hashlib
import os
import random
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer, serve_files
from rar_writer import SIGNATURE

from vidact.core.errors import ConfigError, EnvironmentProblem
from vidact.data.download.mirrors import DownloadSource, download
from vidact.data.download.transfer import Patience

CONTENT = SIGNATURE + random.Random(0).randbytes(300_000)
OTHER = SIGNATURE + random.Random(1).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SOON = Patience(attempts=3, pause_seconds=0.0, timeout_seconds=20.0)

get = functools.partial(download, patience=SOON)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serve_files() as running:
        yield running


def source(server: FileServer, path: str = "a.rar", **known: object) -> DownloadSource:
    return DownloadSource("a.rar", f"{server.url}/{path}", **known)  # type: ignore[arg-type]


def ranges(server: FileServer) -> list[str | None]:
    return [asked.byte_range for asked in server.asked]


def test_a_file_comes_whole_and_alone(server: FileServer, tmp_path: Path) -> None:
    server.put("a.rar", CONTENT)
    path = get([source(server, sha256=SHA256, num_bytes=len(CONTENT))], tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["a.rar"]


def test_progress_rises_to_the_whole(server: FileServer, tmp_path: Path) -> None:
    server.put("a.rar", CONTENT, cuts=[100_000])
    told: list[tuple[str, int, int]] = []
    get([source(server)], tmp_path, progress=lambda *what: told.append(what))
    assert {(name, total) for name, _, total in told} == {("a.rar", len(CONTENT))}
    done = [number for _, number, _ in told]
    assert done == sorted(set(done))
    assert done[-1] == len(CONTENT)


@pytest.mark.parametrize("etag", ["auto", None, 'W/"weak"'])
def test_a_cut_connection_is_taken_up_where_it_was_cut(server: FileServer, tmp_path: Path, etag: str | None) -> None:
    server.put("a.rar", CONTENT, cuts=[100_000, 0, 50_000, 1, 0, 0], etag=etag)
    assert get([source(server, sha256=SHA256)], tmp_path).read_bytes() == CONTENT
    starts = [100_000, 100_000, 150_000, 150_001, 150_001, 150_001]
    assert ranges(server) == [None, *(f"bytes={start}-" for start in starts)]


def test_a_chunked_answer_that_is_cut_is_not_taken_for_whole(server: FileServer, tmp_path: Path) -> None:
    server.put("a.rar", CONTENT, chunked=True, length=False, cuts=[100_000])
    assert get([source(server)], tmp_path).read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=100000-"]


def test_without_ranges_it_begins_again(server: FileServer, tmp_path: Path) -> None:
    server.put("a.rar", CONTENT, ranges=False, cuts=[100_000, 200_000])
    assert get([source(server)], tmp_path).read_bytes() == CONTENT


def test_a_server_that_never_gets_further_is_given_up(server: FileServer, tmp_path: Path) -> None:
    server.put("a.rar", CONTENT, ranges=False, cuts=[100_000] * 99)
    with pytest.raises(
        EnvironmentProblem, match=r"a.rar: .*, at each of 3 tries; 100000 bytes are kept to continue from"
    ):
        get([source(server)], tmp_path)
    assert len(server.asked) == 4
    assert not (tmp_path / "a.rar").exists()


def test_the_next_run_goes_on_where_the_last_one_ended(server: FileServer, tmp_path: Path) -> None:
    file = server.put("a.rar", CONTENT, cuts=[100_000, 0, 0, 0])
    with pytest.raises(EnvironmentProblem):
        get([source(server)], tmp_path)
    file.cuts = []
    assert get([source(server)], tmp_path).read_bytes() == CONTENT
    assert ranges(server)[-1] == "bytes=100000-"


@pytest.mark.parametrize(
    ("other", "etag"),
    [(OTHER, "auto"), (OTHER, None), (OTHER[:200_000], None), (OTHER[:50_000], None), (OTHER + b"x", None)],
)
def test_another_file_is_not_glued_to_the_old_half(
    server: FileServer, tmp_path: Path, other: bytes, etag: str | None
) -> None:
    file = server.put("a.rar", CONTENT, cuts=[100_000, 0, 0, 0], etag=etag)
    with pytest.raises(EnvironmentProblem):
        get([source(server)], tmp_path)
    file.cuts, file.content = [], other
    # Without ETag and of the same length, only the checksum can tell; then it is fetched once more.
    same = etag is None and len(other) == len(CONTENT)
    known = {"sha256": hashlib.sha256(other).hexdigest()} if same else {}
    assert get([source(server, **known)], tmp_path).read_bytes() == other


def test_a_wrong_checksum_is_reported_and_the_file_is_not_kept(server: FileServer, tmp_path: Path) -> None:
    server.put("a.rar", OTHER)
    got = hashlib.sha256(OTHER).hexdigest()
    with pytest.raises(EnvironmentProblem, match=f"wrong checksum: expected sha256 {SHA256}, got {got}"):
        get([source(server, sha256=SHA256)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_md5_counts_too(server: FileServer, tmp_path: Path) -> None:
    server.put("a.rar", CONTENT)
    with pytest.raises(EnvironmentProblem, match="wrong checksum: expected md5 00, got "):
        get([source(server, md5="00")], tmp_path)
    assert get([source(server, md5=hashlib.md5(CONTENT).hexdigest().upper())], tmp_path).is_file()


def test_mirrors_are_tried_in_order_and_the_last_word_names_each(server: FileServer, tmp_path: Path) -> None:
    server.put("wrong.rar", OTHER)
    server.put("gone.rar", b"", status=410)
    server.put("busy.rar", b"", status=503)
    server.put("page.rar", b"<!DOCTYPE html>", content_type="text/html; charset=utf-8")
    server.put("moved.rar", b"", redirect="ftp://example.org/a.rar")
    server.put("loop.rar", b"", redirect="/loop.rar")
    names = ["none.rar", "wrong.rar", "gone.rar", "busy.rar", "page.rar", "moved.rar", "loop.rar"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = f"http://127.0.0.1:{taken.getsockname()[1]}/a.rar"
    sources = [source(server, name, sha256=SHA256) for name in names] + [DownloadSource("a.rar", dead)]
    with pytest.raises(EnvironmentProblem) as caught:
        get(sources, tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "none.rar: the server answered 404 Not Found",
        "wrong.rar: wrong checksum: expected sha256",
        "gone.rar: the server answered 410",
        "busy.rar: the server answered 503 Service Unavailable, at each of 3 tries",
        "page.rar: the server sent a web page, not the file",
        "moved.rar: Request URL has an unsupported protocol 'ftp://'",
        "loop.rar: Exceeded maximum allowed redirects",
        f"{dead}: [Errno 111] Connection refused" if os.name == "posix" else dead,
        "name one with --mirrors",
    ):
        assert part in message
    server.put("a.rar", CONTENT)
    assert get([*sources, source(server, sha256=SHA256)], tmp_path).read_bytes() == CONTENT


def test_a_half_from_one_mirror_outlives_a_bad_one(server: FileServer, tmp_path: Path) -> None:
    good = server.put("good.rar", CONTENT, cuts=[100_000, 0, 0, 0])
    server.put("bad.rar", CONTENT, cuts=[10_000, 0, 0, 0])
    with pytest.raises(EnvironmentProblem):
        get([source(server, "good.rar"), source(server, "bad.rar")], tmp_path)
    good.cuts = []
    server.files["/bad.rar"].cuts = [0, 0, 0]
    path = get([source(server, "bad.rar"), source(server, "good.rar")], tmp_path)
    assert path.read_bytes() == CONTENT
    assert ranges(server)[-1] == "bytes=100000-"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("page", [b"<html>gone</html>", b"\n<!DOCTYPE html><p>", b"not an archive"])
def test_what_is_no_archive_is_refused_at_its_first_bytes(server: FileServer, tmp_path: Path, page: bytes) -> None:
    server.put("a.rar", page + bytes(10_000_000))
    told: list[int] = []
    with pytest.raises(
        EnvironmentProblem, match="sent a web page|expected a .rar archive, got a file that begins with"
    ):
        get([source(server)], tmp_path, progress=lambda _, done, total: told.append(done))
    assert told == []


def test_redirects_are_followed(server: FileServer, tmp_path: Path) -> None:
    server.put("old.rar", b"", redirect="/a.rar")
    server.put("a.rar", CONTENT, cuts=[100_000])
    assert get([source(server, "old.rar", sha256=SHA256)], tmp_path).read_bytes() == CONTENT


def test_a_file_of_unknown_length_needs_a_checksum(server: FileServer, tmp_path: Path) -> None:
    server.put("a.rar", CONTENT, length=False)
    with pytest.raises(EnvironmentProblem, match="does not give the file.s length, and no checksum is known"):
        get([source(server)], tmp_path)
    assert get([source(server, sha256=SHA256)], tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"", CONTENT[:-1]])
def test_a_file_of_another_length_is_refused(server: FileServer, tmp_path: Path, content: bytes) -> None:
    server.put("a.rar", content)
    with pytest.raises(EnvironmentProblem, match=rf"expected {len(CONTENT)} bytes, the server has {len(content)}"):
        get([source(server, num_bytes=len(CONTENT))], tmp_path)


def test_an_empty_file_is_no_file(server: FileServer, tmp_path: Path) -> None:
    server.put("a.rar", b"")
    with pytest.raises(EnvironmentProblem, match="expected more than 0 bytes, got 0"):
        get([source(server)], tmp_path)


def test_a_silent_server_is_given_up(tmp_path: Path) -> None:
    impatient = Patience(attempts=2, pause_seconds=0.0, timeout_seconds=0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sources = [DownloadSource("a.rar", f"http://127.0.0.1:{silent.getsockname()[1]}/a.rar")]
        with pytest.raises(EnvironmentProblem, match=r"no answer in time \(ReadTimeout\), at each of 2 tries"):
            download(sources, tmp_path, patience=impatient)


def test_a_file_that_is_there_is_not_fetched_again(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.rar").write_bytes(b"mine")
    assert get([source(server)], tmp_path).read_bytes() == b"mine"
    assert server.asked == []


def test_too_little_space_is_reported_before_anything_is_written(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.put("a.rar", CONTENT)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=200_000))
    with pytest.raises(EnvironmentProblem, match=r"needs another 0.00 GB and 0.00 GB are free; free some space"):
        get([source(server)], tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.put("a.rar", CONTENT)
    opened = Path.open

    def full(path: Path, mode: str = "r", **kwargs: object) -> object:
        return opened(Path("/dev/full") if mode == "ab" else path, mode, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(EnvironmentProblem, match=r"cannot be written \(No space left on device\); free some space"):
        get([source(server)], tmp_path)


def test_a_folder_that_cannot_be_is_one_line(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match="cannot be written .*Not a directory"):
        get([source(server)], tmp_path / "file" / "folder")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "example.org/a", "http://", "http://[::"])
def test_only_web_addresses_are_mirrors(url: str) -> None:
    with pytest.raises(ConfigError, match="mirror .*address"):
        DownloadSource("a.rar", url)
