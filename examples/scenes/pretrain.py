"""Stage 0: towers and language model learn the world each for itself, as the published model's parts had learnt theirs.

    python examples/scenes/pretrain.py high --out STAGE0
    python examples/scenes/pretrain.py low --out STAGE0
    python examples/scenes/pretrain.py llm --out STAGE0
    python examples/scenes/pretrain.py parts --out STAGE0

The last writes the folders that `mgtool import` joins. Each goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path
from typing import Any

import joints
import language
import lessons
import torch
import towers
from safetensors.torch import save_file
from training import STATE, Schedule, train

from mgtool.model import MGLlavaConfig, MGLlavaForConditionalGeneration
from mgtool.model.config import ConvNextTowerConfig

SEED = 0
SCHEDULES = {
    "high": Schedule(steps=3250, batch_size=24, learning_rate=2e-3, dtype=torch.bfloat16),
    "low": Schedule(steps=1000, batch_size=48, learning_rate=1e-3),
    "llm": Schedule(steps=6500, batch_size=16, learning_rate=1e-3, warmup=100, dtype=torch.bfloat16),
}
TOKENIZER = "tokenizer"
JOINTS_BEGIN = 0.02
"""Standard deviation; larger ones learn several times slower from features as large as these."""


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="Pretrain the parts of the tiny model on the scenes.")
    parser.add_argument("part", choices=(*SCHEDULES, "parts"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="instead of the part's own number")
    given = parser.parse_args()
    torch.manual_seed(SEED)
    if given.part == "parts":
        write_parts(given.out)
        return
    schedule = SCHEDULES[given.part]
    if given.steps:
        schedule = Schedule(**{**vars(schedule), "steps": given.steps})
    pretrain(given.part, given.out, schedule)


def pretrain(part: str, out: Path, schedule: Schedule) -> None:
    """Train one part into ``out/part``."""
    load, evaluate, module = _reading(out) if part == "llm" else _naming(part)

    def batch(step: int) -> Any:
        return load(step * schedule.batch_size, schedule.batch_size)

    train(module, batch, evaluate, schedule, out / part)


def _naming(part: str) -> tuple[Any, Any, torch.nn.Module]:
    naming = towers.HighNaming() if part == "high" else towers.LowNaming()
    load = functools.partial(towers.load, "train", zoomed=towers.ZOOMED)
    return load, functools.partial(towers.accuracies, naming), naming


def _reading(out: Path) -> tuple[Any, Any, torch.nn.Module]:
    words = _tokenizer(out)
    reading = language.Reading(words)

    def load(first: int, count: int) -> language.Batch:
        grown, found = lessons.grown_at(first), first >= lessons.FOUND
        return language.load(words, "train", first, count, grown=grown, searching=found, fade=found, exact=found)

    return load, functools.partial(language.accuracy, reading, words), reading


def write_parts(out: Path) -> None:
    """Write ``parts/clip``, ``parts/convnext``, ``parts/llm`` and ``parts/mg_llava.pth``."""
    parts = out / "parts"
    low, high, reading, words = trained(out)
    low.encoder.save_pretrained(parts / "clip")
    _json(parts / "clip" / "preprocessor_config.json", {"image_mean": towers.MEAN, "image_std": towers.STD})
    reading.llm.save_pretrained(parts / "llm")
    words.save_pretrained(parts / "llm")
    _write_open_clip(high, parts / "convnext")
    _write_joints(joints.look(low, high, reading.llm.get_input_embeddings(), words), len(words), parts / "mg_llava.pth")


def trained(out: Path) -> tuple[towers.LowNaming, towers.HighNaming, language.Reading, Any]:
    """Both towers, the language model and its tokenizer, as their trainings left them, for evaluation."""
    words = _tokenizer(out)
    low, high, reading = towers.LowNaming(), towers.HighNaming(), language.Reading(words)
    for module, name in ((low, "low"), (high, "high"), (reading, "llm")):
        module.load_state_dict(torch.load(out / name / STATE, weights_only=True)["module"])
    return low.eval(), high.eval(), reading.eval(), words


def _write_open_clip(high: towers.HighNaming, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    trunk = {key: value for key, value in high.state_dict().items() if key.startswith(("stem.", "stages."))}
    save_file(
        {f"visual.trunk.{key}": value.contiguous() for key, value in trunk.items()},
        folder / "open_clip_model.safetensors",
    )
    vision = {"timm_model_name": towers.HIGH_TOWER, "image_size": towers.SIZE}
    _json(folder / "open_clip_config.json", {"model_cfg": {"vision_cfg": vision}})


def _write_joints(seen: joints.Seen, vocabulary: int, path: Path) -> None:
    """Projectors and fusion, trained between the frozen parts, under the published names; their log beside them."""
    config = MGLlavaConfig(
        text_config=language.llm_config(vocabulary, initializer_range=JOINTS_BEGIN),
        low_config=towers.low_config(),
        high_config=ConvNextTowerConfig(architecture=towers.HIGH_TOWER, image_size=towers.SIZE),
    )
    torch.manual_seed(SEED)
    model = MGLlavaForConditionalGeneration(config)
    log = joints.fit(model, seen)
    path.with_name("joints.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log), encoding="utf-8")
    published = {"projector.": "projector.model.", "box_projector.": "bbox_projector.model.", "fusion.": "fuse_module."}
    state = {
        published[prefix] + key.removeprefix(prefix): value
        for key, value in model.state_dict().items()
        for prefix in published
        if key.startswith(prefix)
    }
    torch.save(state, path)


def _tokenizer(out: Path) -> Any:
    from transformers import AutoTokenizer

    folder = out / "llm" / TOKENIZER
    if not folder.is_dir():
        language.tokenizer().save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
