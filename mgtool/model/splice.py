"""Text and visual tokens in one sequence (section 3), and batches of them, padded on the left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mgtool.model.config import IMAGE_TOKEN_ID, VIDEO_TOKEN_ID

IGNORED = -100
"""Label of a token without loss."""


class Spliced(NamedTuple):
    """A batch that a causal LM takes, padded on the left.

    Attributes:
        inputs_embeds: (B, L, H).
        attention_mask: (B, L) int64, 0 on padding.
        position_ids: (B, L) int64, counted from each sample's first token.
        labels: (B, L) int64 with -100 over padding, vision and box tokens; None without labels.
    """

    inputs_embeds: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    labels: Tensor | None


def group_visuals(vision: Tensor, boxes: Tensor, box_counts: Sequence[int], frames: Sequence[int]) -> list[Tensor]:
    """What stands at each placeholder: for every frame its vision tokens, then its box tokens.

    Args:
        vision: (P, n, H), pictures and frames in order.
        boxes: (M, H), box tokens in order.
        box_counts: P numbers, box tokens of each picture.
        frames: V numbers, frames of each placeholder (1 for a picture).

    Returns:
        V tensors (tokens, H).
    """
    per_picture = iter([torch.cat(pair) for pair in zip(vision, torch.split(boxes, list(box_counts)), strict=True)])
    return [torch.cat([next(per_picture) for _ in range(count)]) for count in frames]


def splice(
    input_ids: Tensor,
    attention_mask: Tensor,
    visuals: Sequence[Tensor],
    embed: Callable[[Tensor], Tensor],
    labels: Tensor | None = None,
) -> Spliced:
    """Put visual tokens in the place of their placeholders.

    Args:
        input_ids: (B, T) int64 with placeholders.
        attention_mask: (B, T), 0 on padding on either side.
        visuals: V tensors (tokens, H), one for each placeholder, in the order of the batch.
        embed: token ids -> (..., H).
        labels: (B, T) int64 or None.

    Raises:
        ValueError: where the numbers of placeholders and visuals differ.
    """
    is_visual = (input_ids == IMAGE_TOKEN_ID) | (input_ids == VIDEO_TOKEN_ID)
    is_visual &= attention_mask.bool()
    if (found := int(is_visual.sum())) != len(visuals):
        raise ValueError(f"the batch has {found} placeholders and {len(visuals)} pictures or videos")
    text = embed(input_ids.clamp(min=0))
    targets = torch.full_like(input_ids, IGNORED) if labels is None else labels
    supply = iter(visuals)
    samples = [
        _splice_sample(text[row], targets[row], attention_mask[row].bool(), is_visual[row], supply)
        for row in range(len(input_ids))
    ]
    return _pad_left([sample for sample, _ in samples], None if labels is None else [label for _, label in samples])


def _splice_sample(
    text: Tensor, labels: Tensor, real: Tensor, is_visual: Tensor, supply: Iterator[Tensor]
) -> tuple[Tensor, Tensor]:
    text, labels, is_visual = text[real], labels[real], is_visual[real]
    tokens, targets, start = [], [], 0
    for place in is_visual.nonzero().flatten().tolist():
        visual = next(supply).to(text)
        tokens += [text[start:place], visual]
        targets += [labels[start:place], labels.new_full((len(visual),), IGNORED)]
        start = place + 1
    return torch.cat([*tokens, text[start:]]), torch.cat([*targets, labels[start:]])


def _pad_left(samples: Sequence[Tensor], labels: Sequence[Tensor] | None) -> Spliced:
    embeds = torch.nn.utils.rnn.pad_sequence(list(samples), batch_first=True, padding_side="left")
    lengths = torch.tensor([len(sample) for sample in samples], device=embeds.device)
    steps = torch.arange(embeds.shape[1], device=embeds.device) - (embeds.shape[1] - lengths[:, None])
    targets = None
    if labels is not None:
        targets = torch.nn.utils.rnn.pad_sequence(
            list(labels), batch_first=True, padding_value=IGNORED, padding_side="left"
        )
    return Spliced(embeds, (steps >= 0).long(), steps.clamp(min=0), targets)
