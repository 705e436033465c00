"""Which tars a name means."""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

from mgtool.errors import InputError
from mgtool.files import urls
from mgtool.files.folder_tree import of_readable_depth
from mgtool.files.regular import open_regular, refuse_endless

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""What names of tars end in."""


_BUFFER = 1 << 18


def expand(given: str) -> list[str] | None:
    """The tars that a path, URL or brace pattern means; None where it names none.

    >>> expand("x-{000..001}.tar")
    ['x-000.tar', 'x-001.tar']
    >>> expand("train.json") is None
    True
    """
    if not given.partition("?")[0].lower().endswith(ENDINGS):
        return None
    try:
        return list(braceexpand(given)) if "{" in given else [given]
    except UnbalancedBracesError:
        return [given]


def find(source: str | Path | Sequence[str | Path]) -> list[str]:
    """The tars of a folder (local or remote), a brace pattern, a path or URL, or a list of these, in order.

    Raises:
        InputError: no tar there, or something in its place that is no file.
    """
    if not isinstance(source, str | Path):
        return [url for one in source for url in find(one)]
    given = str(source)
    if "://" not in given:
        for named in expand(given) or ():
            refuse_endless(Path(named), pipes=True)
    found = expand(given) or ([given] if given == "-" else _in_folder(given))
    if not found:
        raise InputError(f"{given}: no tar, and no folder of tars")
    return found


def _in_folder(given: str) -> list[str]:
    filesystem, root = urls.locate(given)
    try:
        with of_readable_depth(given):
            names = sorted(filesystem.find(root)) if urls.is_folder(given) else []
    except (OSError, ValueError) as error:
        raise InputError(f"{given}: cannot be read: {error}") from error
    tars = [name for name in names if name.endswith(ENDINGS) and not posixpath.basename(name).startswith(".")]
    tars = [name for name in tars if posixpath.dirname(name) == root.rstrip("/")] or tars
    if "://" in given:
        return [filesystem.unstrip_protocol(name) for name in tars]
    for name in tars:
        refuse_endless(Path(name))
    return tars


def below(folder: Path) -> list[Path]:
    """The tars that `find` gives of a local folder, as paths that begin with it."""
    return [folder / os.path.relpath(name, folder) for name in _in_folder(str(folder))]


def open_url(url: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    """A path or fsspec URL for reading."""
    if "://" in url:
        return urls.open_file(url)
    mode = os.stat(url).st_mode  # noqa: PTH116 - a name with a trailing slash must stay an error
    if stat.S_ISFIFO(mode):
        return open(url, "rb", buffering=_BUFFER)  # noqa: PTH123
    return io.BufferedReader(open_regular(url), _BUFFER)
