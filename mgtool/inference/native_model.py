"""MG-LLaVA as the engine's model."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from mgtool.inference.attention import Prefix
from mgtool.inference.last_layer import last_layer_of
from mgtool.inference.memory import picture_bytes
from mgtool.inference.prefix_support import shares_prefixes
from mgtool.inference.scheduler import Group
from mgtool.inference.served import Beginning, OnDevice
from mgtool.model.splice import lay_out


class NativeModel(OnDevice):
    """A `ServedModel`.

    Args:
        model: an `MGLlavaForConditionalGeneration`, in evaluation mode, on its device.
        processor: the model's.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor
        self.vision_tokens = int(model.config.low_grid) ** 2
        self.picture_bytes = picture_bytes(model.config, model.dtype)

    @property
    def language_model(self) -> Any:
        """The causal language model."""
        return self.model.language_model

    @property
    def text_config(self) -> Any:
        """The language model's configuration."""
        return self.model.config.text_config

    def shares_prefixes(self) -> bool:
        """Whether the language model's attention may be replaced."""
        return shares_prefixes(self.language_model)

    def see(self, group: Group) -> list[Tensor]:
        """The tokens of each picture or video, (tokens, H) each."""
        return self.see_all([group])[0]

    def see_all(self, groups: Sequence[Group]) -> list[list[Tensor]]:
        """As `see`, of several groups at once."""
        shown = [picture for group in groups for picture in group.pictures]
        # From pinned memory, each goes to the device while this thread goes on.
        pixels = [picture.pixels.to(self.device, non_blocking=True) for picture in shown]
        pictures = [one._replace(pixels=moved) for one, moved in zip(shown, pixels, strict=True)]
        frames = [[len(one.pictures)] if one.is_video else [1] * len(one.pictures) for one in groups]
        # Numbers of boxes and frames stay on the host, which reads them; boxes it is free to send.
        media = self.processor.media(pictures, [*itertools.chain(*frames)])
        tokens = iter(self.model.see(**media))
        return [list(itertools.islice(tokens, len(its_frames))) for its_frames in frames]

    def splice(self, prompts: Sequence[Sequence[int]], visuals: Sequence[Tensor]) -> Any:
        """As `ServedModel.splice`."""
        return lay_out(prompts, visuals, self.model.embed_text, device=self.device)

    def begin(self, beginnings: Sequence[Beginning]) -> tuple[list[Prefix], Tensor]:
        """As `ServedModel.begin`."""
        rows, shown = [one.ids for one in beginnings], [visual for one in beginnings for visual in one.visuals]
        embeds = lay_out(rows, shown, self.model.embed_text, device=self.device, padding_side="right").inputs_embeds
        lengths = [len(one.ids) + sum(len(visual) - 1 for visual in one.visuals) for one in beginnings]
        cache, ends = DynamicCache(), sorted({length - 1 for length in lengths})
        kept: Any = 1 if len(ends) == 1 else torch.tensor(ends, device=self.device)
        with last_layer_of(self.language_model, slice(-1, None) if len(ends) == 1 else kept):
            logits = self.language_model(
                inputs_embeds=embeds, past_key_values=cache, use_cache=True, logits_to_keep=kept
            ).logits
        columns = [length - 1 if logits.shape[1] > len(ends) else ends.index(length - 1) for length in lengths]
        last = logits[torch.arange(len(columns)), torch.tensor(columns)].float()
        return [Prefix.of(cache, row=row, length=length) for row, length in enumerate(lengths)], last
