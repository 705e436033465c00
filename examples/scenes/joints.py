"""Stage 0 of fusion and projectors: what the towers see becomes the words that tell the same, as in CLIP."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import language
import lessons
import torch
import towers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast
from world import arrange

from mgtool.model import MGLlavaForConditionalGeneration

PICTURES = 18_000
AT_ONCE = 50
STEPS = 6000
BATCH = 64
LEARNING_RATE = 6e-3
CLIP_NORM = 1.0
"""Of the gradient; without it a projector may die on its way."""
LOG_EVERY = 100


@dataclass(frozen=True)
class Seen:
    """What the frozen towers see of P scenes, and what is to come of it; H the language model's width.

    Attributes:
        low: (P, cells, d) patch tokens.
        last: (P, C, GRID, GRID) the high tower's last maps.
        regions: (P, N, all C) features of the true boxes, zeros behind the last.
        cells: (P, cells, H), for each place the sum of its words' embeddings.
        things: (P, N, H), as `cells`, for the boxes.
        is_thing, is_full: (P, N) and (P, cells), whether there is an object.
    """

    low: Tensor
    last: Tensor
    regions: Tensor
    cells: Tensor
    things: Tensor
    is_thing: Tensor
    is_full: Tensor

    def __getitem__(self, rows: Tensor) -> Seen:
        """Some of the scenes."""
        return Seen(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@torch.no_grad()
def look(low: towers.LowNaming, high: towers.HighNaming, embed: nn.Embedding, words: PreTrainedTokenizerFast) -> Seen:
    """The first `PICTURES` training scenes through both towers."""
    parts: list[Seen] = []
    for first in range(0, PICTURES, AT_ONCE):
        batch = towers.load("train", first, AT_ONCE)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            maps, tokens = high.maps(batch.pixels), low.tokens(batch.pixels)
        regions = high.pool([one.float() for one in maps], batch.boxes)
        told = [_told(number, embed, words) for number in range(first, first + AT_ONCE)]
        cells = torch.stack([bags[: towers.GRID**2] for bags in told])
        things = nn.utils.rnn.pad_sequence([bags[towers.GRID**2 :] for bags in told], batch_first=True)
        is_thing, is_full = batch.labels != towers.IGNORED, batch.cells != towers.NONE
        parts.append(Seen(tokens.float(), maps[-1].float(), regions, cells, things, is_thing, is_full))
    most = max(part.regions.shape[1] for part in parts)
    wide = {"regions", "things", "is_thing"}
    return Seen(
        *(
            torch.cat([_widened(getattr(part, name), most if name in wide else 0) for part in parts])
            for name in Seen.__dataclass_fields__
        )
    )


def _told(number: int, embed: nn.Embedding, words: PreTrainedTokenizerFast) -> Tensor:
    """The places of the grid and then the objects in the scene's own order, (cells + N, H)."""
    scene = arrange("train", number)
    bags = [*lessons.grid(scene), *(lessons.described(thing) for thing in scene.things)]
    return language.summed(language.token_ids(bags, words), embed)


def _widened(values: Tensor, width: int) -> Tensor:
    missing = max(0, width - values.shape[1])
    return nn.functional.pad(values, (0, 0) * (values.ndim - 2) + (0, missing))


def fit(
    model: MGLlavaForConditionalGeneration, seen: Seen, *, steps: int | None = None, seed: int = 0
) -> list[dict[str, float]]:
    """Train fusion, projector and, if it has one, box projector of a model in place, for `STEPS`; gives the log.

    The loss is the share of the words' embeddings that is missed, places without an object counting little.
    """
    steps = steps or STEPS
    joints = nn.ModuleList(part for part in (model.fusion, model.projector, model.box_projector) if part is not None)
    optimizer = torch.optim.AdamW(joints.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    rng, log = Random(seed), []
    for step in range(1, steps + 1):
        some = seen[torch.tensor(rng.sample(range(len(seen.low)), BATCH))]
        weights = torch.where(some.is_full, 1.0, towers.NOTHING)
        losses = {"cells": _missed(model.projector(model.fusion(some.low, some.last)), some.cells, weights)}
        if model.box_projector is not None:
            losses["things"] = _missed(model.box_projector(some.regions), some.things, some.is_thing.float())
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(joints.parameters(), CLIP_NORM)
        optimizer.step()
        scheduler.step()
        if step % LOG_EVERY == 0:
            log.append({"step": step, **{name: round(loss.item(), 4) for name, loss in losses.items()}})
    return log


def _missed(found: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    missed = (found - wanted).square().sum(dim=-1) * weights
    return missed.sum() / (wanted.square().sum(dim=-1) * weights).sum()
