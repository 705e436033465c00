"""What a decoding step asks of the device: operations a layer, and waits for a number, however many pictures there are.

    python tests/speed/operations.py [--quick] [--json]

Counted by a `TorchDispatchMode` on a tiny model in float32 (a step has the same operations at every size) with one
question for each picture, prefixes of different lengths. An operation is what launches work: views of tensors (`VIEWS`)
and the making of empty ones (`EMPTY`) launch none. The count of a layer is the difference between models of 6 and of 2
layers. `in turn` is what a CPU does: fewer copies, and operations for each picture.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from mgtool.inference.attention import Prefix
from mgtool.inference.rows import Rows

PICTURES = (1, 16, 64)
MOST = 48
"""Operations of a layer and step."""
GROWTH = 1.2
"""Of 64 pictures, against those of one."""
VIEWS = (
    "alias",
    "as_strided",
    "detach",
    "expand",
    "permute",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "t",
    "transpose",
    "unbind",
    "unfold",
    "unsqueeze",
    "view",
    "_reshape_alias",
    "_unsafe_view",
)
EMPTY = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "item", "equal", "masked_select", "unique2")
"""Operations whose result the host waits for."""


class Counted(TorchDispatchMode):
    """Counts operations by name while it is on."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))

    @property
    def operations(self):
        return sum(count for name, count in self.names.items() if name not in (*VIEWS, *EMPTY))

    @property
    def waits(self):
        return sum(count for name, count in self.names.items() if name in WAITS)


def language_model(layers):
    """Of random weights."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = AutoConfig.for_model("llama", vocab_size=64, num_hidden_layers=layers, **sizes)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def filled(model, pictures, rows_each=1, at_once=True):
    """Rows of as many pictures, their prefixes of different lengths."""
    rows = Rows(model.config.num_hidden_layers, model.device, at_once=at_once)
    for number in range(pictures):
        cache = DynamicCache()
        model(input_ids=torch.arange(9 + number % 5)[None], past_key_values=cache, use_cache=True)
        for _ in range(rows_each):
            rows.add([Prefix.of(cache)], None, rows.lengths.new_zeros(1), torch.tensor([number % 64]))
    return rows


@torch.no_grad()
def step(model, pictures, rows_each=1, at_once=True):
    """What one step takes, once rows and their room are there."""
    rows = filled(model, pictures, rows_each, at_once)
    rows.advance(model, lambda logits: logits.argmax(-1))
    with Counted() as counted:
        rows.advance(model, lambda logits: logits.argmax(-1))
    return counted


def measure(pictures, at_once=True):
    """Operations of a layer, of the rest of a step, and waits of the whole step."""
    few, many = (step(language_model(layers), pictures, at_once=at_once) for layers in (2, 6))
    a_layer = (many.operations - few.operations) / 4
    return {"a_layer": a_layer, "rest": few.operations - 2 * a_layer, "waits": many.waits}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the same: it takes seconds")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = {f"{pictures} pictures": measure(pictures) for pictures in PICTURES}
    found |= {f"{pictures} in turn": measure(pictures, at_once=False) for pictures in PICTURES}
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{'':12} {'a layer':>8} {'the rest':>9} {'waits':>6}")
    for name, row in found.items():
        print(f"{name:12} {row['a_layer']:8.1f} {row['rest']:9.0f} {row['waits']:6}")


if __name__ == "__main__":
    main()
