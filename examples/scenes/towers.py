"""Stage 0 of the image towers: naming the objects in true boxes, and the object at each place of the grid."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
import timm
import torch
from PIL import Image
from sprites import names
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModel
from world import COLOURS, SIGN, SIGNS, SIZE, SMALL, Thing, arrange, draw

from mgtool.model.encoders import low_pixels
from mgtool.model.regions import pool_boxes

LOW_SIZE = 112
LOW_LAYER = -2
"""The hidden state that the model reads; the last layer stays as it was made."""
HIGH_TOWER = "convnext_zepto_rms_ols"
WIDTHS = (32, 64, 128, 256)
GRID = 8
BINS = 56
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IGNORED = -100
ZOOMED = 0.5
"""Share of pictures that show a part of a scene larger: the low tower learns from large objects first."""
VISIBLE = 0.6
NOTHING = 0.1
"""Weight of places of the grid without an object; there are many."""

LABELS = {name: place for place, name in enumerate((*names(), SIGN))}
NONE = len(LABELS)
TILES = {colour: place for place, colour in enumerate(("", *COLOURS))}
TEXTS = {text: place for place, text in enumerate(("", *SIGNS))}


def low_config() -> CLIPVisionConfig:
    """The low-resolution tower: a small ViT, 8 x 8 patches."""
    return CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=5,
        num_attention_heads=6,
        image_size=LOW_SIZE,
        patch_size=LOW_SIZE // GRID,
        projection_dim=192,
    )


@dataclass(frozen=True)
class Batch:
    """Pictures with what is to be told about them; B pictures, N most objects.

    Attributes:
        pixels: (B, 3, S, S) float32, normalised.
        boxes: (B, N, 4) float32 xyxy in pixels, padded with zeros.
        labels, tiles, texts: (B, N) int64, -100 on padding.
        cells: (B, GRID * GRID) int64, the object whose centre is there, or `NONE`.
    """

    pixels: Tensor
    boxes: Tensor
    labels: Tensor
    tiles: Tensor
    texts: Tensor
    cells: Tensor

    @property
    def sizes(self) -> Tensor:
        """(B, N) longer sides in pixels."""
        return (self.boxes[..., 2:] - self.boxes[..., :2]).amax(dim=-1)


def load(split: str, first: int, count: int, *, zoomed: float = 0.0) -> Batch:
    """Scenes `first` to `first + count` of a split; a share of them zoomed in."""
    views = [_view(split, number, zoomed) for number in range(first, first + count)]
    most = max(len(things) for _, things in views)
    boxes = torch.zeros(count, most, 4)
    kinds = torch.full((3, count, most), IGNORED)
    for row, (_, things) in enumerate(views):
        for column, thing in enumerate(things):
            boxes[row, column] = torch.tensor(thing.box)
            known = LABELS[thing.name], TILES[thing.tile], TEXTS[thing.text]
            kinds[:, row, column] = torch.tensor(known)
    cells = torch.tensor([_cells(things) for _, things in views])
    return Batch(normalised([picture for picture, _ in views]), boxes, *kinds, cells)


def normalised(pictures: list[Image.Image]) -> Tensor:
    """Pictures as (B, 3, S, S) float32."""
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def _view(split: str, number: int, zoomed: float) -> tuple[Image.Image, list[Thing]]:
    scene = arrange(split, number)
    picture, things = draw(scene), list(scene.things)
    rng = Random(f"{split} {number} view")
    if rng.random() >= zoomed:
        return picture, things
    side = rng.uniform(0.35, 0.8) * SIZE
    left, top = rng.uniform(0, SIZE - side), rng.uniform(0, SIZE - side)
    picture = picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    seen = [_zoom(thing, left, top, SIZE / side) for thing in things]
    return picture, [thing for thing in seen if thing is not None]


def _zoom(thing: Thing, left: float, top: float, scale: float) -> Thing | None:
    """A thing in a zoomed view; None where too little of it is seen."""
    moved = [(value - start) * scale for value, start in zip(thing.box, (left, top, left, top), strict=True)]
    x0, y0, x1, y1 = (round(min(max(value, 0), SIZE)) for value in moved)
    whole = (moved[2] - moved[0]) * (moved[3] - moved[1])
    return (
        Thing(thing.name, (x0, y0, x1, y1), thing.tile, thing.text) if (x1 - x0) * (y1 - y0) > VISIBLE * whole else None
    )


def _cells(things: list[Thing]) -> list[int]:
    """The label at each place of the grid; the largest object wins."""
    cells = [NONE] * GRID**2
    for thing in sorted(things, key=lambda thing: thing.size):
        cells[cell_of(thing)] = LABELS[thing.name]
    return cells


def cell_of(thing: Thing) -> int:
    """The place of the grid that holds a thing's centre, row by row."""
    column, row = (min(GRID - 1, int(value * GRID / SIZE)) for value in thing.centre)
    return row * GRID + column


