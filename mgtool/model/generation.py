"""What transformers' generation needs to know of pictures: they are encoded once, and ids come in two forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import GenerationMixin

_OF_PICTURES = ("pixel_values", "boxes", "box_counts", "frame_counts")


def encoded(outputs: Mapping[str, Any] | None) -> list[Tensor] | None:
    """The visual tokens among what transformers has encoded before generation; None where there are none."""
    found = (outputs or {}).get("image")
    return None if found is None else found.pooler_output


class PlacedGeneration(GenerationMixin):
    """Generation from ids with a place for each visual token, or with one placeholder for each picture.

    It is part of `MGLlavaForConditionalGeneration`, whose towers and language model it calls.
    """

    config: Any
    low_tower: Any
    language_model: Any
    features: Any
    encode_high: Any
    pool_regions: Any
    visual_tokens: Any
    see: Any
    splice: Any

    def get_image_features(
        self,
        pixel_values: Tensor,
        boxes: Tensor | None = None,
        box_counts: Tensor | None = None,
        frame_counts: Tensor | None = None,
        *,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Pictures and boxes as transformers' generation encodes them: once, before the first step.

        Args:
            pixel_values, boxes, box_counts, frame_counts: as of `forward`.
            return_dict: False for a tuple.
            kwargs: of the low tower's forward (`output_hidden_states`, `output_attentions`).

        Returns:
            `pooler_output`: V tensors (tokens, H); the rest is of the low tower.
        """
        output = self.low_tower(pixel_values, **kwargs)
        vision, stages = self.features(self.low_tower.tokens(output), self.encode_high(pixel_values))
        regions = self.pool_regions(stages, boxes, box_counts)
        output.pooler_output = self.visual_tokens(vision, regions, box_counts, frame_counts)
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _prepare_model_inputs(
        self, inputs: Tensor | None, bos_token_id: Any, model_kwargs: dict[str, Any]
    ) -> tuple[Tensor, str | None, dict[str, Any]]:
        """As of transformers; ids with one placeholder for each picture are given as embeddings beside the ids."""
        ids = model_kwargs.get("input_ids") if inputs is None else inputs
        if ids is not None and ids.shape[1]:
            model_kwargs = self._placed(ids, model_kwargs)
        return super()._prepare_model_inputs(inputs, bos_token_id, model_kwargs)

    def _placed(self, ids: Tensor, given: dict[str, Any]) -> dict[str, Any]:
        """What `generate` is given beside ids (B, T), fit for ids of either form."""
        embeds, cache = given.get("inputs_embeds"), given.get("past_key_values")
        if embeds is not None:
            if embeds.shape[:2] != ids.shape:
                raise ValueError("input_ids and inputs_embeds are both given, and differ in length: choose one")
            return given
        given = {name: value for name, value in given.items() if name not in _OF_PICTURES or value is not None}
        negative = int((ids < 0).sum())
        if cache is not None and cache.get_seq_length():
            if 0 < negative < self.config.vision_tokens:
                raise ValueError("past_key_values need ids with a place for each visual token, as the processor gives")
        elif "pixel_values" not in given:
            if encoded(given.get("mm_encoder_outputs")) is None:
                self._refuse_places(ids)
        elif negative and negative == len(given.get("frame_counts", given["pixel_values"])):
            pictures = {name: given.pop(name) for name in _OF_PICTURES if name in given}
            spliced = self.splice(ids, given.get("attention_mask"), self.see(**pictures))
            given |= {"inputs_embeds": spliced.inputs_embeds, "attention_mask": spliced.attention_mask}
        return given

    def _get_candidate_generator(self, *args: Any, model_kwargs: dict[str, Any], **kwargs: Any) -> Any:
        """As of transformers, whose drafts would be dropped where a prompt is given as embeddings.

        Assistants that are language models are given no pictures.
        """
        if model_kwargs.get("inputs_embeds") is not None:
            detail = "drafts need ids with a place for each visual token, as the processor gives, and no inputs_embeds"
            raise ValueError(f"assistant_model, prompt_lookup_num_tokens: {detail}")
        if not isinstance(kwargs.get("assistant_model"), PlacedGeneration):
            # until transformers 5.17 pictures are among what the assistant is given
            model_kwargs = {name: value for name, value in model_kwargs.items() if name not in _OF_PICTURES}
        return super()._get_candidate_generator(*args, model_kwargs=model_kwargs, **kwargs)

    def _supports_logits_to_keep(self) -> bool:
        """As the language model does."""
        return bool(self.language_model._supports_logits_to_keep())

    def _refuse_places(self, ids: Tensor) -> None:
        """Raise a `ValueError` for ids that show pictures where there are none; one place alone is a word."""
        places = (ids == self.config.image_token_id).sum(-1) >= self.config.vision_tokens
        if bool((ids < 0).any() | places.any()):
            raise ValueError("input_ids hold a placeholder, and there are no pixel_values")
