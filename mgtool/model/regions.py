"""Box features without the big maps (section 3).

The plain way brings every stage to the first one's size, stacks the channels, and averages RoIAlign's bins over
each box. All of that is linear in the features and separable in rows and columns, so a box's feature of stage k is
``(U_k^T w_y)^T F_k (U_k^T w_x)``: w_y and w_x say how much each row and column of the first stage's grid weighs,
and U_k is the 1-D interpolation from stage k to that grid. The largest tensor has a number for each box and cell of
stage 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def axis_weights(low: Tensor, high: Tensor, *, size: int, bins: int, samples: int) -> Tensor:
    """How much each cell of one axis weighs in the mean of RoIAlign's bins.

    torchvision's semantics with aligned=False and sampling_ratio=-1: a length of at least one cell,
    ceil(length / bins) samples a bin, samples outside [-1, size] weigh nothing, the border cell takes what
    lies beyond its centre.

    Args:
        low, high: (...,) float32, the boxes' ends in cells.
        size: cells of the axis.
        bins: bins of the axis.
        samples: samples a bin that the longest box needs.

    Returns:
        (..., size) float32.
    """
    length = (high - low).clamp(min=1.0)
    step = length / bins
    own_samples = step.ceil()
    cells = torch.arange(size, dtype=low.dtype, device=low.device)
    starts = low[..., None] + torch.arange(bins, dtype=low.dtype, device=low.device) * step[..., None]
    weights = low.new_zeros(*low.shape, size)
    for sample in range(samples):
        points = starts + ((sample + 0.5) * step / own_samples)[..., None]
        counted = (sample < own_samples[..., None]) & (points >= -1.0) & (points <= size)
        tent = 1.0 - (points.clamp(0, size - 1)[..., None] - cells).abs()
        weights = weights + (tent.clamp(min=0.0) * counted[..., None]).sum(dim=-2)
    return weights / (own_samples * bins)[..., None]


def samples_needed(boxes: Tensor, *, image_size: int, size: int, bins: int) -> int:
    """Samples a bin for the longest side of any (..., 4) box; reads the values, so it waits for the device."""
    sides = boxes[..., 2:] - boxes[..., :2]
    longest = float(sides.max().item()) if sides.numel() else 0.0
    return max(1, math.ceil(longest * size / image_size / bins))


def interpolation(source: int, target: int, like: Tensor) -> Tensor:
    """(target, source) matrix of 1-D linear interpolation, align_corners=False."""
    identity = torch.eye(source, dtype=like.dtype, device=like.device)[None]
    return functional.interpolate(identity, size=target, mode="linear", align_corners=False)[0].T


def pool_boxes(
    stages: Sequence[Tensor], boxes: Tensor, *, image_size: int, bins: int, samples: int | None = None
) -> Tensor:
    """Mean RoIAlign feature of each box over all stages.

    Args:
        stages: maps (P, C_k, S_k, S_k), the first being the largest; any float dtype.
        boxes: (P, N, 4) xyxy in the model frame; any float dtype. Padding rows give features that mean nothing.
        image_size: side of the model frame.
        bins: RoIAlign bins a side.
        samples: samples a bin that the longest box needs; for boxes inside the frame the default is enough.

    Returns:
        (P, N, sum of C_k) float32, under autocast as well.
    """
    size = stages[0].shape[-1]
    samples = samples or math.ceil(size / bins)
    ends = boxes.float() * (size / image_size)
    with torch.autocast(boxes.device.type, enabled=False):
        columns = axis_weights(ends[..., 0], ends[..., 2], size=size, bins=bins, samples=samples)
        rows = axis_weights(ends[..., 1], ends[..., 3], size=size, bins=bins, samples=samples)
        resized = [(stage.float(), interpolation(stage.shape[-1], size, rows)) for stage in stages]
        return torch.cat([_weigh(stage, rows @ resize, columns @ resize) for stage, resize in resized], dim=-1)


def _weigh(stage: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(P, C, h, w) weighed by (P, N, h) and (P, N, w) -> (P, N, C); one product, whatever the memory format."""
    weights = rows[..., :, None] * columns[..., None, :]
    return weights.flatten(-2) @ stage.flatten(2).mT


def pad_boxes(boxes: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes of several pictures as one padded tensor.

    Args:
        boxes: (M, 4), picture after picture.
        counts: (P,) int64, boxes of each picture.

    Returns:
        (P, N, 4) padded with zeros, and (P, N) bool, true for boxes.
    """
    most = int(counts.max().item()) if counts.numel() else 0
    mask = torch.arange(most, device=counts.device) < counts[:, None]
    padded = boxes.new_zeros(*mask.shape, 4)
    padded[mask] = boxes
    return padded, mask
