"""XML of strangers, element by element: no document type and so no entities, bounded depth, one element in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from mgtool.errors import InputError
from mgtool.files.regular import open_regular
from mgtool.records import MAX_DEPTH

_CHUNK = 1 << 20
_MOST_ELEMENT_BYTES = 1 << 28


class _Elements:
    """Builds the elements of one name, and forgets all others."""

    def __init__(self, name: str) -> None:
        self._name, self._depth, self._level, self._begun_at = name, 0, 0, 0
        self.done: list[Element] = []
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = _refuse_document_type
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self._builder: TreeBuilder | None = None

    def feed(self, chunk: bytes) -> None:
        self.parser.Parse(chunk, not chunk)
        if self._builder is not None and self.parser.CurrentByteIndex - self._begun_at > _MOST_ELEMENT_BYTES:
            raise ValueError(f"one `{self._name}` of more than {_MOST_ELEMENT_BYTES:,} bytes")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels of elements within each other")
        if self._builder is None and tag == self._name:
            self._builder, self._begun_at, self._level = TreeBuilder(), self.parser.CurrentByteIndex, self._depth
        if self._builder is not None:
            self._builder.start(tag, attributes)

    def _end(self, tag: str) -> None:
        if self._builder is not None:
            self._builder.end(tag)
            if self._depth == self._level:
                self.done.append(self._builder.close())
                self._builder = None
        self._depth -= 1

    def _text(self, text: str) -> None:
        if self._builder is not None:
            self._builder.data(text)


def _refuse_document_type(*about: object) -> NoReturn:
    raise ValueError("a document type (DOCTYPE), which annotations do not need and entities come by")


def elements(path: Path, name: str) -> Iterator[Element]:
    """The elements of a name in an XML file, in order, each once it is whole.

    Raises:
        InputError: a file that cannot be read, is no XML, or has what annotations do not need.
    """
    found = _Elements(name)
    try:
        with open_regular(path) as file:
            while True:
                chunk = file.read(_CHUNK) or b""
                found.feed(chunk)
                yield from found.done
                found.done.clear()
                if not chunk:
                    return
    except (OSError, ValueError, expat.ExpatError) as error:
        raise InputError(f"{path}: not readable as XML: {error}") from error


def text_of(element: Element, path: str) -> str:
    """The text of an element below another one; empty where there is none."""
    return (element.findtext(path) or "").strip()


class _First(Exception):  # noqa: N818 - no error
    """The first element was met; nothing behind it is read."""


def is_of(path: Path, *names: str) -> bool:
    """Whether an XML file's first element has one of these names; only its beginning is read."""

    def stop(tag: str, attributes: dict[str, str]) -> NoReturn:
        raise _First(tag)

    parser = expat.ParserCreate()
    parser.StartElementHandler = stop
    try:
        with open_regular(path) as file:
            parser.Parse(file.read(1 << 16) or b"", False)
    except _First as first:
        return str(first) in names
    except (OSError, ValueError, expat.ExpatError):
        return False
    return False
