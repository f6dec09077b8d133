"""As much of wandb's server as a run needs: it can go away while the run goes on."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "somebody"
KEY = "0123456789" * 4

_PROJECT = {"id": "p", "name": "vidact", "entity": {"id": "e", "name": ENTITY}}
_BUCKET = {"id": "bucket", "name": "run", "displayName": "run", "config": "{}", "project": _PROJECT}
_ANSWERS: dict[str, Any] = {  # the first whose name is in a query
    "upsertBucket": {"bucket": _BUCKET, "inserted": True},
    "createRunFiles": {"runID": "bucket", "uploadHeaders": [], "files": []},
    "viewer": {"id": "v", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}},
    "serverInfo": {"cliVersionInfo": {"max_cli_version": "99.0.0"}, "latestLocalVersionInfo": None},
}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        query = json.loads(body)["query"] if self.path == "/graphql" else ""
        name = next((name for name in _ANSWERS if name in query), "model")
        text = json.dumps({"data": {name: _ANSWERS.get(name)}} if query else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_POST  # noqa: N815 (the names are the standard library's)

    def log_message(self, *args: object) -> None:
        pass


def bind() -> ThreadingHTTPServer:
    """Make a server on a free port; the caller serves and closes."""
    return ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
