"""Hashes that a thread works out while more bytes come."""

from __future__ import annotations

import hashlib

import pytest

from mgtool.files.hashing import ThreadedHash


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_two_hashes_at_once_are_those_of_their_own_pieces(algorithm: str) -> None:
    pieces = [bytes([number]) * (number * 40_000) for number in range(60)]
    one, other = ThreadedHash(algorithm), ThreadedHash(algorithm)
    for piece in pieces:
        one.update(piece)
        other.update(piece[::-1] + b"x")
    assert one.hexdigest() == hashlib.new(algorithm, b"".join(pieces)).hexdigest()
    assert other.hexdigest() == hashlib.new(algorithm, b"".join(piece + b"x" for piece in pieces)).hexdigest()


def test_more_can_come_after_a_digest_was_asked_for() -> None:
    hashed = ThreadedHash("sha256")
    assert hashed.hexdigest() == hashlib.sha256().hexdigest()
    hashed.update(b"a")
    assert hashed.hexdigest() == hashlib.sha256(b"a").hexdigest()
    hashed.update(b"b")
    assert hashed.hexdigest() == hashlib.sha256(b"ab").hexdigest()
