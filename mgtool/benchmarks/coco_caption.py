"""COCO captions (Chen et al., 2015; pycocoevalcap)."""

from __future__ import annotations

from mgtool.scoring.captions import CaptionBenchmark


class CocoCaption(CaptionBenchmark):
    """Captions of COCO pictures; `question_id` is the picture's id."""

    name = "coco-caption"
    title = "COCO captions"
    files = "captions_val2014.json, captions_val2017.json (cocodataset.org) or dataset_coco.json (Karpathy's splits)"
