"""A real S3 server on the loopback, in an environment of its own, and a proxy before it that does wrong on purpose."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOME = Path(__file__).parents[2] / "build" / "s3-server"
BUCKET = "pictures-and-boxes"
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@contextlib.contextmanager
def s3_server() -> Iterator[int]:
    """The port of a server with one empty bucket."""
    python, port = _environment(), _free_port()
    with subprocess.Popen(
        [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            _insist(lambda: _request(port, "PUT", f"/{BUCKET}"))
            yield port
        finally:
            server.kill()


def _environment() -> str:
    python = HOME / "bin" / "python"
    if not (HOME / ".whole").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", HOME], check=True)
        quiet = ["--quiet", "--disable-pip-version-check"]
        subprocess.run([python, "-m", "pip", "install", *quiet, "moto[s3]>=5.2,<6", "flask", "flask-cors"], check=True)
        (HOME / ".whole").touch()
    return str(python)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _insist(call: Callable[[], object]) -> None:
    for _ in range(300):
        try:
            call()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError


def _request(port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.getheaders(), answer.read()


def variables(port: int) -> dict[str, str]:
    """What a command has to find in its environment."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "anything",
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }


Fault = Callable[[str, str, int], str | None]
"""Of method, path and number of a request, what goes wrong: ``500``, ``503``, ``cut``, ``slow`` or ``lost``."""


@contextlib.contextmanager
def bad_proxy(port: int, fault: Fault) -> Iterator[tuple[int, list[str]]]:
    """A port before a server's, and what went wrong there: errors, answers that are cut, late or lost."""
    done: list[str] = []
    count = iter(range(10**9))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            wrong = fault(self.command, self.path, next(count))
            if wrong:
                done.append(wrong)
            if wrong in ("500", "503"):
                self._answer(int(wrong), [], SLOW_DOWN)
                return
            if wrong == "slow":
                time.sleep(1.0)
            status, headers, content = _request(port, self.command, self.path, body, dict(self.headers))
            if wrong == "lost":  # it was done, and nobody hears of it
                self.close_connection = True
                return
            self._answer(status, headers, content, cut=wrong == "cut")

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            length = {name.lower(): value for name, value in headers}.get("content-length")
            self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut else content)
            self.close_connection = cut

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port, done
        finally:
            server.shutdown()


def listed(port: int) -> list[str]:
    """Names of all objects in the bucket, by the server itself."""
    import re

    _, _, content = _request(port, "GET", f"/{BUCKET}?list-type=2&max-keys=1000")
    return sorted(re.findall(r"<Key>([^<]+)</Key>", content.decode()))


def content(port: int, name: str) -> bytes:
    """An object, by the server itself."""
    signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=anybody/20260101/us-east-1/s3/aws4_request"}
    status, _, data = _request(port, "GET", f"/{BUCKET}/{name}", headers=signed)
    assert status == 200, name
    return bytes(data)


def environment(port: int) -> dict[str, str]:
    """`variables` beside this process's own."""
    return {**os.environ, **variables(port)}
