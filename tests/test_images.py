"""Decoding is whole or gives the right reason."""

import sys
from pathlib import Path

import pytest

from mgtool import images
from mgtool.errors import ItemError

sys.path.insert(0, str(Path(__file__).parent / "support"))
import nasty


def test_nasty_pictures(tmp_path: Path) -> None:
    for name, reason in nasty.make(tmp_path).items():
        data = (tmp_path / name).read_bytes()
        if reason is None:
            assert images.decode(data).mode == "RGB", name
            continue
        with pytest.raises(ItemError) as caught:
            images.decode(data)
        assert caught.value.reason == reason, name


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    nasty.make(tmp_path)
    grey = images.decode((tmp_path / "sixteen_bit.png").read_bytes()).convert("L")
    assert grey.getextrema() == (0, 255)
    assert 100 < grey.getpixel((32, 24)) < 160
