"""Ids, labels and pictures as one batch: a place for each visual token, padding, and what a caller asks of both."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import BatchFeature

from mgtool.errors import ItemError
from mgtool.model.config import IMAGE_TOKEN_ID, VIDEO_TOKEN_ID
from mgtool.model.inputs import Batch, PlacedPicture

Value = TypeVar("Value")

_logger = logging.getLogger(__name__)
_BOX_NAMES = re.compile("det|box", re.IGNORECASE)
_PADDING = ("padding", "padding_side", "max_length", "truncation")
_SAMPLING = ("do_sample_frames", "num_frames")
_OF_TEMPLATES = (
    "add_special_tokens",
    "return_attention_mask",
    "return_dict",
    "return_offsets_mapping",
    "return_text_replacement_offsets",
    "return_token_type_ids",
)
"""What `apply_chat_template` and pipelines hand on, and what is so or has no meaning here."""
_NESTED = ("text_kwargs", "images_kwargs", "videos_kwargs", "common_kwargs")


def copies(rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[list[int]]:
    """How often each id of some rows stands in them once each placeholder has a place for each of its tokens.

    Args:
        rows: ids with placeholders.
        lengths: tokens of each placeholder, row after row.

    >>> copies([[1, -200, 5], [-201]], [3, 2])
    [[1, 3, 1], [2]]
    """
    supply = iter(lengths)
    return [[next(supply) if token < 0 else 1 for token in row] for row in rows]


def repeated(row: Iterable[Value], counts: Iterable[int]) -> list[Value]:
    """Each value as often as it is to stand there.

    >>> repeated("abc", [1, 3, 0])
    ['a', 'b', 'b', 'b']
    """
    return [value for value, count in zip(row, counts, strict=True) for _ in range(count)]


def pad_left(rows: Sequence[Sequence[int]], value: int) -> tuple[Tensor, Tensor]:
    """Rows as (B, T) int64, and their mask, 0 on padding."""
    longest = max(map(len, rows))
    padded = torch.tensor([[value] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return padded, mask


def flat_arguments(given: dict[str, Any]) -> dict[str, Any]:
    """A call's other arguments, those that stand in `text_kwargs` and the like among them.

    Boxes that would be left out raise a `ValueError`; what nothing here obeys is warned of.
    """
    flat = {name: value for name, value in given.items() if name not in _NESTED}
    for group in _NESTED:
        flat |= given.get(group) or {}
    for name, value in flat.items():
        if value is None or name in (*_PADDING, *_SAMPLING, *_OF_TEMPLATES, "return_tensors"):
            continue
        if _BOX_NAMES.search(name):
            raise ValueError(f"{name} is no argument of this processor: boxes are given as `detections`")
        _logger.warning("%s is not a valid argument for this processor and will be ignored.", name)
    return flat


def pad_as_asked(batch: BatchFeature, pad: int, given: dict[str, Any]) -> None:
    """Pad a batch as it was asked; it is padded on the left to its longest row already."""
    longest, limit = batch["input_ids"].shape[1], given.get("max_length")
    if given.get("truncation") and limit is not None and longest > limit:
        raise ValueError(f"truncation: a prompt has {longest} tokens, and one that is cut may lose its pictures")
    width = limit - longest if given.get("padding") == "max_length" and limit is not None else 0
    if width < 0:
        _logger.warning("padding: a prompt has %d tokens, more than max_length %d", longest, limit)
    for name, value in (("input_ids", pad), ("attention_mask", 0)):
        batch[name] = torch.nn.functional.pad(batch[name], (max(width, 0), 0), value=value)
    if given.get("padding_side") == "right":
        shifts = (batch["attention_mask"] == 0).sum(1, keepdim=True)
        columns = (torch.arange(batch["input_ids"].shape[1]) + shifts) % batch["input_ids"].shape[1]
        for name in ("input_ids", "attention_mask"):
            batch[name] = batch[name].gather(1, columns)


def padded_offsets(offsets: Sequence[Sequence[tuple[int, int]]], batch: BatchFeature) -> list[list[tuple[int, int]]]:
    """Each token's stretch of its text, (0, 0) on padding, as a batch is padded."""
    rows = []
    for row, mask in zip(offsets, batch["attention_mask"].tolist(), strict=True):
        supply = iter(row)
        rows.append([next(supply) if is_real else (0, 0) for is_real in mask])
    return rows


def converted(batch: BatchFeature, kind: str | None) -> BatchFeature:
    """The batch's tensors, or arrays where `kind` is ``np``."""
    if kind in ("pt", None):
        return batch
    if kind != "np":
        raise ValueError(f"return_tensors {kind}: only pt and np are understood")
    arrays = {name: value.numpy() if isinstance(value, Tensor) else value for name, value in batch.items()}
    return Batch(arrays)


def in_order(
    ids: Sequence[Sequence[int]], stills: Sequence[list[PlacedPicture]], films: Sequence[list[PlacedPicture]]
) -> list[list[PlacedPicture]]:
    """The pictures of each placeholder, in the order of the batch.

    Raises:
        ItemError: ``bad_record`` where text and pictures do not agree.
    """
    wanted = [token for row in ids for token in row if token in (IMAGE_TOKEN_ID, VIDEO_TOKEN_ID)]
    counts = wanted.count(IMAGE_TOKEN_ID), wanted.count(VIDEO_TOKEN_ID)
    if counts != (len(stills), len(films)):
        raise ItemError(
            "bad_record",
            f"the text shows {counts[0]} pictures and {counts[1]} videos, there are {len(stills)} and {len(films)}",
        )
    supply: dict[int, Iterator[list[PlacedPicture]]] = {IMAGE_TOKEN_ID: iter(stills), VIDEO_TOKEN_ID: iter(films)}
    return [next(supply[token]) for token in wanted]
