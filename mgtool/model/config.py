"""The model's numbers, in one tree; every width comes from the parts' own configurations."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, get_args

import timm
import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedConfig

from mgtool.errors import CheckpointError

Fusion = Literal["conv_gate", "conv_gate_concat", "channel_concat", "none"]
FUSIONS: tuple[str, ...] = get_args(Fusion)
LOW_TOWERS = ("clip_vision_model", "siglip_vision_model")

CLIP_LARGE_336 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
"""The published low-resolution tower, where a configuration names none."""

IMAGE_TOKEN_ID = -200
"""Stands in `input_ids` for one picture, or for one of its tokens; no id of any vocabulary is negative."""
VIDEO_TOKEN_ID = -201
"""Stands in `input_ids` for one video."""


_TRUNKS = {"convnext_large": ((192, 384, 768, 1536), (4, 8, 16, 32))}
"""Shapes that are known without building a trunk: transformers makes default configurations while it makes a model."""


class ConvNextTowerConfig(PreTrainedConfig):
    """The high-resolution tower: a timm ConvNeXt trunk.

    Attributes:
        architecture: timm's name, as an OpenCLIP configuration gives it.
        image_size: side of the model frame in pixels.
        widths: channels of the stages; read from timm where not given.
        strides: pixels of the model frame to a cell of each stage's map; likewise.
    """

    model_type = "mg_llava_convnext"

    architecture: str = "convnext_large"
    image_size: int = 768
    widths: Any = None
    strides: Any = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.widths is None or self.strides is None:
            self.widths, self.strides = _TRUNKS.get(self.architecture) or _trunk_shape(self.architecture)
        self.widths, self.strides = tuple(self.widths), tuple(self.strides)

    @property
    def grid(self) -> int:
        """Cells a side of the last stage's map."""
        return self.image_size // self.strides[-1]


@cache
def _trunk_shape(architecture: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of a trunk's stages; timm knows them only of a trunk that is built, which takes long."""
    stages = _trunk_info(architecture)
    return tuple(stage["num_chs"] for stage in stages), tuple(stage["reduction"] for stage in stages)


def _trunk_info(architecture: str) -> list[dict[str, Any]]:
    if not timm.is_model(architecture):
        raise CheckpointError(f"timm {timm.__version__} has no model named {architecture}: check timm_model_name")
    with torch.device("meta"):
        trunk = timm.create_model(architecture, num_classes=0)
    if not (hasattr(trunk, "stem") and hasattr(trunk, "stages")):
        raise CheckpointError(f"{architecture} is no ConvNeXt: the high-resolution tower needs a stem and stages")
    return trunk.feature_info if isinstance(trunk.feature_info, list) else trunk.feature_info.info


class MGLlavaConfig(PreTrainedConfig):
    """MG-LLaVA (arXiv 2406.17770, section 3): two towers, their fusion, box tokens, and any causal LM.

    Attributes:
        text_config: of the language model.
        low_config: of the low-resolution tower, CLIP or SigLIP.
        high_config: of the high-resolution tower.
        fusion: how the towers' features meet; `none` uses the low-resolution tower alone.
        boxes: whether objects become tokens.
        low_layer: index into the low tower's hidden states.
        box_bins: RoIAlign bins a side, before their mean.
        image_token_id: stands in `input_ids` at each vision and box token; one that is in the vocabulary and in no text
            lets everything that reads ids (penalties, assistants, tokenizers) read these, too.
    """

    model_type = "mg_llava"
    # transformers' own form, in all its versions; which part is of what type unless it says so stands in `_DEFAULTS`
    sub_configs = {  # noqa: RUF012
        "text_config": AutoConfig,
        "low_config": AutoConfig,
        "high_config": ConvNextTowerConfig,
    }
    # until transformers 5.19 its Trainer evaluates with none by itself, and takes a cache for logits
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012

    text_config: Any = None
    low_config: Any = None
    high_config: Any = None
    fusion: str = "conv_gate"
    boxes: bool = True
    low_layer: int = -2
    box_bins: int = 56
    image_token_id: int = IMAGE_TOKEN_ID
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        for part, default in _DEFAULTS.items():
            setattr(self, part, _part(getattr(self, part), default))
        super().__post_init__(**kwargs)
        self.tie_word_embeddings = bool(getattr(self.text_config, "tie_word_embeddings", False))
        if self.fusion not in FUSIONS:
            raise CheckpointError(f"fusion {self.fusion} is unknown: choose one of {', '.join(FUSIONS)}")
        if type(self.text_config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise CheckpointError(f"the language model is of type {self.text_config.model_type}: that is no causal LM")
        if self.low_config.model_type not in LOW_TOWERS:
            raise CheckpointError(
                f"the low-resolution tower is of type {self.low_config.model_type}: use one of {', '.join(LOW_TOWERS)}"
            )
        if self.needs_high_tower and self.low_grid != self.high_config.grid:
            raise CheckpointError(
                f"the grids do not match: the low tower sees {self.low_grid} x {self.low_grid} patches "
                f"({self.low_config.image_size} / {self.low_config.patch_size}), the high tower "
                f"{self.high_config.grid} x {self.high_config.grid} cells "
                f"({self.high_config.image_size} / {self.high_config.strides[-1]}): change one image_size"
            )

    @property
    def needs_high_tower(self) -> bool:
        """Whether anything uses the high-resolution tower."""
        return self.boxes or self.fusion != "none"

    @property
    def low_grid(self) -> int:
        """Patches a side of the low tower."""
        return self.low_config.image_size // self.low_config.patch_size

    @property
    def vision_tokens(self) -> int:
        """Vision tokens of a picture."""
        return self.low_grid**2

    @property
    def image_size(self) -> int:
        """Side of the model frame in pixels."""
        return self.high_config.image_size

    @property
    def fused_width(self) -> int:
        """Channels of a vision token before the projector."""
        low, last = self.low_config.hidden_size, self.high_config.widths[-1]
        return {"conv_gate": low, "conv_gate_concat": 2 * low, "channel_concat": low + last, "none": low}[self.fusion]

    @property
    def box_width(self) -> int:
        """Channels of a box feature before its projector: all stages stacked."""
        return sum(self.high_config.widths)


_DEFAULTS: dict[str, dict[str, Any]] = {
    "text_config": {"model_type": "llama"},
    "low_config": {"model_type": "clip_vision_model", **CLIP_LARGE_336},
    "high_config": {"model_type": ConvNextTowerConfig.model_type},
}


def _part(given: Any, default: dict[str, Any]) -> Any:
    """A part's configuration, which may be given as a dictionary, or not at all."""
    if given is not None and not isinstance(given, dict):
        return given
    numbers = default if given is None else {"model_type": default["model_type"], **given}
    kind = str(numbers["model_type"])
    if kind == ConvNextTowerConfig.model_type:
        return ConvNextTowerConfig(**{name: value for name, value in numbers.items() if name != "model_type"})
    return AutoConfig.for_model(**numbers)
