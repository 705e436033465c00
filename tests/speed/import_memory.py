"""Peak memory of `mgtool import` on a stand-in checkpoint: zeros in a sparse file, of any size.

    python tests/speed/import_memory.py [--quick] [--json] [--layers 24] [--shard-gb 0.4] [--folder DIR]

`--layers 60 --hidden 7168 --intermediate 20480 --shard-gb 5` is the size of the 34B model; it writes 70 GB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig

from mgtool.model import ConvNextTowerConfig, MGLlavaConfig, MGLlavaForConditionalGeneration

KIT = Path(__file__).parent.parent / "conformance" / "mg_llava"
PUBLISHED_NAMES = {"language_model": "llm", "projector": "projector.model", "box_projector": "bbox_projector.model"}
CHILD = """
import dataclasses, json, sys
from pathlib import Path
from mgtool.importing.options import ImportOptions
from mgtool.stages.import_model import import_model
status = lambda: int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
before = status()
*places, out, shard = sys.argv[1:]
parts = dict(zip(("checkpoint", "llm", "clip", "convnext"), map(Path, places)))
counts = import_model(ImportOptions(**parts, max_shard_size=float(shard)), Path(out)).counts
print(json.dumps({"peak_bytes": status() - before, "libraries_bytes": before, **dataclasses.asdict(counts)}))
"""


class SparseWriter:
    """A file whose zeros take no room."""

    def __init__(self, path):
        self.file = path.open("wb")
        self.end = 0

    def write(self, data):
        block = np.frombuffer(data, dtype=np.uint8)
        if len(block) >= 1 << 16 and not block.any():
            self.file.seek(len(block), 1)
        else:
            self.file.write(data)
        self.end += len(block)
        return len(block)

    def close(self):
        self.file.truncate(self.end)
        self.file.close()

    def flush(self):
        self.file.flush()


def zeros(shape):
    """bfloat16 zeros that take no memory before they are written to."""
    return torch.from_numpy(np.zeros(tuple(shape), dtype=np.uint16)).view(torch.bfloat16)


def stand_in(folder, options):
    """The four published parts with a language model of zeros; gives the bytes of its weights."""
    text = AutoConfig.for_model(
        "llama",
        vocab_size=400,
        hidden_size=options.hidden,
        intermediate_size=options.intermediate,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 64,
        num_key_value_heads=options.hidden // 64,
        bos_token_id=1,
        eos_token_id=2,
    )
    shutil.copytree(KIT / "llm", folder / "llm", ignore=shutil.ignore_patterns("*.safetensors"))
    text.save_pretrained(folder / "llm")
    low = AutoConfig.from_pretrained(KIT / "clip")
    config = MGLlavaConfig(
        text_config=text, low_config=low, high_config=ConvNextTowerConfig(architecture="test_convnext")
    )
    with torch.device("meta"):
        model = MGLlavaForConditionalGeneration(config)
    weights = {}
    for key, value in model.state_dict().items():
        part, _, rest = key.partition(".")
        if part in PUBLISHED_NAMES or part == "fusion":
            weights[f"{PUBLISHED_NAMES.get(part, 'fuse_module')}.{rest}"] = zeros(value.shape)
    writer = SparseWriter(folder / "stand_in.pth")
    torch.save(weights, writer)
    writer.close()
    return sum(value.numel() * 2 for value in weights.values())


def run(options, folder):
    """Import in a fresh process; gives its counts and peak memory above the libraries'."""
    size = stand_in(folder, options)
    places = [folder / "stand_in.pth", folder / "llm", KIT / "clip", KIT / "convnext", folder / "out"]
    began = time.perf_counter()
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, places), str(options.shard_gb)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    counts = json.loads(child.stdout)
    ratio = counts["peak_bytes"] / counts["largest_shard_bytes"]
    return {
        "mgtool_s": time.perf_counter() - began,
        "checkpoint_bytes": size,
        "ratio": ratio,
        **counts,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 GB in shards of 0.15 GB")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--intermediate", type=int, default=8192)
    parser.add_argument("--shard-gb", type=float, default=0.4)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder otherwise")
    options = parser.parse_args()
    if options.quick:
        options.layers, options.shard_gb = 7, 0.15
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        row = run(options, Path(folder))
    if options.json:
        print(json.dumps({"import-memory": row}))
        return
    print(f"checkpoint {row['checkpoint_bytes'] / 1e9:.2f} GB, {row['shards']} shards, {row['mgtool_s']:.1f} s")
    print(
        f"peak memory {row['peak_bytes'] / 1e9:.2f} GB above the libraries' {row['libraries_bytes'] / 1e9:.2f} GB: "
        f"{row['ratio']:.2f} times the largest shard ({row['largest_shard_bytes'] / 1e9:.2f} GB)"
    )


if __name__ == "__main__":
    main()
