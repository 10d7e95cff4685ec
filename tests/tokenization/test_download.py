"""A data set by name over HTTP, from a hub of our own that has one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"train.jsonl": b'{"text": "a"}\n{"text": "b"}\n', "test.jsonl": b'{"text": "c"}\n'}
DATASET = f"/api/datasets/org/small/revision/{COMMIT}"
TREE = f"/api/datasets/org/small/tree/{COMMIT}"
RESOLVE = f"/datasets/org/small/resolve/{COMMIT}/"
DOWNLOAD = """
import sys
from pathlib import Path
from tokenization import download
config = download.DownloadConfig(name="org/small", revision=sys.argv[1], split="test")
download.run(config, download.DownloadInputs(), Path(sys.argv[2]))
"""


class Hub(BaseHTTPRequestHandler):
    """The few answers of the hub that a download asks for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        body = self._answer(path)
        self.send_response(404 if body is None else 200)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound" if COMMIT in path else "RevisionNotFound")
        else:
            self.send_header("ETag", f'"{_etag(body)}"')
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if body and self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def _answer(self, path: str) -> bytes | None:
        if path == DATASET:
            return json.dumps({"id": "org/small", "sha": COMMIT, "siblings": []}).encode()
        if path == TREE:
            files = [{"type": "file", "path": n, "size": len(b), "oid": _etag(b)} for n, b in FILES.items()]
            return json.dumps(files).encode()
        return FILES.get(path.removeprefix(RESOLVE))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _etag(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_split_is_downloaded_at_its_commit_and_at_no_other(hub: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}

    def download(revision: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", DOWNLOAD, revision, str(out)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    assert (made := download(COMMIT)).returncode == 0, made.stderr
    assert pq.read_table(out / "data.parquet").to_pylist() == [{"text": "c"}]
    assert "UserError: hf:org/small: not a data set" in download(COMMIT[::-1]).stderr
