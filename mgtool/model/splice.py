"""Text and visual tokens in one sequence (section 3), and batches of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mgtool.model.config import IMAGE_TOKEN_ID

IGNORED = -100
"""Label of a token without loss."""


class Spliced(NamedTuple):
    """A batch that a causal LM takes.

    Attributes:
        inputs_embeds: (B, L, H).
        attention_mask: (B, L) int64, 0 on padding.
        position_ids: (B, L) int64, counted from each sample's first token.
        labels: (B, L) int64 with -100 over padding, vision and box tokens; None without labels.
        has_places: whether the ids had a place for each visual token, so that nothing moved.
    """

    inputs_embeds: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    labels: Tensor | None
    has_places: bool = True


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
    pictures, each, _ = vision.shape
    pairs = zip(_consecutive(0, [each] * pictures), _consecutive(pictures * each, box_counts), strict=True)
    order = [[*seen, *found] for seen, found in pairs]
    supply = iter(map(len, order))
    lengths = [sum(next(supply) for _ in range(count)) for count in frames]
    tokens = torch.cat([vision.flatten(0, 1), boxes])
    if pictures > 1:
        tokens = tokens[torch.tensor([*itertools.chain(*order)], device=tokens.device)]
    return list(torch.split(tokens, lengths))


def _consecutive(start: int, counts: Iterable[int]) -> Iterator[range]:
    """Ranges of some lengths, one behind the other."""
    for count in counts:
        yield range(start, start + count)
        start += count


def is_visual(input_ids: Tensor, token: int = IMAGE_TOKEN_ID) -> Tensor:
    """(B, T) ids -> (B, T) bool, the places of visual tokens.

    They are negative ids where there is one in the batch, else those equal to the model's `image_token_id`: so a
    text may hold that token, too, as long as its batch marks places by another.
    """
    negative = input_ids < 0
    return torch.where(negative.any(), negative, input_ids == token)


def splice(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    visuals: Sequence[Tensor],
    embed: Callable[[Tensor], Tensor],
    labels: Tensor | None = None,
    token: int = IMAGE_TOKEN_ID,
) -> Spliced:
    """Put visual tokens in their places.

    Args:
        input_ids: (B, T) int64, with a place for each visual token (then L = T), or with one for each picture or video
            (then the batch becomes longer and is padded on the left).
        attention_mask: (B, T), 0 on padding on either side; None where there is no padding.
        visuals: V tensors (tokens, H), one for each picture or video, in the order of the batch.
        embed: token ids -> (..., H).
        labels: (B, T) int64 or None.
        token: the model's `image_token_id`.

    Raises:
        ValueError: where places and visual tokens do not agree.
    """
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    places = (is_visual(input_ids, token) if visuals else input_ids < 0) & mask.bool()
    found, tokens = int(places.sum()), sum(map(len, visuals))
    if len(input_ids) == 1 and 0 < found - tokens < min(map(len, visuals), default=0):
        # a token that was generated, or drafted from the prompt, behind the pictures
        places, found = places & (places.cumsum(-1) <= tokens), tokens
    if found not in (tokens, len(visuals)):
        detail = f"{tokens} visual tokens of {len(visuals)} pictures or videos"
        raise ValueError(f"the batch has {found} placeholders and {len(visuals)} pictures or videos ({detail})")
    text = embed(input_ids.clamp(min=0).masked_fill(places, 0))
    if found == tokens:
        return _fill(text, mask, places, visuals, labels)
    return _lengthen(text, mask.bool(), places, visuals, labels)


def lay_out(
    prompts: Sequence[Sequence[int]],
    visuals: Sequence[Tensor],
    embed: Callable[[Tensor], Tensor],
    *,
    device: torch.device,
    padding_side: Literal["left", "right"] = "left",
) -> Spliced:
    """Put visual tokens in their places, in as many operations for many prompts as for one.

    Args:
        prompts: B lists of ids with one negative placeholder for each picture or video.
        visuals: V tensors (tokens, H), in the order of the batch.
        embed: token ids -> (..., H).
        device: of the embeddings.
        padding_side: of prompts that are shorter than others; what stands there is a token's embedding.

    Raises:
        ValueError: where placeholders and visual tokens do not agree.
    """
    text = [token for row in prompts for token in row if token >= 0]
    rows = _sources(prompts, len(text), [len(visual) for visual in visuals])
    tokens = embed(torch.tensor([*text, 0], device=device))
    if visuals:
        tokens = torch.cat([tokens, torch.cat([*visuals]).to(tokens)])
    longest, is_left = max(map(len, rows)), padding_side == "left"
    pads = [[len(text)] * (longest - len(row)) for row in rows]
    padded = torch.tensor([pad + row if is_left else row + pad for row, pad in zip(rows, pads, strict=True)])
    starts = torch.tensor([[len(pad) if is_left else 0, len(row)] for row, pad in zip(rows, pads, strict=True)])
    first, lengths = starts.to(device)[:, :, None].unbind(1)
    steps = torch.arange(longest, device=device) - first
    mask = (steps >= 0) & (steps < lengths)
    return Spliced(tokens[padded.to(device)], mask.long(), steps.clamp(min=0), None, has_places=False)


def _sources(prompts: Sequence[Sequence[int]], words: int, lengths: Sequence[int]) -> list[list[int]]:
    """Where each token of some prompts is found among all words, one for padding, and the visual tokens, in order."""
    found = sum(map(len, prompts)) - words
    if found != len(lengths):
        raise ValueError(f"the batch has {found} placeholders and {len(lengths)} pictures or videos")
    text, shown = iter(range(words)), iter(_consecutive(words + 1, lengths))
    return [[at for token in row for at in ([next(text)] if token >= 0 else next(shown))] for row in prompts]


def positions(attention_mask: Tensor) -> Tensor:
    """(B, L) int64, each sample's tokens counted from its first, of its mask."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


def _fill(text: Tensor, mask: Tensor, places: Tensor, visuals: Sequence[Tensor], labels: Tensor | None) -> Spliced:
    """Visual tokens in (B, T, H), which has a place for each."""
    if visuals:
        tokens = torch.cat([visual.to(text) for visual in visuals])
        text = text.masked_scatter(places[..., None], tokens)
    targets = None if labels is None else labels.masked_fill(places | ~mask.bool(), IGNORED)
    return Spliced(text, mask, positions(mask), targets)


def _lengthen(text: Tensor, real: Tensor, places: Tensor, visuals: Sequence[Tensor], labels: Tensor | None) -> Spliced:
    """Visual tokens in the place of the one placeholder that each picture or video has."""
    targets = torch.full_like(places, IGNORED, dtype=torch.int64) if labels is None else labels
    supply = iter(visuals)
    samples = [_splice_sample(*row, supply) for row in zip(text, targets, real, places, strict=True)]
    return _pad_left([sample for sample, _ in samples], None if labels is None else [label for _, label in samples])


def _splice_sample(
    text: Tensor, labels: Tensor, real: Tensor, places: Tensor, supply: Iterator[Tensor]
) -> tuple[Tensor, Tensor]:
    text, labels, places = text[real], labels[real], places[real]
    tokens, targets, start = [], [], 0
    for place in places.nonzero().flatten().tolist():
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
    return Spliced(embeds, (steps >= 0).long(), steps.clamp(min=0), targets, has_places=False)