class Head(nn.Sequential):
    """Linear -> GELU -> Linear, as the model's projectors are."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, classes))


class Depthwise(nn.Conv2d):
    """A depthwise convolution in float32: its weights' gradient takes three times as long in bfloat16 on CPUs."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) of any dtype -> the same shape, float32."""
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.float())


class HighNaming(nn.Module):
    """The high-resolution tower with heads on the model's own box features and on its last map."""

    def __init__(self) -> None:
        super().__init__()
        trunk = timm.create_model(HIGH_TOWER, num_classes=0)
        self.stem, self.stages = trunk.stem, trunk.stages
        self.boxes = Head(sum(WIDTHS), NONE + len(TILES) + len(TEXTS))
        self.cells = Head(WIDTHS[-1], NONE + 1)
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                module.__class__ = Depthwise
        self.to(memory_format=torch.channels_last)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the maps of all stages, largest first."""
        features, maps = self.stem(pixels), []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps

    def pool(self, maps: list[Tensor], boxes: Tensor) -> Tensor:
        """The model's own box features, (B, N, all channels)."""
        return pool_boxes(maps, boxes, image_size=SIZE, bins=BINS)

    def predict(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Logits of name, tile and text (B, N, classes) each, and of the grid (B, cells, classes)."""
        maps = self.maps(batch.pixels)
        logits = self.boxes(self.pool(maps, batch.boxes)).float().split([NONE, len(TILES), len(TEXTS)], dim=-1)
        return list(logits), self.cells(maps[-1].flatten(2).transpose(1, 2)).float()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses."""
        (label, tile, text), cells = self.predict(batch)
        return {
            "name": _loss(label, batch.labels),
            "tile": 0.3 * _loss(tile, batch.tiles),
            "text": 0.3 * _loss(text, batch.texts),
            "cells": _cell_loss(cells, batch.cells),
        }


class LowNaming(nn.Module):
    """The low-resolution tower with heads on the patch tokens that the model reads."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = CLIPVisionModel(low_config())
        self.boxes = Head(low_config().hidden_size, NONE)
        self.cells = Head(low_config().hidden_size, NONE + 1)

    def tokens(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, cells, d), as the model reads them."""
        small = low_pixels(pixels, LOW_SIZE)
        states = self.encoder(pixel_values=small, output_hidden_states=True).hidden_states[LOW_LAYER]
        return states[:, -(GRID**2) :]

    def predict(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """As `HighNaming.predict`, names only."""
        tokens = self.tokens(batch.pixels)
        patches = tokens.transpose(1, 2).unflatten(2, (GRID, GRID))
        pooled = pool_boxes([patches], batch.boxes, image_size=SIZE, bins=BINS)
        return [self.boxes(pooled).float()], self.cells(tokens).float()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses; objects that the tower cannot see are left out."""
        [label], cells = self.predict(batch)
        labels = batch.labels.masked_fill(batch.sizes < SMALL, IGNORED)
        return {"name": _loss(label, labels), "cells": _cell_loss(cells, batch.cells)}


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def _cell_loss(logits: Tensor, cells: Tensor) -> Tensor:
    weights = torch.ones(NONE + 1)
    weights[NONE] = NOTHING
    return functional.cross_entropy(logits.flatten(0, 1), cells.flatten(), weight=weights)


def accuracies(module: HighNaming | LowNaming, split: str = "val", count: int = 96) -> dict[str, float]:
    """Shares of right names: of small and of large objects in boxes, of objects on the grid; of tiles and signs."""
    batch = load(split, 0, count)
    logits, cells = module.predict(batch)
    known, small = batch.labels != IGNORED, batch.sizes < SMALL
    right = logits[0].argmax(-1) == batch.labels
    there = batch.cells != NONE
    found = {
        "small": right[known & small],
        "large": right[known & ~small],
        "grid": (cells[..., :NONE].argmax(-1) == batch.cells)[there],
        "nothing": (cells.argmax(-1) == NONE)[~there],
    }
    if len(logits) > 1:
        found["tile_right"] = (logits[1].argmax(-1) == batch.tiles)[batch.tiles > 0]
        found["text_right"] = (logits[2].argmax(-1) == batch.texts)[batch.texts > 0]
    return {name: hits.float().mean().item() for name, hits in found.items()}
