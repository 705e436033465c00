"""RAM++: a Swin trunk, and a head that asks it about every tag at once.

Source: "Open-Set Image Tagging with Multi-Grained Text Supervision", arXiv 2310.15200.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn
from torch.nn import functional as F

DESCRIPTIONS = 51
"""Description embeddings of one tag."""


class SwinWidths(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The trunk; the published model is Swin-L."""

    embed_dim: int = 192
    depths: tuple[int, ...] = (2, 2, 18, 2)
    num_heads: tuple[int, ...] = (6, 12, 24, 48)
    window_size: int = 12


class HeadWidths(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tagging head; `encoder_width` is the width of the picture's tokens and of the description embeddings."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_attention_heads: int = 4
    num_hidden_layers: int = 2
    encoder_width: int = 512
    layer_norm_eps: float = 1e-12


class RamPlusConfig(msgspec.Struct, frozen=True):
    """Every width of a RAM++ model; the defaults are the published ones."""

    image_size: int = 384
    swin: SwinWidths = SwinWidths()
    head: HeadWidths = HeadWidths()


class CrossAttention(nn.Module):
    """Each tag looks at the picture: one BERT layer without self-attention."""

    def __init__(self, config: HeadWidths) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.heads = config.num_attention_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(config.encoder_width, width)
        self.value = nn.Linear(config.encoder_width, width)
        self.attended = nn.Linear(width, width)
        self.attended_norm = nn.LayerNorm(width, eps=eps)
        self.intermediate = nn.Linear(width, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, width)
        self.output_norm = nn.LayerNorm(width, eps=eps)

    def forward(self, tags: Tensor, tokens: Tensor) -> Tensor:
        """(b, tags, width) and (b, tokens, encoder width) -> (b, tags, width)."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(tags), self.key(tokens), self.value(tokens))
        )
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tags = self.attended_norm(tags + self.attended(seen))
        return self.output_norm(tags + self.output(F.gelu(self.intermediate(tags))))


class RamPlus(nn.Module):
    """Pixels to one logit a tag.

    Args:
        config: the widths.
        tags: how many tags the description embeddings are for.
    """

    def __init__(self, config: RamPlusConfig, tags: int) -> None:
        super().__init__()
        swin, head = config.swin, config.head
        self.visual_encoder = SwinTransformer(
            img_size=config.image_size,
            embed_dim=swin.embed_dim,
            depths=swin.depths,
            num_heads=swin.num_heads,
            window_size=swin.window_size,
            num_classes=0,
        )
        self.image_proj = nn.Linear(self.visual_encoder.num_features, head.encoder_width)
        self.label_embed = nn.Parameter(torch.empty(tags * DESCRIPTIONS, head.encoder_width))
        self.reweight_scale = nn.Parameter(torch.zeros(()))
        self.wordvec_proj = nn.Linear(head.encoder_width, head.hidden_size)
        self.layers = nn.ModuleList(CrossAttention(head) for _ in range(head.num_hidden_layers))
        self.fc = nn.Linear(head.hidden_size, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """(b, 3, size, size) normalised pixels -> (b, tags) logits."""
        tokens = self.image_tokens(pixels)
        tags = F.relu(self.wordvec_proj(self.reweighted(tokens[:, 0])))
        for layer in self.layers:
            tags = layer(tags, tokens)
        return self.fc(tags).squeeze(-1)

    def image_tokens(self, pixels: Tensor) -> Tensor:
        """(b, 3, size, size) -> (b, 1 + tokens, encoder width), the mean token first."""
        tokens = self.visual_encoder.forward_features(pixels).flatten(1, 2)
        return self.image_proj(torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1))

    def reweighted(self, picture: Tensor) -> Tensor:
        """(b, encoder width) mean token -> (b, tags, encoder width): each tag's descriptions by how well they fit."""
        descriptions = self.label_embed.view(-1, DESCRIPTIONS, picture.shape[-1])
        cosine = F.normalize(picture, dim=-1) @ self.label_embed.T
        weights = (self.reweight_scale.exp() * cosine).view(len(picture), -1, DESCRIPTIONS).softmax(-1)
        return torch.einsum("btd,tde->bte", weights, descriptions)


_BERT = {
    "crossattention.self.": "",
    "crossattention.output.dense": "attended",
    "crossattention.output.LayerNorm": "attended_norm",
    "intermediate.dense": "intermediate",
    "output.dense": "output",
    "output.LayerNorm": "output_norm",
}
_DOWNSAMPLE = re.compile(r"visual_encoder\.layers\.(\d{1,3})\.(downsample(?:\..*)?)")
_ENCODER_LAYER = "tagging_head.encoder.layer."
_DERIVED = ("relative_position_index", "attn_mask")


def from_published(state: dict[str, Any]) -> dict[str, Any]:
    """The published state dict under this module's names.

    Buffers that follow from the widths are left out. Names that nothing here knows stay, for the caller to refuse.
    """
    return {_renamed(key): value for key, value in state.items() if not key.endswith(_DERIVED)}


def _renamed(key: str) -> str:
    if downsample := _DOWNSAMPLE.fullmatch(key):
        # the published trunk merges patches at the end of a stage, timm's at the start of the next
        return f"visual_encoder.layers.{int(downsample[1]) + 1}.{downsample[2]}"
    if key.startswith(_ENCODER_LAYER):
        number, _, rest = key.removeprefix(_ENCODER_LAYER).partition(".")
        name = next((old for old in _BERT if rest.startswith(old)), None)
        return key if name is None else f"layers.{number}.{_BERT[name]}{rest.removeprefix(name)}"
    return key
