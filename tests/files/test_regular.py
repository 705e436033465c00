"""What never ends is not waited for: devices, pipes that nobody names, and files of any size."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mgtool.boxes import formats
from mgtool.errors import InputError, ItemError, UsageError
from mgtool.files.regular import open_input, open_regular, read_regular, read_sent
from mgtool.inputs import fingerprints, sources
from mgtool.media import reading
from mgtool.media.limits import MAX_PICTURE_BYTES, MAX_VIDEO_BYTES
from mgtool.records import Failure, Media
from mgtool.scoring.ground_truth import Truth
from mgtool.tars import paths


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder with a file, a pipe, a device and a folder."""
    (tmp_path / "a.jpg").write_bytes(b"x")
    os.mkfifo(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").symlink_to("/dev/zero")
    (tmp_path / "d").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "error"), [("b.jpg", OSError), ("c.jpg", OSError), ("d", IsADirectoryError), ("e", FileNotFoundError)]
)
def test_only_files_are_opened(odd: Path, name: str, error: type[OSError]) -> None:
    handles = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(error):
        open_regular(odd / name)
    assert len([*Path("/proc/self/fd").iterdir()]) == handles
    assert read_regular(odd / "a.jpg") == b"x"


def test_pictures_are_files(odd: Path) -> None:
    for name in ("b.jpg", "c.jpg"):
        media = Media(name=name, uri=str(odd / name))
        reading.announce(media)
        with pytest.raises(ItemError, match=r"unreadable: .*no regular file"):
            reading.read_bytes(media)
    assert [item.id for item in sources.read_samples([str(odd)])] == ["a.jpg", "b.jpg", "c.jpg"]
    assert fingerprints.fingerprint(str(odd), whole=True)


@pytest.mark.parametrize(("name", "most"), [("x.jpg", MAX_PICTURE_BYTES), ("x.mp4", MAX_VIDEO_BYTES)])
def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, name: str, most: int) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(most + 1)
    with pytest.raises(ItemError, match=r"unreadable: .* are more than"):
        reading.read_bytes(Media(name=name, uri=str(tmp_path / name)))


def test_a_pipe_that_the_user_names_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    line = json.dumps({"question_id": 1, "image": "a.jpg", "text": "Q"}).encode()
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(line,))
    writer.start()
    assert [item.id for item in sources.read_samples([str(tmp_path / "pipe")])] == [1]
    writer.join()


def test_inputs_that_never_end(tmp_path: Path) -> None:
    for name in ("x.tar", "x.json", "x.txt", "x.tsv", "x.zip"):
        (tmp_path / name).symlink_to("/dev/zero")
    for name in ("x.json", "x.tsv"):
        with pytest.raises(InputError, match="no regular file"):
            list(sources.read_samples([str(tmp_path / name)]))
        with pytest.raises(InputError, match="no regular file"):
            list(formats.read(str(tmp_path / name)))
    for name in ("x.json", "x.zip"):
        with pytest.raises(InputError, match="no regular file"):
            _ = Truth((tmp_path / name,)).files
    for given in (tmp_path / "x.tar", tmp_path):
        with pytest.raises(InputError, match="no regular file"):
            paths.find(given)
        (failure,) = sources.read_samples([str(given)])
        assert isinstance(failure, Failure)
        assert failure.reason == "unreadable"
    from mgtool.detectors import vocabulary

    with pytest.raises(UsageError, match="no regular file"):
        vocabulary.read(str(tmp_path / "x.txt"), option="keep")
    with pytest.raises(OSError, match="no regular file"):
        open_input(Path("/dev/zero"))


def test_a_config_that_never_ends(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_bytes(b"#" * (1 << 21))
    for given, told in (("/dev/zero", "no regular file"), (str(tmp_path / "large.toml"), "larger than")):
        command = [sys.executable, "-m", "mgtool.commands.main", "pack", "x", "--out", "y", "--config", given]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
        assert (done.returncode, told in done.stderr) == (2, True), done.stderr


def test_what_is_sent_without_end() -> None:
    assert read_sent(io.BytesIO(b"x" * 9), 9) == b"x" * 9
    with Path("/dev/zero").open("rb") as endless, pytest.raises(InputError, match="more than the 5,000,000 bytes"):
        read_sent(endless, 5_000_000)
