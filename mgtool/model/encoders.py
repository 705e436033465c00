"""The two image towers."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel

from mgtool.model.config import ConvNextTowerConfig, MGLlavaConfig


class LowTower(nn.Module):
    """The low-resolution tower: patch tokens of a CLIP or SigLIP vision model (section 3).

    Only this class knows that CLIP puts a class token in front and SigLIP does not.
    """

    def __init__(self, config: MGLlavaConfig) -> None:
        super().__init__()
        self.layer = config.low_layer
        self.image_size = config.low_config.image_size
        self.patches = config.low_grid**2
        self.encoder: PreTrainedModel = AutoModel.from_config(config.low_config, trust_remote_code=False)
        self._no_split_modules = self.encoder._no_split_modules  # transformers collects these from direct children

    def forward(self, pixels: Tensor, **kwargs: Any) -> Any:
        """(P, 3, S, S) float32 in the model frame -> the encoder's output, with its hidden states.

        The small picture is the large one resized (bilinear, not antialiased), not a second resize of the file.
        kwargs are of the encoder's forward.
        """
        small = low_pixels(pixels, self.image_size).to(self.encoder.dtype)
        return self.encoder(pixel_values=small, **(kwargs | {"output_hidden_states": True, "return_dict": True}))

    def tokens(self, output: Any) -> Tensor:
        """(P, patches, d) in the tower's dtype, of what `forward` gives."""
        states: Tensor = output.hidden_states[self.layer]
        return states[:, -self.patches :]


def low_pixels(pixels: Tensor, size: int) -> Tensor:
    """(P, 3, S, S) -> (P, 3, size, size), bilinear, align_corners=False, not antialiased."""
    return functional.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)


class HighTower(nn.Module):
    """The high-resolution tower: the stem and stages of a timm ConvNeXt, without final norm and head (section 3)."""

    def __init__(self, config: ConvNextTowerConfig) -> None:
        super().__init__()
        trunk = timm.create_model(config.architecture, num_classes=0)
        self.stem, self.stages = trunk.stem, trunk.stages

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(P, 3, S, S) -> the stages' maps, (P, C_k, S / stride_k, S / stride_k) each, in the tower's dtype.

        Channels lie last in memory: a block's norm and MLP work on them there, and nothing is copied for that.
        """
        features = self.stem(pixels.to(next(self.parameters()).dtype).contiguous(memory_format=torch.channels_last))
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps
