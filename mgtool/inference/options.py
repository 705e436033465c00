"""What is asked of which model, and what the answers depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mgtool.inference.decoding import GREEDY, Decoding
from mgtool.inference.prompts import Prompter
from mgtool.inputs import sources
from mgtool.inputs.fingerprints import fingerprint
from mgtool.inputs.model_folders import model_identity
from mgtool.runs.run_file import Run
from mgtool.runs.shares import ALL, Share

Quantization = Literal["", "8bit", "4bit"]
Side = Literal["", "left", "right"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of whom.

    Attributes:
        inputs: as `mgtool.inputs.sources.read_samples` takes them.
        model: the model's folder.
        prompter: the prompts.
        max_new_tokens: limit of an answer.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        device: as torch names it; several with commas between them are a process each.
        images: where relative names of pictures start.
        boxes: a box file or folder; ``off`` for none; None for those that the samples carry.
        batch_size: most prompts that are decoded together; None for what the device is good for.
        decoding: how answers are drawn.
        truncate: the side from which a question is cut where the prompt is too long; empty for a failure.
        deterministic: every prompt is computed alone, with torch's deterministic algorithms.
        quantize: the language model's weights in 8 or 4 bits.
        device_map: accelerate's, for a model over several devices.
        tensor_parallel: processes that share every matrix.
        workers: processes that prepare pictures, for each device; with 0, threads.
        cache: folder of answers of earlier runs.
        share: which of the samples are this run's.
    """

    inputs: Sequence[str]
    model: Path
    prompter: Prompter
    max_new_tokens: int
    dtype: str
    device: str
    images: str | None = None
    boxes: str | None = None
    batch_size: int | None = None
    decoding: Decoding = GREEDY
    truncate: Side = ""
    deterministic: bool = False
    quantize: Quantization = ""
    device_map: str | None = None
    tensor_parallel: int = 1
    workers: int = 0
    cache: Path | None = None
    share: Share = ALL

    @property
    def devices(self) -> list[str]:
        """One name for each process."""
        return self.device.split(",")

    def run(self, path: Path, out: Path) -> Run:
        """The record of the run that answers this."""
        model, options = {"path": str(self.model)}, self.answer_identity()
        model["sha256"] = options.pop("model")
        names = ("batch_size", "device", "workers")
        return Run(
            path,
            command="infer",
            options={
                **options,
                "task": self.prompter.task,
                "prompt": self.prompter.template,
                "system": self.prompter.system,
                "share": None if self.share.is_all else self.share.name,
            },
            inputs={
                "inputs": [fingerprint(given, sources.files) for given in self.inputs],
                "images": self.images,
                "boxes": self.boxes if self.boxes in (None, "off") else fingerprint(str(self.boxes)),
            },
            free={"out": out.name, **{name: getattr(self, name) for name in names}},
            model=model,
            computes=("accelerate", "bitsandbytes", "torchao"),
        )

    def answer_identity(self) -> dict[str, Any]:
        """What an answer depends on beside the prompt's tokens, pictures and boxes."""
        return {
            "model": model_identity(self.model),
            "dtype": self.dtype,
            "quantize": self.quantize,
            "max_new_tokens": self.max_new_tokens,
            "decoding": self.decoding.identity(),
            "truncate": self.truncate,
            "deterministic": self.deterministic,
        }
