"""A folder behind HTTP, with ranges, of which some files are out of order for a while."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Served(ThreadingHTTPServer):
    """What was asked for is counted.

    Attributes:
        url: of the folder.
        away: names that are answered with 503.
        asked: numbers of GET and HEAD by name.
        sent: bytes by name.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.url = folder, f"http://127.0.0.1:{self.server_port}"
        self.away: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()


class _Handler(BaseHTTPRequestHandler):
    server: Served
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].lstrip("/")
        self.server.asked[name] += 1
        path = self.server.folder / name
        status = 503 if name in self.server.away else 200 if path.is_file() else 404
        data = path.read_bytes() if status == 200 else b""
        size, wanted = len(data), re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        begin, end = 0, size
        if wanted and status == 200:
            begin, end, status = int(wanted[1]), min(int(wanted[2] or size - 1), size - 1) + 1, 206
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        if status < 400:
            self.send_header("ETag", f'"{path.stat().st_mtime_ns:x}-{size:x}"')
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(OSError):
                self.wfile.write(data[begin:end])
                self.server.sent[name] += end - begin

    do_HEAD = do_GET  # noqa: N815 - the handler's own name

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Serve a folder."""
    with Served(folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
