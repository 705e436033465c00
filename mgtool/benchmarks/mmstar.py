"""MMStar (Chen et al., 2024; VLMEvalKit)."""

from __future__ import annotations

from mgtool.benchmarks.choices import ChoiceBenchmark


class MmStar(ChoiceBenchmark):
    """Choices that cannot be made without the picture."""

    name = "mmstar"
    title = "MMStar"
    files = "MMStar.tsv (opencompass.openxlab.space) or the Parquet of huggingface.co/datasets/Lin-Chen/MMStar"
    breakdowns = ("category", "l2_category")
