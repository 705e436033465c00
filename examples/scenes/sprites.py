"""Pictograms by name, in two styles: the committed pack, and how it is made from two npm packages."""

from __future__ import annotations

import csv
import functools
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

HERE = Path(__file__).parent / "sprites"
STYLES = ("fluent", "noto")
PACKAGES = {"fluent": "@lobehub/fluent-emoji-3d@1.1.0", "noto": "emoji-datasource-google@16.0.0"}
FOLDERS = {"fluent": "package/assets/{}.webp", "noto": "package/img/google/64/{}.png"}
SIDES = {"fluent": 96, "noto": 64}
"""Pixels of a cell of the pack; the second package has no larger single pictures."""
COLUMNS = 12

_IRREGULAR = {
    "mouse": "mice",
    "wolf": "wolves",
    "leaf": "leaves",
    "cactus": "cacti",
    "strawberry": "strawberries",
    "butterfly": "butterflies",
    "volcano": "volcanoes",
}


@dataclass(frozen=True)
class Name:
    """A name of the world.

    Attributes:
        name: an English noun of one word.
        group: names of one group are taken for each other more easily.
        files: style -> the picture's file name in its package, without ending.
    """

    name: str
    group: str
    files: dict[str, str]


@functools.cache
def names(table: Path = HERE / "names.csv") -> dict[str, Name]:
    """The names of the world in the order of the alphabet, which is also the order of the pack's cells."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["name"]: Name(row["name"], row["group"], {style: row[style] for style in STYLES}) for row in rows}


def plural(name: str) -> str:
    """Several of a name.

    >>> plural("cat"), plural("fox"), plural("mouse")
    ('cats', 'foxes', 'mice')
    """
    return _IRREGULAR.get(name) or name + ("es" if name.endswith(("s", "x", "ch", "sh")) else "s")


def with_article(name: str) -> str:
    """One of a name.

    >>> with_article("cat"), with_article("hourglass")
    ('a cat', 'an hourglass')
    """
    return f"{'an' if name[0] in 'aeiou' or name.startswith('hour') else 'a'} {name}"


@functools.cache
def _pack(style: str) -> Image.Image:
    return Image.open(HERE / f"{style}.webp").convert("RGBA")


@functools.cache
def _whole(style: str, name: str) -> Image.Image:
    """A pictogram cut to what is not transparent."""
    place, side = list(names()).index(name), SIDES[style]
    left, top = place % COLUMNS * side, place // COLUMNS * side
    cell = _pack(style).crop((left, top, left + side, top + side))
    return cell.crop(cell.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox())


def sprite(style: str, name: str, size: int, flipped: bool) -> Image.Image:
    """A pictogram, RGBA, `size` pixels along its longer side."""
    whole = _whole(style, name)
    scale = size / max(whole.size)
    sides = tuple(max(1, round(side * scale)) for side in whole.size)
    small = whole.resize(sides, Image.Resampling.LANCZOS)
    return ImageOps.mirror(small) if flipped else small


def fetch(cache: Path) -> dict[str, Path]:
    """The two packages' archives, by style, fetched by npm into `cache` where they are not there."""
    cache.mkdir(parents=True, exist_ok=True)
    archives = {}
    for style, package in PACKAGES.items():
        name, _, version = package.rpartition("@")
        archive = cache / f"{name.strip('@').replace('/', '-')}-{version}.tgz"
        if not archive.is_file():
            subprocess.run(["npm", "pack", "--silent", package], cwd=cache, check=True, stdout=subprocess.DEVNULL)
        archives[style] = archive
    return archives


def build(cache: Path, out: Path = HERE) -> None:
    """Write the pack of every style: one picture with a cell for each name."""
    for style, archive in fetch(cache).items():
        side = SIDES[style]
        with tarfile.open(archive) as tar:
            pictures = [_member(tar, FOLDERS[style].format(name.files[style])) for name in names().values()]
        pack = Image.new("RGBA", (COLUMNS * side, -(-len(pictures) // COLUMNS) * side))
        for place, picture in enumerate(pictures):
            cell = picture.resize((side, side), Image.Resampling.LANCZOS)
            pack.paste(cell, (place % COLUMNS * side, place // COLUMNS * side))
        pack.save(out / f"{style}.webp", quality=88, method=6)


def _member(tar: tarfile.TarFile, path: str) -> Image.Image:
    file = tar.extractfile(path)
    if file is None:
        raise FileNotFoundError(path)
    with file:
        return Image.open(file).convert("RGBA")
