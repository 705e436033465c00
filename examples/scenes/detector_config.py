"""MMDetection's config of the scenes' detector: RTMDet with CSPNeXt at half the width of its tiny size.

One class, ``object``: the model that takes the boxes names things itself. `detector.py` fills in the folders.
"""

size = 256
iterations = 3400
batch_size = 16
learning_rate = 0.002

norm = {"type": "BN"}
activation = {"type": "SiLU", "inplace": True}
classes = {"classes": ("object",)}

default_scope = "mmdet"
model = {
    "type": "RTMDet",
    "data_preprocessor": {
        "type": "DetDataPreprocessor",
        "mean": [103.53, 116.28, 123.675],
        "std": [57.375, 57.12, 58.395],
        "bgr_to_rgb": False,
    },
    "backbone": {
        "type": "CSPNeXt",
        "arch": "P5",
        "expand_ratio": 0.5,
        "deepen_factor": 0.167,
        "widen_factor": 0.1875,
        "channel_attention": True,
        "norm_cfg": norm,
        "act_cfg": activation,
    },
    "neck": {
        "type": "CSPNeXtPAFPN",
        "in_channels": [48, 96, 192],
        "out_channels": 48,
        "num_csp_blocks": 1,
        "expand_ratio": 0.5,
        "norm_cfg": norm,
        "act_cfg": activation,
    },
    "bbox_head": {
        "type": "RTMDetSepBNHead",
        "num_classes": 1,
        "in_channels": 48,
        "stacked_convs": 2,
        "feat_channels": 48,
        "anchor_generator": {"type": "MlvlPointGenerator", "offset": 0, "strides": [8, 16, 32]},
        "bbox_coder": {"type": "DistancePointBBoxCoder"},
        "loss_cls": {"type": "QualityFocalLoss", "use_sigmoid": True, "beta": 2.0, "loss_weight": 1.0},
        "loss_bbox": {"type": "GIoULoss", "loss_weight": 2.0},
        "with_objectness": False,
        "exp_on_reg": False,
        "share_conv": True,
        "pred_kernel_size": 1,
        "norm_cfg": norm,
        "act_cfg": activation,
    },
    "train_cfg": {
        "assigner": {"type": "DynamicSoftLabelAssigner", "topk": 13},
        "allowed_border": -1,
        "pos_weight": -1,
        "debug": False,
    },
    "test_cfg": {
        "nms_pre": 1000,
        "min_bbox_size": 0,
        "score_thr": 0.001,
        "nms": {"type": "nms", "iou_threshold": 0.6},
        "max_per_img": 100,
    },
}

read = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations", "with_bbox": True}]
train_pipeline = [
    *read,
    {"type": "YOLOXHSVRandomAug"},
    {"type": "RandomFlip", "prob": 0.5},
    {"type": "PackDetInputs"},
]
test_pipeline = [
    {"type": "LoadImageFromFile"},
    {"type": "Resize", "scale": (size, size), "keep_ratio": True},
    {"type": "Pad", "size": (size, size), "pad_val": {"img": (114, 114, 114)}},
    {"type": "LoadAnnotations", "with_bbox": True},
    {"type": "PackDetInputs", "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")},
]


coco = {"type": "CocoDataset", "metainfo": classes}
train_dataloader = {
    "batch_size": batch_size,
    "num_workers": 1,
    "persistent_workers": True,
    "sampler": {"type": "InfiniteSampler"},
    "dataset": {**coco, "pipeline": train_pipeline},
}
val_dataloader = {
    "batch_size": batch_size,
    "num_workers": 0,
    "sampler": {"type": "DefaultSampler", "shuffle": False},
    "dataset": {**coco, "pipeline": test_pipeline, "test_mode": True},
}
test_dataloader = val_dataloader
val_evaluator = {"type": "CocoMetric", "metric": "bbox"}
test_evaluator = val_evaluator

train_cfg = {"type": "IterBasedTrainLoop", "max_iters": iterations, "val_interval": 1000}
val_cfg = {"type": "ValLoop"}
test_cfg = {"type": "TestLoop"}
optim_wrapper = {
    "type": "OptimWrapper",
    "optimizer": {"type": "AdamW", "lr": learning_rate, "weight_decay": 0.05},
    "paramwise_cfg": {"norm_decay_mult": 0, "bias_decay_mult": 0, "bypass_duplicate": True},
}
param_scheduler = [
    {"type": "LinearLR", "start_factor": 1e-3, "by_epoch": False, "begin": 0, "end": 100},
    {"type": "CosineAnnealingLR", "by_epoch": False, "begin": 100, "end": iterations, "eta_min": learning_rate / 50},
]
custom_hooks = [
    {"type": "EMAHook", "ema_type": "ExpMomentumEMA", "momentum": 0.002, "update_buffers": True, "priority": 49}
]
default_hooks = {
    "timer": {"type": "IterTimerHook"},
    "logger": {"type": "LoggerHook", "interval": 20},
    "param_scheduler": {"type": "ParamSchedulerHook"},
    "checkpoint": {"type": "CheckpointHook", "interval": 250, "by_epoch": False, "max_keep_ckpts": 2},
    "sampler_seed": {"type": "DistSamplerSeedHook"},
}
env_cfg = {"cudnn_benchmark": False, "mp_cfg": {"mp_start_method": "fork"}, "dist_cfg": {"backend": "gloo"}}
log_processor = {"type": "LogProcessor", "window_size": 20, "by_epoch": False}
log_level = "INFO"
resume = True
randomness = {"seed": 0}
