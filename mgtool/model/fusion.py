"""Where the two towers' features meet (section 3; the variants are those of the ablation in section 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mgtool.model.config import MGLlavaConfig


class ZeroConv2d(nn.Conv2d):
    """A convolution that begins as zeros: training starts from the low-resolution tower alone, as published."""


class ConvGateFusion(nn.Module):
    """Convolutions on both paths and one gate a picture for the high-resolution path.

    The submodules keep the published checkpoint's names, in which *slow* is the high-resolution path.
    """

    def __init__(self, low_width: int, high_width: int, *, concat: bool) -> None:
        super().__init__()
        self.concat = concat
        self.slow_conv = nn.Conv2d(high_width, high_width, 1)
        self.slow_proj = ZeroConv2d(high_width, low_width, 1)
        self.fast_conv = nn.Conv2d(low_width, low_width, 7, padding=3, groups=low_width)
        self.fast_proj = ZeroConv2d(low_width, low_width, 1)
        self.gate = nn.Sequential(nn.Linear(2 * low_width, low_width // 2), nn.GELU(), nn.Linear(low_width // 2, 1))
        self.gelu = nn.GELU()

    def forward(self, low: Tensor, last: Tensor) -> Tensor:
        """Fuse the towers.

        Args:
            low: (P, n, d) patch tokens, n = g * g.
            last: (P, C, g, g) the high tower's last map.

        Returns:
            (P, n, d), or (P, n, 2d) with `concat`.
        """
        grid = low.transpose(1, 2).reshape(len(low), -1, *last.shape[-2:])
        high = self.slow_proj(self.gelu(self.slow_conv(last))).flatten(2).transpose(1, 2)
        low = low + self.fast_proj(self.gelu(self.fast_conv(grid))).flatten(2).transpose(1, 2)
        gate = self.gate(torch.cat([low, high], dim=-1).mean(dim=1, keepdim=True)).tanh()
        return torch.cat([low, high * gate], dim=-1) if self.concat else low + high * gate


class ChannelConcatFusion(nn.Module):
    """The last map's channels behind the patch tokens', without parameters."""

    def forward(self, low: Tensor, last: Tensor) -> Tensor:
        """(P, n, d) and (P, C, g, g) -> (P, n, d + C)."""
        return torch.cat([low, last.flatten(2).transpose(1, 2)], dim=-1)


class LowOnly(nn.Module):
    """No fusion: the low-resolution tower alone."""

    def forward(self, low: Tensor, last: Tensor | None) -> Tensor:
        """(P, n, d) -> (P, n, d)."""
        return low


def build_fusion(config: MGLlavaConfig) -> nn.Module:
    """The module for `config.fusion`."""
    if config.fusion == "none":
        return LowOnly()
    if config.fusion == "channel_concat":
        return ChannelConcatFusion()
    low, last = config.low_config.hidden_size, config.high_config.widths[-1]
    return ConvGateFusion(low, last, concat=config.fusion == "conv_gate_concat")


class Projector(nn.Sequential):
    """Linear -> exact GELU -> Linear, into the language model's width."""

    def __init__(self, width: int, llm_width: int) -> None:
        super().__init__(nn.Linear(width, llm_width), nn.GELU(), nn.Linear(llm_width, llm_width))
