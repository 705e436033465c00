"""What is called with broken files, kind by kind: the public functions that read them."""

from __future__ import annotations

import contextlib
import functools
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fuzz_seeds as seeds
import mutations

Mutate = Callable[[bytes, random.Random], bytes]
Call = Callable[[str, bytes, Path], Any]


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        seeds: makes whole files, by name; their endings count.
        mutate: ways to break them.
        call: is given a file's name, its bytes, and a folder to write it to.
        most_mb: memory that a process may have at its peak, reading any of them.
    """

    seeds: Callable[[Path], Mapping[str, bytes]]
    mutate: tuple[Mutate, ...]
    call: Call
    most_mb: int = 300


def _written(name: str, data: bytes, folder: Path) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _drain(items: Any) -> int:
    return sum(1 for _ in items)


def _picture(name: str, data: bytes, folder: Path) -> None:
    from mgtool.errors import ItemError
    from mgtool.media import images

    images.orientation(data)
    for read in (images.probe, images.check, images.decode, lambda data: images.reduce(data, 64)):
        try:
            read(data)
        except ItemError:
            continue


def _video(name: str, data: bytes, folder: Path) -> None:
    from mgtool.media import videos

    videos.decode_frames(data, 3)


def _tar(name: str, data: bytes, folder: Path) -> None:
    from mgtool.errors import MgtoolError
    from mgtool.packing.unpack import unpack_samples
    from mgtool.tars import index, samples

    path = _written("x.tar", data, folder)
    found = list(samples.read_samples([str(path)]))
    with contextlib.suppress(MgtoolError):
        _drain(index.scan(str(path)))
    if len(data) % 8 == 0:
        (folder / "unpacked").mkdir()
        unpack_samples(found, folder / "unpacked", lambda count: None)


def _samples(name: str, data: bytes, folder: Path) -> None:
    from mgtool.inputs import sources
    from mgtool.records import dumps

    for item in sources.read_samples([str(_written(name, data, folder))]):
        dumps(item)


def _boxes(name: str, data: bytes, folder: Path) -> None:
    from mgtool.boxes import formats
    from mgtool.boxes.index import BoxIndex
    from mgtool.records import dumps

    path = _written(name, data, folder)
    if name.startswith("results"):
        _written("images.json", seeds.dumped(seeds.COCO), folder)
    for record in formats.read(str(path)):
        dumps(record)
    with BoxIndex(str(path)) as index:
        index.by_image("a.jpg")


def _truth(name: str, data: bytes, folder: Path) -> None:
    from mgtool import benchmarks
    from mgtool.errors import MgtoolError
    from mgtool.evaluation.inputs import EvalInputs
    from mgtool.evaluation.options import EvalOptions
    from mgtool.scoring.ground_truth import Truth

    path = _written(name, data, folder)
    try:
        for document in Truth((path,)).files:
            document.rows()
    except MgtoolError:
        pass
    names = sorted(benchmarks.TABLE)
    options = EvalOptions(benchmark=names[sum(data[-40:]) % len(names)], ground_truth=[path])
    _ = EvalInputs("answers.jsonl", options).items


def _answers(name: str, data: bytes, folder: Path) -> None:
    from mgtool.records import dumps
    from mgtool.scoring import predictions

    found = predictions.read(data, where=name)
    dumps(found.failures)
    predictions.recorded(_written(name, data, folder))


@functools.cache
def _commands() -> Any:
    from typer.main import get_command

    from mgtool.commands.main import app

    return get_command(app).commands


def _toml(name: str, data: bytes, folder: Path) -> None:
    from typer._click.exceptions import ClickException

    path = _written(name, data, folder)
    option = ["--trainer" if name.startswith("trainer") else "--config", str(path)]
    word = "train" if name.startswith("trainer") else "detect"
    with contextlib.suppress(ClickException):
        _commands()[word].make_context(word, ["x", *option])


def _checkpoint(name: str, data: bytes, folder: Path) -> None:
    from mgtool.importing import weights

    for entry in weights.file_entries(_written(name, data, folder)).values():
        entry.source.load()[entry.key].sum()
        break


def _weights_index(name: str, data: bytes, folder: Path) -> None:
    from mgtool.importing import weights

    _written(name, data, folder)
    _written("model-1.safetensors", seeds.checkpoints()["x.safetensors"], folder)
    weights.folder_entries(folder, ("model", "pytorch_model"))


def _vocabulary(name: str, data: bytes, folder: Path) -> None:
    from mgtool.detectors import vocabulary

    vocabulary.read(str(_written(name, data, folder)))


@functools.cache
def _judged() -> list[Any]:
    from mgtool import benchmarks
    from mgtool.scoring.judged import JudgedBenchmark

    return [one for one in benchmarks.TABLE.values() if isinstance(one, JudgedBenchmark)]


def _reply(name: str, data: bytes, folder: Path) -> None:
    """A text of a judge for every benchmark, and the whole answer of a server."""
    import httpx

    from mgtool.evaluation.judge_models import OpenAiBackend
    from mgtool.scoring.benchmark import Item, JudgeRequest

    fields = {
        "options": "(a) x (b) y",
        "correct": "(a)",
        "question_type": "free_form",
        "answer_type": "float",
        "precision": 1,
        "choices": ["x", "y"],
        "context": "c",
        "category": "c",
    }
    for benchmark in _judged():
        benchmark.read(Item(id="1", question="Q", target="3", fields=fields), "4", data.decode("utf-8", "replace"))

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if len(data) % 3 else 400, content=data)

    backend, usual = OpenAiBackend("m", "https://judge.invalid/v1", 1, first_wait_s=0.0), httpx.Client
    httpx.Client = functools.partial(usual, transport=httpx.MockTransport(answer))  # type: ignore[misc]
    try:
        _drain(backend.replies([JudgeRequest(user="Q")]))
    finally:
        httpx.Client = usual  # type: ignore[misc]


def _leftovers(name: str, data: bytes, folder: Path) -> None:
    """What lies in an output folder, whoever put it there, before a run goes on with it."""
    from mgtool.detection.output import DetectionOutput
    from mgtool.files.lock import one_writer
    from mgtool.inference.output import AnswersFile
    from mgtool.packing.output import whole
    from mgtool.records import Sample
    from mgtool.runs.run_file import Run

    path = _written(name, data, folder)
    os.utime(path, (0, 0))  # a holder elsewhere gives no sign of life
    with one_writer(folder):
        run = Run(folder / "run.json", command="detect", options={"format": "jsonl"}, inputs={"inputs": ["x"]})
        if name == "run.json":
            run.begin()
            with run.trusting():
                run.counts  # noqa: B018
        elif name == "answers.jsonl.partial":
            items = enumerate([Sample(id=0), Sample(id=1)])
            _drain(AnswersFile(folder / "answers.jsonl").skip_done(items))
        elif name.endswith("shard-000000.json"):
            whole(folder / name)
        else:
            output = DetectionOutput(folder, format="jsonl", shard_size=10, visualize=0)
            _drain(output.resume())


def _index(name: str, data: bytes, folder: Path) -> None:
    from mgtool.errors import MgtoolError
    from mgtool.tars import stretches
    from mgtool.tars.index import TarIndex, totals, write_index

    tar = _written("shard-000000.tar", seeds.tars()["pax"], folder)
    _written(name, data, folder)
    with contextlib.suppress(MgtoolError):
        found = stretches.places([str(folder)])
        if found is not None:
            _drain(stretches.read(found, 0, 3))
            _drain(stretches.read(found, 1, 2))
    index = TarIndex.of(folder)
    for n in range(min(3, len(index))):
        with contextlib.suppress(MgtoolError):
            index[n]
    totals(write_index(folder, [str(tar)]))


def _of(**files: Any) -> Callable[[Path], Mapping[str, bytes]]:
    return lambda folder: {name.replace("__", "."): data for name, data in files.items()}


JSON, BYTES, TABLE, PARQUET = mutations.of_json, mutations.of_bytes, mutations.of_table, mutations.of_parquet
dumped, lines = seeds.dumped, seeds.lines

_ROWS = [{"index": 1, "question": "What?", "A": "x", "answer": "A", "category": "c"}]

KINDS: dict[str, Kind] = {
    "pictures": Kind(lambda folder: seeds.pictures(), (BYTES, BYTES, mutations.of_png), _picture, 1000),
    "videos": Kind(lambda folder: seeds.videos(), (BYTES,), _video, 600),
    "tars": Kind(lambda folder: seeds.tars(), (BYTES, mutations.of_tar, mutations.of_tar), _tar),
    "json": Kind(
        _of(llava__json=dumped(seeds.LLAVA), coco__json=dumped(seeds.COCO), one__json=dumped(seeds.LLAVA[0])),
        (JSON, JSON, BYTES),
        _samples,
    ),
    "jsonl": Kind(
        _of(q__jsonl=lines(seeds.QUESTIONS), boxes__jsonl=lines([seeds.BOX, seeds.VIDEO]), c__jsonl=lines(seeds.LLAVA)),
        (JSON, JSON, BYTES),
        _samples,
    ),
    "tsv": Kind(_of(x__tsv=seeds.TSV.encode()), (BYTES, TABLE), _samples),
    "lists": Kind(_of(x__txt=b"a.jpg\n../b.jpg\n/c.jpg\n"), (BYTES,), _samples),
    "boxes": Kind(
        lambda folder: {
            "b.jsonl": lines([seeds.BOX, seeds.VIDEO]),
            "p.json": dumped(seeds.PUBLISHED),
            "results.json": dumped(seeds.RESULTS),
            "coco.json": dumped(seeds.COCO),
            "d.json": dumped({"a.jpg": seeds.PUBLISHED[0]}),
        },
        (JSON, JSON, BYTES),
        _boxes,
    ),
    "box-parquet": Kind(lambda folder: {"b.parquet": seeds.box_parquet(folder)}, (BYTES, PARQUET), _boxes, 400),
    "truth": Kind(
        lambda folder: {
            "t.json": dumped(seeds.VQA),
            "t.jsonl": lines(_ROWS),
            "q.json": dumped(seeds.COCO),
            "l.json": dumped(_ROWS),
            "d.json": dumped({"1": _ROWS[0]}),
        },
        (JSON, JSON, BYTES),
        _truth,
    ),
    "tables": Kind(
        _of(t__tsv=seeds.TSV.encode(), t__csv=b"Index,Question,Options,Correct Answer\n1,What?,(a) x (b) y,(a)\n"),
        (BYTES, TABLE),
        _truth,
    ),
    "parquet": Kind(lambda folder: {"t.parquet": seeds.parquet(_ROWS * 3)}, (BYTES, PARQUET), _truth, 400),
    "workbooks": Kind(
        lambda folder: {
            "t.xlsx": seeds.workbook(),
            "t.zip": seeds.zipped({"a.json": dumped(_ROWS), "b.tsv": seeds.TSV.encode()}),
        },
        (BYTES, mutations.of_zip, mutations.of_zip),
        _truth,
    ),
    "answers": Kind(
        lambda folder: {
            "a.jsonl": lines(seeds.ANSWERS),
            "a.json": dumped({"1": "yes", "2": ["no"]}),
            "l.json": dumped(seeds.ANSWERS),
            "o.json": dumped({"outputs": {"1": "x"}}),
            "r.tsv": seeds.TSV.encode(),
            "w.xlsx": seeds.workbook(),
            "log.jsonl": lines([{"doc_id": 0, "doc": {"question_id": 3}, "filtered_resps": [["yes"]], "input": "Q"}]),
        },
        (JSON, JSON, BYTES),
        _answers,
    ),
    "toml": Kind(
        _of(
            c__toml=b'threshold = 0.5\n[detect]\nkeep = "cat"\nformat = "coco"\nallow-remote = ["https"]\n',
            trainer__toml=b"seed = 3\nreport_to = []\n[optim_args]\na = 1\n",
            trainer__json=dumped({"seed": 3}),
        ),
        (BYTES, mutations.of_toml, mutations.of_toml),
        _toml,
    ),
    "checkpoints": Kind(
        lambda folder: seeds.checkpoints(), (BYTES, mutations.of_zip, mutations.of_zip), _checkpoint, 1000
    ),
    "weight-indexes": Kind(
        lambda folder: {
            "model.safetensors.index.json": dumped(
                {"weight_map": {"b": "model-1.safetensors"}, "metadata": {"total_size": 4}}
            )
        },
        (JSON, BYTES),
        _weights_index,
        1000,
    ),
    "vocabularies": Kind(_of(v__txt="cat\ndog\nété\n".encode()), (BYTES,), _vocabulary),
    "replies": Kind(
        _of(
            a__json=dumped({"choices": [{"message": {"content": "0.5 yes"}, "finish_reason": "stop"}]}),
            b__json=dumped({"error": {"message": "max_tokens", "param": "max_tokens"}}),
            c__txt=b"7 8\nbecause",
            d__txt=b"yes",
        ),
        (JSON, BYTES),
        _reply,
    ),
    "leftovers": Kind(
        lambda folder: {
            "run.json": dumped(
                {
                    "command": "detect",
                    "options": {"format": "jsonl"},
                    "inputs": {"inputs": ["x"]},
                    "versions": {},
                    "model": None,
                    "detector": None,
                    "counts": {"records": 3},
                    "times": {"finished": "2026"},
                }
            ),
            ".mgtool.lock": dumped({"host": "elsewhere", "pid": 3, "start": "7"}),
            ".detect.journal.jsonl": lines(
                [{"id": "a.jpg", "sha256": "0" * 64, "box": seeds.BOX}, {"id": "b", "sha256": "x", "again": "a.jpg"}]
            ),
            "answers.jsonl.partial": lines([{**seeds.ANSWERS[0], "question_id": 0}]),
            "shard-000000.json": dumped({"samples": 3, "bytes": 4}),
        },
        (JSON, JSON, BYTES),
        _leftovers,
    ),
    "tar-indexes": Kind(
        lambda folder: {"samples.parquet": _index_seed(folder)}, (BYTES, PARQUET, PARQUET), _index, 400
    ),
}


def _index_seed(folder: Path) -> bytes:
    from mgtool.tars import index

    tar = _written("shard-000000.tar", seeds.tars()["pax"], folder)
    path = index.write_index(folder, [str(tar)])
    data = path.read_bytes()
    path.unlink()
    return data
