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
import io, resource, sys
from PIL import Image
from mgtool.media import images
data = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images.decode(data)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize(("mode", "ending"), [("I;16", "png"), ("I", "tif"), ("F", "tif")])
def test_grey_values_of_many_bits(tmp_path, mode, ending):
    path = tmp_path / f"x.{ending}"
    Image.new(mode, (SIDE, SIDE)).save(path)
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) / SIDE**2 < BYTES_A_PIXEL + 4


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
