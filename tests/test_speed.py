"""The speed scripts run, and what they are there to show holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parent / "speed"
TEXTS = Path(__file__).parents[1] / "mgtool" / "model" / "README.md"


def run(script: str, *options: str) -> str:
    command = [sys.executable, str(SCRIPTS / script), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_box_features_are_50_times_faster_in_a_twentieth_of_the_memory():
    row = json.loads(run("regions.py", "--json"))["regions-published"]
    assert row["equal"]
    assert row["ratio"] >= 50
    assert row["memory_ratio"] >= 20


@pytest.mark.slow
def test_an_import_needs_at_most_one_and_a_half_times_its_largest_shard():
    row = json.loads(run("import_memory.py", "--quick", "--json"))["import-memory"]
    assert row["shards"] > 4
    assert row["ratio"] <= 1.5


@pytest.mark.slow
def test_float32_is_exact_and_the_documented_table_names_the_others():
    rows = json.loads(run("parity.py", "--quick", "--json"))
    assert rows["cpu/float32"]["largest_difference"] == 0
    for dtype in ("bfloat16", "float16"):
        assert rows[f"cpu/{dtype}"]["equal_tokens_same_prefix"] >= 0.9
        assert f"| cpu | {dtype} |" in TEXTS.read_text(encoding="utf-8")


def test_the_gpu_script_says_that_there_is_no_gpu():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert run("model_gpu.py") == "no GPU here: nothing measured\n"


@pytest.mark.slow
def test_the_gpu_script_measures_every_step():
    tiny = json.loads(run("model_gpu.py", "--quick", "--json", "--device", "cpu"))["tiny"]
    assert [row["batch"] for row in tiny] == [1, 2]
    assert all(row[key] > 0 for row in tiny for key in ("encode_ms", "fusion_regions_ms", "prefill_ms", "decode_ms"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_gpu_script_measures_on_the_card():
    tiny = json.loads(run("model_gpu.py", "--quick", "--json"))["tiny"]
    assert all(row["peak_bytes"] > 0 for row in tiny)
