"""InfographicVQA (Mathew et al., 2022; scored as DocVQA)."""

from __future__ import annotations

from mgtool.benchmarks.docvqa import DocVqa


class InfoVqa(DocVqa):
    """Questions about infographics."""

    name = "infovqa"
    title = "InfographicVQA"
    files = "infographicsVQA_val_v1.0_withQT.json (rrc.cvc.uab.es, challenge 17), or InfoVQA_VAL.tsv"
    breakdowns = ("answer_type", "operation/reasoning")
