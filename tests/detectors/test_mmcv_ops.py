"""The stand-in operators against sums written out and against torchvision."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
import torchvision.ops as tv

from mgtool.detectors import mmcv_ops
from mgtool.errors import UsageError


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _at(plane: torch.Tensor, y: float, x: float) -> float:
    """A (h, w) plane between its pixels, zero outside: the bilinear sum written out."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                total += float(plane[row, column]) * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def _deformed(pixels, weight, offset, mask, bias, stride, padding, dilation) -> torch.Tensor:
    """A deformable convolution as a loop over every product; one group of offsets."""
    out_channels, channels, height, width = weight.shape
    out = torch.zeros(len(pixels), out_channels, *offset.shape[-2:])
    for n, o, y, x in torch.cartesian_prod(*(torch.arange(size) for size in out.shape)).tolist():
        total = float(bias[o])
        for i in range(height):
            for j in range(width):
                k = i * width + j
                row = y * stride - padding + i * dilation + float(offset[n, 2 * k, y, x])
                column = x * stride - padding + j * dilation + float(offset[n, 2 * k + 1, y, x])
                seen = sum(float(weight[o, c, i, j]) * _at(pixels[n, c], row, column) for c in range(channels))
                total += seen * float(mask[n, k, y, x])
        out[n, o, y, x] = total
    return out


@pytest.mark.parametrize(("stride", "padding", "dilation", "side"), [(1, 1, 1, 6), (2, 1, 1, 3), (1, 2, 2, 6)])
def test_deformable_convolutions_are_their_sums(random, stride: int, padding: int, dilation: int, side: int) -> None:
    pixels = torch.randn(2, 2, 6, 6, generator=random)
    weight, bias = torch.randn(3, 2, 3, 3, generator=random), torch.randn(3, generator=random)
    offset = torch.randn(2, 18, side, side, generator=random) * 1.5
    mask = torch.rand(2, 9, side, side, generator=random)
    out, none = torch.full((2, 3, side, side), torch.nan), torch.empty(0)
    size = {"kernel_h": 3, "kernel_w": 3, "stride_h": stride, "stride_w": stride, "pad_h": padding, "pad_w": padding}
    size |= {"dilation_h": dilation, "dilation_w": dilation, "group": 1, "deformable_group": 1, "with_bias": True}
    mmcv_ops.modulated_deform_conv_forward(pixels, weight, bias, none, offset, mask, out, none, **size)
    expected = _deformed(pixels, weight, offset, mask, bias, stride, padding, dilation)
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)
    size = {"kW": 3, "kH": 3, "dW": stride, "dH": stride, "padW": padding, "padH": padding, "im2col_step": 32}
    size |= {"dilationW": dilation, "dilationH": dilation, "group": 1, "deformable_group": 1}
    mmcv_ops.deform_conv_forward(pixels, weight, offset, out, none, none, **size)
    plain = _deformed(pixels, weight, offset, torch.ones_like(mask), torch.zeros(3), stride, padding, dilation)
    torch.testing.assert_close(out, plain, atol=1e-4, rtol=1e-4)


def test_a_deformable_convolution_through_mmcv_s_own_layer(random) -> None:
    from mgtool.detectors import mmdetection

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mmdetection.import_mmdet()
        from mmcv.ops import DeformConv2d, ModulatedDeformConv2d

    pixels = torch.randn(1, 4, 5, 5, generator=random)
    offset, mask = torch.randn(1, 18, 5, 5, generator=random), torch.rand(1, 9, 5, 5, generator=random)
    with torch.no_grad():
        layer = ModulatedDeformConv2d(4, 6, 3, padding=1, groups=2)
        expected = tv.deform_conv2d(pixels, offset, layer.weight, layer.bias, padding=1, mask=mask)
        torch.testing.assert_close(layer(pixels, offset, mask), expected)
        layer = DeformConv2d(4, 6, 3, padding=1)
        torch.testing.assert_close(layer(pixels, offset), tv.deform_conv2d(pixels, offset, layer.weight, padding=1))


