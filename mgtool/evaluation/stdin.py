"""Standard input in a temporary file, so that it can be read more than once and memory has none of it."""

from __future__ import annotations

import hashlib
import io
import weakref
from typing import IO

from mgtool.files.temporary import unnamed_file, unwritable

_CHUNK = 1 << 20


class SpooledInput:
    """All of a stream.

    Attributes:
        sha256: of its bytes.

    Raises:
        OutputError: when the temporary file cannot be written.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.file = io.BufferedRandom(unnamed_file())
        weakref.finalize(self, self.file.close)
        digest = hashlib.sha256()
        while data := stream.read(_CHUNK):
            digest.update(data)
            try:
                self.file.write(data)
            except OSError as error:
                raise unwritable(error) from error
        self.sha256 = digest.hexdigest()
        self.file.seek(0)
