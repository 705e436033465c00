"""A server that speaks the interface of the Hugging Face hub, for folders that stand for its repositories."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote

COMMIT = "c0ffee" * 6 + "c0ff"


class ServedHub(ThreadingHTTPServer):
    """Repositories by name; names of files are kept that were sent, and how many bytes of them.

    Attributes:
        gated: names of repositories whose makers ask for something first.
        broken: names of files of which half of what is asked for is sent, then the line breaks.
    """

    daemon_threads = True

    def __init__(self, repositories: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.sent = repositories, {}
        self.gated: set[str] = set()
        self.broken: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: ServedHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        name = next((name for name in self.server.repositories if f"/{name}" in path), None)
        if name is None:
            return self._give(401, b"", {"X-Error-Code": "RepoNotFound"})
        if name in self.server.gated and "/resolve/" in path:
            return self._give(403, b"", {"X-Error-Code": "GatedRepo"})
        folder = self.server.repositories[name]
        if "/resolve/" in path:
            return self._file(folder / re.sub(r".*/resolve/[^/]+/", "", path))
        if "/tree/" in path:
            return self._give(*self._listed(folder, unquote(re.sub(r".*/tree/[^/]+/?", "", path))))
        files = {p.relative_to(folder).as_posix(): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
        siblings = [{"rfilename": file, "size": size} for file, size in files.items()]
        return self._give(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())

    def do_POST(self) -> None:
        """What is known of some paths."""
        name = next(name for name in self.server.repositories if f"/{name}/" in self.path)
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["paths"]
        folder = self.server.repositories[name]
        found = [_described(folder / path, folder) for path in asked if (folder / path).exists()]
        self._give(200, json.dumps(found).encode())

    def _listed(self, folder: Path, below: str) -> tuple[int, bytes, dict[str, str]]:
        if not (folder / below).is_dir():
            return 404, b"", {"X-Error-Code": "EntryNotFound"}
        pattern = "**/*" if "recursive=true" in self.path.lower() else "*"
        found = [_described(path, folder) for path in sorted((folder / below).glob(pattern))]
        return 200, json.dumps(found).encode(), {}

    def _file(self, path: Path) -> None:
        if not path.is_file():
            return self._give(404, b"", {"X-Error-Code": "EntryNotFound"})
        data = path.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        part = slice(int(asked[1]), int(asked[2]) + 1 if asked[2] else None) if asked else slice(None)
        return self._give(206 if asked else 200, data[part], headers, path.name)

    def _give(self, status: int, body: bytes, headers: dict[str, str] | None = None, file: str = "") -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            if file in self.server.broken:
                body, self.close_connection = body[: len(body) // 2], True
            if file:
                self.server.sent[file] = self.server.sent.get(file, 0) + len(body)
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def _described(path: Path, folder: Path) -> dict[str, object]:
    """A file or folder as listings have it."""
    kind, size = ("directory", 0) if path.is_dir() else ("file", path.stat().st_size)
    return {"type": kind, "path": path.relative_to(folder).as_posix(), "size": size, "oid": "0" * 40}


@contextmanager
def served_hub(repositories: dict[str, Path]) -> Iterator[ServedHub]:
    """The server, for as long as the block lasts."""
    with ServedHub(repositories) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
