"""Files that are announced are open once, few at a time, and closed whether they are read or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgtool.errors import ItemError
from mgtool.media.recent import MOST_OPENED, RecentFiles
from mgtool.records import Media


def handles() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_what_is_announced_is_read_or_closed(tmp_path: Path) -> None:
    media = []
    for number in range(MOST_OPENED + 9):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(b"%d" % number)
        media.append(Media(name=path.name, uri=str(path)))
    files, before = RecentFiles(), handles()
    for one in (*media, *media[-3:], Media(name="x", uri=str(tmp_path / "none.jpg")), Media(name="y", data=b"y")):
        files.announce(one)
    assert handles() == before + MOST_OPENED
    assert [files.read(one) for one in media[::8]] == [b"%d" % number for number in range(0, len(media), 8)]
    with pytest.raises(ItemError, match="missing"):
        files.read(Media(name="x", uri=str(tmp_path / "none.jpg")))
    files.close()
    assert handles() == before
    assert files.read(media[-1]) == b"%d" % (len(media) - 1)
