"""What other writers put into the samples of their tars beside pictures: JSON of any kind, texts, labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from mgtool.errors import RecordError
from mgtool.media import magic
from mgtool.media.names import PICTURE_EXTENSIONS
from mgtool.records import LeftOut, name_text

_TEXTS = frozenset({"txt", "text", "caption", "cls", "cls2", "index", "id", "json", "url", "csv", "xml", "html", "md"})
"""Endings of parts that are kept as texts."""

_MOST_BYTES = 1 << 20
"""Longer texts are not metadata."""
_MOST_DIGITS = 18


def is_picture(part: str, data: bytes) -> bool:
    """Whether a part is a picture, by its ending or else by its first bytes."""
    ending = part.rpartition(".")[2]
    return ending in PICTURE_EXTENSIONS or (ending not in _TEXTS and magic.is_picture(data[: magic.HEAD_BYTES]))


def fields_of(data: bytes, where: str, left_out: LeftOut | None) -> dict[str, Any]:
    """The fields of a JSON part, as lenient as the readers of other writers: NaN, half surrogate pairs.

    A list or a text stands under ``json``; what is no JSON at all, too, as a text, and `left_out` is told of it.

    Raises:
        RecordError: bytes that are no text.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            value = _clean(json.loads(data))
        except RecursionError as error:
            raise RecordError(f"{where}: JSON is nested too deeply") from error
        except UnicodeDecodeError as error:
            raise RecordError(f"{where}: no text: {error}") from error
        except ValueError:
            if left_out is not None:
                left_out.add("JSON in tars that is none", where)
            value = data.decode("utf-8", "replace")
    return value if isinstance(value, dict) else {"json": value}


def _clean(value: Any) -> Any:
    """The same with every text as UTF-8 can hold it, and with null for numbers that are none."""
    if isinstance(value, str):
        return name_text(value)
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, list):
        return [_clean(one) for one in value]
    if isinstance(value, dict):
        return {name_text(key): _clean(one) for key, one in value.items()}
    return value


def keep_texts(key: str, parts: Mapping[str, bytes], metadata: dict[str, Any], left_out: LeftOut) -> None:
    """Take labels and texts into a sample's metadata by the names of their parts; other parts are left out."""
    for part, data in parts.items():
        ending = part.rpartition(".")[2]
        text = _text(data) if ending in _TEXTS else None
        if text is None or part in metadata:
            left_out.add(f".{ending} members of tars", f"{key}.{part}")
        else:
            metadata[part] = int(text) if ending == "cls" and _is_number(text) else text


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _MOST_DIGITS


def _text(data: bytes) -> str | None:
    try:
        return data.decode().strip() if len(data) <= _MOST_BYTES else None
    except UnicodeDecodeError:
        return None
