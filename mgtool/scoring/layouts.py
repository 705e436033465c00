"""What a file looks like, for a person who gave another one than was wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from mgtool.errors import InputError

if TYPE_CHECKING:
    from mgtool.scoring.ground_truth import Document

_MOST_NAMES = 6
_OF_RUNS = frozenset({"model_id", "answer_id", "finish_reason", "prediction", "response", "filtered_resps"})
"""Names that answers have and questions have not."""
SWAPPED = "were answers and ground truth swapped?"
_STARTS = {b"PK\x03\x04": "a zip archive", b"PAR1": "a Parquet file", b"\x1f\x8b": "a gzip file", b"\x80": "a pickle"}


def described(document: Document) -> str:
    """One clause: the kind of file and the names in it; nothing where it cannot be read.

    >>> from pathlib import Path
    >>> from mgtool.scoring.ground_truth import Document
    >>> described(Document(Path("a.jsonl"), content=b'{"question_id": 1, "text": "no", "model_id": "m"}'))
    'it looks like answers (lines of question_id, text, model_id): were answers and ground truth swapped?'
    >>> described(Document(Path("a.json"), content=b""))
    'it is empty'
    """
    try:
        data = document.bytes
        kind, names = ("", []) if not data.strip() else _read(document, data)
    except (InputError, ValueError, RecursionError):
        return ""  # which the error itself says
    if not kind:
        return "it is empty"
    held = f"{kind} of {', '.join(names[:_MOST_NAMES])}" if names else kind
    if _OF_RUNS & set(names):
        return f"it looks like answers ({held}): {SWAPPED}"
    return f"it looks like {held}"


def _read(document: Document, data: bytes) -> tuple[str, list[str]]:
    """The kind of file, and the names of its fields, as far as it has any."""
    if document.suffix in (".tsv", ".csv", ".xlsx", ".parquet"):
        return "a table", _names(next(iter(document.rows()), {}))
    known = next((kind for start, kind in _STARTS.items() if data.startswith(start)), None)
    if known is not None:
        return known, []
    start = data.lstrip()[:1]
    first = _value(data if start == b"[" else data.lstrip().split(b"\n", 1)[0])
    if start == b"[":
        return "a JSON list", _names(first[0]) if isinstance(first, list) and first else []
    if isinstance(first, dict) and len(data.split(b"\n", 2)) > 1 and _value(data) is None:
        return "lines", _names(first)
    whole = _value(data)
    if isinstance(whole, dict):
        return ("lines", _names(whole)) if document.suffix == ".jsonl" else ("a JSON object", _names(whole))
    return ("a text that is no JSON" if start.isascii() and start.isalnum() else "a file of another kind"), []


def _value(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _names(value: object) -> list[str]:
    names: Iterable[object] = value if isinstance(value, Mapping) else ()
    return [str(name)[:40] for name in names]
