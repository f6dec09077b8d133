"""An HTTP server on this machine that gives files, well or badly, and writes down what it was asked."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class ServedFile:
    """A file and its server's faults; tests change them while it runs.

    Attributes:
        content: What is sent.
        status: Sent in place of the file where it is not 200.
        redirect: Sent instead: the address to go to.
        content_type: As the header says.
        ranges: Whether byte ranges are honoured.
        etag: `auto` follows the content; None sends none.
        cuts: After how many bytes of its body each answer is cut, one after the other; None cuts none.
        length: Whether Content-Length is sent.
        chunked: Whether the body is sent in chunks.
    """

    content: bytes
    status: int = 200
    redirect: str | None = None
    content_type: str = "application/octet-stream"
    ranges: bool = True
    etag: str | None = "auto"
    cuts: list[int | None] = field(default_factory=list)
    length: bool = True
    chunked: bool = False


@dataclass
class Asked:
    """One request: which file, and the range header."""

    path: str
    byte_range: str | None


class FileServer:
    """Serves `files` at `url`; `asked` lists the requests."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.files: dict[str, ServedFile] = {}
        self.asked: list[Asked] = []

    def put(self, name: str, content: bytes, **faults: Any) -> ServedFile:
        self.files[f"/{name}"] = ServedFile(content, **faults)
        return self.files[f"/{name}"]


@contextlib.contextmanager
def serve_files() -> Iterator[FileServer]:
    """Run a server in a thread, until the end of the block."""

    class Handler(_Handler):
        files: FileServer

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    Handler.files = FileServer(httpd.server_port)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield Handler.files
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    files: FileServer
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client went away, or was killed
            super().handle()

    def do_GET(self) -> None:
        self.files.asked.append(Asked(self.path, self.headers.get("Range")))
        file = self.files.files.get(self.path)
        if file is None:
            self._say(404)
        elif file.redirect:
            self._say(302, Location=file.redirect)
        elif file.status != 200:
            self._say(file.status)
        else:
            self._give(file)

    def _say(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _give(self, file: ServedFile) -> None:
        etag = f'"{hashlib.sha256(file.content).hexdigest()}"' if file.etag == "auto" else file.etag
        start = self._start(file, etag)
        total = len(file.content)
        if start >= total > 0:
            return self._say(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if etag:
            self.send_header("ETag", etag)
        if file.length:
            self.send_header("Content-Length", str(total - start))
        if file.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Content-Type", file.content_type)
        self.end_headers()
        return self._send(file, file.content[start:])

    def _start(self, file: ServedFile, etag: str | None) -> int:
        asked = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if not file.ranges or not asked or (condition and condition != etag):
            return 0
        return int(asked.removeprefix("bytes=").rstrip("-"))

    def _send(self, file: ServedFile, body: bytes) -> None:
        cut = file.cuts.pop(0) if file.cuts else None
        body = body if cut is None else body[:cut]
        self.close_connection = cut is not None or not (file.length or file.chunked)
        if not file.chunked:
            self.wfile.write(body)
            return
        for begin in range(0, len(body), 1000):
            piece = body[begin : begin + 1000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if cut is None:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass
