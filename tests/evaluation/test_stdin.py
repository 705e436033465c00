"""Answers on stdin, which are kept on disk until they were read."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIMITED = """
import io, resource, sys
from mgtool.errors import OutputError
from mgtool.evaluation.stdin import SpooledInput
room, count = 1 << 20, int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
try:
    spooled = SpooledInput(io.BytesIO(bytes(count)))
    print(len(spooled.file.read()))
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("count", "said"), [(1 << 20, "1048576"), ((1 << 20) + 100, "temporary files cannot be written: File too large")]
)
def test_a_disk_that_is_full_for_the_last_bytes_is_told_of(count: int, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(count)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(said)
