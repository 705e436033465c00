"""CCBench: Chinese culture (Liu et al., 2023; scored as MMBench)."""

from __future__ import annotations

from mgtool.benchmarks.mmbench import Mmbench


class Ccbench(Mmbench):
    """Questions about Chinese culture, in Chinese, with circular evaluation."""

    name = "ccbench"
    title = "CCBench"
    files = "CCBench.tsv (opencompass.org.cn)"
