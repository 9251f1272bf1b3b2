"""A Hugging Face hub on this machine, as far as data sets need it: made, written in commits, listed, read."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_the_test"
COMMIT = "0" * 40
_API = re.compile(r"/api/datasets/(?P<name>[^/]+/[^/]+)(?P<rest>/.*)?")
_LARGE = re.compile(r"/datasets/[^/]+/[^/]+\.git/info/lfs/objects/batch")
_FILE = re.compile(r"/datasets/(?P<name>[^/]+/[^/]+)/resolve/[^/]+/(?P<file>.+)")


class Hub(ThreadingHTTPServer):
    """Keeps what is uploaded, by data set and file."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.datasets: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}  # contents that came by Git LFS, by their digest

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._read()

    def do_HEAD(self) -> None:
        self._read()

    def _read(self) -> None:
        if match := _API.fullmatch(self.path.partition("?")[0]):
            files = self.server.datasets.get(match["name"])
            if files is None:
                self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
                return
            siblings = [{"rfilename": file} for file in files]
            self._answer(200, {"id": match["name"], "sha": COMMIT, "siblings": siblings})
        elif match := _FILE.fullmatch(self.path):
            content = self.server.datasets[match["name"]][match["file"]]
            etag = hashlib.sha256(content).hexdigest()
            self._answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        else:
            self._answer(404, {"error": self.path})

    def do_POST(self) -> None:
        body = self._body()
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid credentials"})
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif _LARGE.fullmatch(self.path):
            self._answer(200, self._uploads(json.loads(body)["objects"]))
        elif match := _API.fullmatch(self.path.partition("?")[0]):
            self._write(match["name"], match["rest"], body)
        else:
            self._answer(404, {"error": self.path})

    def do_PUT(self) -> None:
        content = self._body()
        self.server.large[hashlib.sha256(content).hexdigest()] = content
        self._answer(200, {})

    def _uploads(self, wanted: list[dict[str, Any]]) -> dict[str, Any]:
        """Say where to put the contents that are not there."""
        objects = [
            entry
            if entry["oid"] in self.server.large
            else entry | {"actions": {"upload": {"href": f"{self.server.url}/large/{entry['oid']}"}}}
            for entry in wanted
        ]
        return {"transfer": "basic", "objects": objects}

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _create(self, wish: dict[str, Any]) -> None:
        name = f"{wish['organization']}/{wish['name']}"
        assert wish["type"] == "dataset"
        code = 409 if name in self.server.datasets else 200
        self.server.datasets.setdefault(name, {})
        self.server.private.setdefault(name, bool(wish.get("private", wish.get("visibility") == "private")))
        self._answer(code, {"url": f"{self.server.url}/datasets/{name}", "name": name})

    def _write(self, name: str, action: str, body: bytes) -> None:
        if action.startswith("/preupload/"):
            asked = json.loads(body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".parquet") else "regular",
                    "shouldIgnore": False,
                }
                for file in asked
            ]
            self._answer(200, {"files": modes})
        elif action.startswith("/paths-info/"):
            self._answer(200, [])
        elif action.startswith("/commit/"):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.server.datasets[name][entry["value"]["path"]] = content
                elif entry["key"] == "lfsFile":
                    value = entry["value"]
                    self.server.datasets[name][value["path"]] = self.server.large[value["oid"]]
            url = f"{self.server.url}/datasets/{name}/commit/{COMMIT}"
            self._answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": url})
        else:
            self._answer(404, {"error": action})

    def _answer(self, code: int, content: Any, headers: dict[str, str] | None = None) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for key, value in ({"Content-Length": str(len(raw))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)


@contextmanager
def running() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
