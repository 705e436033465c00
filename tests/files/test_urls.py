"""Files by URL, from a real server that is busy, slow to come back or wrong."""

from __future__ import annotations

import io
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from mgtool.errors import InputError, ItemError
from mgtool.files import urls
from mgtool.files.remote import reach_of
from mgtool.files.retries import retry_after
from mgtool.media.reading import Place, read_bytes
from mgtool.records import Media, Reach


class Server(ThreadingHTTPServer):
    """A picture at /good, after refusals at /busy and /tired, never at /broken and /secret; /missing is not there.

    /moved leads to another name of the same server.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: Counter[str] = Counter()
        self.times: list[float] = []
        self.tokens: list[tuple[str, str | None]] = []
        buffer = io.BytesIO()
        Image.new("RGB", (8, 6)).save(buffer, "PNG")
        self.picture = buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.strip("/").partition(".")[0]
        self.server.asked[name] += 1
        self.server.times.append(time.monotonic())
        self.server.tokens.append((str(self.headers["Host"]).partition(":")[0], self.headers.get("X-Token")))
        refused = {"busy": 503 if self.server.asked[name] <= 2 else 200, "broken": 500, "secret": 403, "missing": 404}
        refused["tired"] = 429 if self.server.asked[name] == 1 else 200
        refused["moved"] = 302
        self.send_response(refused.get(name, 200))
        if name == "moved":
            self.send_header("Location", f"http://localhost:{self.server.server_port}/good.png")
        if name == "tired":
            self.send_header("Retry-After", "1")
        if name != "endless":
            self.send_header("Content-Length", str(len(self.server.picture)))
        self.end_headers()
        self.wfile.write(self.server.picture)
        while name == "endless":
            try:
                self.wfile.write(bytes(1 << 16))
            except OSError:
                break

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _media(server: Server, name: str) -> Media:
    return Media(name=name, uri=f"http://127.0.0.1:{server.server_port}/{name}.png")


def test_a_busy_server_is_asked_again(server: Server) -> None:
    assert read_bytes(_media(server, "good")) == read_bytes(_media(server, "busy")) == server.picture
    assert server.asked == {"good": 1, "busy": 3}


def test_a_server_is_left_alone_for_as_long_as_it_asks(server: Server) -> None:
    assert read_bytes(_media(server, "tired")) == server.picture
    first, second = server.times
    assert second - first >= 1 > urls.FIRST_WAIT_S


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("-1", 0), ("Mon, 01 Jan 2001 00:00:00 GMT", 0), ("soon", None), ("", None)],
)
def test_what_a_busy_server_asks_for(value: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": value}) == seconds


def test_a_date_to_come_is_that_far_away() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    waited = retry_after({"Retry-After": date})
    assert waited is not None
    assert 20 < waited <= 30


@pytest.mark.parametrize(
    ("name", "reason", "times"),
    [("broken", "unreachable", urls.ATTEMPTS), ("secret", "unreadable", 1), ("missing", "missing", 1)],
)
def test_a_picture_that_does_not_come_is_its_own_failure(server: Server, name: str, reason: str, times: int) -> None:
    with pytest.raises(ItemError) as raised:
        read_bytes(_media(server, name))
    assert raised.value.reason == reason
    assert server.asked[name] == times


@pytest.mark.parametrize(
    ("url", "told"), [("gs://a/b.png", "Please install gcsfs"), ("nothing://a/b.png", "Protocol not known")]
)
def test_a_protocol_that_nothing_knows_ends_the_run(url: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_bytes(Media(name="b", uri=url))


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header that the user has set up for all servers."""
    monkeypatch.setitem(fsspec.config.conf, "http", {"client_kwargs": {"headers": {"X-Token": "mine"}}})


