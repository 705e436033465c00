"""A scene: pictograms and signs of very different sizes on a background, with exact boxes.

Everything follows from a split's name and a number: with one version of Pillow and NumPy, the same two give the same
picture on every machine.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from random import Random

from backgrounds import background
from PIL import Image, ImageDraw, ImageFont
from sprites import names, sprite

SIZE = 256
"""Side of a picture, and of the model frame, in pixels."""
SMALL = 28
"""Longest side in pixels below which an object is called small: 12 pixels of the low-resolution view of 112."""
SIZES = tuple(round(14 * 1.125**step) for step in range(18))
"""Longest sides of objects, 14 to 104 pixels; few, so that resized pictograms can be kept."""
MOST_COPIES = 5
OTHERS = (2, 15)
FILLED = 0.42
"""Largest share of the picture that objects cover."""
OVERLAP = 0.08
"""Largest share of the smaller of two objects that the other may cover."""
TILE = 1.45
"""Side of a tile for an object's longer side."""
COLOURS = {
    "red": (214, 40, 40),
    "orange": (245, 140, 20),
    "yellow": (250, 220, 50),
    "green": (40, 150, 60),
    "blue": (40, 90, 215),
    "purple": (125, 50, 170),
    "black": (20, 20, 22),
    "white": (246, 246, 246),
}
SIGNS = "0123456789ABEFHKLPTX"
SIGN = "sign"
SIGN_SIZES = tuple(size for size in SIZES if 17 <= size <= 45)

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Split:
    """What a set of scenes is made of.

    Attributes:
        style: of the pictograms.
        unseen: whether backgrounds are of kinds that training never shows.
    """

    style: str
    unseen: bool


SPLITS = {
    "train": Split("fluent", False),
    "val": Split("fluent", False),
    "test": Split("fluent", True),
    "test-b": Split("noto", True),
}


@dataclass(frozen=True)
class Thing:
    """An object of a scene.

    Attributes:
        name: of the pictogram, or `SIGN`.
        box: xyxy in pixels, tight around what is at least half opaque.
        tile: colour of the tile behind it, or empty.
        text: what a sign says, or empty.
    """

    name: str
    box: Box
    tile: str = ""
    text: str = ""

    @property
    def size(self) -> int:
        """Longer side in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def centre(self) -> tuple[float, float]:
        """x and y in pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class Scene:
    """What is in a picture; `draw` makes the picture.

    Attributes:
        split, number: what the scene follows from.
        things: its objects in a random order.
        counted: the one name that may be there several times.
        patches: what is drawn, in this order: RGBA, and its left upper corner.
    """

    split: str
    number: int
    things: tuple[Thing, ...]
    counted: str
    patches: tuple[tuple[Image.Image, tuple[int, int]], ...]


@dataclass
class _Plan:
    """An object before it has a place; `side` is that of what must not be covered."""

    name: str
    size: int
    tile: str = ""
    text: str = ""

    @property
    def side(self) -> int:
        return round(self.size * TILE) if self.tile else self.size


def arrange(split: str, number: int) -> Scene:
    """The scene of a number, without its picture."""
    rng = _random(split, number, "things")
    plans = _plans(rng)
    places = _places(rng, plans)
    things, patches = [], []
    for plan, place in zip(plans, places, strict=True):
        thing, drawn = _put(rng, SPLITS[split].style, plan, place)
        things.append(thing)
        patches += drawn
    counted = plans[0].name
    rng.shuffle(things)
    return Scene(split, number, tuple(things), counted, tuple(patches))


def draw(scene: Scene) -> Image.Image:
    """The scene's picture, RGB, `SIZE` x `SIZE`."""
    rng = _random(scene.split, scene.number, "background")
    picture = background(rng, SIZE, unseen=SPLITS[scene.split].unseen)
    for patch, corner in scene.patches:
        picture.paste(patch, corner, patch)
    return picture


def _random(split: str, number: int, purpose: str) -> Random:
    return Random(f"{split} {number} {purpose}")  # a string seeds the same way on every machine


