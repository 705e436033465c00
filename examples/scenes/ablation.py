"""The paper's ablation in miniature: the same data, steps and seeds, and one part of the model after the other.

    python examples/scenes/ablation.py out/scenes

Starts from what ``train.sh out/scenes parts`` made; every run that is there already is kept. Writes ABLATION.md and
ablation.svg beside this file.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import joints
import make
import numpy as np
import pretrain
import torch
from scipy import stats
from scores import Score, measure, mgtool

from mgtool.model import MGLlavaConfig, MGLlavaForConditionalGeneration, MGLlavaProcessor

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
BATCH = 16
JOINTS = 400
"""Steps of stage 0 for a variant's fusion and projectors."""
STEPS = {"align": 20, "tune": 60}
RATES = {"align": 4e-4, "tune": 3e-4}
TEST_SET, TESTED = "test", 150
LEVEL = 0.95


@dataclass(frozen=True)
class Variant:
    """What a model is made of; see `MGLlavaConfig`."""

    name: str
    fusion: str
    boxes: bool


VARIANTS = (
    Variant("low tower only", "none", boxes=False),
    Variant("low + boxes", "none", boxes=True),
    Variant("low + high (Conv-Gate)", "conv_gate", boxes=False),
    Variant("all (Conv-Gate, boxes)", "conv_gate", boxes=True),
    Variant("all, gate then concatenation", "conv_gate_concat", boxes=True),
    Variant("all, channel concatenation", "channel_concat", boxes=True),
)


@dataclass(frozen=True)
class Run:
    """One variant with one seed, in a folder of its own."""

    variant: Variant
    seed: int
    out: Path


Results = Mapping[str, Sequence[Mapping[str, Score]]]
"""Variant -> the scores of each seed."""


def main() -> None:
    """Parse the command line, train what is missing, and write."""
    parser = argparse.ArgumentParser(description="Train and score the variants of the tiny model.")
    parser.add_argument("scenes", type=Path, help="the folder of train.sh")
    parser.add_argument("--write", type=Path, default=HERE, help="folder for table and plot")
    given = parser.parse_args()
    found = measured(given.scenes)
    (given.write / "ABLATION.md").write_text(report(found), encoding="utf-8")
    plot(found, given.write / "ablation.svg")


def measured(scenes: Path) -> Results:
    """Train and score all variants with all seeds, a run on each core; what is done already is kept."""
    folder = scenes / "ablation"
    runs = [
        Run(variant, seed, folder / f"{variant.fusion}{'-boxes' if variant.boxes else ''}-{seed}")
        for variant in VARIANTS
        for seed in SEEDS
    ]
    if not (folder / TEST_SET / "captions.json").is_file():
        make.write(folder / TEST_SET, TEST_SET, TESTED)
    for one in runs:
        if not (one.out / "begin" / "config.json").is_file():
            begin(scenes / "begin", one.variant, one.seed, one.out / "begin")
    os.environ["OMP_NUM_THREADS"] = "1"  # of the commands; their threads would wait for each other
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scores = list(pool.map(functools.partial(run, scenes), runs))
    return {
        variant.name: [score for one, score in zip(runs, scores, strict=True) if one.variant == variant]
        for variant in VARIANTS
    }


def run(scenes: Path, one: Run) -> dict[str, Score]:
    """Train one variant with one seed and score it, unless that is done."""
    kept = one.out / "scores.json"
    if not kept.is_file():
        model = one.out / "begin"
        for stage in STEPS:
            _train(stage, scenes / "tars" / "train-conversations", model, one.out / stage, one.seed)
            model = one.out / stage
        found = measure(str(model), scenes / "ablation" / TEST_SET, scenes / "boxes" / TEST_SET, one.out / "answers")
        kept.write_text(json.dumps(found), encoding="utf-8")
    return {name: Score(*score) for name, score in json.loads(kept.read_text(encoding="utf-8")).items()}


def begin(source: Path, variant: Variant, seed: int, out: Path) -> None:
    """The towers and the language model of `source`; fusion and projectors afresh, by the seed, through stage 0."""
    torch.manual_seed(seed)
    config = MGLlavaConfig.from_pretrained(source, fusion=variant.fusion, boxes=variant.boxes)
    config.text_config.initializer_range = pretrain.JOINTS_BEGIN
    model = MGLlavaForConditionalGeneration(config)
    trained = MGLlavaForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
    for name in ("low_tower", "high_tower", "language_model"):
        part = getattr(model, name)
        if part is not None:
            part.load_state_dict(getattr(trained, name).state_dict())
    joints.fit(model, _seen(source.with_name("stage0")), steps=JOINTS, seed=seed)
    model.save_pretrained(out)
    MGLlavaProcessor.from_pretrained(source).save_pretrained(out)


@functools.cache
def _seen(stage0: Path) -> joints.Seen:
    low, high, reading, words = pretrain.trained(stage0)
    return joints.look(low, high, reading.llm.get_input_embeddings(), words)


def _train(stage: str, tars: Path, model: Path, out: Path, seed: int) -> None:
    numbers = {"--max-steps": STEPS[stage], "--batch-size": BATCH, "--learning-rate": RATES[stage], "--seed": seed}
    options = [str(part) for pair in numbers.items() for part in pair]
    mgtool("train", str(tars), "--stage", stage, "--model", str(model), "--out", str(out), *options, "--device", "cpu")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of Student's interval for it at `LEVEL`."""
    half = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values)), float(half)


def report(found: Results) -> str:
    """ABLATION.md."""
    categories = list(next(iter(found.values()))[0])
    parameters = f"{STEPS['align']} steps of the first stage, {STEPS['tune']} of the second, {BATCH} samples each"
    lines = [
        "# Which part sees what",
        "",
        f"{TESTED} test scenes; mean of {len(SEEDS)} seeds and half of Student's {LEVEL:.0%} interval, percent right",
        "unless named otherwise. Every variant begins with the same towers and language model, and its own fusion and",
        f"projectors learn on top: {JOINTS} steps of stage 0, {parameters}.",
        "Made by `make ablation`.",
        "",
        f"| variant | {' | '.join(categories)} |",
        f"|---|{'---|' * len(categories)}",
    ]
    for name, runs in found.items():
        cells = (interval([scores[category].value for scores in runs]) for category in categories)
        lines.append(f"| {name} | {' | '.join(f'{mean:.1f} ± {half:.1f}' for mean, half in cells)} |")
    return "\n".join([*lines, "", "![The same as a plot](ablation.svg)", ""])


def plot(found: Results, path: Path) -> None:
    """Bars with intervals, a group for each category."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": path.name, "svg.fonttype": "none"}
    from matplotlib import pyplot

    categories = list(next(iter(found.values()))[0])
    figure, axes = pyplot.subplots(figsize=(12, 4.5), layout="constrained")
    width = 0.8 / len(found)
    for place, (name, runs) in enumerate(found.items()):
        ends = [interval([scores[category].value for scores in runs]) for category in categories]
        left = [number - 0.4 + (place + 0.5) * width for number in range(len(categories))]
        means, halves = zip(*ends, strict=True)
        axes.bar(left, means, width, yerr=halves, label=name, error_kw={"elinewidth": 0.7})
    axes.set_xticks(range(len(categories)), categories)
    axes.set_ylabel("score")
    axes.legend(ncols=3, fontsize="small", loc="upper left")
    axes.margins(y=0.25)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
