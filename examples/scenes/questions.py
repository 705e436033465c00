"""Questions about a scene and their answers, few forms, balanced: what a question says does not tell its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from sprites import names, plural, with_article
from world import SIGN, SIZE, SMALL, Scene, Thing

MARGIN = 14
"""Pixels around the middle lines in which no side is named."""
LARGER = 1.5
SMALLER = 1.25
NEARER = 0.7
CAPTION = "Describe the picture."
TURNS = 8
ROUND = (
    "existence", "existence", "counting", "position", "colour", "comparison", "relation", "naming", "naming", "reading",
)  # fmt: skip
"""What a round of a conversation is about, in a random order, as far as the scene and `TURNS` allow."""


@dataclass(frozen=True)
class Question:
    """A question with its one answer.

    Attributes:
        category: key of `CATEGORIES`.
        template: its form, within the category.
        text, answer: as asked and expected.
        names: all names that either of them tells.
    """

    category: str
    template: str
    text: str
    answer: str
    names: tuple[str, ...] = ()


def conversation(scene: Scene, rng: Random, *, rounds: int = 1) -> list[Question]:
    """Up to `TURNS` questions a round; no turn tells anything about the names of another."""
    asked: list[Question] = []
    told: set[str] = set()
    for category in rng.sample(ROUND * rounds, len(ROUND) * rounds):
        question = CATEGORIES[category](scene, rng)
        if question and not told & set(question.names):
            asked.append(question)
            told |= set(question.names)
        if len(asked) == TURNS * rounds:
            break
    return asked


def existence(scene: Scene, rng: Random) -> Question:
    """Yes or no, each for half; every name is equally likely in both."""
    return existence_of(scene, rng, present=rng.random() < 0.5, adversarial=rng.random() < 0.5)


def existence_of(scene: Scene, rng: Random, *, present: bool, adversarial: bool) -> Question:
    """As `existence`; an adversarial absent name is of the group of a present one."""
    seen = {thing.name for thing in scene.things} - {SIGN}
    name = rng.choice(sorted(seen))
    if not present:
        group = names()[name].group if adversarial else ""
        absent = [other for other in names() if other not in seen and group in ("", names()[other].group)]
        name = rng.choice(absent)
    template = "adversarial" if adversarial else "random"
    text = f"Is there {with_article(name)} in the image?"
    return Question("existence", template, text, "yes" if present else "no", (name,))


def counting(scene: Scene, rng: Random) -> Question:
    """How many there are of the one name that may be there several times."""
    count = sum(thing.name == scene.counted for thing in scene.things)
    return Question("counting", "", f"How many {plural(scene.counted)} are there?", str(count), (scene.counted,))


def position(scene: Scene, rng: Random) -> Question | None:
    """The quarter of the picture in which something is."""
    found = [(thing, corner) for thing in _single(scene) if (corner := _corner(thing))]
    if not found:
        return None
    thing, corner = rng.choice(found)
    return Question("position", "", f"Where is the {thing.name}?", corner, (thing.name,))


def colour(scene: Scene, rng: Random) -> Question | None:
    """The colour of a tile; pictograms have their colours by name, and a blind guess would know them."""
    tiled = [thing for thing in _single(scene) if thing.tile]
    if not tiled:
        return None
    thing = rng.choice(tiled)
    return Question("colour", "", f"What colour is the tile behind the {thing.name}?", thing.tile, (thing.name,))


def comparison(scene: Scene, rng: Random) -> Question | None:
    """Which of two is clearly larger."""
    single = _single(scene)
    pairs = [(one, other) for one in single for other in single if one.size >= LARGER * other.size]
    if not pairs:
        return None
    larger, smaller = rng.choice(pairs)
    first, second = rng.sample((larger.name, smaller.name), 2)
    text = f"Which is larger, the {first} or the {second}?"
    return Question("comparison", "", text, larger.name, (first, second))


def relation(scene: Scene, rng: Random) -> Question | None:
    """What is next to something on one side."""
    single = _single(scene)
    for thing in rng.sample(single, len(single)):
        for side in rng.sample(list(_SIDES), len(_SIDES)):
            neighbour = _neighbour(scene, thing, side)
            if neighbour and neighbour.name not in (thing.name, SIGN):
                text = f"What is {side} the {thing.name}?"
                return Question("relation", side, text, neighbour.name, (thing.name, neighbour.name))
    return None


def naming(scene: Scene, rng: Random) -> Question | None:
    """The name of a small object, pointed at in one of three ways."""
    for ask in rng.sample(_NAMINGS, len(_NAMINGS)):
        question = ask(scene, rng)
        if question:
            return question
    return None


def reading(scene: Scene, rng: Random) -> Question | None:
    """What the sign says."""
    signs = [thing for thing in scene.things if thing.text]
    return Question("reading", "", "What is written on the sign?", signs[0].text) if signs else None


def caption(scene: Scene) -> str:
    """All names in the order of the alphabet, so that a scene has one right caption."""
    counts = Counter(thing.name for thing in scene.things)
    parts = [with_article(name) if n == 1 else f"{n} {plural(name)}" for name, n in sorted(counts.items())]
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    return f"The picture shows {listed}."


def _single(scene: Scene) -> list[Thing]:
    """Things whose name is there once; signs are no such things, as they are in half of all scenes."""
    counts = Counter(thing.name for thing in scene.things)
    return [thing for thing in scene.things if counts[thing.name] == 1 and thing.name != SIGN]


def _corner(thing: Thing) -> str:
    """The quarter that holds its centre; empty near the middle lines."""
    x, y = (value - SIZE / 2 for value in thing.centre)
    if min(abs(x), abs(y)) < MARGIN:
        return ""
    return f"{'top' if y < 0 else 'bottom'} {'left' if x < 0 else 'right'}"


def _neighbour(scene: Scene, thing: Thing, side: str) -> Thing | None:
    """The one that is clearly the nearest on a side; None in doubtful cases."""
    along, across = _SIDES[side]
    near: list[tuple[float, bool, Thing]] = []
    for other in scene.things:
        dx, dy = (a - b for a, b in zip(other.centre, thing.centre, strict=True))
        ahead, aside = along * dx + across * dy, abs(across * dx + along * dy)
        if other is not thing and ahead > 0 and aside < 1.2 * ahead:
            near.append((ahead + aside, aside < 0.8 * ahead, other))
    near.sort(key=lambda entry: entry[0])
    if not near or not near[0][1] or (len(near) > 1 and near[0][0] > NEARER * near[1][0]):
        return None
    return near[0][2]


def _small(scene: Scene) -> list[Thing]:
    return [thing for thing in scene.things if thing.size < SMALL]


def _on_tile(scene: Scene, rng: Random) -> Question | None:
    tiled = [thing for thing in _small(scene) if thing.tile]
    if not tiled:
        return None
    thing = rng.choice(tiled)
    return Question("naming", "tile", f"What is on the {thing.tile} tile?", thing.name, (thing.name,))


def _smallest(scene: Scene, rng: Random) -> Question | None:
    first, second = sorted(scene.things, key=lambda thing: thing.size)[:2]
    if first.size >= SMALL or second.size < SMALLER * first.size or first.name == SIGN:
        return None
    return Question("naming", "smallest", "What is the smallest object?", first.name, (first.name,))


def _in_corner(scene: Scene, rng: Random) -> Question | None:
    small = _small(scene)
    corners = Counter(_corner(thing) for thing in small)
    alone = [thing for thing in small if thing.name != SIGN and corners[_corner(thing)] == 1 and _corner(thing)]
    if not alone or corners[""]:
        return None
    thing = rng.choice(alone)
    text = f"What small object is at the {_corner(thing)}?"
    return Question("naming", "corner", text, thing.name, (thing.name,))


_SIDES = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}
_NAMINGS = (_on_tile, _smallest, _in_corner)

CATEGORIES: dict[str, Callable[[Scene, Random], Question | None]] = {
    "existence": existence,
    "counting": counting,
    "position": position,
    "colour": colour,
    "comparison": comparison,
    "relation": relation,
    "naming": naming,
    "reading": reading,
}
