"""Servers that send too much, too little or nonsense: an error within the time and memory that are promised."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mgtool.errors import ItemError
from mgtool.files import http_client, urls
from mgtool.media import limits, reading
from mgtool.records import Media

MOST_S = 15.0


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        with contextlib.suppress(OSError):
            getattr(self, f"_{self.path.strip('/')}")()
        self.close_connection = True

    do_HEAD = do_GET  # noqa: N815 - the handler's own name

    def _headers(self, *given: tuple[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in given:
            self.send_header(name, value)
        self.end_headers()

    def _endless(self) -> None:
        self._headers()
        while True:
            self.wfile.write(bytes(1 << 16))

    def _packed(self) -> None:
        data = gzip.compress(bytes(1 << 24))
        self._headers(("Content-Encoding", "gzip"), ("Content-Length", str(len(data))))
        self.wfile.write(data)

    def _drip(self) -> None:
        self._headers(("Content-Length", "1000000"))
        while True:
            self.wfile.write(b"x")
            time.sleep(0.02)

    def _heads(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            self.wfile.write(b"X-A: b\r\n")
            time.sleep(0.02)

    def _silent(self) -> None:
        self._headers(("Content-Length", "1000000"))
        time.sleep(30)

    def _round(self) -> None:
        self._headers(("Location", "/round"), status=302)

    def _short(self) -> None:
        self._headers(("Content-Length", "1000"))
        self.wfile.write(b"x" * 10)

    def _negative(self) -> None:
        self._headers(("Content-Length", "-5"))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[Any, dict[str, float]] = {
        urls: {"PATIENCE_S": 0.0, "FIRST_WAIT_S": 0.01, "LONGEST_RISE_S": 0.02},
        http_client: {"_HEADERS_S": 1.0, "_SILENT_S": 1.0, "_SLOW_S": 0.5},
        reading: {"MAX_PICTURE_BYTES": 1 << 22},
    }
    for module, values in given.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("endless", "unsupported"),
        ("packed", "unsupported"),
        ("drip", "unsupported"),
        ("heads", "unreachable"),
        ("silent", "unreachable"),
        ("round", "unreadable"),
        ("short", "unreachable"),
        ("negative", "unreadable"),
    ],
)
def test_a_picture_of_one(what: str, reason: str, address: str) -> None:
    began = time.monotonic()
    with pytest.raises(ItemError) as error:
        reading.read_bytes(Media(name="a.jpg", uri=f"{address}/{what}"))
    assert error.value.reason == reason, error.value.detail
    assert len(error.value.detail.splitlines()) == 1
    assert time.monotonic() - began < MOST_S


def test_pictures_have_the_limit_of_files() -> None:
    assert limits.MAX_PICTURE_BYTES < limits.MAX_VIDEO_BYTES <= http_client.MOST_BYTES


def test_a_host_that_only_data_names_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "DATA_PATIENCE_S", 0.05)
    asked = 0

    def call() -> None:
        nonlocal asked
        asked += 1
        time.sleep(0.06)
        raise TimeoutError

    with pytest.raises(urls.UnreachableError):
        urls._insist("", call)
    assert asked == 1
