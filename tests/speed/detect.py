"""Speed of `mgtool detect` with OWLv2 against the plain loop and against the detector's bare batched forward.

The plain loop is what a script does: transformers as it comes, in float32, one picture at a time, its text queries
encoded each time. There is a row for `--dtype float32`, whose boxes must equal the loop's, and one for `--dtype auto`,
which says what share of the loop's boxes is found again. All ways look at the same pictures with the same random
weights and threads, in turns, in one process. Processor seconds (of this process and of its decoding workers) are
given beside the clock's, as they hold where other work shares the cores.

python tests/speed/detect.py [--quick] [--out FILE.json] [--json] [--pictures N] [--rounds N] [--batch-size N]
    [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":  # decoding workers import this file again, and need none of these
    import torch
    from PIL import Image
    from torchvision.ops import box_iou
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
    import tiny_transformers as tiny

    from mgtool.boxes import formats
    from mgtool.detection import pipeline as detection
    from mgtool.detection.batch_size import BatchSize
    from mgtool.detection.finder import Finder
    from mgtool.detection.output import DetectionOutput
    from mgtool.detectors.owlv2 import PROMPT, Owlv2Detector
    from mgtool.inputs import sources
    from mgtool.runs import devices

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
THRESHOLD, TOLERANCE, SAME_IOU = 0.5, 1e-3, 0.9
BOUND = "the picture's tower is nearly all of the time and the same in both: only the words' passes can be saved"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a quarter of OWLv2-base's sizes")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--out", type=Path, help="write the same object to a file")
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.pictures = options.pictures or (4 if options.quick else 8)
    options.rounds = options.rounds or (1 if options.quick else 2)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), options)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
    if options.json:
        print(json.dumps(rows))
        return
    print(
        f"{options.pictures} pictures, {len(WORDS)} words, {options.threads} threads, best of {options.rounds} rounds"
    )
    for name, row in rows.items():
        show(name, row)


def show(name, row):
    print(f"\n{name}, {row['dtype']}\n{'':16}{'seconds':>10}{'cpu s':>10}{'pictures/s':>12}")
    for way in ("plain", "mgtool", "bare"):
        seconds, cpu = row[f"{way}_s"], row[f"{way}_cpu_s"]
        print(f"{way:16}{seconds:>10.2f}{cpu:>10.2f}{row['items'] / seconds:>12.2f}")
    print(f"{row['ratio']:.2f} times the plain loop ({row['cpu_ratio']:.2f} by processor time)")
    print(f"{100 * row['overhead']:+.1f} % over bare batches ({100 * row['cpu_overhead']:+.1f} % by processor time)")
    found, moved = row["found_again"], row["score_difference"]
    print(f"equal boxes: {row['equal']}; found again: {100 * found:.1f} %, scores differ by at most {moved:.4f}")
    if "note" in row:
        print(row["note"])


def measure(folder, options):
    """All ways in turns; a way's figure is its best round."""
    model = save_model(folder / "model", QUICK if options.quick else BASE)
    save_pictures(folder / "pictures", options.pictures)
    paths = sorted((folder / "pictures").iterdir())
    processor = Owlv2Processor.from_pretrained(model)
    network = Owlv2ForObjectDetection.from_pretrained(model).eval()
    opened = [Image.open(path).convert("RGB") for path in paths]
    dtypes = {"float32": "float32", "auto": devices.number_format("auto", "cpu")}
    warm = {name: load(model, dtype, folder / "warm.sqlite") for name, dtype in dtypes.items()}
    plain(network, processor, paths[:1])
    times = {"plain": []} | {(way, name): [] for name in dtypes for way in ("mgtool", "bare")}
    for detector in warm.values():
        bare(detector, opened[:1], 1)
    for number in range(options.rounds):
        expected = timed(times["plain"], lambda: plain(network, processor, paths))
        for name, dtype in dtypes.items():
            # a cache of its own: the words are embedded in every round
            detector = load(model, dtype, folder / f"{name}-{number}.sqlite")
            out = folder / f"boxes-{name}-{number}"
            timed(times["mgtool", name], lambda: pipeline(detector, folder / "pictures", out, options))  # noqa: B023
            timed(times["bare", name], lambda: bare(warm[name], opened, options.batch_size))  # noqa: B023
    size = "owlv2-quarter" if options.quick else "owlv2-base"
    rows = {}
    for name, dtype in dtypes.items():
        found = [record.detections for record in formats.read(str(folder / f"boxes-{name}-{options.rounds - 1}"))]
        own = {"plain": times["plain"]} | {way: times[way, name] for way in ("mgtool", "bare")}
        row = {"items": len(paths), "threads": options.threads, "dtype": dtype, "load": os.getloadavg()[0]}
        rows[f"{size} {name}"] = row | figures(own) | agreement(expected, found)
    if not options.quick:
        rows[f"{size} float32"]["note"] = BOUND
    return rows


