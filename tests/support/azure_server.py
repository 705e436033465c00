"""A real server of Azure's blob storage on the loopback: Azurite, in a folder of its own, of npm."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import http.client
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

HOME = Path(__file__).parents[2] / "build" / "azurite"
ACCOUNT, CONTAINER = "devstoreaccount1", "pictures-and-boxes"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of the emulator's own account; everybody knows it."""


@contextlib.contextmanager
def azure_server() -> Iterator[int]:
    """The port of a server with one empty container."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    command = [_program(), *options, "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    with subprocess.Popen(command, cwd=HOME, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _make_container(port)
            yield port
        finally:
            server.kill()


def variables(port: int) -> dict[str, str]:
    """What a command has to find in its environment."""
    return {
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}",
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        "NO_PROXY": "127.0.0.1",
    }


def _program() -> str:
    program = HOME / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--no-fund", "--no-audit", "azurite@3"], cwd=HOME, check=True)
    return str(program)


def _make_container(port: int) -> None:
    for _ in range(300):
        try:
            assert _asked(port) == 201
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError


def _asked(port: int) -> int:
    version = "2021-08-06"
    date = datetime.datetime.now(datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = f"x-ms-date:{date}\nx-ms-version:{version}"
    text = "PUT" + "\n" * 12 + f"{headers}\n/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
    signed = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    sent = {"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey {ACCOUNT}:{signed}"}
    with contextlib.closing(connection):
        connection.request("PUT", f"/{ACCOUNT}/{CONTAINER}?restype=container", headers={**sent, "Content-Length": "0"})
        return connection.getresponse().status
