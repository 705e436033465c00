"""Speed of `mgtool detect` with OWLv2 against the plain loop and against the detector's bare batched forward.

The plain loop is what a script does: one picture at a time, its text queries encoded each time. All three look at
the same pictures with the same random weights and threads, in turns, in one process. Processor seconds (of this
process and of its decoding workers) are given beside the clock's, as they hold where other work shares the cores.

python tests/benchmarks/detect.py [--quick] [--json] [--pictures N] [--rounds N] [--batch-size N] [--threads 2]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":  # decoding workers import this file again, and need none of these
    import torch
    from PIL import Image
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    from mgtool import boxfiles, sources
    from mgtool.detectors.finding import BatchSize, Finder
    from mgtool.detectors.owlv2 import PROMPT, Owlv2Detector
    from mgtool.stages import detect

TESTS = Path(__file__).parents[1]
WORDS = (
    "person", "man", "woman", "suit", "flag", "rocket", "helmet", "smile", "hair", "sky", "cup", "coffee", "spoon",
    "saucer", "table", "plate", "food", "chair", "temple", "roof", "tree", "lake", "hill", "cloud", "car", "dog",
    "cat", "window", "door", "wall",
)  # fmt: skip
QUICK = {
    "text_config": {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 2},
    "vision_config": {"image_size": 240, "hidden_size": 192, "intermediate_size": 768, "num_attention_heads": 3},
}
BASE = {"text_config": {}, "vision_config": {"image_size": 960}}
THRESHOLD, TOLERANCE = 0.5, 1e-3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of OWLv2-base's sizes")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pictures = options.pictures or (12 if options.quick else 8)
    name = "owlv2-quarter" if options.quick else "owlv2-base"
    with tempfile.TemporaryDirectory() as folder:
        row = measure(Path(folder), QUICK if options.quick else BASE, pictures, options)
    if options.json:
        print(json.dumps({name: row}))
        return
    print(
        f"{name}: {pictures} pictures, {len(WORDS)} words, {options.threads} threads, best of {options.rounds} rounds"
    )
    print(f"{'':16}{'seconds':>10}{'cpu s':>10}{'pictures/s':>12}")
    for way in ("plain", "mgtool", "bare"):
        seconds, cpu = row[f"{way}_s"], row[f"{way}_cpu_s"]
        print(f"{way:16}{seconds:>10.2f}{cpu:>10.2f}{pictures / seconds:>12.2f}")
    print(f"{row['ratio']:.2f} times the plain loop ({row['cpu_ratio']:.2f} by processor time)")
    print(f"{100 * row['overhead']:+.1f} % over bare batches ({100 * row['cpu_overhead']:+.1f} % by processor time)")
    print(f"equal boxes: {row['equal']}")


def measure(folder, sizes, count, options):
    """All ways in turns; a way's figure is its best round."""
    model = save_model(folder / "model", sizes)
    save_pictures(folder / "pictures", count)
    paths = sorted((folder / "pictures").iterdir())
    processor = Owlv2Processor.from_pretrained(model)
    network = Owlv2ForObjectDetection.from_pretrained(model).eval()
    warm = Owlv2Detector(model, threshold=THRESHOLD, vocabulary=WORDS, cache=folder / "warm.sqlite")
    opened = [Image.open(path).convert("RGB") for path in paths]
    plain(network, processor, paths[:1])
    bare(warm, opened[:1], 1)
    times = {"plain": [], "mgtool": [], "bare": []}
    for number in range(options.rounds):
        expected = timed(times["plain"], lambda: plain(network, processor, paths))
        out = folder / f"boxes-{number}"
        # a cache of its own: the words are embedded in every round
        detector = Owlv2Detector(model, threshold=THRESHOLD, vocabulary=WORDS, cache=folder / f"{number}.sqlite")
        timed(times["mgtool"], lambda: pipeline(detector, folder / "pictures", out, options))  # noqa: B023
        timed(times["bare"], lambda: bare(warm, opened, options.batch_size))
    found = [record.detections for record in boxfiles.read(str(out))]
    row = {"items": count, "boxes": sum(len(one.boxes) for one in found), "threads": options.threads}
    row |= {f"{way}_s": min(wall for wall, _ in some) for way, some in times.items()}
    row |= {f"{way}_cpu_s": min(cpu for _, cpu in some) for way, some in times.items()}
    row |= {"ratio": row["plain_s"] / row["mgtool_s"], "cpu_ratio": row["plain_cpu_s"] / row["mgtool_cpu_s"]}
    row["overhead"] = row["mgtool_s"] / row["bare_s"] - 1
    row["cpu_overhead"] = row["mgtool_cpu_s"] / row["bare_cpu_s"] - 1
    row["load"] = os.getloadavg()[0]
    row["equal"] = len(found) == count and all(map(same, expected, found))
    return row


