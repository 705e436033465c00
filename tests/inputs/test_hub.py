"""Models by their names on the hub, against a server that speaks its interface."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from mgtool.errors import InputError
from mgtool.inputs import hub
from mgtool.inputs.model_folders import local_folder, model_identity, model_name

COMMIT = "c0ffee" * 6 + "c0ff"
CONFIG = b'{"model_type": "llava"}'
REFUSED = {"owner/gated": (403, "GatedRepo"), "owner/none": (401, "RepoNotFound")}


class _Hub(BaseHTTPRequestHandler):
    """One model, ``owner/name``, with a configuration and a file of code."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.paths.append(self.path)
        name = next((name for name in REFUSED if name in self.path), None)
        if name is not None:
            status, code = REFUSED[name]
            return self._give(status, b"", {"X-Error-Code": code})
        if "never" in self.path:
            return self._give(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if self.path.endswith(("/config.json", "/model.safetensors")):
            return self._give(200, CONFIG, {"ETag": '"0123456789"', "X-Repo-Commit": COMMIT})
        files = ["config.json", "model.safetensors", "modeling_evil.py"]
        if "/tree/" in self.path:
            entries = [{"type": "file", "path": file, "size": len(CONFIG), "oid": "0" * 40} for file in files]
            return self._give(200, json.dumps(entries).encode())
        about = {"id": "owner/name", "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
        return self._give(200, json.dumps(about).encode())

    def _give(self, status, body, headers=None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    served = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    served.paths = []
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{served.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.downloaded.cache_clear()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()
    hub.downloaded.cache_clear()


@pytest.mark.parametrize("name", ["owner/name", "owner/name@v1.0"])
def test_a_model_is_downloaded_without_its_code(server, name):
    folder = local_folder(Path(f"hf:{name}"))
    assert (folder / "config.json").read_bytes() == CONFIG
    assert not (folder / "modeling_evil.py").exists()
    assert len(model_identity(Path(f"hf:{name}"))) == 64
    assert model_name(Path("hf:owner/name")) == "name"


def test_a_plan_downloads_no_weights(server):
    local_folder(Path("hf:owner/name"), with_weights=False)
    assert not any("safetensors" in path for path in server.paths)
    local_folder(Path("hf:owner/name"))
    assert any("model.safetensors" in path for path in server.paths)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("owner/gated", "agree first: do so at https://huggingface.co/owner/gated, then set HF_TOKEN"),
        ("owner/none", "check the name, or set HF_TOKEN"),
        ("owner/name@never", "no revision never: leave @never out"),
    ],
)
def test_what_the_hub_refuses_is_one_line_with_what_to_type(server, name, said):
    with pytest.raises(InputError, match="`model` hf:owner/") as found:
        local_folder(Path(f"hf:{name}"))
    assert said in str(found.value)
    assert "\n" not in str(found.value)


def test_without_a_net_the_line_says_what_to_type(server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="hf download owner/name"):
        local_folder(Path("hf:owner/name"))
