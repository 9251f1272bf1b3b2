"""Rows of the Hugging Face hub by configuration and split, from a server here that speaks its protocol."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlparse

import pytest

from hsstar.data import hub
from hsstar.domain.errors import BadInputError

COMMIT = "a" * 40
CARD = """---
configs:
- config_name: main
  data_files:
  - {split: train, path: main/train*}
  - {split: test, path: main/test*}
- config_name: other
  data_files: other.jsonl
---
"""
READ = """
import sys
from pathlib import Path
from hsstar.data.files import ProblemFiles
from hsstar.data.sources import files_of
from hsstar.domain.errors import BadInputError
for name in sys.argv[1:]:
    try:
        print(*((problem.statement, problem.reference) for problem in ProblemFiles(files_of([name]))))
    except BadInputError as error:
        print(error)
"""


class Hub(ThreadingHTTPServer):
    """The data set `o/n`, whose files are those of a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), HubRequest)
        self.folder = folder

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class HubRequest(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        below = path.removeprefix("/api/datasets/o/n")
        if below == "" or below.startswith("/revision/"):
            files = sorted(file for file in self.server.folder.rglob("*") if file.is_file())
            names = [{"rfilename": str(file.relative_to(self.server.folder))} for file in files]
            about = {"_id": "1", "private": False, "gated": False, "disabled": False, "tags": []}
            self.answer(about | {"id": "o/n", "sha": COMMIT, "siblings": names})
        elif below.startswith("/tree/"):
            folder = self.server.folder.joinpath(*below.split("/")[3:])
            self.answer([self.entry(file) for file in sorted(folder.iterdir())] if folder.is_dir() else None)
        elif path.startswith("/datasets/o/n/resolve/"):
            self.give(self.server.folder.joinpath(*path.split("/")[6:]))
        else:
            self.answer(None)

    def entry(self, file: Path) -> dict[str, object]:
        kind, size = ("directory", 0) if file.is_dir() else ("file", file.stat().st_size)
        name = str(file.relative_to(self.server.folder))
        return {"type": kind, "path": name, "size": size, "oid": hashlib.sha1(name.encode()).hexdigest()}

    def answer(self, document: object) -> None:
        headers = {} if document is not None else {"X-Error-Code": "EntryNotFound"}
        self.send(200 if document is not None else 404, json.dumps(document).encode(), headers)

    def give(self, file: Path) -> None:
        if not file.is_file():
            self.answer(None)
            return
        whole = file.read_bytes()
        headers = {"ETag": f'"{hashlib.sha1(whole).hexdigest()}"', "X-Repo-Commit": COMMIT}
        part = self.headers.get("Range")
        first, last = 0, len(whole) - 1
        if part is not None:
            begin, _, end = part.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(last, int(end or last))
            headers["Content-Range"] = f"bytes {first}-{last}/{len(whole)}"
        self.send(200 if part is None else 206, whole[first : last + 1], headers)

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def hub_server(tmp_path: Path) -> Iterator[Hub]:
    files = {
        "README.md": CARD,
        "main/train.jsonl": '{"question": "1+1?", "answer": "a\\n#### 2"}\n',
        "main/test.jsonl": '{"question": "2+1?", "answer": "a\\n#### 3"}\n',
        "other.jsonl": '{"problem": "5?", "answer": "5"}\n',
    }
    for name, content in files.items():
        (tmp_path / "repository" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repository" / name).write_text(content)
    with Hub(tmp_path / "repository") as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_rows_are_streamed_by_configuration_and_split(hub_server: Hub, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    names = ["hub:o/n:main@test", "hub:o/n:main", "hub:o/n:other", "hub:o/n:none", "hub:o/n:main@valid"]
    environment = os.environ | {
        "HF_ENDPOINT": hub_server.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home"),
    }  # fmt: skip
    command = [sys.executable, "-c", READ, *names]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = ended.stdout.splitlines()
    assert lines[:3] == ["('2+1?', '3')", "('1+1?', '2')", "('5?', '5')"]
    assert lines[3].startswith(
        "hub:o/n:none cannot be had from the Hugging Face hub (BuilderConfig 'none' not"
    )
    assert "main" in lines[3]
    assert lines[4].startswith("hub:o/n:main@valid cannot be had from the Hugging Face hub (")
    assert len(lines) == len(names)


def test_a_folder_here_does_not_stand_for_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "o" / "n").mkdir(parents=True)
    with pytest.raises(BadInputError, match="the folder o/n here would be read instead"):
        list(hub.stream_rows("hub:o/n@train"))


@pytest.mark.parametrize("name", ["hub:o/n", "hub:o/n/deep/file:1@2.jsonl", "o/n:main", "hub:o:main"])
def test_names_of_files_are_not_streamed(name: str) -> None:
    assert not hub.is_streamed(name)
