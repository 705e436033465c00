"""What is here: the machine, its devices, versions, extras and caches, as a report of a fault needs them."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mgtool.report.html import summary_table
from mgtool.runs import devices
from mgtool.runs.run_file import versions

COMPUTES = (
    "accelerate", "av", "hotcoco", "numpy", "onnxruntime", "pillow", "pyarrow", "pycocotools", "safetensors", "scipy",
    "timm", "torchvision", "webdataset",
)  # fmt: skip
"""Packages that results depend on, beside those that every run names."""
_EXTRA = re.compile(r"""^([\w.-]+).*?;.*\bextra\s*==\s*['"]([\w-]+)['"]""")
_GIGABYTE = 1e9


@dataclass(frozen=True)
class Environment:
    """What is here.

    Attributes:
        system, python: names and versions.
        cores: that this process may use.
        memory_gb, free_disk_gb: of the machine, and of the disk of the working folder.
        devices: the accelerators, by torch's names: name and memory; empty without any.
        chosen: device, number format and backend that a model gets by default.
        versions: of mgtool and of what computes.
        extras: what each brings, installed or not: the versions, or what to type.
        java: whether ``java`` is there, which METEOR and SPICE need.
        caches: folders by what they hold, with gigabytes; those that are there.
        variables: names of the variables that mgtool reads options from; not their values.
    """

    system: str
    python: str
    cores: int
    memory_gb: float
    free_disk_gb: float
    devices: Mapping[str, str]
    chosen: Mapping[str, str]
    versions: Mapping[str, str]
    extras: Mapping[str, str]
    java: bool
    caches: Mapping[str, str]
    variables: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def _repr_html_(self) -> str:
        return summary_table({name.replace("_", " "): value for name, value in self.to_dict().items()})


def environment() -> Environment:
    """Look at this machine; nothing is loaded onto a device, and nothing is written."""
    import psutil

    return Environment(
        system=platform.platform(),
        python=f"{platform.python_version()} ({sys.executable})",
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / _GIGABYTE, 1),
        free_disk_gb=round(shutil.disk_usage(Path.cwd()).free / _GIGABYTE, 1),
        devices=_accelerators(),
        chosen=_chosen(),
        versions=versions(*COMPUTES),
        extras=_extras(),
        java=shutil.which("java") is not None,
        caches=dict(_caches()),
        variables=tuple(sorted(name for name in os.environ if name.startswith("MGTOOL_"))),
    )


def _accelerators() -> dict[str, str]:
    import torch

    found = {}
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{about.name}, {about.total_memory / _GIGABYTE:.0f} GB"
    return found


def _chosen() -> dict[str, str]:
    chosen = devices.choose()
    return {
        "device": chosen.name,
        "backend": "native",
        "dtype": chosen.dtype,
        "fast dtype": devices.number_format("auto", chosen.name),
    }


def _extras() -> dict[str, str]:
    """Of each extra the versions of what it brings, or how it is installed."""
    brings: dict[str, list[str]] = {}
    for requirement in metadata.requires("mgtool") or ():
        match = _EXTRA.match(requirement)
        if match is not None and match[2] != "dev":
            brings.setdefault(match[2], []).append(match[1])
    return {extra: _installed(extra, packages) for extra, packages in brings.items()}


def _installed(extra: str, packages: list[str]) -> str:
    try:
        return ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    except metadata.PackageNotFoundError as error:
        return f"{error.name} is missing: pip install 'mgtool[{extra}]'"


def _caches() -> Iterator[tuple[str, str]]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    places = {
        "words of detectors": cache / "mgtool",
        "models of the Hugging Face hub": Path(os.environ.get("HF_HOME") or cache / "huggingface"),
    }
    for name, place in places.items():
        if place.is_dir():
            yield name, f"{place}, {_bytes_below(place) / _GIGABYTE:.1f} GB"


def _bytes_below(folder: Path) -> int:
    """Files as far as they can be looked at; links count nothing, as the hub's point into the same folder."""
    total = 0
    for place, _, names in os.walk(folder, onerror=lambda error: None):
        for name in names:
            path = Path(place, name)
            total += 0 if path.is_symlink() or not path.exists() else path.stat().st_size
    return total
