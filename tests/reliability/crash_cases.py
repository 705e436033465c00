"""What is killed, and what it is fed: small inputs, each command with what it leaves on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tiny_models import KIT, tiny_config, tiny_model

from mgtool.records import BoxRecord, dumps

PICTURES = 10
PHOTOS = ("photos/*.jpg",)
TRAIN = (*PHOTOS, "train.json", "boxes-000000.jsonl")
QUESTIONS = (*PHOTOS, "questions.jsonl")


@dataclass(frozen=True)
class Case:
    """One command, or several that belong together.

    Attributes:
        steps: gives the command lines, for an output folder and the folder of inputs.
        moments: how often it is killed with -9, in full.
        before: of the steps, how many go first undisturbed.
        inputs: of the files that it reads, those that may vanish.
    """

    steps: Callable[[Path, Path], list[list[str]]]
    moments: int = 40
    before: int = 0
    inputs: tuple[str, ...] = ()


def _detect(*options: str) -> Callable[[Path, Path], list[list[str]]]:
    def steps(out: Path, given: Path) -> list[list[str]]:
        line = f"detect {given}/photos --detector tiny --out {out}/boxes --shard-size 3 --batch-size 2"
        return [[*line.split(), *options]]

    return steps


def _pack(out: Path, given: Path, *options: str, file: str = "train.json") -> list[str]:
    line = f"pack {given}/{file} --images {given}/photos --boxes {given}/boxes-000000.jsonl"
    return [*line.split(), "--out", f"{out}/tars", "--shard-size", "3", *options]


def _infer(*options: str) -> Callable[[Path, Path], list[list[str]]]:
    def steps(out: Path, given: Path) -> list[list[str]]:
        line = f"infer {given}/questions.jsonl --images {given}/photos --boxes off --model {given}/model --device cpu"
        more = [option.replace("OUT", str(out)) for option in options]
        return [[*line.split(), "--batch-size", "2", "--max-new-tokens", "3", "--out", f"{out}/answers.jsonl", *more]]

    return steps


def _import(out: Path, given: Path) -> list[list[str]]:
    places = " ".join(f"--{name} {given}/kit/{name}" for name in ("llm", "clip", "convnext"))
    return [f"import --checkpoint {given}/kit/mg_llava.pth {places} --out {out}/model".split()]


def _train(out: Path, given: Path) -> list[list[str]]:
    line = f"train {given}/tars --model {given}/model --out {out}/trained --stage align --device cpu --dtype float32"
    return [f"{line} --batch-size 2 --max-steps 4 --save-steps 1".split()]


def _eval(out: Path, given: Path) -> list[list[str]]:
    line = f"eval {given}/answers.jsonl --benchmark custom --ground-truth {given}/truth.jsonl --metric exact"
    return [[*line.split(), "--images", f"{given}/photos", "--out", f"{out}/scores"]]


def _ranks(steps: Callable[[Path, Path], list[list[str]]]) -> Callable[[Path, Path], list[list[str]]]:
    def both(out: Path, given: Path) -> list[list[str]]:
        return [[*step, "--rank", str(rank), "--world-size", "2"] for rank in range(2) for step in steps(out, given)]

    return both


CASES: dict[str, Case] = {
    "detect": Case(_detect("--workers", "0", "--visualize", "3"), moments=200, inputs=PHOTOS),
    "detect-workers": Case(_detect("--workers", "2"), inputs=PHOTOS),
    "detect-coco": Case(_detect("--workers", "0", "--format", "coco"), inputs=PHOTOS),
    "detect-mg-llava": Case(_detect("--workers", "0", "--format", "mg-llava"), inputs=PHOTOS),
    "detect-parquet": Case(_detect("--workers", "0", "--format", "parquet"), inputs=PHOTOS),
    "detect-report": Case(
        lambda out, given: [[*_detect("--workers", "0")(out, given)[0], "--report", str(out / "page.html")]],
        inputs=PHOTOS,
    ),
    "detect-ranks": Case(_ranks(_detect("--workers", "0", "--visualize", "3"))),
    "pack": Case(lambda out, given: [_pack(out, given, "--workers", "1")], moments=200, inputs=TRAIN),
    "pack-workers": Case(lambda out, given: [_pack(out, given, "--workers", "2")], inputs=TRAIN),
    "pack-append": Case(
        lambda out, given: [
            _pack(out, given, "--workers", "1"), _pack(out, given, "--workers", "1", "--append", file="more.json"),
        ],
        before=1,
    ),
    "unpack": Case(
        lambda out, given: [["pack", f"{given}/tars", "--unpack", f"{out}/unpacked"]], inputs=("tars/*.tar",)
    ),
    "import": Case(_import, inputs=("kit/mg_llava.pth", "kit/*/*.safetensors")),
    "infer": Case(_infer(), moments=200, inputs=QUESTIONS),
    "infer-cache": Case(_infer("--cache", "OUT/cache"), inputs=QUESTIONS),
    "infer-samples": Case(_infer("--num-samples", "2", "--temperature", "1"), inputs=QUESTIONS),
    "infer-ranks": Case(_ranks(_infer())),
    "eval": Case(_eval, inputs=("answers.jsonl", "truth.jsonl")),
    "train": Case(_train, inputs=("tars/*.tar",)),
}  # fmt: skip


def make_inputs(given: Path) -> None:
    """Pictures, one of them broken and one twice, boxes, conversations, questions, answers, tars and a model."""
    import nasty
    from transformers import AutoTokenizer

    from mgtool.files.hashing import sha256
    from mgtool.model import MGLlavaProcessor

    (given / "photos").mkdir(parents=True)
    shutil.copytree(KIT, given / "kit")
    boxes, talks, questions = [], [], []
    for number in range(PICTURES):
        data = nasty.encode(nasty.photo(number % (PICTURES - 1), (96, 64)), "JPEG")
        data = b"no picture" if number == 4 else data
        name = f"{number:02}.jpg"
        (given / "photos" / name).write_bytes(data)
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": f"Thing {number}."}]
        talks.append({"id": number, "image": name, "conversations": turns})
        questions.append({"question_id": number, "image": name, "text": f"What is {number}?"})
        found = {"boxes": ((1.0, 2.0, 30.0, 40.0),), "scores": (0.5,), "labels": ("cat",)}
        boxes.append(BoxRecord(image=name, sha256=sha256(data), width=96, height=64, **found))
    (given / "train.json").write_text(json.dumps(talks[:7]))
    (given / "more.json").write_text(json.dumps(talks))
    (given / "boxes-000000.jsonl").write_bytes(b"".join(dumps(record) + b"\n" for record in boxes))
    _write_lines(given / "questions.jsonl", questions)
    _write_lines(given / "answers.jsonl", [{"question_id": n, "text": "a"} for n in range(PICTURES)])
    _write_lines(given / "truth.jsonl", [{**one, "answer": "a"} for one in questions])
    tiny_model(tiny_config()).save_pretrained(given / "model")
    MGLlavaProcessor(AutoTokenizer.from_pretrained(KIT / "llm"), image_size=96).save_pretrained(given / "model")


def _write_lines(path: Path, records: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
