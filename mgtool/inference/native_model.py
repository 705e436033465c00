"""MG-LLaVA as the engine's model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import DynamicCache

from mgtool.inference.attention import Prefix
from mgtool.inference.prefix_support import shares_prefixes
from mgtool.inference.scheduler import Group
from mgtool.inference.served import OnDevice


class NativeModel(OnDevice):
    """A `ServedModel`.

    Args:
        model: an `MGLlavaForConditionalGeneration`, in evaluation mode, on its device.
        processor: the model's.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor
        self.vision_tokens = int(model.config.low_grid) ** 2

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
        # From pinned memory, each goes to the device while this thread goes on.
        pixels = [picture.pixels.to(self.device, non_blocking=True) for picture in group.pictures]
        pictures = [one._replace(pixels=moved) for one, moved in zip(group.pictures, pixels, strict=True)]
        media = self.processor.media(pictures, [len(pictures)] if group.is_video else [1] * len(pictures))
        return list(self.model.see(**{name: tensor.to(self.device) for name, tensor in media.items()}))

    def splice(self, prompts: Sequence[Sequence[int]], visuals: Sequence[Tensor]) -> Any:
        """As `ServedModel.splice`."""
        batch = self.processor.collate(prompts)
        return self.model.splice(batch["input_ids"].to(self.device), batch["attention_mask"].to(self.device), visuals)

    def begin(self, group: Group, ids: Sequence[int], visuals: Sequence[Tensor]) -> tuple[Prefix, Tensor]:
        """As `ServedModel.begin`."""
        cache = DynamicCache()
        output = self.language_model(
            inputs_embeds=self.splice([ids], visuals).inputs_embeds,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return Prefix.of(cache), output.logits[:, -1].float()
