"""MMDetection's own models from its shipped configs, made tiny, with random weights, saved as their real ones are."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf

from mgtool.detectors import mmdetection

CLASSES = tuple(f"thing {number}" for number in range(80))
_RESNET = {"depth": 18, "base_channels": 8, "init_cfg": None, "norm_cfg": {"type": "BN"}}
_WIDTHS = [8, 16, 32, 64]
_SWIN = {"embed_dims": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "init_cfg": None}


def rtmdet(config: Any) -> None:
    config.model.backbone.update(widen_factor=0.125, init_cfg=None)
    config.model.neck.update(in_channels=[32, 64, 128], out_channels=24)
    config.model.bbox_head.update(in_channels=24, feat_channels=24)


def yolox(config: Any) -> None:
    config.model.backbone.update(deepen_factor=0.1, widen_factor=0.125)
    config.model.neck.update(in_channels=[32, 64, 128], out_channels=16, num_csp_blocks=1)
    config.model.bbox_head.update(in_channels=16, feat_channels=16)


def rcnn(config: Any) -> None:
    model = config.model
    model.backbone.update(_RESNET)
    model.neck.update(in_channels=_WIDTHS, out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    model.roi_head.bbox_roi_extractor.out_channels = 16
    model.roi_head.bbox_head.update(in_channels=16, fc_out_channels=32)
    if "mask_head" in model.roi_head:
        model.roi_head.mask_roi_extractor.out_channels = 16
        model.roi_head.mask_head.update(in_channels=16, conv_out_channels=16, num_convs=1)


def detr(config: Any) -> None:
    model = config.model
    model.backbone.update(_RESNET)
    model.neck.in_channels = _WIDTHS[-len(model.neck.in_channels) :]
    model.num_queries = model.test_cfg.max_per_img = 12
    model.encoder.num_layers, model.decoder.num_layers = 1, 2


def grounding_dino(config: Any) -> None:
    model = config.model
    model.backbone.update(_SWIN)
    model.neck.in_channels = [16, 32, 64]
    model.num_queries = model.test_cfg.max_per_img = 12
    model.encoder.num_layers, model.decoder.num_layers = 1, 2


def glip(config: Any) -> None:
    config.model.backbone.update(_SWIN)
    config.model.neck.in_channels = [16, 32, 64]
    config.model.bbox_head.num_dyhead_blocks = 1
    config.model.test_cfg.score_thr = 0.0


KINDS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "rtmdet": ("rtmdet_tiny_8xb32-300e_coco", rtmdet),
    "yolox": ("yolox_tiny_8xb8-300e_coco", yolox),
    "faster-rcnn": ("faster-rcnn_r50_fpn_1x_coco", rcnn),
    "mask-rcnn": ("mask-rcnn_r50_fpn_1x_coco", rcnn),
    "detr": ("detr_r50_8xb2-150e_coco", detr),
    "dino": ("dino-4scale_r50_8xb2-12e_coco", detr),
    "grounding-dino": ("grounding_dino_swin-t_pretrain_obj365_goldg_cap4m", grounding_dino),
    "mm-grounding-dino": ("grounding_dino_swin-t_pretrain_obj365_goldg_grit9m", grounding_dino),
    "glip": ("glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365", glip),
}
OPEN = ("grounding-dino", "mm-grounding-dino", "glip")


def bert(folder: Path) -> Path:
    """A BERT of one layer that spells: the folder that the real one is downloaded into."""
    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = tf.BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)})
    # GLIP's fusion takes no other width
    config = tf.BertConfig(
        vocab_size=len(pieces), hidden_size=768, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    tf.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save(kind: str, folder: Path, **settings: Any) -> str:
    """The spec ``mmdet:CONFIG:CHECKPOINT`` of a tiny model; open ones expect a `bert` beside the checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mmdetection.import_mmdet()
        from mmdet.registry import MODELS
        from mmengine.registry import init_default_scope

        init_default_scope("mmdet")
        name, shrink = KINDS[kind]
        config = mmdetection.read_config(name)
        shrink(config)
        _small_pictures(config)
        config.model.test_cfg.update(settings)
        config.dump(folder / "config.py")
        if kind in OPEN:
            mmdetection.place_language_model(config, bert(folder / "bert-base-uncased"))
        torch.manual_seed(0)
        model = MODELS.build(config.model)
        model.init_weights()
        _spread(model)
    torch.save({"state_dict": model.state_dict(), "meta": {"dataset_meta": {"CLASSES": CLASSES}}}, folder / "w.pth")
    return f"mmdet:{folder / 'config.py'}:{folder / 'w.pth'}"


def _small_pictures(config: Any) -> None:
    for step in config.test_dataloader.dataset.pipeline:
        if "scale" in step:
            step["scale"] = (128, 128) if step["scale"][0] == step["scale"][1] else (160, 96)
        if "size" in step:
            step["size"] = (128, 128)


def _spread(model: Any) -> None:
    """Scores that differ from place to place, and boxes with an area."""
    generator = torch.Generator().manual_seed(1)
    for name, value in model.named_parameters():
        if name.endswith("bias") and any(part in name for part in ("rtm_reg", "multi_level_conv_reg")):
            value.data.fill_(1.0)
        elif value.ndim >= 2 and any(part in name for part in ("cls", "obj", "reg", "text_feat_map")):
            value.data = torch.randn(value.shape, generator=generator) * value.shape[1:].numel() ** -0.5
        elif name.endswith("bias") and any(part in name for part in ("cls", "obj")):
            value.data.zero_()
