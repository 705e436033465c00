"""`mgtool infer --model hf:...` against `generate` with the processor alone, one question at a time.

    python tests/speed/transformers_models.py [--quick] [--layers N] [--json] [--threads 2] [--only llava qwen2_vl]
      [--out FILE.json]

Eighteen questions about each of two pictures and three tokens an answer, by models of random weights with real widths,
few layers and at least 576 tokens a picture, one family after the other. Both ways begin with the pictures' files; the
plain way answers a few questions and is scaled.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))
import vision_models

from mgtool.boxes.lookup import BoxSource
from mgtool.inference.engine import Engine
from mgtool.inference.grouping import Planner
from mgtool.inference.prompts import Prompter
from mgtool.inference.sampling import Greedy
from mgtool.inference.static_engine import StaticEngine
from mgtool.inference.transformers_model import TransformersModel
from mgtool.inference.transformers_processor import TransformersProcessor, messages
from mgtool.media import images
from mgtool.records import Media, Sample, Turn

PICTURES, QUESTIONS, TOKENS = 2, 18, 3
SIDE = 336
TEXT = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 2, "head_dim": 64}
TEXT |= {"num_attention_heads": 9, "num_key_value_heads": 3}
SMALL_TEXT = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4, "head_dim": 64}
SMALL_TEXT |= {"num_attention_heads": 3, "num_key_value_heads": 1}
VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 2, "num_attention_heads": 12}
SMALL_VISION = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 2}
NOUNS = ("dog", "cat", "car", "tree", "person", "cup", "chair", "boat", "bird", "horse", "clock", "sofa", "train")


def samples(seed=0):
    """Questions as POPE asks them."""
    chance, found = random.Random(seed), []
    for number in range(PICTURES):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC).save(file, "JPEG")
        media = Media(name=f"{number}.jpg", data=file.getvalue())
        for _ in range(QUESTIONS):
            turn = Turn("human", f"<image>\nIs there a {chance.choice(NOUNS)} in the image?")
            found.append(Sample(id=len(found), images=(media,), turns=(turn,)))
    return found


@torch.inference_mode()
def plain(model, processor, asked):
    """One question at a time, as transformers' documentation shows it."""
    answers = []
    for sample in asked:
        [message] = messages([(sample.turns[0].value, None)])
        message["content"][0]["image"] = images.decode(sample.images[0].data)
        if processor.chat_template is None:
            prompt, options = "<image>" + message["content"][1]["text"], {"return_tensors": "pt"}
            if processor.tokenizer.chat_template is not None:
                asked = [{"role": "user", "content": processor.image_token + message["content"][1]["text"]}]
                prompt = processor.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
                options["add_special_tokens"] = False
            inputs = processor(text=prompt, images=message["content"][0]["image"], **options)
            inputs.pop("labels", None)
        else:
            options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
            inputs = processor.apply_chat_template([message], **options)
        out = model.generate(**inputs, do_sample=False, max_new_tokens=TOKENS, min_new_tokens=TOKENS)
        answers.append(out[0, inputs["input_ids"].shape[1] :].tolist())
    return answers


class Lasting(Greedy):
    """The likeliest tokens but for the end of the answer."""

    def choose(self, logits, states):
        return super().choose(logits.index_fill(1, torch.tensor([1]), -torch.inf), states)


def ours(model, processor, asked):
    """mgtool: answers in the order of the questions, whether prompts shared, and tokens of the longest prompt."""
    own = TransformersProcessor(processor, [1])
    served = TransformersModel(model, own)
    kind = Engine if served.shares_prefixes() else StaticEngine
    began = time.perf_counter(), time.process_time()
    engine = kind(served, own, max_new_tokens=TOKENS, sampler=Lasting())
    outcomes = dict(engine.generate(Planner(Prompter(), own, BoxSource()).groups(enumerate(asked))))
    taken = time.perf_counter() - began[0], time.process_time() - began[1]
    return [outcomes[number].ids for number in range(len(asked))], kind is Engine, taken


def compare(name, count):
    """Both ways for one family."""
    model, processor = vision_models.FAMILIES[name]()
    asked = samples()
    chosen = [(2 * at + 1) * len(asked) // (2 * count) for at in range(count)]
    plain(model, processor, asked[:1])  # what a first call sets up is not the question
    began, cpu = time.perf_counter(), time.process_time()
    expected = plain(model, processor, [asked[at] for at in chosen])
    scale = len(asked) / count
    plain_s, plain_cpu_s = (time.perf_counter() - began) * scale, (time.process_time() - cpu) * scale
    answers, is_shared, (seconds, cpu) = ours(model, processor, asked)
    row = {"mgtool_s": seconds, "plain_s": plain_s, "ratio": plain_s / seconds}
    row |= {"mgtool_cpu_s": cpu, "plain_cpu_s": plain_cpu_s, "cpu_ratio": plain_cpu_s / cpu}
    row |= {"shared": is_shared, "questions": len(asked), "plain_questions": count}
    return row | {"equal": expected == [answers[at] for at in chosen], "load": round(os.getloadavg()[0], 1)}


HEADER = "| family | shared | plain s | mgtool s | ratio | by CPU | equal |\n|" + "---|" * 7


def line(name, row):
    """For a person."""
    cells = [name, row["shared"], f"{row['plain_s']:.1f}", f"{row['mgtool_s']:.1f}", f"{row['ratio']:.1f}"]
    return "| " + " | ".join(map(str, [*cells, f"{row['cpu_ratio']:.1f}", row["equal"]])) + " |"


def main():
    """Print a table, each family as it ends, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small towers and language models, three families")
    parser.add_argument("--layers", type=int, help="of towers and language models, in place of 2, or of 4 with --quick")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=vision_models.FAMILIES)
    parser.add_argument("--out", type=Path, help="put the numbers into this JSON file, too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    text, vision = (SMALL_TEXT, SMALL_VISION) if options.quick else (TEXT, VISION)
    layers = {} if options.layers is None else {"num_hidden_layers": options.layers}
    words = ["Is there", " a", " in", " the", " image", *(f" {noun}" for noun in NOUNS)]
    vision_models.resize(SIDE, text | layers, vision | layers, words)
    names = options.only or (["llava", "qwen2_vl", "paligemma"] if options.quick else list(vision_models.FAMILIES))
    results = {}
    print(HEADER, file=sys.stderr if options.json else sys.stdout)
    for name in names:
        results[name] = compare(name, 4)
        print(line(name, results[name]), file=sys.stderr if options.json else sys.stdout, flush=True)
        if options.out:
            options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(results))
    sys.exit(not all(row["equal"] for row in results.values()))


if __name__ == "__main__":
    main()
