"""Pictures of many pixels in small files: no more memory than the limit of pixels promises."""

from __future__ import annotations

import io
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from mgtool.errors import ItemError
from mgtool.media import images
from mgtool.report.thumbnails import NO_PICTURE, thumbnail

SIDE = 6000
BYTES_A_PIXEL = 8
"""Of the decoder's values and of the result; 64-bit numbers of the whole would take 24 more."""

PEAK = """
import io, re, sys
from PIL import Image
from mgtool.media import images
def high():
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024
small = io.BytesIO()
Image.new("RGB", (8, 8)).save(small, "PNG")
images.decode(small.getvalue())
data = open(sys.argv[1], "rb").read()
before = high()
images.decode(data)
print(high() - before)
"""
"""The highest mark of a process of its own: that of `getrusage` begins with what the process before it had."""


FORMS = [
    ("RGB", "PNG", {}, 4), ("RGBA", "PNG", {}, 4), ("LA", "PNG", {}, 4), ("L", "PNG", {}, 5), ("P", "PNG", {}, 5),
    ("RGB", "BMP", {}, 4), ("RGB", "PPM", {}, 4), ("P", "GIF", {}, 5),
    ("RGB", "TIFF", {}, 4), ("RGBA", "TIFF", {"compression": "tiff_lzw"}, 4), ("CMYK", "TIFF", {}, 8),
    ("RGB", "JPEG", {}, 4), ("RGB", "JPEG", {"progressive": True, "subsampling": 0}, 10),
    ("RGB", "WEBP", {"method": 0}, 16), ("RGB", "JPEG2000", {}, 19),
    ("RGB", "JPEG2000", {"tile_size": (512, 512)}, 5), ("CMYK", "JPEG", {"progressive": True}, 12),
    ("RGB", "AVIF", {"speed": 10}, 16),
]  # fmt: skip
"""Modes of files, and bytes a pixel that their decoding is taken to need."""
FORMS_SIDE = 3000


@pytest.mark.parametrize(("mode", "form", "options", "most"), FORMS)
def test_bytes_a_pixel(tmp_path, mode, form, options, most):
    path = tmp_path / "x.img"
    slope = np.add.outer(np.arange(FORMS_SIDE), np.arange(FORMS_SIDE)) // 16 % 256
    Image.fromarray(slope.astype(np.uint8)).convert(mode).save(path, form, **options)
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    data = path.read_bytes()
    assert images.decoding_bytes(images.opened(data), data) <= (most + 0.1) * FORMS_SIDE**2
    assert int(done.stdout) / FORMS_SIDE**2 < most + 1.5


LEFT = """
import re, sys, threading
from mgtool.media import images
def held():
    return int(re.search(r"VmRSS:\\s*(\\d+)", open("/proc/self/status").read())[1]) * 1024
data = open(sys.argv[1], "rb").read()
before = held()
for _ in range(3):
    thread = threading.Thread(target=images.look, args=(data, lambda picture: picture.size))
    thread.start()
    thread.join()
print(held() - before)
"""


def test_memory_of_large_pictures_goes_back_to_the_system(tmp_path):
    path = tmp_path / "x.png"
    Image.new("RGB", (SIDE, SIDE)).save(path, compress_level=1)
    assert SIDE**2 > images._LARGE_PIXELS
    done = subprocess.run([sys.executable, "-c", LEFT, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < SIDE**2


def test_what_a_decoder_needs_is_bounded_as_pixels_are(monkeypatch):
    file = io.BytesIO()
    Image.new("RGB", (400, 400)).save(file, "WEBP")
    assert images.decode(file.getvalue(), max_pixels=2 * 400 * 400 + 200)
    with pytest.raises(ItemError, match=r"WEBP take .* bytes to decode"):
        images.decode(file.getvalue(), max_pixels=2 * 400 * 400 - 1)


@pytest.mark.parametrize(("mode", "ending"), [("I;16", "png"), ("I", "tif"), ("F", "tif")])
def test_grey_values_of_many_bits(tmp_path, mode, ending):
    path = tmp_path / f"x.{ending}"
    Image.new(mode, (SIDE, SIDE)).save(path)
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) / SIDE**2 < BYTES_A_PIXEL + 1


def test_grey_values_are_the_same_in_stripes(monkeypatch):
    values = np.linspace(0, 65535, 97 * 53).reshape(53, 97)
    for array in (values.astype(np.uint16), values.astype(np.int32), values.astype(np.float32), values / 65535):
        file = io.BytesIO()
        Image.fromarray(array.astype(np.float32) if array.dtype == np.float64 else array).save(file, "TIFF")
        whole = images.decode(file.getvalue())
        expected = np.clip(np.rint(values * (255 / 65535)), 0, 255)
        assert np.abs(np.asarray(whole)[..., 0] - expected).max() <= 1
        with monkeypatch.context() as patched:
            patched.setattr(images, "_STRIPE_PIXELS", 200)
            assert images.decode(file.getvalue()) == whole


def test_a_picture_over_the_limit_has_no_thumbnail():
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    assert thumbnail(file.getvalue(), 64) == NO_PICTURE
    with pytest.raises(ItemError, match="too_many_pixels"):
        images.reduce(file.getvalue(), 64)


@pytest.mark.parametrize("format", ["EPS", "PDF", "PCX", "TGA", "ICO"])
def test_thumbnails_open_what_pictures_may_be(format):
    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, format)
    assert thumbnail(file.getvalue(), 64) == NO_PICTURE


def test_threads_take_turns_with_large_pictures(monkeypatch):
    file = io.BytesIO()
    Image.new("RGB", (400, 400)).save(file, "PNG")
    monkeypatch.setattr(images, "MAX_PIXELS", 2 * 400 * 400)
    running, most, lock = 0, 0, threading.Lock()
    convert = images._to_rgb

    def counted(picture):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.05)
        with lock:
            running -= 1
        return convert(picture)

    monkeypatch.setattr(images, "_to_rgb", counted)
    threads = [threading.Thread(target=images.reduce, args=(file.getvalue(), 32)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2
