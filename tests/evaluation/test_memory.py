"""Memory does not grow with the answers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FEW, MANY = 10_000, 40_000
MOST_GROWTH = 10
"""MB; as lists, so many answers more take several times as much."""


@pytest.fixture(scope="module")
def speed() -> ModuleType:
    """The script that measures the same up to a million answers."""
    spec = importlib.util.spec_from_file_location("speed_eval", Path(__file__).parents[1] / "speed" / "eval.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["pope", "custom", "vqav2", "seedbench"])
def test_four_times_the_answers_take_hardly_more_memory(speed: ModuleType, kind: str, tmp_path: Path) -> None:
    few, many = (speed.measured(tmp_path, kind, count)["peak_mb"] for count in (FEW, MANY))
    assert many - few < MOST_GROWTH
