"""Decoding is whole or gives the right reason."""

from pathlib import Path

import nasty
import pytest

from mgtool.errors import ItemError
from mgtool.media import images


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


def _files() -> dict[str, bytes]:
    photo = nasty.photo(3, (120, 80))
    return {
        "JPEG": nasty.encode(photo, "JPEG"),
        "progressive JPEG": nasty.encode(photo, "JPEG", progressive=True, quality=80),
        "grey JPEG": nasty.encode(photo.convert("L"), "JPEG"),
        "JPEG with EXIF": nasty.encode(photo, "JPEG", exif=b"Exif\x00\x00" + bytes(200)),
        "PNG": nasty.encode(photo, "PNG"),
        "interlaced palette PNG": nasty.encode(photo.quantize(16), "PNG"),
        "WebP": nasty.encode(photo, "WEBP"),
        "lossless WebP": nasty.encode(photo, "WEBP", lossless=True),
        "WebP with EXIF": nasty.encode(photo, "WEBP", exif=b"Exif\x00\x00" + bytes(20)),
        "GIF": nasty.encode(photo.quantize(32), "GIF"),
        "BMP": nasty.encode(photo, "BMP"),
    }


@pytest.mark.parametrize("name", _files())
def test_a_check_without_decoding_says_what_decoding_says(name: str) -> None:
    whole = _files()[name]
    assert images.check(whole) == images.probe(whole, with_format=True)
    assert images.check(whole + b"trailing bytes") == images.probe(whole, with_format=True)
    for share in (0.02, 0.3, 0.6, 0.9, 0.99):
        with pytest.raises(ItemError) as caught:
            images.check(whole[: int(len(whole) * share)])
        assert caught.value.reason in ("truncated", "corrupt", "not_an_image")


def test_a_check_has_the_limit_of_decoding() -> None:
    for data in (nasty.encode(nasty.photo(0, (20, 10)), "JPEG"), nasty.bomb(20, 10)):
        assert images.check(data, max_pixels=200)[:2] == (20, 10)
        with pytest.raises(ItemError) as caught:
            images.check(data, max_pixels=199)
        assert caught.value.reason == "too_many_pixels"


@pytest.mark.parametrize("form", ["AVIF", "DDS", "EPS", "JPEG2000"])
def test_damaged_or_foreign_bytes_are_a_reason_whatever_the_decoder_raises(form: str) -> None:
    """Some of Pillow's decoders raise RuntimeError; others, as that of EPS, run programs, and so are not tried."""
    whole = nasty.encode(nasty.photo(5, (64, 64)), form)
    for at in range(0, len(whole) - 8, max(1, len(whole) // 40)):
        damaged = whole[:at] + bytes(byte ^ 0x5A for byte in whole[at : at + 8]) + whole[at + 8 :]
        for data in (damaged, whole[:at]):
            try:
                images.decode(data)
            except ItemError as error:
                assert error.reason in {"empty", "not_an_image", "corrupt", "truncated", "too_many_pixels"}  # noqa: PT017
            else:
                assert form in {"AVIF", "JPEG2000"}


def test_heic_is_called_by_its_name() -> None:
    with pytest.raises(ItemError, match=r"HEIC picture; .pip install pillow-heif"):
        images.probe(b"\0\0\0\x18ftypheic" + bytes(100))
