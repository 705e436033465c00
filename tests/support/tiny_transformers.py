"""Tiny random detectors of transformers, saved to disk as their real ones are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as tf

SIDE = 64
_SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}

_STAGES = ["stage2", "stage3", "stage4"]
_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1], "layer_type": "basic"}


def save(model: Any, processor: Any, folder: Path, spread: float = 0.3) -> Path:
    """Random weights, wide enough for scores that differ, and the processor beside them."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim in (2, 3):
                parameter.normal_(std=spread)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def clip_tokenizer() -> Any:
    symbols = [chr(33 + index) for index in range(94)]
    vocab = {name: index for index, name in enumerate(symbols + [f"{symbol}</w>" for symbol in symbols])}
    # the first token of a query must not be 0, which stands for a padded query
    vocab |= {"<|startoftext|>": len(vocab), "<|endoftext|>": len(vocab) + 1}
    return tf.CLIPTokenizer(vocab=vocab, merges=[], pad_token="!", model_max_length=32)


def owl(kind: str, folder: Path) -> Path:
    torch.manual_seed(0)
    text = _SMALL | {"vocab_size": 200, "max_position_embeddings": 32, "bos_token_id": 188, "eos_token_id": 189}
    vision = _SMALL | {"image_size": SIDE, "patch_size": 16}
    size = {"height": SIDE, "width": SIDE}
    names = {"owlvit": "OwlViT", "owlv2": "Owlv2"}[kind]
    config = getattr(tf, f"{names}Config")(text_config=text, vision_config=vision, projection_dim=16)
    images = getattr(tf, f"{names}ImageProcessor")(size=size)
    processor = getattr(tf, f"{names}Processor")(images, clip_tokenizer())
    return save(getattr(tf, f"{names}ForObjectDetection")(config), processor, folder)


def detr(folder: Path) -> Path:
    torch.manual_seed(0)
    config = tf.DetrConfig(
        use_timm_backbone=False,
        backbone_config=tf.ResNetConfig(**_RESNET, out_features=["stage4"]),
        num_queries=6,
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_labels=5,
    )
    size = {"shortest_edge": SIDE, "longest_edge": 2 * SIDE}
    return save(tf.DetrForObjectDetection(config), tf.DetrImageProcessor(size=size), folder)


def _rt_sizes() -> dict[str, Any]:
    return {
        "encoder_in_channels": [12, 16, 20],
        "encoder_hidden_dim": 16,
        "encoder_ffn_dim": 16,
        "encoder_attention_heads": 2,
        "encode_proj_layers": [2],
        "d_model": 16,
        "num_queries": 8,
        "decoder_in_channels": [16, 16, 16],
        "decoder_ffn_dim": 16,
        "decoder_layers": 2,
        "decoder_attention_heads": 2,
        "num_labels": 5,
    }


def rt_detr(folder: Path) -> Path:
    torch.manual_seed(0)
    trunk = tf.RTDetrResNetConfig(**_RESNET, out_features=_STAGES)
    config = tf.RTDetrConfig(backbone_config=trunk, **_rt_sizes())
    size = {"height": SIDE, "width": SIDE}
    return save(tf.RTDetrForObjectDetection(config), tf.RTDetrImageProcessor(size=size), folder)


def d_fine(folder: Path) -> Path:
    torch.manual_seed(0)
    trunk = tf.HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 8, 12, 16],
        stage_mid_channels=[4, 4, 4, 4],
        stage_out_channels=[8, 12, 16, 20],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        hidden_sizes=[8, 12, 16, 20],
        out_features=_STAGES,
    )
    config = tf.DFineConfig(backbone_config=trunk, **_rt_sizes())
    size = {"height": SIDE, "width": SIDE}
    return save(tf.DFineForObjectDetection(config), tf.RTDetrImageProcessor(size=size), folder)


def yolos(folder: Path) -> Path:
    torch.manual_seed(0)
    config = tf.YolosConfig(**_SMALL, image_size=[SIDE, SIDE], num_detection_tokens=6, num_labels=5)
    size = {"shortest_edge": SIDE, "longest_edge": 2 * SIDE}
    return save(tf.YolosForObjectDetection(config), tf.YolosImageProcessor(size=size), folder)


def grounding_dino(folder: Path) -> Path:
    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", *letters, *(f"##{letter}" for letter in letters)]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    vocab |= {f"[unused{index}]": index for index in range(len(vocab), 1100)}
    text = tf.BertConfig(**_SMALL, vocab_size=1100, max_position_embeddings=64)
    trunk = tf.SwinConfig(
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=_STAGES,
    )
    config = tf.GroundingDinoConfig(
        backbone_config=trunk,
        text_config=text,
        num_queries=8,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_text_len=24,
    )
    images = tf.GroundingDinoImageProcessor(size={"shortest_edge": SIDE, "longest_edge": 2 * SIDE})
    processor = tf.GroundingDinoProcessor(images, tf.BertTokenizer(vocab=vocab))
    return save(tf.GroundingDinoForObjectDetection(config), processor, folder)
