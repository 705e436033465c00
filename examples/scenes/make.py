"""Scenes as files that `mgtool pack`, `mgtool infer` and `mgtool eval` read.

python examples/scenes/make.py scenes OUT --split train --count 20000
python examples/scenes/make.py sprites --cache DIR
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import questions
import sprites
from questions import CAPTION, CATEGORIES, Question
from world import SIGN, SIZE, SPLITS, Scene, arrange, draw

JPEG_QUALITY = 92
ROUNDS = 2
"""Of questions in a conversation."""
CAPTIONED = 8
"""Every so many scenes, the caption stands for the questions."""
PICTURES = "images"


def main() -> None:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(description="Write scenes, their boxes, and questions about them.")
    commands = parser.add_subparsers(dest="command", required=True)
    scenes = commands.add_parser("scenes", help="write a set of scenes into OUT/SPLIT")
    scenes.add_argument("out", type=Path)
    scenes.add_argument("--split", choices=SPLITS, required=True)
    scenes.add_argument("--count", type=int, required=True)
    pack = commands.add_parser("sprites", help="make the pack of pictograms from the npm packages")
    pack.add_argument("--cache", type=Path, default=Path("sprites-cache"))
    given = parser.parse_args()
    if given.command == "sprites":
        sprites.build(given.cache)
    else:
        write(given.out / given.split, given.split, given.count)


def write(out: Path, split: str, count: int) -> None:
    """Write `count` scenes of a split with everything that is known about them."""
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    (out / "boxes").mkdir(exist_ok=True)
    scenes = [arrange(split, number) for number in range(count)]
    _lines(out / "boxes" / "boxes-000000.jsonl", (_written(scene, out / PICTURES) for scene in scenes))
    _json(out / "instances.json", _coco(scenes, [*sprites.names(), SIGN]))
    _json(out / "objects.json", _coco(scenes, ["object"]))
    _json(out / "captions.json", _captions(scenes))
    _json(out / "caption_conversations.json", [_talk(s, "caption", [_caption(s)]) for s in scenes])
    _lines(out / "caption_questions.jsonl", (_question(s.number, s, CAPTION, "caption") for s in scenes))
    _json(out / "conversations.json", [_talk(s, "talk", _conversation(s)) for s in scenes])
    _write_existence(out, scenes)
    _write_others(out, scenes)


def picture_name(scene: Scene) -> str:
    """The name of a scene's picture below the folder of pictures."""
    return f"{scene.split}-{scene.number:06d}.jpg"


def random_of(scene: Scene, purpose: str) -> Random:
    """Chance for one purpose, from the scene alone."""
    return Random(f"{scene.split} {scene.number} {purpose}")


def _written(scene: Scene, folder: Path) -> dict[str, Any]:
    """Save the picture; its line of a box shard."""
    file = io.BytesIO()
    draw(scene).save(file, "JPEG", quality=JPEG_QUALITY)
    (folder / picture_name(scene)).write_bytes(file.getvalue())
    return {
        "image": picture_name(scene),
        "sha256": hashlib.sha256(file.getvalue()).hexdigest(),
        "width": SIZE,
        "height": SIZE,
        "boxes": [thing.box for thing in scene.things],
        "scores": [1.0] * len(scene.things),
        "labels": [thing.name for thing in scene.things],
    }


def _coco(scenes: list[Scene], categories: list[str]) -> dict[str, Any]:
    """Boxes in COCO's layout; with a single category everything belongs to it."""
    number = {name: place for place, name in enumerate(categories, 1)}
    annotations = [
        {
            "image_id": scene.number,
            "category_id": number.get(thing.name, 1),
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": (x1 - x0) * (y1 - y0),
            "iscrowd": 0,
        }
        for scene in scenes
        for thing in scene.things
        for x0, y0, x1, y1 in [thing.box]
    ]
    return {
        "images": [
            {"id": scene.number, "file_name": picture_name(scene), "width": SIZE, "height": SIZE} for scene in scenes
        ],
        "annotations": [{"id": place, **annotation} for place, annotation in enumerate(annotations, 1)],
        "categories": [{"id": place, "name": name} for name, place in number.items()],
    }


