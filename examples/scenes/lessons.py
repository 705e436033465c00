"""What the language model is taught in stage 0: scenes told in words, and what is asked about them."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from random import Random

from questions import CAPTION, LARGER, caption, comparison, conversation, counting, naming, relation
from sprites import names, plural
from towers import GRID, cell_of
from world import SIGN, SIZE, SIZES, Scene, Thing

EMPTY = "."
ROWS, COLUMNS, MEASURES = (tuple(f"{kind}{letter}" for letter in "abcdefghi") for kind in ("row", "column", "size"))
"""Words of no text: places of the grid, and sizes."""
LISTED = 0.75
FEWEST = 2
FIRST, GROWN = 0.3, 24_000
"""How far scenes have grown when training begins, and when they come whole. A match is learned among few."""
FOUND = 20_000
"""Until this scene, things are looked up by their names, in exact words; from then on all is as hard as it will be."""
SEARCHES = 0.5
"""Share of samples that are searches, once there are any."""
DRILL = "Check these."
INVENTORY = "List the objects."
DRILLS, INVENTORIES, CAPTIONS = 0.35, 0.35, 0.1
"""Shares of samples; the others are questions."""


def told(scene: Scene, rng: Random, *, with_grid: bool = True) -> list[list[str]]:
    """A scene as the model will see it, in words: for each visual token those that it stands for.

    First the places of the grid, row by row, with the largest object that has its centre there; then, as of a detector
    that misses nothing, the objects. Some scenes come without this list, so that both ways are learned; `with_grid`
    False leaves the grid out, and the list tells the places.
    """
    listed = rng.sample(scene.things, len(scene.things))
    if not with_grid:
        return [[*described(thing), *_place(cell_of(thing))] for thing in listed]
    cells = grid(scene)
    return cells + [described(thing) for thing in listed] if rng.random() < LISTED else cells


def grid(scene: Scene) -> list[list[str]]:
    """The words of each place, row by row."""
    cells = [[EMPTY] for _ in range(GRID**2)]
    for thing in sorted(scene.things, key=lambda thing: thing.size):
        cells[cell_of(thing)] = described(thing)
    return [[*words, *_place(number)] for number, words in enumerate(cells)]


def _place(cell: int) -> tuple[str, str]:
    return ROWS[cell // GRID], COLUMNS[cell % GRID]


def described(thing: Thing) -> list[str]:
    """The words of an object."""
    return [word for word in (thing.name, thing.tile, thing.text, _size(thing.size)) if word]


def _size(size: int) -> str:
    """One of nine sizes, on a scale of ratios."""
    return MEASURES[round(8 * math.log(max(size, SIZES[0]) / SIZES[0]) / math.log(SIZES[-1] / SIZES[0]))]


def easier(scene: Scene, grown: float, rng: Random) -> Scene:
    """A scene with fewer objects: `FEWEST` at 0, all at 1."""
    count = min(len(scene.things), FEWEST + round(grown * len(scene.things)))
    things = tuple(rng.sample(scene.things, count))
    kept = {thing.name for thing in things} - {SIGN}
    counted = scene.counted if scene.counted in kept else rng.choice(sorted(kept))
    return dataclasses.replace(scene, things=things, counted=counted)


def grown_at(number: int) -> float:
    """How far scenes have grown when training comes to this one, for `easier`."""
    return min(1.0, FIRST + (1 - FIRST) * number / GROWN)


def turns(scene: Scene, rng: Random, *, searching: bool = False) -> list[tuple[str, str]]:
    """A conversation about a scene that its first turn shows: a drill, the inventory, the caption, or questions."""
    kind = rng.random()
    if searching and rng.random() < SEARCHES:
        asked = searches(scene, rng)
    elif kind < DRILLS:
        asked = [(DRILL, drill(scene, rng))]
    elif kind < DRILLS + INVENTORIES:
        asked = [(INVENTORY, inventory(scene, rng))]
    elif kind < DRILLS + INVENTORIES + CAPTIONS:
        asked = [(CAPTION, caption(scene))]
    else:
        asked = [(question.text, question.answer) for question in conversation(scene, rng, rounds=2)]
    (question, answer), *others = asked
    return [(f"<image>\n{question}", answer), *others]


def searches(scene: Scene, rng: Random) -> list[tuple[str, str]]:
    """Questions, each once, whose answers are names that must be found by something else, and what must be counted."""
    asked = [counting(scene, rng), *(find(scene, rng) for find in (naming,) * 8 + (relation,) * 4 + (comparison,))]
    found = {question.text: question.answer for question in asked if question}
    return rng.sample(sorted(found.items()), len(found))


def inventory(scene: Scene, rng: Random) -> str:
    """Each object with its quarter, tile and text."""
    things = rng.sample(scene.things, len(scene.things))
    return ", ".join(" ".join(filter(None, (thing.name, _quarter(thing), thing.tile, thing.text))) for thing in things)


def drill(scene: Scene, rng: Random) -> str:
    """What is asked of things one by one, in the fewest words: each that is there once, and some that are not."""
    counts = Counter(thing.name for thing in scene.things if thing.name != SIGN)
    things = {thing.name: thing for thing in scene.things}
    present = rng.sample(sorted(counts), len(counts))
    entries = []
    while present:
        name = present.pop()
        thing, kind = things[name], rng.choice(("is", "is", "many", "where", "tile", "or"))
        other = things[present[-1]] if present else thing
        if kind == "is":
            absent = rng.choice([other for other in names() if other not in counts])
            entries += [f"is {name} = yes", f"is {absent} = no"]
        elif kind == "many" or counts[name] > 1:
            entries.append(f"many {plural(name)} = {counts[name]}")
        elif kind == "tile" and thing.tile:
            entries.append(f"tile {name} = {thing.tile}")
        elif kind == "or" and counts[other.name] == 1 and not 1 / LARGER < thing.size / other.size < LARGER:
            larger = name if thing.size > other.size else other.name
            entries.append(f"{name} or {present.pop()} = {larger}")
        else:
            entries.append(f"where {name} = {_quarter(thing)}")
    return ", ".join(rng.sample(entries, len(entries)))


def _quarter(thing: Thing) -> str:
    x, y = thing.centre
    return f"{'top' if y < SIZE / 2 else 'bottom'} {'left' if x < SIZE / 2 else 'right'}"
