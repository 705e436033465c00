"""Who holds an output is told also to a run that comes in the moment in which the holder takes it."""

from __future__ import annotations

import fcntl
import json
import threading
import time
from pathlib import Path

import pytest

from mgtool.files.lock import HeldError, one_writer


@pytest.mark.parametrize(
    ("record", "told"),
    [({"host": "there", "pid": 7, "start": "1"}, "process 7 on there"), ({}, "its name is not known")],
)
def test_a_lock_that_has_no_name_yet(record: dict[str, object], told: str, tmp_path: Path) -> None:
    with (tmp_path / ".mgtool.lock").open("wb", buffering=0) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def begin() -> None:
            time.sleep(0.3)
            lock.write(json.dumps(record).encode() if record else b"")

        beginning = threading.Thread(target=begin)
        beginning.start()
        with pytest.raises(HeldError, match=told), one_writer(tmp_path):
            pass
        beginning.join()
