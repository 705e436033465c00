"""Standard input in a temporary file, so that it can be read more than once and memory has none of it."""

from __future__ import annotations

import hashlib
import io
import weakref
from typing import IO

from mgtool.files.temporary import unnamed_file, write_all

_CHUNK = 1 << 20


class SpooledInput:
    """All of a stream.

    Attributes:
        sha256: of its bytes.

    Raises:
        OutputError: when the temporary file cannot be written.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        spooled, digest = unnamed_file(), hashlib.sha256()
        weakref.finalize(self, spooled.close)
        while data := stream.read(_CHUNK):
            digest.update(data)
            write_all(spooled, data)
        spooled.seek(0)
        self.file = io.BufferedReader(spooled)
        self.sha256 = digest.hexdigest()
