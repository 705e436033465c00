"""mgtool: data preparation, batch inference and official scores for multi-granularity vision-language models.

detect   pictures                         -> box shards
pack     pictures + boxes + conversations -> WebDataset tars
infer    tars or questions                -> answers
eval     answers + ground truth           -> scores and a report

Each is a function of the same name (`evaluate` for eval, `import_model` for import) that takes typed, frozen options,
gives a typed result and prints nothing.
"""

from __future__ import annotations

import logging

TYPE_CHECKING = False  # as typing has it, whose import takes longer than all that is done here
if TYPE_CHECKING:
    from typing import Any

    from mgtool.boxes.statistics import BoxStatistics as BoxStatistics
    from mgtool.boxes.thresholds import LabelThresholds as LabelThresholds
    from mgtool.detection.options import DetectOptions as DetectOptions
    from mgtool.evaluation.options import EvalOptions as EvalOptions
    from mgtool.evaluation.table_options import TableOptions as TableOptions
    from mgtool.importing.options import ImportOptions as ImportOptions
    from mgtool.inference.options import InferOptions as InferOptions
    from mgtool.packing.options import PackOptions as PackOptions
    from mgtool.packing.options import Source as Source
    from mgtool.records import Answer as Answer
    from mgtool.records import BoxRecord as BoxRecord
    from mgtool.records import Detections as Detections
    from mgtool.records import Failure as Failure
    from mgtool.records import Sample as Sample
    from mgtool.records import Score as Score
    from mgtool.runs.progress import ProgressBar as ProgressBar
    from mgtool.runs.progress import progress_bar as progress_bar
    from mgtool.stages.describe_boxes import describe_boxes as describe_boxes
    from mgtool.stages.detect import detect as detect
    from mgtool.stages.environment import environment as environment
    from mgtool.stages.evaluate import evaluate as evaluate
    from mgtool.stages.import_model import import_model as import_model
    from mgtool.stages.infer import answers as answers
    from mgtool.stages.infer import infer as infer
    from mgtool.stages.pack import pack as pack
    from mgtool.stages.table import table as table
    from mgtool.stages.train import train as train
    from mgtool.stages.unpack import unpack as unpack
    from mgtool.stages.verify import verify as verify
    from mgtool.tars.dataset import TarDataset as TarDataset
    from mgtool.tars.index import TarIndex as TarIndex
    from mgtool.tars.samples import open_tars as open_tars
    from mgtool.training.options import TrainOptions as TrainOptions

_HOME = {
    "stages.detect": ("detect",),
    "stages.describe_boxes": ("describe_boxes",),
    "stages.pack": ("pack",),
    "stages.verify": ("verify",),
    "stages.unpack": ("unpack",),
    "stages.import_model": ("import_model",),
    "stages.infer": ("infer", "answers"),
    "stages.evaluate": ("evaluate",),
    "stages.table": ("table",),
    "stages.train": ("train",),
    "stages.environment": ("environment",),
    "runs.progress": ("ProgressBar", "progress_bar"),
    "detection.options": ("DetectOptions",),
    "packing.options": ("PackOptions", "Source"),
    "importing.options": ("ImportOptions",),
    "inference.options": ("InferOptions",),
    "evaluation.options": ("EvalOptions",),
    "evaluation.table_options": ("TableOptions",),
    "training.options": ("TrainOptions",),
    "boxes.statistics": ("BoxStatistics",),
    "boxes.thresholds": ("LabelThresholds",),
    "tars.dataset": ("TarDataset",),
    "tars.index": ("TarIndex",),
    "tars.samples": ("open_tars",),
    "records": ("Answer", "BoxRecord", "Detections", "Failure", "Sample", "Score"),
}
"""Public names by their modules, which are imported on first use: `mgtool --help` needs few of them."""

_MODULES = {name: f"mgtool.{module}" for module, names in _HOME.items() for name in names}
__all__ = [*sorted(_MODULES), "__version__"]  # noqa: PLE0604 - the table's names

# transformers imports torchao wherever it is installed, and torch then warns about torchao's own enumerations.
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
# MMEngine, and PEFT for transformers' Trainer, import bitsandbytes likewise, which complains of a missing kernel.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("mgtool")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
