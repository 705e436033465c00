"""mgtool: data preparation, batch inference and official scores for multi-granularity vision-language models.

detect   pictures                         -> box shards
pack     pictures + boxes + conversations -> WebDataset tars
infer    tars or questions                -> answers
eval     answers + ground truth           -> scores and a report
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgtool.tars.dataset import TarDataset
    from mgtool.tars.index import TarIndex
    from mgtool.tars.samples import open_tars

__all__ = ["TarDataset", "TarIndex", "open_tars"]

_HOME = {"TarDataset": "mgtool.tars.dataset", "TarIndex": "mgtool.tars.index", "open_tars": "mgtool.tars.samples"}
"""Public names with their modules, which are imported on first use: `mgtool --help` needs none of them."""


# transformers imports torchao wherever it is installed, and torch then warns about torchao's own enumerations.
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
