"""What lies behind the objects: procedural patterns, and blurred crops of the example photographs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

PHOTOS = Path(__file__).parents[1] / "photos" / "images"
BLURS = (5, 9)
"""Radii in pixels of a photograph 512 pixels wide: what it shows can no longer be named."""

Floats = npt.NDArray[np.float32]


def background(rng: Random, size: int, *, unseen: bool) -> Image.Image:
    """A background, RGB, `size` x `size`.

    Args:
        rng: decides everything.
        size: side in pixels.
        unseen: from the kinds and photographs that training never shows.
    """
    patterns = _UNSEEN if unseen else _SEEN
    if rng.random() < 0.4:
        return _photo(rng, size, _UNSEEN_PHOTOS if unseen else _SEEN_PHOTOS)
    return rng.choice(patterns)(rng, size)


def _colour(rng: Random) -> Floats:
    return np.array([rng.uniform(20, 235) for _ in range(3)], dtype=np.float32)


def _mixed(weights: Floats, first: Floats, second: Floats) -> Image.Image:
    """Two colours by (h, w) weights from 0 to 1."""
    pixels = first + weights[:, :, None] * (second - first)
    return Image.fromarray(pixels.astype(np.uint8))


@functools.cache
def _axes(size: int) -> tuple[Floats, Floats]:
    steps = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    return np.meshgrid(steps, steps)


def _turned(rng: Random, size: int) -> tuple[Floats, Floats]:
    """(size, size) each, -0.71 to 0.71: the distances along a random direction and across it."""
    x, y = _axes(size)
    angle = rng.uniform(0, 2 * math.pi)
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    return cosine * x + sine * y, cosine * y - sine * x


def _ramp(rng: Random, size: int) -> Floats:
    """(size, size), -0.71 to 0.71: the distance along a random direction."""
    return _turned(rng, size)[0]


def _gradient(rng: Random, size: int) -> Image.Image:
    return _mixed(np.clip(_ramp(rng, size) * 0.7 + 0.5, 0, 1), _colour(rng), _colour(rng))


def _noise(rng: Random, size: int) -> Image.Image:
    cells = rng.choice((4, 8, 16, 32))
    middle, spread = _colour(rng), rng.uniform(10, 60)
    random = np.random.default_rng(rng.getrandbits(32)).normal(0, spread, (cells, cells, 3))
    small = Image.fromarray(np.clip(middle + random, 0, 255).astype(np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


def _blobs(rng: Random, size: int) -> Image.Image:
    side = size // 4
    x, y = _axes(side)
    weights = np.zeros((side, side), dtype=np.float32)
    for _ in range(rng.randint(2, 6)):
        at = (x - rng.uniform(-0.5, 0.5)) ** 2 + (y - rng.uniform(-0.5, 0.5)) ** 2
        weights = np.maximum(weights, np.exp(-at / np.float32(rng.uniform(0.003, 0.06))))
    return _mixed(weights, _colour(rng), _colour(rng)).resize((size, size), Image.Resampling.BILINEAR)


def _clouds(rng: Random, size: int) -> Image.Image:
    random = np.random.default_rng(rng.getrandbits(32))
    weights = np.zeros((size, size), dtype=np.float32)
    for octave in range(2, 8):
        cells = Image.fromarray(random.normal(0, 0.5**octave, (2**octave, 2**octave)).astype(np.float32))
        weights += np.asarray(cells.resize((size, size), Image.Resampling.BICUBIC))
    return _mixed(np.clip(weights * rng.uniform(1, 4) + 0.5, 0, 1), _colour(rng), _colour(rng))


def _mosaic(rng: Random, size: int) -> Image.Image:
    x, y = _axes(size // 2)
    count = rng.randint(10, 80)
    random = np.random.default_rng(rng.getrandbits(32))
    corners = random.uniform(-0.5, 0.5, (count, 2)).astype(np.float32)
    nearest = np.argmin([(x - left) ** 2 + (y - top) ** 2 for left, top in corners], axis=0)
    shares = random.uniform(0, 1, count).astype(np.float32)
    return _mixed(shares[nearest], _colour(rng), _colour(rng)).resize((size, size), Image.Resampling.BILINEAR)


def _scribbles(rng: Random, size: int) -> Image.Image:
    picture = _gradient(rng, size)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.randint(5, 40)):
        corners = [(rng.uniform(0, size), rng.uniform(0, size)) for _ in range(rng.randint(2, 4))]
        colour = (rng.randint(20, 235), rng.randint(20, 235), rng.randint(20, 235))
        draw.line(corners, fill=colour, width=rng.randint(1, 6))
    return picture


def _shards(rng: Random, size: int) -> Image.Image:
    picture = _gradient(rng, size)
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.randint(5, 40)):
        corners = [(rng.uniform(-0.2, 1.2) * size, rng.uniform(-0.2, 1.2) * size) for _ in range(3)]
        draw.polygon(corners, fill=(rng.randint(20, 235), rng.randint(20, 235), rng.randint(20, 235)))
    return picture


def _dots(rng: Random, size: int) -> Image.Image:
    along, across = _turned(rng, size)
    count = rng.uniform(4, 24)
    radius = np.hypot(along * count % 1 - 0.5, across * count % 1 - 0.5)
    return _mixed(np.clip((rng.uniform(0.15, 0.45) - radius) * 8 + 0.5, 0, 1), _colour(rng), _colour(rng))


def _bricks(rng: Random, size: int) -> Image.Image:
    along, across = _turned(rng, size)
    height = rng.uniform(0.04, 0.2)
    length, joint = height * rng.uniform(1, 5), rng.uniform(0.03, 0.2)
    row = across // height
    shifted = along / length + row % 2 / 2
    from_joint = np.minimum(across % height, shifted % 1 * length) / height
    random = np.random.default_rng(rng.getrandbits(32)).uniform(0.4, 1, (64, 64)).astype(np.float32)
    shares = random[row.astype(int) % 64, np.floor(shifted).astype(int) % 64]
    return _mixed(np.where(from_joint < joint, np.float32(0), shares), _colour(rng), _colour(rng))


def _stripes(rng: Random, size: int) -> Image.Image:
    waves = np.sin(_ramp(rng, size) * rng.uniform(20, 90))
    return _mixed(np.clip(waves * 4 + 0.5, 0, 1), _colour(rng), _colour(rng))


def _checks(rng: Random, size: int) -> Image.Image:
    count = rng.uniform(15, 50)
    x, y = _axes(size)
    weights = np.clip(np.sin(x * count) * np.sin(y * count) * 6 + 0.5, 0, 1)
    return _mixed(weights, _colour(rng), _colour(rng))


def _rings(rng: Random, size: int) -> Image.Image:
    x, y = _axes(size)
    radius = np.hypot(x - rng.uniform(-0.4, 0.4), y - rng.uniform(-0.4, 0.4))
    return _mixed(np.sin(radius * rng.uniform(15, 70)) * 0.5 + 0.5, _colour(rng), _colour(rng))


@functools.cache
def _blurred(name: str, radius: int) -> Image.Image:
    photo = Image.open(PHOTOS / f"{name}.jpg").convert("RGB")
    photo = photo.resize((512, round(512 * photo.height / photo.width)), Image.Resampling.BICUBIC)
    return photo.filter(ImageFilter.GaussianBlur(radius))


def _photo(rng: Random, size: int, photos: tuple[str, ...]) -> Image.Image:
    photo = _blurred(rng.choice(photos), rng.choice(BLURS))
    side = rng.uniform(0.4, 1.0) * min(photo.size)
    left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
    crop = photo.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    levels = [min(255, round(level * gain)) for gain in _gains(rng) for level in range(256)]
    return crop.point(levels)


def _gains(rng: Random) -> list[float]:
    whole = rng.uniform(0.6, 1.3)
    return [whole * rng.uniform(0.8, 1.2) for _ in range(3)]


_SEEN: tuple[Callable[[Random, int], Image.Image], ...] = (
    _gradient,
    _noise,
    _blobs,
    _clouds,
    _mosaic,
    _scribbles,
    _shards,
    _dots,
    _bricks,
)
_UNSEEN: tuple[Callable[[Random, int], Image.Image], ...] = (_stripes, _checks, _rings)
# Photographs of something that the world has a name for are left out.
_SEEN_PHOTOS = ("astronaut", "coffee", "flower")
_UNSEEN_PHOTOS = ("china", "grace_hopper")