@pytest.mark.usefixtures("token")
def test_headers_of_the_user_go_to_the_hosts_that_they_name(server: Server) -> None:
    assert read_bytes(_media(server, "moved")) == server.picture
    assert server.tokens == [("127.0.0.1", "mine"), ("localhost", None)]


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0x7f.1"])
def test_a_url_in_data_leads_to_no_private_address(server: Server, host: str) -> None:
    url = f"https://{host}:{server.server_port}/good.png"
    with pytest.raises(ItemError, match=rf"`allow_remote` https:{host}") as raised:
        read_bytes(Media(name="x", uri=url, reach=Reach(allowed=("https",))))
    assert raised.value.reason == "unsupported"
    assert not server.asked
    with pytest.raises(ItemError) as raised:  # the server speaks no TLS
        read_bytes(Media(name="x", uri=url, reach=reach_of([], [f"https:{host}"])))
    assert raised.value.reason == "unreadable"


@pytest.mark.usefixtures("token")
def test_a_url_in_data_leads_to_no_other_protocol(server: Server) -> None:
    media = _media(server, "moved")
    reach = reach_of([media.uri], ["https"])
    with pytest.raises(ItemError, match="redirect to http://localhost") as raised:
        read_bytes(Media(name="x", uri=media.uri, reach=reach))
    assert raised.value.reason == "unsupported"
    assert server.tokens == [("127.0.0.1", "mine")]


@pytest.fixture
def secure(server: Server, tmp_path: Path) -> Path:
    """The server speaks TLS; its certificate, which nobody else has signed."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("needs openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return certificate


def test_names_below_a_url_of_the_user_lead_nowhere_else(server: Server) -> None:
    place = Place.of(f"http://127.0.0.1:{server.server_port}")
    assert read_bytes(place.media("good.png")) == server.picture
    with pytest.raises(ItemError, match=r"unsupported: .*redirect to http://localhost"):
        read_bytes(place.media("moved.png"))
    assert server.asked == {"good": 1, "moved": 1}


@pytest.mark.parametrize(
    ("allowed", "packed", "tokens"),
    [
        ([], 0, []),
        (["https"], 0, []),
        (["https:127.0.0.*"], 0, []),
        (["https:127.0.0.1"], 1, [("127.0.0.1", "mine"), ("127.0.0.1", "mine")]),
    ],
)
def test_urls_in_records_through_the_command(
    server: Server, secure: Path, tmp_path: Path, allowed: list[str], packed: int, tokens: list[tuple[str, str]]
) -> None:
    rows = [
        {"question_id": name, "image": f"https://127.0.0.1:{server.server_port}/{name}.png", "text": "Q"}
        for name in ("good", "moved")  # the latter to http
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = [part for one in allowed for part in ("--allow-remote", one)]
    command = [sys.executable, "-m", "mgtool.commands.main", "pack", "q.jsonl", "--out", "t", "-q", *options]
    headers = {"client_kwargs": {"headers": {"X-Token": "mine"}}}
    environment = {**os.environ, "SSL_CERT_FILE": str(secure), "FSSPEC_HTTP": json.dumps(headers)}
    done = subprocess.run(
        [*command, "--workers", "1"], cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 3, done.stderr.decode()
    failures = [json.loads(line) for line in (tmp_path / "t" / "failures.jsonl").read_text().splitlines()]
    assert [one["reason"] for one in failures] == ["unsupported"] * (2 - packed)
    assert sorted(set(server.tokens)) == sorted(set(tokens))


def test_an_answer_without_end_is_not_read_for_ever(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgtool.files.http_client.MOST_BYTES", 1 << 20)
    with pytest.raises(ItemError, match="more than 1,048,576 bytes"):
        read_bytes(_media(server, "endless"))
    assert server.asked["endless"] == 1


def test_pictures_from_a_server_through_the_command(server: Server, tmp_path: Path) -> None:
    names = [_media(server, name).uri for name in ("good", "secret", "busy")]
    command = [sys.executable, "-m", "mgtool.commands.main", "detect", *names, "--out", str(tmp_path / "boxes"), "-q"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 3, done.stderr.decode()
    failures = [json.loads(line) for line in (tmp_path / "boxes" / "failures.jsonl").read_text().splitlines()]
    assert [(one["reason"], "403" in one["detail"]) for one in failures] == [("unreadable", True)]
    assert len((tmp_path / "boxes" / "boxes-000000.jsonl").read_text().splitlines()) == 1
