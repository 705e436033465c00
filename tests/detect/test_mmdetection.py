"""MMDetection's own models by the names of shipped configs, with random weights made here."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mgtool import detectors
from mgtool.detectors import mmdetection
from mgtool.errors import CheckpointError, UsageError

RTMDET = "rtmdet_tiny_8xb32-300e_coco"
FASTER = "faster-rcnn_r50_fpn_1x_coco"
IMAGES = Path(__file__).parents[1] / "images"


def _without_pretrained(node: Any) -> None:
    if isinstance(node, dict):
        if isinstance(node.get("init_cfg"), dict) and node["init_cfg"].get("type") == "Pretrained":
            node["init_cfg"] = None
        for value in node.values():
            _without_pretrained(value)


def _random_checkpoint(name: str, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mmdetection._import()
        from mmdet.registry import MODELS
        from mmengine.registry import init_default_scope

        init_default_scope("mmdet")
        config = mmdetection._config(name)
        _without_pretrained(config.model)
        torch.manual_seed(0)
        model = MODELS.build(config.model)
        model.init_weights()
    for key, value in model.named_parameters():
        if "rtm_reg" in key and key.endswith("bias"):
            value.data.fill_(3.0)
        if key.endswith("fc_cls.weight"):
            value.data.mul_(100.0)
    classes = tuple(f"thing {number}" for number in range(80))
    torch.save({"state_dict": model.state_dict(), "meta": {"dataset_meta": {"CLASSES": classes}}}, path)
    return path


@pytest.fixture(scope="module")
def rtmdet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _random_checkpoint(RTMDET, tmp_path_factory.mktemp("weights") / "rtmdet.pth")


def _pictures() -> list[Image.Image]:
    return [Image.open(IMAGES / name).convert("RGB") for name in ("china.jpg", "coffee.jpg")]


def test_rtmdet_by_shipped_name_finds_boxes_with_the_checkpoints_names(rtmdet: Path) -> None:
    detector = detectors.load(f"mmdet:{RTMDET}:{rtmdet}", threshold=0.0, device="cpu")
    pictures = _pictures()
    found = detector.detect(pictures, None)
    for picture, one in zip(pictures, found, strict=True):
        assert one.boxes
        assert all(label.startswith("thing ") for label in one.labels)
        assert list(one.scores) == sorted(one.scores, reverse=True)
        assert max(box[2] for box in one.boxes) == pytest.approx(picture.width, rel=0.02)
        assert max(box[3] for box in one.boxes) == pytest.approx(picture.height, rel=0.02)
    alone = detector.detect(pictures[1:], None)[0]
    assert alone.scores[0] == pytest.approx(found[1].scores[0], abs=1e-5)


def test_equals_mmdetections_own_inference(rtmdet: Path) -> None:
    import numpy as np

    detector = detectors.load(f"mmdet:{RTMDET}:{rtmdet}", threshold=0.0, device="cpu")
    from mmdet.apis import inference_detector

    picture = _pictures()[0]
    ours = detector.detect([picture], None)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = inference_detector(detector._model, np.asarray(picture)[:, :, ::-1].copy()).pred_instances
    assert len(ours.boxes) == len(theirs.scores)
    assert ours.scores == pytest.approx(sorted(theirs.scores.tolist(), reverse=True), abs=1e-6)


def test_faster_rcnn_runs_on_the_stand_in_operators(tmp_path: Path) -> None:
    weights = _random_checkpoint(FASTER, tmp_path / "faster.pth")
    detector = detectors.load(f"mmdet:{FASTER}:{weights}", threshold=0.0, device="cpu")
    (found,) = detector.detect(_pictures()[:1], None)
    assert found.boxes
    assert set(found.labels) <= {f"thing {number}" for number in range(80)}


def test_mistakes_are_one_line(tmp_path: Path, rtmdet: Path) -> None:
    with pytest.raises(UsageError, match="no such config"):
        detectors.load("mmdet:no_such_config:w.pth")
    with pytest.raises(UsageError, match=r"give its weights too: .*CHECKPOINT"):
        detectors.load(f"mmdet:{RTMDET}")
    with pytest.raises(UsageError, match="no such checkpoint"):
        detectors.load(f"mmdet:{RTMDET}:{tmp_path / 'none.pth'}")
    with pytest.raises(CheckpointError, match=r"lacks|does not fit"):
        detectors.load(f"mmdet:{FASTER}:{rtmdet}", device="cpu")
    torch.save({"state_dict": {}, "meta": {"odd": Path("x")}}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match="--trust-checkpoint"):
        detectors.load(f"mmdet:{RTMDET}:{tmp_path / 'odd.pth'}")


def test_soft_suppression_lowers_what_overlaps_and_keeps_the_rest() -> None:
    from mgtool.detectors import mmcv_stand_in

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [20.0, 20.0, 30.0, 30.0]])
    scores, dets = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, 5)
    kept = mmcv_stand_in.softnms(boxes, scores, dets, 0.3, 0.5, 0.05, 1)
    assert kept.tolist() == [0, 2, 1]
    assert dets[:, 4].tolist() == pytest.approx([0.9, 0.7, 0.8 * (1 - 0.5)])
    assert scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert mmcv_stand_in.nms(boxes, scores, 0.4).tolist() == [0, 2]


def test_a_missing_operator_is_named() -> None:
    from mgtool.detectors import mmcv_stand_in

    with pytest.raises(UsageError, match="carafe"):
        mmcv_stand_in._Extension("mmcv._ext").carafe_forward()