def _plans(rng: Random) -> list[_Plan]:
    """What will be there: one name up to five times, others once each, some on tiles, perhaps a sign."""
    copies, others = rng.randint(1, MOST_COPIES), rng.randint(*OTHERS)
    chosen = rng.sample(list(names()), others + 1)
    plans = [_Plan(name, _size(rng)) for name in chosen[:1] * copies + chosen[1:]]
    if rng.random() < 0.5:
        plans[-1] = _Plan(SIGN, rng.choice(SIGN_SIZES), text=rng.choice(SIGNS))
    single = [plan for plan in plans[copies:] if plan.name != SIGN]
    tiled = rng.sample(single, min(len(single), rng.randint(1, 3)))
    for plan, colour in zip(tiled, rng.sample(list(COLOURS), len(tiled)), strict=True):
        plan.tile = colour
    return plans


def _size(rng: Random) -> int:
    """Half of all objects are small."""
    middle = next(place for place, size in enumerate(SIZES) if size >= SMALL)
    return rng.choice(SIZES[:middle] if rng.random() < 0.5 else SIZES[middle:])


def _places(rng: Random, plans: list[_Plan]) -> list[tuple[int, int]]:
    """Left upper corners, largest first; where they do not fit, all objects shrink and it starts afresh."""
    while True:
        filled = sum(plan.side**2 for plan in plans) / SIZE**2
        found = _try_places(rng, plans) if filled < FILLED else None
        if found is not None:
            return found
        for plan in plans:
            plan.size = SIZES[max(0, SIZES.index(plan.size) - 1)]


def _try_places(rng: Random, plans: list[_Plan]) -> list[tuple[int, int]] | None:
    order = sorted(range(len(plans)), key=lambda index: -plans[index].side)
    places: dict[int, tuple[int, int]] = {}
    taken: list[Box] = []
    for index in order:
        side = plans[index].side
        for _ in range(60):
            x, y = rng.randint(0, SIZE - side), rng.randint(0, SIZE - side)
            square = (x, y, x + side, y + side)
            if all(_free(square, other) for other in taken):
                break
        else:
            return None
        taken.append(square)
        places[index] = (x, y)
    return [places[index] for index in range(len(plans))]


def _free(one: Box, other: Box) -> bool:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min(one[2] - one[0], other[2] - other[0]) ** 2
    return width <= 0 or height <= 0 or width * height <= OVERLAP * smaller


def _put(
    rng: Random, style: str, plan: _Plan, place: tuple[int, int]
) -> tuple[Thing, list[tuple[Image.Image, tuple[int, int]]]]:
    shape, (x0, y0, x1, y1) = _shape(style, plan.name, plan.text, plan.size, rng.random() < 0.5)
    left = place[0] + (plan.side - shape.width) // 2
    top = place[1] + (plan.side - shape.height) // 2
    patches = [(_tile(plan.tile, plan.side), place)] if plan.tile else []
    thing = Thing(plan.name, (left + x0, top + y0, left + x1, top + y1), plan.tile, plan.text)
    return thing, [*patches, (shape, (left, top))]


@functools.cache
def _shape(style: str, name: str, text: str, size: int, flipped: bool) -> tuple[Image.Image, Box]:
    """What is drawn for an object, RGBA, and the box in it of what is at least half opaque."""
    shape = _sign(text, size) if text else sprite(style, name, size, flipped)
    box = shape.getchannel("A").point(lambda alpha: 255 * (alpha >= 128)).getbbox()
    return shape, box or (0, 0, *shape.size)


@functools.cache
def _tile(colour: str, side: int) -> Image.Image:
    tile = Image.new("RGBA", (side, side))
    ImageDraw.Draw(tile).rounded_rectangle((0, 0, side - 1, side - 1), side // 6, fill=COLOURS[colour])
    return tile


def _sign(text: str, size: int) -> Image.Image:
    """A plate with one character."""
    sign = Image.new("RGBA", (size, size))
    draw = ImageDraw.Draw(sign)
    draw.rounded_rectangle((0, 0, size - 1, size - 1), size // 8, fill=(250, 250, 240), outline=(30, 30, 30))
    font = ImageFont.load_default(math.ceil(size * 0.8))
    draw.text((size / 2, size / 2), text, fill=(20, 20, 20), font=font, anchor="mm", stroke_width=size // 30)
    return sign
