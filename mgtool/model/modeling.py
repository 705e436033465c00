"""MG-LLaVA as a transformers model (arXiv 2406.17770, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers import initialization as init

from mgtool.errors import CheckpointError
from mgtool.files.model_size import within_weights
from mgtool.model.config import MGLlavaConfig
from mgtool.model.encoders import HighTower, LowTower
from mgtool.model.fusion import Projector, ZeroConv2d, build_fusion
from mgtool.model.generation import PlacedGeneration, encoded
from mgtool.model.loading import no_load_report, refuse_misfits, spare_from_quantization
from mgtool.model.regions import pad_boxes, pool_boxes
from mgtool.model.splice import Spliced, group_visuals, positions, splice

Stage = Literal["align", "tune"]
"""The paper's two stages of training (section 3)."""


class ImageFeatures(NamedTuple):
    """What the towers see.

    Attributes:
        vision: (P, n, H) vision tokens, n = 576 in the published models.
        stages: the high tower's maps, (P, C_k, S_k, S_k) each; empty without a high tower.
    """

    vision: Tensor
    stages: list[Tensor]


class MGLlavaForConditionalGeneration(PreTrainedModel, PlacedGeneration, GenerationMixin):
    """Two image towers, their fusion, box tokens, and a causal language model.

    P pictures (and frames of videos), M boxes, V placeholders, B samples, H the language model's width.
    """

    config_class = MGLlavaConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _skip_keys_device_placement = ("past_key_values",)
    _no_split_modules = ("ConvNeXtStage", "ConvGateFusion", "Projector")

    def __init__(self, config: MGLlavaConfig) -> None:
        super().__init__(config)
        llm_width = config.text_config.hidden_size
        self.low_tower = LowTower(config)
        self.high_tower = HighTower(config.high_config) if config.needs_high_tower else None
        self.fusion = build_fusion(config)
        self.projector = Projector(config.fused_width, llm_width)
        self.box_projector = Projector(config.box_width, llm_width) if config.boxes else None
        self.language_model = AutoModelForCausalLM.from_config(config.text_config, trust_remote_code=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        boxes: Tensor | None = None,
        box_counts: Tensor | None = None,
        frame_counts: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        mm_encoder_outputs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """The model's diagram; gives the language model's output.

        Args:
            input_ids: (B, T) int64, as the processor gives them: `image_token_id` at each vision and box token; or with
                one negative placeholder for each picture or video, whose batch is then padded on the left.
            pixel_values: (P, 3, S, S) float32, normalised, in the model frame; None for text alone.
            boxes, box_counts: (M, 4) float32 xyxy in the model frame, picture after picture; (P,) int64, of each.
            frame_counts: (V,) int64, pictures of each placeholder; None where each has one.
            attention_mask, position_ids: (B, T), 0 on padding; (B, L) int64, counted from the mask where not given.
            past_key_values, inputs_embeds: of the tokens before these; (B, L, H) in place of `input_ids`.
            labels, logits_to_keep: (B, T) int64, -100 where there is no loss; so many last places have logits, 0: all.
            mm_encoder_outputs: ``image``: what `get_image_features` gives, in place of `pixel_values`.
            kwargs: of the language model's forward. Its logits are (B, L, vocabulary), L = T where ids have a place for
                each visual token.
        """
        self._refuse_doubles(input_ids, inputs_embeds, pixel_values)
        known: dict[str, Any] = {"past_key_values": past_key_values, "logits_to_keep": logits_to_keep, **kwargs}
        visuals = encoded(mm_encoder_outputs)
        if pixel_values is not None:
            visuals = self.see(pixel_values, boxes, box_counts, frame_counts)
        if visuals is not None:
            return self._decode_spliced(input_ids, inputs_embeds, visuals, attention_mask, position_ids, labels, known)
        ids, embeds = self._text_alone(input_ids, inputs_embeds, past_key_values)
        return self.decode(ids, attention_mask, position_ids, labels, inputs_embeds=embeds, **known)

    def _decode_spliced(
        self,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        visuals: Sequence[Tensor],
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        labels: Tensor | None,
        known: dict[str, Any],
    ) -> Any:
        ids = self._ids_of(inputs_embeds) if input_ids is None else input_ids
        embeds, mask, places, targets, is_kept = self.splice(ids, attention_mask, visuals, labels, inputs_embeds)
        if not is_kept:  # else a mask of all that is in the cache, and positions from there on, hold as they are given
            attention_mask, position_ids = mask, places
        return self.decode(None, attention_mask, position_ids, targets, inputs_embeds=embeds, **known)

    def _refuse_doubles(self, ids: Tensor | None, embeds: Tensor | None, pixel_values: Tensor | None) -> None:
        """Raise a `ValueError` where something would be left out without a word."""
        if embeds is not None and ids is not None:
            raise ValueError("input_ids and inputs_embeds are both given: choose one")
        if embeds is not None and pixel_values is not None and self.config.image_token_id < 0:
            raise ValueError(
                "pixel_values stand at the placeholders of input_ids: give those in place of inputs_embeds"
            )

    def _ids_of(self, inputs_embeds: Tensor | None) -> Tensor:
        """(B, T, H) -> (B, T) int64, `image_token_id` where its embedding stands, any other id elsewhere."""
        if inputs_embeds is None:
            raise ValueError("pixel_values come with input_ids, in which they stand")
        token = torch.tensor(self.config.image_token_id, device=inputs_embeds.device)
        return torch.where((inputs_embeds == self.embed_text(token)).all(-1), token, (token == 0).long())

    def _text_alone(
        self, input_ids: Tensor | None, inputs_embeds: Tensor | None, past_key_values: Any
    ) -> tuple[Tensor | None, Tensor | None]:
        """Ids or embeddings where no picture comes with a text; while training, its embeddings."""
        if input_ids is None:
            return None, inputs_embeds
        if past_key_values is None:
            self._refuse_places(input_ids)
        if self.training and torch.is_grad_enabled():
            return None, self._embed_alone(input_ids)
        return input_ids.clamp(min=0), None

    def encode_low(self, pixel_values: Tensor) -> Tensor:
        """(P, 3, S, S) -> (P, n, d) patch tokens of the low-resolution tower."""
        return self.low_tower.tokens(self.low_tower(pixel_values))

    def encode_high(self, pixel_values: Tensor) -> list[Tensor]:
        """(P, 3, S, S) -> the high-resolution tower's maps, largest first; none without the tower."""
        return [] if self.high_tower is None else self.high_tower(pixel_values)

    def fuse(self, low: Tensor, stages: Sequence[Tensor]) -> Tensor:
        """(P, n, d) and the maps -> (P, n, fused width)."""
        return self.fusion(low, stages[-1] if stages else None)

    def project(self, fused: Tensor) -> Tensor:
        """(P, n, fused width) -> (P, n, H) vision tokens."""
        return self.projector(fused)

    def pool_regions(
        self, stages: Sequence[Tensor], boxes: Tensor | None, box_counts: Tensor | Sequence[int] | None
    ) -> Tensor | None:
        """Box tokens (section 3).

        Args:
            stages: the high tower's maps, (P, C_k, S_k, S_k).
            boxes: (M, 4) xyxy in the model frame; what lies outside it is clipped.
            box_counts: P numbers.

        Returns:
            (M, H), features pooled in float32; None in a model without boxes.
        """
        if self.box_projector is None:
            return None
        if boxes is None or box_counts is None:
            raise ValueError("this model takes boxes: give `boxes` and `box_counts`, one (0, 0, 0, 0) for none")
        frame = self.config.image_size
        counts = torch.as_tensor(box_counts, device=stages[0].device)
        padded, is_box = pad_boxes(boxes.to(stages[0].device, torch.float32).clamp(0, frame), counts)
        pooled = pool_boxes(stages, padded, image_size=frame, bins=self.config.box_bins)[is_box]
        return self.box_projector(pooled.to(self.dtype))

    def visual_tokens(
        self,
        vision: Tensor,
        box_tokens: Tensor | None,
        box_counts: Tensor | Sequence[int] | None,
        frame_counts: Tensor | Sequence[int] | None = None,
    ) -> list[Tensor]:
        """What stands at each placeholder: of each frame its vision tokens, then its box tokens.

        Args:
            vision: (P, n, H).
            box_tokens: (M, H), or None.
            box_counts: P numbers.
            frame_counts: V numbers; None where each placeholder is one picture.

        Returns:
            V tensors (tokens, H).
        """
        if box_tokens is None:
            box_tokens, box_counts = vision[:0, 0], [0] * len(vision)
        frames = [1] * len(vision) if frame_counts is None else frame_counts
        return group_visuals(vision, box_tokens.to(vision.device), _ints(box_counts), _ints(frames))

    def splice(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        visuals: Sequence[Tensor],
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Spliced:
        """Text (B, T) and the visual tokens of its placeholders as one batch; see `mgtool.model.splice.splice`."""
        mask = None
        if attention_mask is not None and attention_mask.ndim == 2:
            mask = attention_mask[:, -input_ids.shape[1] :]
        embed = self.embed_text if inputs_embeds is None else lambda _: inputs_embeds
        return splice(input_ids, mask, visuals, embed, labels, self.config.image_token_id)

    def decode(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """The language model: token ids (B, L) or `inputs_embeds` (B, L, H) -> its output with logits and loss."""
        begins = position_ids is None and kwargs.get("past_key_values") is None
        if begins and attention_mask is not None and attention_mask.ndim == 2:
            position_ids = positions(attention_mask)
        kwargs = {name: value for name, value in kwargs.items() if name not in _OPTIONAL or _is_given(value)}
        if labels is not None:
            kwargs["labels"] = labels
        return self.language_model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, **kwargs
        )

    def encode_images(self, pixel_values: Tensor) -> ImageFeatures:
        """Both towers, fused and projected: what an engine may keep of a picture for several sets of boxes."""
        return self.features(self.encode_low(pixel_values), self.encode_high(pixel_values))

    def features(self, low: Tensor, stages: list[Tensor]) -> ImageFeatures:
        """What both towers gave, fused and projected."""
        return ImageFeatures(self.project(self.fuse(low, stages)), stages)

    def see(
        self,
        pixel_values: Tensor,
        boxes: Tensor | None = None,
        box_counts: Tensor | Sequence[int] | None = None,
        frame_counts: Tensor | Sequence[int] | None = None,
    ) -> list[Tensor]:
        """Pictures and boxes -> what stands at each placeholder: V tensors (tokens, H)."""
        vision, stages = self.encode_images(pixel_values)
        return self.visual_tokens(vision, self.pool_regions(stages, boxes, box_counts), box_counts, frame_counts)

    def embed_text(self, input_ids: Tensor) -> Tensor:
        """Token ids without placeholders -> (..., H)."""
        return self.language_model.get_input_embeddings()(input_ids)

    def _embed_alone(self, input_ids: Tensor) -> Tensor:
        """Text (B, T) that is learned from without a picture -> (B, T, H).

        A zero comes to it that depends on the parameters a picture goes through: else a batch of text has nothing to
        learn where the language model is frozen, and of processes that train together one would wait for gradients.
        It is the sum of none of a black picture's tokens, a zero also where one of them overflows.
        """
        text, side = self.embed_text(input_ids), self.config.image_size
        picture = torch.zeros(1, 3, side, side, device=text.device)
        (tokens,) = self.see(picture, picture.new_zeros(1, 4), [1])
        return text + tokens[:0].sum().to(text)

    def parameter_groups(self, stage: Stage) -> list[dict[str, Any]]:
        """What a stage of the paper's training (section 3) changes, as groups for an optimizer.

        Args:
            stage: ``align`` trains projector, box projector and fusion, ``tune`` those and the language model.
        """
        names = ["projector", "box_projector", "fusion"] + (["language_model"] if stage == "tune" else [])
        modules = {name: getattr(self, name) for name in names}
        groups = {name: list(module.parameters()) for name, module in modules.items() if module is not None}
        return [{"name": name, "params": params} for name, params in groups.items() if params]

    def freeze_for(self, stage: Stage) -> list[dict[str, Any]]:
        """Leave gradients only to the stage's parameters; gives their groups."""
        self.requires_grad_(False)
        groups = self.parameter_groups(stage)
        for group in groups:
            for parameter in group["params"]:
                parameter.requires_grad_(True)
        return groups

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, but weights that are missing, left over or of another shape are refused.

        Raises:
            CheckpointError: in one line, naming them; also for files that are not there or not whole.
        """
        path = pretrained_model_name_or_path
        wants_info = kwargs.pop("output_loading_info", False)
        kwargs.setdefault("ignore_mismatched_sizes", True)
        spare_from_quantization(kwargs.get("quantization_config"))
        try:
            with no_load_report(), within_weights(path):
                model, info = super().from_pretrained(path, *args, output_loading_info=True, **kwargs)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} cannot be loaded: {str(error).splitlines()[0]}") from error
        refuse_misfits(str(path), info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
        return (model, info) if wants_info else model

    def get_input_embeddings(self) -> nn.Module:
        """The language model's."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """The language model's."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module | None:
        """The language model's."""
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, value: nn.Module) -> None:
        """The language model's."""
        self.language_model.set_output_embeddings(value)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, ZeroConv2d):
            init.zeros_(module.weight)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)


_OPTIONAL = ("past_key_values", "logits_to_keep", "inputs_embeds")
"""Arguments that not every language model takes; left out where they ask for nothing."""


def _is_given(value: Any) -> bool:
    return value is not None and not (isinstance(value, int) and value == 0)


def _ints(numbers: Tensor | Sequence[int] | None) -> list[int]:
    return numbers.tolist() if isinstance(numbers, Tensor) else list(numbers or ())
