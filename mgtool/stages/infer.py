"""Samples -> answers, in the order of the input, whatever the batches were."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mgtool import sources
from mgtool.boxfiles import BoxIndex
from mgtool.errors import InputError, MgtoolError, ResumeError
from mgtool.generation.engine import Completion, Engine
from mgtool.generation.planning import STAGE, Asked, BoxSource, Planner
from mgtool.generation.prompts import Prompter
from mgtool.records import Answer, Failure, SampleId, parse
from mgtool.shards import FAILURES_FILE, RUN_FILE, Journal, Run, write_lines

Result = Answer | Failure
Advance = Callable[[int], None]
_HASHED_WHOLE = 1 << 26
"""Inputs up to this many bytes are known by their content, larger ones by name and size."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of whom.

    Attributes:
        inputs: as `mgtool.sources.read_samples` takes them.
        images: where relative names of pictures start.
        boxes: a box file or folder; ``off`` for none; None for those that the samples carry.
        model: the model's folder.
        prompter: the prompts.
        max_new_tokens: limit of an answer.
        batch_size: most prompts that are decoded together.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        device: as torch names it.
    """

    inputs: Sequence[str]
    model: Path
    prompter: Prompter
    max_new_tokens: int
    dtype: str
    device: str
    images: str | None = None
    boxes: str | None = None
    batch_size: int = 32

    def identity(self) -> dict[str, Any]:
        """What the answers depend on, for going on with a run."""
        return {
            "model": model_identity(self.model),
            "task": self.prompter.task,
            "prompt": self.prompter.template,
            "max_new_tokens": self.max_new_tokens,
            "dtype": self.dtype,
            "boxes": self.boxes if self.boxes in (None, "off") else input_identity(str(self.boxes)),
            "input": [input_identity(given) for given in self.inputs],
        }


class Sink(Protocol):
    """Takes results in the order of the input."""

    def write(self, position: int, result: Result) -> None: ...


def answer(
    request: Request, items: Iterable[tuple[int, sources.Item]], first: int, sink: Sink, advance: Advance
) -> int:
    """Answer numbered items and write the results in their order; gives the number of new tokens.

    Args:
        request: what is asked of whom.
        items: positions and items, the first position being `first`.
        first: see `items`.
        sink: where results go.
        advance: told of every result that was written.
    """
    model, processor = load(request)
    engine = Engine(model, processor, max_new_tokens=request.max_new_tokens, batch_size=request.batch_size)
    with _boxes(request.boxes) as boxes:
        planner = Planner(request.prompter, processor, boxes)
        writer = _InOrder(first, sink, advance)
        for position, outcome in engine.generate(planner.groups(items)):
            asked = planner.asked.pop(position)
            writer.put(position, _result(asked, outcome, processor, request.model.resolve().name))
            writer.take(planner.failures)
        writer.take(planner.failures)
    return writer.tokens


def load(request: Request) -> tuple[Any, Any]:
    """Model and processor.

    Raises:
        InputError: the folder holds no model.
    """
    import torch
    from transformers.utils import logging

    from mgtool.model import MGLlavaForConditionalGeneration, MGLlavaProcessor

    _check_model(request.model)
    logging.disable_progress_bar()
    model = MGLlavaForConditionalGeneration.from_pretrained(request.model, dtype=getattr(torch, request.dtype))
    return model.to(request.device).eval(), MGLlavaProcessor.from_pretrained(request.model)


def _check_model(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(f"--model {folder}: no model in this folder (config.json); `mgtool import` makes one")


@contextlib.contextmanager
def _boxes(given: str | None) -> Iterator[BoxSource]:
    if given is None or given == "off":
        yield BoxSource(off=given == "off")
        return
    with BoxIndex(given) as index:
        yield BoxSource(index)


def _result(asked: Asked, outcome: Any, processor: Any, model_id: str) -> Result:
    sample = asked.sample
    if not isinstance(outcome, Completion):
        return Failure.of(sample.id, STAGE, outcome)
    return Answer(
        question_id=sample.id,
        prompt=asked.question,
        text=processor.decode(outcome.ids),
        model_id=model_id,
        image=sample.images[0].name if sample.images else "",
        finish_reason=outcome.finish_reason,
        tokens=len(outcome.ids),
        metadata=sample.metadata,
    )


class _InOrder:
    """Holds results back until those before them are there."""

    def __init__(self, first: int, sink: Sink, advance: Advance) -> None:
        self.next, self.sink, self.advance = first, sink, advance
        self.held: dict[int, Result] = {}
        self.tokens = 0

    def put(self, position: int, result: Result) -> None:
        self.held[position] = result

    def take(self, failures: dict[int, Failure]) -> None:
        """Take over failures, and write what is due."""
        self.held |= failures
        failures.clear()
        while self.next in self.held:
            result = self.held.pop(self.next)
            self.sink.write(self.next, result)
            self.tokens += result.tokens if isinstance(result, Answer) else 0
            self.next += 1
            self.advance(1)


class _Numbered(msgspec.Struct, frozen=True):
    position: int
    failure: Failure


class AnswersFile:
    """An answers file in progress, ``FILE.partial``, that a killed run leaves to the next one.

    Failures are numbered while the run is on, so that both files together tell how far it came.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        folder, prefix = out.parent, "" if _owns_folder(out) else f"{out.stem}."
        self.run_path, self.failures_path = folder / (prefix + RUN_FILE), folder / (prefix + FAILURES_FILE)
        self.answers = Journal(out.with_name(out.name + ".partial"))
        self.failures = Journal(out.with_name(f".{out.name}.failures"))
        self.counts = {"answered": 0, "failed": 0}

    def clear(self) -> None:
        """Forget what an earlier run wrote."""
        self.answers.remove()
        self.failures.remove()
        for path in (self.out, self.failures_path, self.run_path):
            path.unlink(missing_ok=True)

    def skip_done(self, items: Iterable[sources.Item]) -> tuple[int, Iterator[tuple[int, sources.Item]]]:
        """The position where the run goes on, and the items from there.

        Raises:
            ResumeError: the input has other items than the answers.
        """
        failed = {entry.position for entry in self.failures.read(_Numbered)}
        ids = (entry.question_id for entry in self.answers.read(Answer))
        numbered = enumerate(items)
        for position, item in numbered:
            done: SampleId | None = item.id if position in failed else next(ids, None)
            if done is None:
                return position, itertools.chain([(position, item)], numbered)
            if done != item.id:
                raise ResumeError(f"{self.answers.path} answers {done} where the input has {item.id}: add --overwrite")
            self.counts["failed" if position in failed else "answered"] += 1
        return sum(self.counts.values()), iter(())

    def write(self, position: int, result: Result) -> None:
        """Append one result."""
        if isinstance(result, Failure):
            self.failures.append(_Numbered(position, result))
            self.counts["failed"] += 1
        else:
            self.answers.append(result)
            self.counts["answered"] += 1

    def publish(self) -> None:
        """Give the files their final names; without failures there is no file of them."""
        self.failures.close()
        entries = {entry.position: entry.failure for entry in self.failures.read(_Numbered)}
        self.failures_path.unlink(missing_ok=True)
        if entries:
            write_lines(self.failures_path, (entries[position] for position in sorted(entries)))
        self.answers.publish(self.out)
        self.failures.remove()


