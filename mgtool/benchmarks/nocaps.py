"""nocaps: captions of objects that COCO's captions do not name (Agrawal et al., 2019)."""

from __future__ import annotations

from mgtool.scoring.captions import CaptionBenchmark


class NoCaps(CaptionBenchmark):
    """Captions by domain: in, near and out of COCO's."""

    name = "nocaps"
    title = "nocaps"
    files = "nocaps_val_4500_captions.json (nocaps.org); nocaps_test_image_info.json: submission"
    breakdowns = ("domain",)