def _captions(scenes: list[Scene]) -> dict[str, Any]:
    annotations = [{"id": s.number, "image_id": s.number, "caption": questions.caption(s)} for s in scenes]
    return {"images": [{"id": s.number, "file_name": picture_name(s)} for s in scenes], "annotations": annotations}


def _conversation(scene: Scene) -> list[Question]:
    if scene.number % CAPTIONED == 0:
        return [_caption(scene)]
    return questions.conversation(scene, random_of(scene, "conversation"), rounds=ROUNDS)


def _caption(scene: Scene) -> Question:
    return Question("caption", "", CAPTION, questions.caption(scene))


def _talk(scene: Scene, kind: str, turns: list[Question]) -> dict[str, Any]:
    """A conversation in LLaVA's layout."""
    texts = [("human", question.text) for question in turns], [("gpt", question.answer) for question in turns]
    values = [{"from": speaker, "value": value} for pair in zip(*texts, strict=True) for speaker, value in pair]
    values[0]["value"] = f"<image>\n{values[0]['value']}"
    return {"id": f"{scene.split}-{scene.number:06d}-{kind}", "image": picture_name(scene), "conversations": values}


def _question(id: int | str, scene: Scene, text: str, category: str) -> dict[str, Any]:
    """A line of a question file in LLaVA's layout."""
    return {"question_id": id, "image": picture_name(scene), "text": text, "category": category}


def _write_existence(out: Path, scenes: list[Scene]) -> None:
    """Two questions a scene in each of two files in POPE's layout, one yes and one no; and all as one question file."""
    lines: dict[str, list[dict[str, Any]]] = {"random": [], "adversarial": []}
    for scene in scenes:
        rng = random_of(scene, "existence")
        for split, rows in lines.items():
            for present in (True, False):
                asked = questions.existence_of(scene, rng, present=present, adversarial=split == "adversarial")
                row = {"question_id": len(rows) + 1, "image": picture_name(scene), "text": asked.text}
                rows.append({**row, "label": asked.answer})
    for split, rows in lines.items():
        _lines(out / f"pope_{split}.jsonl", rows)
    asked_all = ({**row, "category": split} for split, rows in lines.items() for row in rows)
    _lines(out / "pope_questions.jsonl", ({k: v for k, v in row.items() if k != "label"} for row in asked_all))


def _write_others(out: Path, scenes: list[Scene]) -> None:
    """One question of each other category a scene: a question file, and the answers in GQA's layout."""
    asked: list[tuple[Scene, Question]] = []
    for scene in scenes:
        rng = random_of(scene, "others")
        found = (CATEGORIES[category](scene, rng) for category in CATEGORIES if category != "existence")
        asked += [(scene, question) for question in found if question]
    keys = [f"{scene.number:06d}-{question.category}" for scene, question in asked]
    lines = [_question(key, s, q.text, q.category) for key, (s, q) in zip(keys, asked, strict=True)]
    _lines(out / "questions.jsonl", lines)
    answers = {
        key: {
            "question": question.text,
            "answer": question.answer.lower(),
            "imageId": picture_name(scene),
            "isBalanced": True,
            "types": {
                "structural": "choose" if question.category == "comparison" else "query",
                "semantic": question.category,
                "detailed": "-".join(filter(None, (question.category, question.template))),
            },
        }
        for key, (scene, question) in zip(keys, asked, strict=True)
    }
    _json(out / "answers.json", answers)


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value) + "\n", encoding="utf-8")


def _lines(path: Path, values: Iterable[dict[str, Any]] | Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(value) + "\n" for value in values)


if __name__ == "__main__":
    main()