def _owns_folder(out: Path) -> bool:
    """Whether ``run.json`` beside the answers is, or may become, theirs."""
    own, run = out.with_name(f"{out.stem}.{RUN_FILE}"), out.with_name(RUN_FILE)
    if own.exists() or not run.exists():
        return not own.exists()
    record = parse(run.read_bytes(), dict[str, Any], where=str(run))
    return record.get("command") == STAGE and record.get("out") == out.name


def infer(request: Request, out: Path, *, about: dict[str, Any], overwrite: bool, advance: Advance) -> dict[str, Any]:
    """Answer everything into a file, going on where an earlier run stopped; gives the counts.

    Args:
        request: what is asked of whom.
        out: the answers file.
        about: further entries of ``run.json``.
        overwrite: start afresh.
        advance: told of every result that was written.

    Raises:
        ResumeError: the file on disk is of another run.
    """
    _check_model(request.model)
    file = AnswersFile(out)
    if overwrite:
        file.clear()
    run = Run(file.run_path, command=STAGE, identity=request.identity(), about={"out": out.name, **about})
    run.begin(overwrite=overwrite)
    if run.finished and out.exists():
        return dict(parse(file.run_path.read_bytes(), dict[str, Any], where=str(file.run_path))["counts"])
    try:
        first, items = file.skip_done(sources.read_samples(request.inputs, images=request.images))
        tokens = answer(request, items, first, file, advance)
    except MgtoolError:
        if not any(file.counts.values()):  # a mistake that wrote nothing must not bind the next run to its options
            file.run_path.unlink(missing_ok=True)
        raise
    file.publish()
    run.finish(counts=file.counts, new_tokens=tokens)
    return file.counts


def model_identity(folder: Path) -> str:
    """The hash of a model's configuration and weights, as `mgtool import` noted it, else of names and sizes."""
    record = folder / RUN_FILE
    if record.is_file():
        hashes = parse(record.read_bytes(), dict[str, Any], where=str(record)).get("sha256")
        if hashes:
            return hashlib.sha256(repr(sorted(hashes.items())).encode()).hexdigest()
    _check_model(folder)
    files = sorted((path.name, path.stat().st_size) for path in folder.iterdir() if path.is_file())
    return hashlib.sha256(repr(files).encode() + (folder / "config.json").read_bytes()).hexdigest()


def input_identity(given: str) -> str:
    """What an input is known by: a file's content, a folder's names and sizes, else how it was given."""
    path = Path(given)
    if path.is_dir():
        files = sorted(
            (file.relative_to(path).as_posix(), file.stat().st_size) for file in path.rglob("*") if file.is_file()
        )
        return hashlib.sha256(repr(files).encode()).hexdigest()
    if not path.is_file():
        return given
    if path.stat().st_size > _HASHED_WHOLE:
        return f"{path.name}, {path.stat().st_size} bytes"
    return hashlib.sha256(path.read_bytes()).hexdigest()
