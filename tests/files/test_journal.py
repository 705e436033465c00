"""A journal says in one line what a disk refuses, wherever that happens."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mgtool.errors import OutputError
from mgtool.files.journal import Journal


@pytest.mark.parametrize(
    ("refused", "act"),
    [
        ("fsync", Journal.close),
        ("fsync", lambda journal: journal.publish(journal.path.with_name("done"))),
        ("fsync", Journal.remove),
        ("replace", lambda journal: journal.publish(journal.path.with_name("done"))),
        ("ftruncate", lambda journal: journal.keep(0)),
    ],
)
def test_a_disk_that_turns_read_only_is_one_line(
    refused: str, act: Callable[[Journal], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    journal = Journal(tmp_path / "journal")
    journal.append({"a": 1})
    monkeypatch.setattr(os, refused, refuse)
    with pytest.raises(OutputError, match="cannot be written: Read-only file system"):
        act(journal)
    monkeypatch.undo()
    journal.close()
    assert list(Journal(journal.path).read(dict[str, int])) == [{"a": 1}]
