"""OK-VQA (Marino et al., 2019; scored as VQAv2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mgtool.benchmarks.vqav2 import WHOLE_PROCESSOR, Vqav2, whole_processor
from mgtool.scoring.benchmark import OFFICIAL, Item, Verdict


class OkVqa(Vqav2):
    """Questions that need outside knowledge."""

    name = "okvqa"
    title = "OK-VQA"
    files = "mscoco_val2014_annotations.json and OpenEnded_mscoco_val2014_questions.json (okvqa.allenai.org)"
    variants: ClassVar[Mapping[str, str]] = {**Vqav2.variants, "lmms-eval": WHOLE_PROCESSOR}
    breakdowns = ("question_type",)

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """As VQAv2; lmms-eval, unlike there, runs the whole processor."""
        return super().score(item, text, variant) if variant == OFFICIAL else whole_processor(item, text)
