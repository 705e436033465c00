"""Words for open-vocabulary detectors: lists that ship, text files, comma lists."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path

from mgtool.errors import UsageError
from mgtool.files.regular import read_regular

SHIPPED = ("coco", "lvis", "objects365", "openimages")


def shipped(name: str) -> tuple[str, ...]:
    """The names of a data set's classes, in its own order.

    >>> shipped("coco")[:2], len(shipped("lvis")), len(shipped("objects365"))
    (('person', 'bicycle'), 1203, 365)
    """
    return tuple((resources.files(__package__) / "vocabularies" / f"{name}.txt").read_text("utf-8").splitlines())


def read(spec: str, *, option: str = "vocabulary") -> tuple[str, ...]:
    """Words by a shipped list's name, a text file (one a line), or a comma list; duplicates once.

    >>> read("cat, dog,cat")
    ('cat', 'dog')

    Raises:
        UsageError: a list without words, a file that cannot be read, or a misspelt name of a list.
    """
    name = spec.lower()
    if name in SHIPPED:
        words = list(shipped(name))
    elif "," in spec:
        words = spec.split(",")
    elif Path(spec).is_file() or Path(spec).suffix == ".txt":
        words = _lines(Path(spec), option)
    elif close := difflib.get_close_matches(name, SHIPPED, n=1, cutoff=0.8):
        raise UsageError(option, f"{spec}: did you mean {close[0]}? For the word itself give a comma list: {spec},")
    else:
        words = [spec]
    unique = tuple(dict.fromkeys(word.strip() for word in words if word.strip()))
    if not unique:
        raise UsageError(option, f"{spec}: no words; give {', '.join(SHIPPED)}, a text file or a comma list")
    return unique


def _lines(path: Path, option: str) -> list[str]:
    try:
        return read_regular(path).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(option, f"{path}: cannot be read: {error}") from error