def test_maps_larger_than_the_output_are_read_from_their_buffer_s_head(random) -> None:
    pixels, weight = torch.randn(1, 1, 4, 4, generator=random), torch.randn(1, 1, 3, 3, generator=random)
    offset, mask = torch.randn(1, 18, 4, 4, generator=random), torch.rand(1, 9, 4, 4, generator=random)
    out, none = torch.zeros(1, 1, 2, 2), torch.empty(0)
    size = {"stride_h": 2, "stride_w": 2, "pad_h": 1, "pad_w": 1, "dilation_h": 1, "dilation_w": 1, "with_bias": False}
    mmcv_ops.modulated_deform_conv_forward(pixels, weight, none, none, offset, mask, out, none, **size)
    head = offset.flatten()[: 18 * 4].reshape(1, 18, 2, 2), mask.flatten()[: 9 * 4].reshape(1, 9, 2, 2)
    expected = _deformed(pixels, weight, *head, torch.zeros(1), 2, 1, 1)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)


def _soft(boxes: list, scores: list, iou: float, sigma: float, lowest: float, method: int) -> list[tuple[int, float]]:
    """Soft-NMS (Bodla et al. 2017, figure 2) as its text says."""
    left, kept = dict(enumerate(scores)), []
    while left:
        best = max(left, key=lambda row: left[row])
        kept.append((best, left.pop(best)))
        for row in list(left):
            overlap = float(tv.box_iou(torch.tensor([boxes[best]]), torch.tensor([boxes[row]])))
            factor = {0: float(overlap < iou), 1: 1 - overlap if overlap >= iou else 1.0}
            left[row] *= math.exp(-(overlap**2) / sigma) if method == 2 else factor[method]
            if left[row] < lowest:
                del left[row]
    return kept


@pytest.mark.parametrize("method", [0, 1, 2])
def test_soft_suppression_is_its_definition(random, method: int) -> None:
    corners = torch.rand(30, 2, generator=random) * 30
    boxes = torch.cat([corners, corners + 5 + torch.rand(30, 2, generator=random) * 20], dim=1)
    scores, dets = torch.rand(30, generator=random), torch.zeros(30, 5)
    given = scores.clone()
    kept = mmcv_ops.softnms(boxes, scores, dets, 0.3, 0.5, 0.05, method)
    expected = _soft(boxes.tolist(), scores.tolist(), 0.3, 0.5, 0.05, method)
    assert kept.tolist() == [row for row, _ in expected]
    assert 3 < len(kept) < 30
    assert dets[: len(kept), 4].tolist() == pytest.approx([score for _, score in expected], abs=1e-5)
    assert torch.equal(dets[: len(kept), :4], boxes[kept])
    assert torch.equal(scores, given)


def test_hard_suppression_may_count_the_last_pixel_in() -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 2.0, 1.0], [9.0, 9.0, 9.5, 9.5]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert mmcv_ops.nms(boxes, scores, 0.3).tolist() == [0, 1, 2]
    assert mmcv_ops.nms(boxes, scores, 0.3, offset=1).tolist() == [0, 2]  # 2 pixels shared of 6
    assert mmcv_ops.nms(boxes[:0], scores[:0], 0.3).tolist() == []


def test_regions_are_pooled_by_mean_and_maximum(random) -> None:
    pixels = torch.arange(64.0).reshape(1, 1, 8, 8)
    rois = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])
    out, none = torch.zeros(1, 1, 2, 2), torch.empty(0)
    mmcv_ops.roi_align_forward(pixels, rois, out, none, none, 2, 2, 1.0, 2, 1, True)
    means = [pixels[0, 0, y : y + 2, x : x + 2].mean().item() for y in (0, 2) for x in (0, 2)]
    assert out.flatten().tolist() == pytest.approx(means)
    out = torch.zeros(1, 1, 2, 2)
    mmcv_ops.roi_pool_forward(pixels, torch.tensor([[0.0, 0.0, 0.0, 3.0, 3.0]]), out, none, 2, 2, 1.0)
    assert out.flatten().tolist() == [9.0, 11.0, 25.0, 27.0]
    with pytest.raises(UsageError, match="roi_align with pool_mode='max'"):
        mmcv_ops.roi_align_forward(pixels, rois, out, none, none, 2, 2, 1.0, 2, 0, True)


def test_a_missing_operator_is_named_and_nothing_else_is_invented() -> None:
    extension = mmcv_ops._Extension("mmcv._ext")
    with pytest.raises(UsageError, match="compiled operator carafe_forward"):
        extension.carafe_forward()
    assert not hasattr(extension, "__path__")
