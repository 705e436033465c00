"""Models of strangers: checkpoints before torch reads them, and what libraries raise of broken files.

What torch's reader crashes on, or takes hours for, is refused; what a pickle asks for is the affair of `weights_only`.
"""

from __future__ import annotations

import contextlib
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mgtool.errors import CheckpointError, MgtoolError
from mgtool.files.configurations import check_files
from mgtool.files.regular import open_regular

ENDINGS = (".bin", ".pt", ".pth", ".ckpt")

_LONGEST_NAME = 1000
"""Of what a pickle asks for: torch searches the text of its error, in a time that grows with the square."""
_ALIGNMENT = re.compile(rb"[1-9][0-9]{0,7}\s*")
"""Bytes; torch divides by it."""
_OLD_PICKLES = 5
"""Of a file that is no archive: a number, the format, sizes of types, the content and the names of what follows."""
_ZIP = b"PK\x03\x04"
_BROKEN = (
    ValueError, LookupError, OverflowError, EOFError, OSError, struct.error, zipfile.BadZipFile, RuntimeError,
    MemoryError,
)  # fmt: skip
"""The last where a pickle tells of texts larger than memory."""


def check(path: Path) -> None:
    """Refuse a checkpoint that torch should not see.

    Raises:
        CheckpointError: no regular file, no checkpoint, or such a one.
    """
    try:
        with open_regular(path) as file:
            head = file.read(len(_ZIP))
            file.seek(0)
            for pickle in _archived(file) if head == _ZIP else [file] * _OLD_PICKLES:
                _check_names(pickle, path)
    except _BROKEN as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} is not a whole checkpoint of PyTorch: {why}") from error


def check_folder(folder: str | Path) -> None:
    """`check` of every checkpoint in a model's folder, and of its other files what `check_files` looks at."""
    check_files(folder)
    for path in sorted(Path(folder).glob("*")):
        if path.suffix in ENDINGS:
            check(path)


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Say what is wrong with a configuration or tokenizer.

    Args:
        what: of a model, and that it cannot be read.

    Raises:
        CheckpointError: for whatever a library raises.
    """
    try:
        yield
    except (MgtoolError, MemoryError):
        raise
    except BaseException as error:
        # transformers raises any type of a broken file, tokenizers Exception itself, and what is no Exception
        is_other = not isinstance(error, Exception) and type(error).__name__ != "PanicException"
        if is_other or type(error).__name__ == "OutOfMemoryError":
            raise
        lines = (str(error).strip() or type(error).__name__).splitlines()
        why = " ".join(line.strip() for line in lines[: 1 + lines[0].endswith(":")])
        raise CheckpointError(f"{what}: {why}") from error


def _archived(file: Any) -> Iterator[IO[bytes]]:
    """The pickles of an archive, whose members are no larger than the file."""
    size = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename.rpartition("/")[2]
            if name in (".storage_alignment", "data.pkl") and member.file_size > size:
                raise ValueError(f"{member.file_size:,} bytes of {name} in a file of {size:,}")
            if name == ".storage_alignment" and not _ALIGNMENT.fullmatch(archive.read(member)):
                raise ValueError("an alignment that is no number")
            if name == "data.pkl":
                with archive.open(member) as pickle:
                    yield pickle


def _check_names(pickle: Any, path: Path) -> None:
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.name == "GLOBAL" and len(name := str(argument)) > _LONGEST_NAME:
            raise CheckpointError(f"{path} holds more than weights and is not read: a name of {len(name):,} letters")
