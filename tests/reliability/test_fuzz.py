"""Every reader with a few broken files, and with those that once were too much for one."""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
import warnings
import zlib
from pathlib import Path

import pytest

from mgtool.errors import MgtoolError

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import fuzz_kinds  # noqa: E402

CALLS = 25
CORPUS = sorted(path for path in (HERE / "corpus").rglob("*") if path.is_file())


def _call(kind: str, name: str, data: bytes, folder: Path) -> None:
    folder.mkdir()
    with warnings.catch_warnings(), contextlib.suppress(MgtoolError):
        warnings.simplefilter("ignore")
        fuzz_kinds.KINDS[kind].call(name, data, folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_was_too_much(path: Path, tmp_path: Path) -> None:
    _call(path.parent.name, path.name.partition("-")[2], path.read_bytes(), tmp_path / "call")


@pytest.mark.parametrize("kind", fuzz_kinds.KINDS)
def test_broken_files_are_a_value_a_record_or_an_error(kind: str, tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    seeds = sorted(fuzz_kinds.KINDS[kind].seeds(tmp_path / "seeds").items())
    for number in range(CALLS):
        rng = random.Random(zlib.crc32(f"{kind} {number}".encode()))
        name, data = rng.choice(seeds)
        _call(kind, name, rng.choice(fuzz_kinds.KINDS[kind].mutate)(data, rng), tmp_path / "call")
