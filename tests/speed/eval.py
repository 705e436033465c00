"""Speed of `mgtool eval`: VQAv2's validation set and COCO val2017-sized detection, on generated data.

Each is timed from the files to the written scores, and compared, number by number, with the plain way: a literal
rendering of the official VQA script, and pycocotools.

With `--scale`: memory and processor time of the command at 10^4, 10^5 and 10^6 answers to benchmarks of several kinds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mgtool import benchmarks
from mgtool.evaluation import output, pipeline
from mgtool.evaluation.collection import collector_paused
from mgtool.records import BoxRecord
from mgtool.scoring import normalizers, predictions
from mgtool.scoring.ground_truth import Truth

VQA_ITEMS, PICTURES, OBJECTS, BOXES = 214_354, 5_000, 36_781, 100
QUICK = 20
COUNTS = (10_000, 100_000, 1_000_000)
WORDS = (
    "yes", "no", "1", "2", "3", "red", "blue", "white", "man", "woman", "dog", "the left", "a frisbee", "black,white",
    "surf/board", "don't", "dont", "two", "one",
)  # fmt: skip


def main() -> None:
    """Run both workloads; print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the size")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--scale", action="store_true", help="memory and time by the number of answers")
    parser.add_argument("--only", default=",".join(KINDS), help="with --scale: the kinds that are measured")
    arguments = parser.parse_args()
    share = QUICK if arguments.quick else 1
    if arguments.scale:
        show_scale([count // share for count in COUNTS], arguments.only.split(","), as_json=arguments.json)
        return
    with tempfile.TemporaryDirectory() as folder:
        results = {"vqav2": vqav2(Path(folder), share), "coco-detection": detection(Path(folder), share)}
    if arguments.json:
        print(json.dumps(results))
        return
    print(f"{'workload':16}{'items':>9}{'mgtool s':>10}{'plain s':>10}{'ratio':>8}  equal")
    for name, row in results.items():
        times = f"{row['mgtool_s']:>10.2f}{row['plain_s']:>10.2f}{row['ratio']:>8.2f}"
        print(f"{name:16}{row['items']:>9,}{times}  {row['equal']}")
    sys.exit(not all(row["equal"] for row in results.values()))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """A result and the seconds it took."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def row(items: int, mgtool_s: float, plain_s: float, equal: bool) -> dict[str, Any]:
    """One workload's outcome; the ratio is how many times faster mgtool is."""
    return {"items": items, "mgtool_s": mgtool_s, "plain_s": plain_s, "ratio": plain_s / mgtool_s, "equal": equal}


def vqav2(folder: Path, share: int) -> dict[str, Any]:
    """214,354 questions with ten answers each."""
    count = VQA_ITEMS // share
    truth, answers = vqa_files(folder, count)
    questions = vqa_questions(folder, count)

    def ours() -> pipeline.ScoredRun:
        bench = benchmarks.get("vqav2")
        items = bench.load(Truth((truth,), questions))
        evaluation = pipeline.score(
            bench, items, predictions.read(answers.read_bytes(), where=str(answers)), variant="official"
        )
        output.save(folder / "vqa-out", evaluation)
        return evaluation

    with collector_paused():  # as `mgtool eval` does
        evaluation, seconds = timed(ours)
    expected, plain = timed(lambda: plain_vqa(truth, answers))
    return row(count, seconds, plain, evaluation.result.metrics["accuracy"].value == expected)


def vqa_files(folder: Path, count: int) -> tuple[Path, Path]:
    """Annotations and answers like the published ones."""
    rng = np.random.default_rng(0)
    picks = rng.zipf(1.7, (count, 11)) % len(WORDS)
    unanimous = rng.random(count) < 0.3
    picks[unanimous] = picks[unanimous, :1]
    annotations = [
        {
            "question_id": 10 * n,
            "image_id": n // 5,
            "question_type": WORDS[n % 7],
            "answer_type": WORDS[n % 3],
            "multiple_choice_answer": WORDS[picks[n, 0]],
            "answers": [
                {"answer": WORDS[pick], "answer_confidence": "yes", "answer_id": k}
                for k, pick in enumerate(picks[n, :10], 1)
            ],
        }
        for n in range(count)
    ]
    truth, answers = folder / "annotations.json", folder / "answers.jsonl"
    truth.write_text(json.dumps({"annotations": annotations}))
    said = (
        {
            "question_id": 10 * n,
            "image": f"COCO_val2014_{n // 5:012}.jpg",
            "prompt": f"{asked(n)}\nAnswer the question using a single word or phrase.",
            "text": WORDS[picks[n, 10]].title(),
        }
        for n in range(count)
    )
    answers.write_text("".join(json.dumps(line) + "\n" for line in said))
    return truth, answers


def vqa_questions(folder: Path, count: int) -> Path:
    """The question file, so that each answer is held against picture and words of its question."""
    path = folder / "questions.json"
    entries = [{"question_id": 10 * n, "image_id": n // 5, "question": asked(n)} for n in range(count)]
    path.write_text(json.dumps({"questions": entries}))
    return path


def asked(place: int) -> str:
    """A question."""
    return f"What is the thing number {place}?"


def plain_vqa(truth: Path, answers: Path) -> float:
    """The official algorithm, step by step, without any short cut."""
    said = {line["question_id"]: line["text"] for line in map(json.loads, answers.open())}
    accuracies = []
    for annotation in json.loads(truth.read_text())["annotations"]:
        given = [normalizers.flat(answer["answer"]) for answer in annotation["answers"]]
        text = normalizers.flat(said[annotation["question_id"]])
        if len(set(given)) > 1:
            given = [plain_normal(answer) for answer in given]
            text = plain_normal(text)
        scores = []
        for place in range(len(given)):
            others = [answer for other, answer in enumerate(given) if other != place]
            scores.append(min(1, len([answer for answer in others if answer == text]) / 3))
        accuracies.append(sum(scores) / len(scores))
    return round(100 * sum(accuracies) / len(accuracies), 2)


def plain_normal(text: str) -> str:
    """Punctuation, then digits and articles, mark by mark."""
    result = text
    for mark in ';/[]"{}()=+\\_-><@`,?!':
        touches = mark + " " in text or " " + mark in text
        result = result.replace(mark, "" if touches or re.search(r"(\d)(\,)(\d)", text) else " ")
    return normalizers.digits_and_articles(re.sub(r"(?!<=\d)(\.)(?!\d)", "", result, count=32))


def detection(folder: Path, share: int) -> dict[str, Any]:
    """5,000 pictures, 36,781 objects, 100 boxes a picture."""
    truth, results, records = detection_files(folder, share)

    def ours() -> pipeline.ScoredRun:
        bench = benchmarks.get("coco-detection")
        items = bench.load(Truth((truth,)))
        evaluation = pipeline.score(bench, items, predictions.from_boxes(records), variant="official")
        output.save(folder / "coco-out", evaluation)
        return evaluation

    evaluation, seconds = timed(ours)
    expected, plain = timed(lambda: plain_coco(truth, results))
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    ours_now = [evaluation.result.metrics[name].value for name in names]
    return row(PICTURES // share, seconds, plain, ours_now == [100 * value for value in expected])


def detection_files(folder: Path, share: int) -> tuple[Path, Path, list[BoxRecord]]:
    """Ground truth, results in COCO's form, and the same results as box records."""
    rng = np.random.default_rng(0)
    pictures, objects = PICTURES // share, OBJECTS // share
    truth: dict[str, Any] = {
        "images": [
            {"id": n, "file_name": f"{n:012d}.jpg", "width": 640, "height": 480} for n in range(1, pictures + 1)
        ],
        "categories": [{"id": n, "name": f"thing {n}"} for n in range(1, 81)],
        "annotations": [],
    }
    own: dict[int, list[dict[str, Any]]] = {}
    for number in range(1, objects + 1):
        x, y, w, h = (float(v) for v in (*rng.uniform(0, 400, 2), *np.exp(rng.normal(4, 1, 2)).clip(4, 400)))
        image, category = int(rng.integers(1, pictures + 1)), int(rng.zipf(1.5) % 80) + 1
        entry = {"id": number, "image_id": image, "category_id": category, "bbox": [x, y, w, h], "area": w * h}
        truth["annotations"].append({**entry, "iscrowd": int(rng.random() < 0.01)})
        own.setdefault(image, []).append(entry)
    results, records = [], []
    for image in range(1, pictures + 1):
        rows = [box_near(rng, own.get(image, [])) for _ in range(BOXES)]
        boxes, scores, categories = zip(*rows, strict=True)
        for (x0, y0, x1, y1), score, category in rows:
            results.append(
                {"image_id": image, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
            )
        labels = tuple(f"thing {category}" for category in categories)
        name = f"{image:012d}.jpg"
        records.append(
            BoxRecord(sha256="", width=640, height=480, image=name, boxes=boxes, scores=scores, labels=labels)
        )
    paths = folder / "instances.json", folder / "results.json"
    paths[0].write_text(json.dumps(truth))
    paths[1].write_text(json.dumps(results))
    return *paths, records


def box_near(rng: np.random.Generator, own: list[dict[str, Any]]) -> tuple[tuple[float, ...], float, int]:
    """A box (xyxy) beside an object, or anywhere; with score and category."""
    if own and rng.random() < 0.3:
        target = own[int(rng.integers(len(own)))]
        (x, y, w, h), category, score = target["bbox"], target["category_id"], rng.beta(4, 2)
        shift = rng.normal(0, 0.1, 4)
        x, y, w, h = x + shift[0] * w, y + shift[1] * h, w * (1 + abs(shift[2])), h * (1 + abs(shift[3]))
    else:
        x, y, w, h = (*rng.uniform(0, 400, 2), *np.exp(rng.normal(4, 1, 2)))
        category, score = int(rng.zipf(1.5) % 80) + 1, rng.beta(1, 4)
    return (float(x), float(y), float(x + w), float(y + h)), round(float(score), 3), category


def plain_coco(truth: Path, results: Path) -> list[float]:
    """pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO(str(truth))
        evaluation = COCOeval(official, official.loadRes(str(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def show_scale(counts: list[int], kinds: list[str], *, as_json: bool) -> None:
    """A table of memory and processor time; or one JSON object."""
    results: dict[str, Any] = {}
    if not as_json:
        heads = "".join(f"{count:>12,} MB{'s':>8}" for count in counts)
        print(f"{'benchmark':12}{heads}{'growth':>8}")
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            found = [measured(Path(folder), kind, count) for count in counts]
        growth = found[-1]["peak_mb"] / found[-2]["peak_mb"]
        results[kind] = {"counts": dict(zip(map(str, counts), found, strict=True)), "growth": growth}
        if not as_json:
            cells = "".join(f"{one['peak_mb']:>15.0f}{one['processor_s']:>8.1f}" for one in found)
            print(f"{kind:12}{cells}{growth:>8.2f}", flush=True)
    if as_json:
        print(json.dumps(results))


LAUNCHER = """
import os, subprocess, sys
run = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(run.pid, 0)
run.returncode = os.waitstatus_to_exitcode(status)
print(usage.ru_maxrss, usage.ru_utime + usage.ru_stime, run.returncode)
"""
"""Starts a program from a small process: to Linux a program's peak is at least what the one that started it had."""


def measured(folder: Path, kind: str, count: int) -> dict[str, float]:
    """The peak of memory, MB, and processor time, s, of one evaluation with its page."""
    options = [str(folder / one) if one in KIND_FILES else one for one in KINDS[kind](folder, count)]
    command = [sys.executable, "-m", "mgtool", "eval", str(folder / "answers.jsonl"), "--benchmark", kind, *options]
    command = [*command, "--out", str(folder / f"scores-{count}"), "-q"]
    told = subprocess.run([sys.executable, "-c", LAUNCHER, *command], check=True, capture_output=True, text=True).stdout
    peak, seconds, code = map(float, told.split())
    assert code == 0, command
    return {"peak_mb": peak / 1024, "processor_s": seconds}


def put(path: Path, texts: Iterable[str]) -> None:
    """Write texts behind each other."""
    with path.open("w") as file:
        file.writelines(texts)


def put_answers(folder: Path, texts: Iterable[str], per_picture: int = 10) -> None:
    """Answers as `mgtool infer` writes them, of the questions that `asked` gives."""
    put(
        folder / "answers.jsonl",
        (
            f'{{"question_id": {n}, "prompt": "{asked(n)}", "text": "{text}", "model_id": "m", '
            f'"image": "{n // per_picture}.jpg", "finish_reason": "stop", "tokens": 1, "metadata": {{}}}}\n'
            for n, text in enumerate(texts)
        ),
    )


def pope_scale(folder: Path, count: int) -> list[str]:
    """Ten questions to a picture."""
    put_answers(folder, ("Yes" if n % 3 else "No" for n in range(count)))
    put(
        folder / "truth.jsonl",
        (
            f'{{"question_id": {n}, "image": "{n // 10}.jpg", "text": "{asked(n)}", '
            f'"label": "{"yes" if n % 2 else "no"}"}}\n'
            for n in range(count)
        ),
    )
    return ["--ground-truth", "truth.jsonl"]


def custom_scale(folder: Path, count: int) -> list[str]:
    """A picture to each question, two metrics, a breakdown."""
    put_answers(folder, (WORDS[n % 19] for n in range(count)), 1)
    put(
        folder / "truth.jsonl",
        (
            f'{{"id": {n}, "image": "{n}.jpg", "question": "{asked(n)}", '
            f'"answers": ["{WORDS[n % 18]}", "{WORDS[n % 7]}"], "kind": "{n % 9}"}}\n'
            for n in range(count)
        ),
    )
    return ["--ground-truth", "truth.jsonl", "--metric", "vqa,anls", "--by", "kind"]


def vqav2_scale(folder: Path, count: int) -> list[str]:
    """Ten annotators to each question, five questions to a picture."""
    put_answers(folder, (WORDS[n % 19] for n in range(count)), 5)
    given = [", ".join(f'{{"answer": "{WORDS[(n + k) % 5]}", "answer_id": {k}}}' for k in range(10)) for n in range(19)]
    entries = (
        f'{", " if n else ""}{{"question_type": "{WORDS[n % 7]}", "answers": [{given[n % 19]}], '
        f'"image_id": {n // 5}, "answer_type": "{WORDS[n % 3]}", "question_id": {n}}}'
        for n in range(count)
    )
    put(folder / "annotations.json", itertools.chain(['{"info": {}, "annotations": ['], entries, ["]}"]))
    questions = (
        f'{", " if n else ""}{{"image_id": {n // 5}, "question": "{asked(n)}", "question_id": {n}}}'
        for n in range(count)
    )
    put(folder / "questions.json", itertools.chain(['{"questions": ['], questions, ["]}"]))
    return ["--ground-truth", "annotations.json", "--questions", "questions.json"]


def gqa_scale(folder: Path, count: int) -> list[str]:
    """The balanced questions, five to a picture."""
    put_answers(folder, (WORDS[n % 19] for n in range(count)), 5)
    entries = (
        f'{", " if n else ""}"{n}": {{"semantic": [{{"operation": "select", "argument": "a"}}], '
        f'"question": "{asked(n)}", "imageId": "{n // 5}", "isBalanced": true, "answer": "{WORDS[n % 9]}", '
        f'"groups": {{"global": "g{n % 40}"}}, "types": {{"structural": "{("query", "verify")[n % 2]}"}}}}'
        for n in range(count)
    )
    put(folder / "questions.json", itertools.chain(["{"], entries, ["}"]))
    return ["--ground-truth", "questions.json"]


def seedbench_scale(folder: Path, count: int) -> list[str]:
    """Four options, a picture to each question, a table."""
    put_answers(folder, ("ABCD"[n % 4] for n in range(count)), 1)
    lines = (
        f"{n}\t{n}.jpg\t{asked(n)}\tred\tblue\tgreen\twhite\t{'ABCD'[n % 5 % 4]}\tkind {n % 9}\n" for n in range(count)
    )
    names = "index\timage_path\tquestion\tA\tB\tC\tD\tanswer\tcategory\n"
    put(folder / "truth.tsv", itertools.chain([names], lines))
    return ["--ground-truth", "truth.tsv"]


KINDS = {
    "pope": pope_scale,
    "custom": custom_scale,
    "vqav2": vqav2_scale,
    "gqa": gqa_scale,
    "seedbench": seedbench_scale,
}
KIND_FILES = frozenset({"truth.jsonl", "truth.tsv", "annotations.json", "questions.json"})


if __name__ == "__main__":
    main()
