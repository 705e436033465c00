"""What an import will write: configuration, processor, and the weights of each file; no weight is read for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from mgtool.importing import published
from mgtool.importing.options import ImportOptions, ImportParts
from mgtool.importing.weights import Entries
from mgtool.model.config import MGLlavaConfig
from mgtool.model.processor import MGLlavaProcessor

_GIGABYTE = 1e9


@dataclass(frozen=True)
class ModelCounts:
    """A model folder in numbers.

    Attributes:
        parameters, tensors, bytes: of all weights.
        shards, largest_shard_bytes: files of weights, and the bytes of the largest.
        fusion, boxes: the variant, and whether objects are tokens.
        llm_weights_from: the part whose language model it is.
    """

    parameters: int
    tensors: int
    bytes: int
    shards: int
    largest_shard_bytes: int
    fusion: str
    boxes: bool
    llm_weights_from: Literal["llm", "checkpoint"]


@dataclass(frozen=True)
class ImportPlan:
    """What an import will write.

    Attributes:
        config: of the model.
        processor: of the model.
        shards: weights of each file.
        missing_llm: whether the language model's weights come from its own folder.
    """

    config: MGLlavaConfig
    processor: MGLlavaProcessor
    shards: list[Entries]
    missing_llm: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """What does not fit between parts, and is no reason to refuse them."""
        rows, tokens = self.config.text_config.vocab_size, len(self.processor.tokenizer)
        if tokens <= rows:
            return ()
        first = self.processor.tokenizer.convert_ids_to_tokens(rows)
        said = f"the tokenizer has {tokens} tokens and the language model's embedding {rows} rows"
        return (f"{said}: text with {first!r} or a later token cannot be asked",)

    @property
    def counts(self) -> ModelCounts:
        """The folder in numbers."""
        tensors = [entry for shard in self.shards for entry in shard.values()]
        sizes = [sum(entry.nbytes for entry in shard.values()) for shard in self.shards]
        return ModelCounts(
            parameters=sum(torch.Size(entry.shape).numel() for entry in tensors),
            tensors=len(tensors),
            bytes=sum(sizes),
            shards=len(sizes),
            largest_shard_bytes=max(sizes),
            fusion=self.config.fusion,
            boxes=self.config.boxes,
            llm_weights_from="llm" if self.missing_llm else "checkpoint",
        )


def plan_import(asked: ImportOptions | ImportParts) -> ImportPlan:
    """Read configurations and keys, and account for every key; no weights are read, and nothing is downloaded.

    Raises:
        InputError: a part is not there.
        CheckpointError: listing what is missing, left over or of another shape.
        UsageError: for an unknown template.
    """
    options = asked.parts() if isinstance(asked, ImportOptions) else asked
    weights, missing_llm = published.weights_of_parts(options)
    config = published.configuration(options, weights)
    if config.needs_high_tower:
        weights |= published.high_tower(options.convnext)
    weights = published.fitted(config, weights, where=str(options.checkpoint))
    shards = list(_cut(weights, round(options.max_shard_size * _GIGABYTE)))
    processor = published.processor(options, config)
    config.image_token_id = processor.image_token_id
    return ImportPlan(config, processor, shards, missing_llm)


def _cut(weights: Entries, max_bytes: int) -> Iterator[Entries]:
    shard: Entries = {}
    size = 0
    for key, entry in weights.items():
        if shard and size + entry.nbytes > max_bytes:
            yield shard
            shard, size = {}, 0
        shard[key] = entry
        size += entry.nbytes
    yield shard
