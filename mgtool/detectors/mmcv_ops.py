"""A stand-in for mmcv's compiled extension, ``mmcv._ext``, made of torchvision's and PyTorch's operators.

It must be put in place before anything imports ``mmcv.ops``; a compiled extension, where there is one, wins.
Signatures are those of the extension: arguments that only its kernels need are taken and ignored.
By hand is only what torchvision lacks: soft suppression (`softnms`), and maps larger than their output (`_refit`).
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
from typing import Any, NoReturn

import torch
from torch import Tensor
from torchvision import ops

from mgtool.errors import UsageError


def install() -> bool:
    """Put the stand-in in place; False where a compiled extension exists, or one is loaded."""
    if "mmcv._ext" in sys.modules or importlib.util.find_spec("mmcv._ext") is not None:
        return False
    extension = _Extension("mmcv._ext")
    extension.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", None)
    for operator in _OPERATORS:
        setattr(extension, operator.__name__, operator)
    sys.modules["mmcv._ext"] = extension
    return True


class _Extension(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> NoReturn:
            raise _missing(name)

        return missing


def _missing(name: str) -> UsageError:
    return UsageError(
        "detector",
        f"mmdet: the model needs the compiled operator {name}, which mmcv-lite lacks; "
        "install mmcv 2.1.0 built with its operators, or use another config",
    )


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Indices kept of (n, 4) xyxy boxes; `offset` 1 counts the last pixel in."""
    return ops.nms(_widened(boxes, offset), scores, float(iou_threshold))


def _widened(boxes: Tensor, offset: int) -> Tensor:
    return boxes + boxes.new_tensor([0.0, 0.0, offset, offset]) if offset else boxes


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int = 0,
) -> Tensor:
    """Indices kept by soft suppression (0 hard, 1 linear, 2 Gaussian); fills `dets` (n, 5) with boxes and scores."""
    wide = _widened(boxes, offset)
    left = torch.arange(len(boxes), device=boxes.device)
    kept: list[int] = []
    scores = scores.clone()
    while len(left):
        best = left[scores[left].argmax()]
        dets[len(kept), :4], dets[len(kept), 4] = boxes[best], scores[best]
        kept.append(int(best))
        left = left[left != best]
        scores[left] *= _decay(ops.box_iou(wide[best, None], wide[left])[0], iou_threshold, sigma, method)
        left = left[scores[left] >= min_score]
    return torch.tensor(kept, dtype=torch.long)


def _decay(iou: Tensor, threshold: float, sigma: float, method: int) -> Tensor:
    if method == 0:
        return (iou < threshold).to(iou.dtype)
    if method == 1:
        return torch.where(iou >= threshold, 1 - iou, torch.ones_like(iou))
    return torch.exp(-(iou * iou) / sigma)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Average pooling of (k, 5) regions into `output`."""
    if pool_mode != 1:
        raise _missing("roi_align with pool_mode='max'")
    size = (aligned_height, aligned_width)
    output.copy_(ops.roi_align(input, rois, size, spatial_scale, sampling_ratio, aligned))


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Maximum pooling of (k, 5) regions into `output`."""
    output.copy_(ops.roi_pool(input, rois, (pooled_height, pooled_width), spatial_scale))


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **size: int
) -> None:
    """Deformable convolution into `output`; kW, kH, group and the like follow from the tensors."""
    stride, padding = (size["dH"], size["dW"]), (size["padH"], size["padW"])
    dilation = (size["dilationH"], size["dilationW"])
    output.copy_(ops.deform_conv2d(input, offset, weight, None, stride, padding, dilation))


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    **size: Any,
) -> None:
    """Deformable convolution with a mask into `output`."""
    stride, padding = (size["stride_h"], size["stride_w"]), (size["pad_h"], size["pad_w"])
    dilation = (size["dilation_h"], size["dilation_w"])
    places, weights = _refit(offset, output), _refit(mask, output)
    used = bias if size["with_bias"] else None
    output.copy_(ops.deform_conv2d(input, places, weight, used, stride, padding, dilation, weights))


def _refit(values: Tensor, output: Tensor) -> Tensor:
    """DyHead hands over maps larger than the output; the compiled kernel reads the head of their buffer."""
    height, width = output.shape[-2:]
    if values.shape[-2:] == (height, width):
        return values
    channels = values.shape[1]
    return values.flatten(1)[:, : channels * height * width].reshape(len(values), channels, height, width)


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Multi-scale deformable attention; on a CPU mmcv takes this way itself."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, value_spatial_shapes, sampling_locations, attention_weights)


def get_compiler_version() -> str:
    """Asked for by mmcv's report of its environment."""
    return "none (torchvision's operators)"


def get_compiling_cuda_version() -> str:
    """Asked for by mmcv's report of its environment."""
    return "not available"


_OPERATORS = (
    nms, softnms, roi_align_forward, roi_pool_forward, deform_conv_forward, modulated_deform_conv_forward,
    ms_deform_attn_forward, get_compiler_version, get_compiling_cuda_version,
)  # fmt: skip
