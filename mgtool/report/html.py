"""What goes into a self-contained page: data that cannot end its element, scripts by their hash, thumbnails."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any

import msgspec


def safe_json(value: Any) -> str:
    """JSON that cannot end its script element, whatever the data says."""
    text = msgspec.json.encode(value).decode()
    safe = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return safe.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def asset(name: str) -> str:
    """A file of the templates folder."""
    return resources.files("mgtool.report").joinpath("templates", name).read_text(encoding="utf-8")


def script_hash(script: str) -> str:
    """What a content security policy calls a script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def summary_table(summary: Mapping[str, Any]) -> str:
    """A small table of names and values, as a notebook shows a result.

    >>> summary_table({"out": "a<b", "shards": 2})
    '<table><tr><th>out</th><td>a&lt;b</td></tr><tr><th>shards</th><td>2</td></tr></table>'
    """
    rows = (f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in summary.items())
    return f"<table>{''.join(rows)}</table>"
