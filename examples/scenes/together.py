"""The end of stage 0: fusion, projectors and language model learn together what the frozen towers see.

    python examples/scenes/together.py MODEL OUT --boxes out/scenes/boxes/train

MODEL is a folder of `mgtool import`, and so is what OUT holds at the end. Goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import functools
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import language
import lessons
import torch
import towers
from torch import Tensor, nn
from torchvision.ops import box_iou
from training import Schedule, train
from transformers import PreTrainedTokenizerFast
from world import Scene, arrange

from mgtool.boxes import formats
from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor

SEED = 0
SPLIT = "train"
PICTURES = 12_000
AT_ONCE = 25
SAME = 0.5
"""Intersection over union from which a found box is that of an object."""
SCHEDULE = Schedule(steps=1500, batch_size=16, learning_rate=5e-4, warmup=50, dtype=torch.bfloat16)
NO_BOX = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Seen:
    """What frozen towers see of scenes 0 to P of a split, and what it is.

    Attributes:
        low: (P, cells, d) patch tokens, bfloat16.
        last: (P, C, GRID, GRID) the high tower's last maps, bfloat16.
        regions: for each scene (N, all C) features of the boxes that were found, bfloat16.
        bags: for each scene the words of the places of the grid, then those of the boxes.
    """

    low: Tensor
    last: Tensor
    regions: list[Tensor]
    bags: list[list[list[str]]]


@dataclass(frozen=True)
class Batch(language.Batch):
    """Conversations about B scenes that were seen.

    Attributes:
        rows: the scenes' places in a `Seen`.
    """

    rows: list[int] = field(default_factory=list)


class Seeing(language.Reading):
    """The language model with what its own model's projectors make of pictures, and the losses of `Reading`."""

    def __init__(self, model: MGLlavaForConditionalGeneration, words: PreTrainedTokenizerFast, seen: Seen) -> None:
        super().__init__(words)
        self.llm, self.seen = model.language_model, seen
        self.fusion, self.projector, self.box_projector = model.fusion, model.projector, model.box_projector

    def visuals(self, batch: Batch) -> list[Tensor]:
        """The visual tokens of each scene, (V, H)."""
        seen, rows = self.seen, batch.rows
        cells = self.projector(self.fusion(seen.low[rows].float(), seen.last[rows].float()))
        return [
            torch.cat([vision, self.box_projector(seen.regions[row].float())])
            for vision, row in zip(cells, rows, strict=True)
        ]


@torch.no_grad()
def look(model: MGLlavaForConditionalGeneration, boxes: Path, split: str, count: int) -> Seen:
    """The first `count` scenes of a split through both towers, with the boxes of a folder of box shards."""
    found = [list(record.boxes or [NO_BOX]) for record in sorted(formats.read(str(boxes)), key=lambda one: one.image)]
    lows, lasts, regions, bags = [], [], [], []
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, count))
        scenes = [arrange(split, number) for number in numbers]
        pixels = towers.normalised([towers.draw(scene) for scene in scenes])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low, maps = model.encode_low(pixels), model.encode_high(pixels)
        given = nn.utils.rnn.pad_sequence([torch.tensor(found[number]) for number in numbers], batch_first=True)
        pooled = towers.pool_boxes(
            [one.float() for one in maps], given, image_size=towers.SIZE, bins=model.config.box_bins
        )
        lows.append(low.bfloat16())
        lasts.append(maps[-1].bfloat16())
        regions += [row[: len(found[number])].bfloat16() for row, number in zip(pooled, numbers, strict=True)]
        bags += [
            lessons.grid(scene) + described(scene, found[number]) for scene, number in zip(scenes, numbers, strict=True)
        ]
    return Seen(torch.cat(lows), torch.cat(lasts), regions, bags)


def described(scene: Scene, boxes: list[tuple[float, float, float, float]]) -> list[list[str]]:
    """The words of what is in each box; those of an empty place where there is nothing."""
    overlaps = box_iou(torch.tensor(boxes), torch.tensor([thing.box for thing in scene.things], dtype=torch.float))
    shares, places = overlaps.max(dim=1)
    return [
        lessons.described(scene.things[place]) if share >= SAME else [lessons.EMPTY]
        for share, place in zip(shares.tolist(), places.tolist(), strict=True)
    ]


def batch_of(words: PreTrainedTokenizerFast, seen: Seen, step: int, size: int) -> Batch:
    """The scenes of a step, each once in a turn through all, with new questions in each turn; -1 is of none of them."""
    count = len(seen.bags)
    rows, asked = [], []
    for at in range(step * size, (step + 1) * size):
        turn, place = divmod(at, count)
        rows.append(_order(turn, count)[place])
        asked.append(lessons.turns(arrange(SPLIT, rows[-1]), Random(f"{turn} {rows[-1]} seen"), searching=True))
    told = language.batched(words, asked, [seen.bags[row] for row in rows])
    return Batch(**vars(told), rows=rows)


@functools.cache
def _order(turn: int, count: int) -> list[int]:
    return Random(f"{turn} turn").sample(range(count), count)


def learn(model_folder: Path, out: Path, boxes: Path, schedule: Schedule = SCHEDULE, pictures: int = PICTURES) -> None:
    """Train a model's fusion, projectors and language model, and write the model to `out`."""
    torch.manual_seed(SEED)
    model = MGLlavaForConditionalGeneration.from_pretrained(model_folder, dtype=torch.float32)
    processor = MGLlavaProcessor.from_pretrained(model_folder)
    words = processor.tokenizer
    seeing = Seeing(model, words, look(model.eval(), boxes, SPLIT, pictures))

    def batch(step: int) -> Batch:
        return batch_of(words, seeing.seen, step, schedule.batch_size)

    train(seeing, batch, lambda: language.answered(seeing, batch(-1)), schedule, out)
    model.save_pretrained(out)
    processor.save_pretrained(out)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="Train what joins the tiny model's parts, on what its towers see.")
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--boxes", type=Path, required=True, help="what mgtool detect found in the training pictures")
    given = parser.parse_args()
    learn(given.model, given.out, given.boxes)


if __name__ == "__main__":
    main()
