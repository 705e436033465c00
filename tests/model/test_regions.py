"""Box features against the plain way: interpolate, stack, RoIAlign, mean."""

from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from mgtool.model.regions import pad_boxes, pool_boxes, samples_needed

FRAME, BINS = 96, 7
WIDTHS, SIZES = (3, 4, 5, 6), (24, 12, 6, 3)


def plain(stages, boxes, image_size, bins):
    """The published way, on one picture: (N, 4) -> (N, channels)."""
    size = stages[0].shape[-1]
    maps = [functional.interpolate(s, size=(size, size), mode="bilinear", align_corners=False) for s in stages]
    stacked = torch.cat(maps, dim=1).float()
    return torchvision.ops.roi_align(stacked, [boxes.float()], bins, spatial_scale=size / image_size).mean((2, 3))


def test_autocast_leaves_it_in_float32():
    stages, boxes = random_stages(), torch.tensor([[[3.0, 5, 50, 70], [0, 0, 96, 96]]])
    alone = pool_boxes(stages, boxes, image_size=FRAME, bins=BINS)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pool_boxes(stages, boxes, image_size=FRAME, bins=BINS), alone)


def random_stages(pictures=1, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(pictures, c, s, s, generator=generator).to(dtype) for c, s in zip(WIDTHS, SIZES, strict=True)]


def pooled(stages, boxes, **options):
    return pool_boxes(stages, boxes[None], image_size=FRAME, bins=BINS, **options)[0]


coordinate = st.one_of(st.integers(-60, FRAME + 60).map(float), st.floats(-60, FRAME + 60, width=32))


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), min_size=1, max_size=6), st.integers(0, 9))
def test_any_box_has_the_plain_way_s_feature(corners, seed):
    boxes = torch.tensor(corners)
    stages = random_stages(seed=seed)
    samples = samples_needed(boxes, image_size=FRAME, size=SIZES[0], bins=BINS)
    oracle = plain(stages, boxes, FRAME, BINS)
    assert torch.allclose(pooled(stages, boxes, samples=samples), oracle, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 0, 0),
        (5, 5, 5, 5),
        (10, 10, 11, 11),
        (0, 0, FRAME, FRAME),
        (FRAME, FRAME, FRAME, FRAME),
        (0, 40, FRAME, 44),
        (90, 3, 96, 96),
        (30, 30, 20, 20),
    ],
    ids=["stand-in", "empty", "one pixel", "whole picture", "far corner", "flat", "at the border", "reversed"],
)
def test_boxes_inside_the_frame_need_no_look_at_their_values(box):
    boxes = torch.tensor([box], dtype=torch.float32)
    stages = random_stages()
    assert torch.allclose(pooled(stages, boxes), plain(stages, boxes, FRAME, BINS), atol=2e-6, rtol=1e-5)


def test_published_geometry_agrees():
    generator = torch.Generator().manual_seed(1)
    sizes, widths = (192, 96, 48, 24), (6, 12, 24, 48)
    stages = [torch.randn(1, c, s, s, generator=generator) for c, s in zip(widths, sizes, strict=True)]
    corners = torch.randint(0, 769, (30, 2, 2), generator=generator).sort(dim=1).values
    boxes = corners.reshape(30, 4).float()
    fast = pool_boxes(stages, boxes[None], image_size=768, bins=56)[0]
    oracle = plain(stages, boxes, 768, 56)
    assert (fast - oracle).abs().max() <= 2e-6 * oracle.abs().max() + 1e-6


def test_pictures_of_a_batch_do_not_mix_and_padding_does_not_matter():
    stages = random_stages(pictures=3)
    boxes = torch.tensor([[0.0, 0, 50, 50], [10, 20, 30, 40], [5, 5, 90, 91]])
    padded, is_box = pad_boxes(boxes, torch.tensor([1, 0, 2]))
    assert is_box.tolist() == [[True, False], [False, False], [True, True]]
    batch = pool_boxes(stages, padded, image_size=FRAME, bins=BINS)[is_box]
    singles = [pooled([s[p : p + 1] for s in stages], boxes[i : i + 1]) for i, p in enumerate((0, 2, 2))]
    assert torch.allclose(batch, torch.cat(singles), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_features_are_float32_whatever_the_tower_s_type(dtype):
    stages = random_stages(dtype=dtype)
    boxes = torch.tensor([[3.0, 4, 50, 60]])
    fast = pooled(stages, boxes)
    assert fast.dtype == torch.float32
    wide = [stage.float() for stage in stages]
    assert torch.allclose(fast, plain(wide, boxes, FRAME, BINS), atol=2e-6, rtol=1e-5)


def test_one_graph_without_breaks():
    stages = random_stages(pictures=2)
    boxes = torch.tensor([[[0.0, 0, 50, 50], [10, 20, 30, 40]], [[5, 5, 90, 91], [0, 0, 0, 0]]])
    compiled = torch.compile(pool_boxes, fullgraph=True, backend="eager")
    assert torch.equal(
        compiled(stages, boxes, image_size=FRAME, bins=BINS), pool_boxes(stages, boxes, image_size=FRAME, bins=BINS)
    )


def test_gradients_reach_every_stage():
    stages = [stage.requires_grad_() for stage in random_stages()]
    pooled(stages, torch.tensor([[3.0, 4, 50, 60]])).sum().backward()
    for stage in stages:
        assert stage.grad.abs().sum() > 0
