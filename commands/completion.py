"""What TAB offers after an option: names that mgtool knows; elsewhere the shell's own names of files."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from typer.models import ArgumentInfo, OptionInfo

Offer = Callable[[], Iterable[str]]


def attach(command: str, function: Callable[..., None]) -> None:
    """Let the parameters of a command's function offer what they take."""
    for name, hint in typing.get_type_hints(function, include_extras=True).items():
        kind, *infos = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
        offer = _OFFERS.get((command, name)) or _OFFERS.get(("", name)) or _choices(kind)
        for info in infos:
            if isinstance(info, OptionInfo | ArgumentInfo):
                info.autocompletion = _offering(offer)


def _offering(offer: Offer) -> Callable[[str], list[str]]:
    """Those that begin as what was typed, the last of several with commas between them; none makes way for files."""

    def offered(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in offer() if name.startswith(last)]

    return offered


def _choices(kind: Any) -> Offer:
    kinds = (kind, *typing.get_args(kind))
    words = [str(word) for one in kinds if typing.get_origin(one) is Literal for word in typing.get_args(one)]
    return lambda: words


def _benchmarks() -> Iterable[str]:
    from mgtool.benchmarks import TABLE

    return TABLE


def _tasks() -> Iterable[str]:
    from mgtool.inference.prompts import TASKS

    return (*TASKS, *_benchmarks())


def _variants() -> Iterable[str]:
    from mgtool.benchmarks import TABLE

    return dict.fromkeys(variant for bench in TABLE.values() for variant in bench.variants)


def _metrics() -> Iterable[str]:
    from mgtool.scoring.text_metrics import METRICS

    return METRICS


def _detectors() -> Iterable[str]:
    from mgtool.detectors import BOXES, DETECTORS

    return (*(f"{name}:" if kind.target else name for name, kind in DETECTORS.items()), f"{BOXES}:", "none")


def _labels() -> Iterable[str]:
    from mgtool.detectors.vocabulary import shipped

    return shipped("coco")


def _vocabularies() -> Iterable[str]:
    from mgtool.detectors.vocabulary import SHIPPED

    return SHIPPED


def _presets() -> Iterable[str]:
    from mgtool.detection.options import PRESETS

    return PRESETS


def _published_sizes() -> Iterable[str]:
    from mgtool.importing.presets import PRESETS

    return PRESETS


def _box_formats() -> Iterable[str]:
    from mgtool.boxes.formats import FORMATS

    return FORMATS


def _templates() -> Iterable[str]:
    from mgtool.model.templates import TEMPLATES

    return TEMPLATES


def _of(*words: str) -> Offer:
    return lambda: words


_OFFERS: Mapping[tuple[str, str], Offer] = {
    ("", "benchmark"): _benchmarks,
    ("", "variant"): _variants,
    ("", "metric"): _metrics,
    ("", "task"): _tasks,
    ("", "detector"): _detectors,
    ("", "tagger"): _of("ram++:"),
    ("", "vocabulary"): _vocabularies,
    ("", "keep"): _labels,
    ("", "drop"): _labels,
    ("detect", "preset"): _presets,
    ("import", "preset"): _published_sizes,
    ("", "template"): _templates,
    ("", "model"): _of("tiny", "hf:"),
    ("", "device"): _of("auto", "cpu", "cuda"),
    ("", "rank"): _of("slurm", "torchrun"),
    ("", "samples"): _of("mean", "vote", "pass@"),
    ("", "judge"): _of("openai:", "hf:"),
    ("", "reencode"): _of("jpeg:95", "webp:90", "png"),
    ("", "batch_size"): _of("auto"),
    ("detect", "dtype"): _of("float32", "bfloat16", "float16", "auto"),
    ("detect", "format"): _box_formats,
    ("eval", "format"): _of("table", "markdown", "latex"),
}
"""By command and field; the command is empty where a field means the same in all that have it."""