def load(model, dtype, cache):
    return Owlv2Detector(model, threshold=THRESHOLD, vocabulary=WORDS, cache=cache, dtype=dtype)


def figures(times):
    """Best seconds of each way, and how they compare."""
    row = {f"{way}_s": min(wall for wall, _ in some) for way, some in times.items()}
    row |= {f"{way}_cpu_s": min(cpu for _, cpu in some) for way, some in times.items()}
    row |= {"ratio": row["plain_s"] / row["mgtool_s"], "cpu_ratio": row["plain_cpu_s"] / row["mgtool_cpu_s"]}
    row["overhead"] = row["mgtool_s"] / row["bare_s"] - 1
    row["cpu_overhead"] = row["mgtool_cpu_s"] / row["bare_cpu_s"] - 1
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
    output = DetectionOutput(out, format="jsonl")
    detection.fill(items, Finder(detector), output, batch=BatchSize(options.batch_size), workers=options.threads)
    output.close(done=True)


def bare(detector, pictures, batch):
    """The detector alone, on pictures that are there."""
    for start in range(0, len(pictures), batch):
        detector.detect(pictures[start : start + batch], None)


def agreement(expected, found):
    """Whether boxes are the plain loop's, the share of them found again, and how far the scores of those differ."""
    again = [difference for pair in zip(expected, found, strict=True) for difference in matches(*pair)]
    boxes = sum(len(one["scores"]) for one in expected)
    return {
        "boxes": boxes,
        "equal": all(map(same, expected, found)),
        "found_again": len(again) / boxes,
        "score_difference": max(again, default=0.0),
    }


def matches(expected, found):
    """The score's difference for each expected box that one of the same label covers."""
    if not found.boxes:
        return
    overlaps = box_iou(expected["boxes"], torch.tensor(found.boxes))
    names = {label: number for number, label in enumerate(WORDS)}
    labels = torch.tensor([names[label] for label in found.labels])
    overlaps[expected["labels"][:, None] != labels] = 0
    for score, overlap in zip(expected["scores"], overlaps, strict=True):
        if overlap.max() >= SAME_IOU:
            # random weights give many equal boxes: the nearest score is the same box's
            near = torch.tensor(found.scores)[overlap >= SAME_IOU]
            yield float((near - score).abs().min())


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
    """OWLv2 with random weights, scaled so that boxes and scores differ and none is at its end, and its processor."""
    torch.manual_seed(0)
    tokenizer = tiny.clip_tokenizer()
    tokenizer.model_max_length = 16
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text, vision = sizes["text_config"] | ends, sizes["vision_config"] | {"patch_size": 16}
    config = Owlv2Config(text_config=text, vision_config=vision, projection_dim=text.get("hidden_size", 512))
    model = Owlv2ForObjectDetection(config).eval()
    side = vision["image_size"]
    with torch.no_grad():
        features = model.image_embedder(torch.randn(1, 3, side, side))[0].flatten(1, 2)
        shift, scale = model.class_head.logit_shift, model.class_head.logit_scale
        for layer, head in ((model.box_head.dense2, model.box_head), (shift, shift), (scale, scale)):
            layer.weight /= head(features).std()
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
