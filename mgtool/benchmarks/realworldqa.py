"""RealWorldQA (xAI, 2024; scored as VLMEvalKit does, as its authors gave no script)."""

from __future__ import annotations

from mgtool.scoring.multiple_choice import ChoiceBenchmark


class RealWorldQa(ChoiceBenchmark):
    """Choices about street scenes and other everyday views."""

    name = "realworldqa"
    title = "RealWorldQA"
    files = "RealWorldQA.tsv (opencompass.openxlab.space)"
    breakdowns = ("category",)