def timed(times, work):
    """Append (seconds, processor seconds with those of workers that have ended); give the result."""
    began, cpu = time.perf_counter(), processor_seconds()
    result = work()
    times.append((time.perf_counter() - began, processor_seconds() - cpu))
    return result


def processor_seconds():
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def plain(network, processor, paths):
    """One picture at a time, as a script does."""
    queries = [[PROMPT.format(word) for word in WORDS]]
    results = []
    for path in paths:
        picture = Image.open(path).convert("RGB")
        inputs = processor(text=queries, images=picture, return_tensors="pt")
        with torch.no_grad():
            outputs = network(**inputs)
        size = torch.tensor([(picture.height, picture.width)])
        results += processor.post_process_grounded_object_detection(outputs, threshold=THRESHOLD, target_sizes=size)
    return results


def pipeline(detector, pictures, out, options):
    """What the command does after loading: files to box shards."""
    items = sources.pictures(sources.read_samples([str(pictures)]))
    output = detect.Output(out, format="jsonl")
    detect.run(items, Finder(detector), output, batch=BatchSize(options.batch_size), workers=options.threads)
    output.close(done=True)


def bare(detector, pictures, batch):
    """The detector alone, on pictures that are there."""
    for start in range(0, len(pictures), batch):
        detector.detect(pictures[start : start + batch], None)


def same(expected, found):
    """Whether boxes and labels agree, whatever the order of equal scores."""
    order = expected["scores"].argsort(descending=True, stable=True)
    if len(order) != len(found.scores):
        return False
    scores, boxes = torch.tensor(found.scores), torch.tensor(found.boxes).reshape(-1, 4)
    labels = [WORDS[index] for index in expected["labels"][order].tolist()]
    agree = labels == list(found.labels) and torch.allclose(expected["scores"][order], scores, atol=1e-4)
    return agree and torch.allclose(expected["boxes"][order], boxes, atol=TOLERANCE)


def save_model(folder, sizes):
    """OWLv2 with random weights, spread so that boxes and scores differ, and its processor."""
    spec = importlib.util.spec_from_file_location("tiny_transformers", TESTS / "detect" / "tiny_transformers.py")
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    torch.manual_seed(0)
    tokenizer = tiny.clip_tokenizer()
    tokenizer.model_max_length = 16
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text, vision = sizes["text_config"] | ends, sizes["vision_config"] | {"patch_size": 16}
    config = Owlv2Config(text_config=text, vision_config=vision, projection_dim=text.get("hidden_size", 512))
    model = Owlv2ForObjectDetection(config).eval()
    side = vision["image_size"]
    processor = Owlv2Processor(Owlv2ImageProcessor(size={"height": side, "width": side}), tokenizer)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_pictures(folder, count):
    """Parts of real photographs, as JPEG files."""
    folder.mkdir()
    opened = [Image.open(path).convert("RGB") for path in sorted((TESTS / "images").glob("*.jpg"))]
    for number in range(count):
        whole = opened[number % len(opened)]
        part = whole.crop((number, 0, whole.width, whole.height - number))
        part.resize((part.width * 2, part.height * 2)).save(folder / f"{number:04d}.jpg", quality=90)


if __name__ == "__main__":
    main()
