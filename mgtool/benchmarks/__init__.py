"""Benchmarks: one file each, found in one table.

`get("pope")` gives a benchmark; its `prompt(sample)` is the published prompt, `load` reads the files that users
have, `score` is the official score of one answer, `metrics` the official numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from mgtool.benchmarks.activitynet_qa import ActivitynetQa
from mgtool.benchmarks.ai2d import Ai2d
from mgtool.benchmarks.aokvqa import Aokvqa, AokvqaDirect
from mgtool.benchmarks.blink import Blink
from mgtool.benchmarks.ccbench import Ccbench
from mgtool.benchmarks.chartqa import ChartQa
from mgtool.benchmarks.coco_caption import CocoCaption
from mgtool.benchmarks.coco_detection import CocoDetection
from mgtool.benchmarks.custom import Custom
from mgtool.benchmarks.docvqa import DocVqa
from mgtool.benchmarks.flickr30k import Flickr30k
from mgtool.benchmarks.gqa import Gqa
from mgtool.benchmarks.hallusionbench import HallusionBench
from mgtool.benchmarks.infovqa import InfoVqa
from mgtool.benchmarks.llava_bench import LlavaBench
from mgtool.benchmarks.lvis import Lvis
from mgtool.benchmarks.mathverse import MathVerse
from mgtool.benchmarks.mathvista import MathVista
from mgtool.benchmarks.mm_vet import MmVet
from mgtool.benchmarks.mmbench import Mmbench, MmbenchChinese
from mgtool.benchmarks.mme import Mme
from mgtool.benchmarks.mmmu import Mmmu
from mgtool.benchmarks.mmstar import MmStar
from mgtool.benchmarks.mmvp import Mmvp
from mgtool.benchmarks.msrvtt_qa import MsrvttQa
from mgtool.benchmarks.msvd_qa import MsvdQa
from mgtool.benchmarks.nocaps import NoCaps
from mgtool.benchmarks.ocrbench import OcrBench
from mgtool.benchmarks.ocrvqa import OcrVqa
from mgtool.benchmarks.okvqa import OkVqa
from mgtool.benchmarks.pope import Pope
from mgtool.benchmarks.realworldqa import RealWorldQa
from mgtool.benchmarks.refcoco import RefCoco
from mgtool.benchmarks.scienceqa import ScienceQa
from mgtool.benchmarks.seedbench import SeedBench
from mgtool.benchmarks.stvqa import StVqa
from mgtool.benchmarks.tallyqa import TallyQa
from mgtool.benchmarks.textvqa import TextVqa
from mgtool.benchmarks.tgif_qa import TgifQa
from mgtool.benchmarks.vizwiz import VizWiz
from mgtool.benchmarks.vqav2 import Vqav2
from mgtool.errors import UsageError, nearest
from mgtool.scoring.benchmark import Benchmark, Item, Verdict

__all__ = ["TABLE", "Benchmark", "Item", "Verdict", "get"]

TABLE: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Vqav2(),
        TextVqa(),
        Gqa(),
        OkVqa(),
        VizWiz(),
        DocVqa(),
        InfoVqa(),
        StVqa(),
        ChartQa(),
        OcrVqa(),
        OcrBench(),
        TallyQa(),
        Pope(),
        Mme(),
        HallusionBench(),
        Mmbench(),
        MmbenchChinese(),
        Ccbench(),
        SeedBench(),
        MmStar(),
        Mmmu(),
        RealWorldQa(),
        Blink(),
        Aokvqa(),
        AokvqaDirect(),
        ScienceQa(),
        Ai2d(),
        MmVet(),
        LlavaBench(),
        Mmvp(),
        MathVista(),
        MathVerse(),
        CocoCaption(),
        NoCaps(),
        Flickr30k(),
        CocoDetection(),
        Lvis(),
        RefCoco(),
        MsvdQa(),
        MsrvttQa(),
        TgifQa(),
        ActivitynetQa(),
        Custom(),
    )
}


def get(name: str, *, option: str = "benchmark", others: Sequence[str] = ()) -> Benchmark:
    """The benchmark of a name.

    Args:
        name: as in `TABLE`.
        option: the field that named it.
        others: what else the field may hold.

    Raises:
        UsageError: for an unknown name, with the nearest one.
    """
    if name in TABLE:
        return TABLE[name]
    hint = nearest(name, [*others, *TABLE]) or "; see `mgtool eval --list`"
    raise UsageError(option, f"{name}: not known{hint}")
