"""What one evaluation reads: the benchmark's files, answers, boxes; and what identifies them."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from mgtool import benchmarks
from mgtool.boxes import formats
from mgtool.errors import InputError, ItemError, RecordError, UsageError, one_of
from mgtool.evaluation.joining import JoinedAnswers, join
from mgtool.evaluation.options import EvalOptions
from mgtool.evaluation.stdin import SpooledInput
from mgtool.files.hashing import sha256
from mgtool.inputs.fingerprints import fingerprint
from mgtool.media.reading import Place, read_bytes
from mgtool.records import BoxRecord, decode
from mgtool.scoring import predictions
from mgtool.scoring.benchmark import Benchmark, Item, kept_items
from mgtool.scoring.ground_truth import Document, Truth
from mgtool.scoring.layouts import SWAPPED, described
from mgtool.scoring.predictions import Answers


class EvalInputs:
    """What one evaluation reads; everything is read once, when it is needed.

    Args:
        source: answers file, ``-`` for stdin, or the box folder of a detection benchmark.
        options: what is asked for.
    """

    def __init__(self, source: str | Path, options: EvalOptions) -> None:
        self.source = str(source)
        self.options = options
        self.ground_truth = tuple(map(Path, options.ground_truth or ()))

    def check(self) -> None:
        """Read and join answers and items now, so that a mistake in them shows before anything is written."""
        _ = self.joined

    @cached_property
    def benchmark(self) -> Benchmark:
        """The benchmark, once its variant is known to exist, and to ask a judge where one is given.

        Raises:
            UsageError: for no benchmark, an unknown one, an unknown variant, or a judge that would not be asked.
        """
        if not self.options.benchmark:
            raise UsageError("benchmark", "is missing: give the name of one")
        benchmark, variant = benchmarks.get(self.options.benchmark), self.options.variant
        if variant not in benchmark.variants:
            raise UsageError("variant", f"{variant}: {benchmark.name} has {one_of(variant, benchmark.variants)}")
        metrics = [name.strip() for name in self.options.metric.split(",") if name.strip()]
        benchmark = benchmark.configured(metrics, self.options.by or ()).scored_by(self.options.scorer)
        if self.options.judge and not benchmark.asks_judge(variant):
            asking = [other for other in benchmark.variants if benchmark.asks_judge(other)]
            hint = f"; `variant` {' or '.join(asking)} does" if asking else ""
            raise UsageError("judge", f"is not asked by {benchmark.name} ({variant}){hint}")
        return benchmark

    @property
    def truth(self) -> Truth:
        """The official files.

        Raises:
            UsageError: where none are given.
        """
        if not self.ground_truth:
            raise UsageError("ground_truth", f"is missing: {self.benchmark.files}")
        questions = self.options.questions
        return Truth(self.ground_truth, Path(questions) if questions else None, self.options.split)

    @cached_property
    def items(self) -> Sequence[Item]:
        """Questions and targets.

        Raises:
            InputError: files that are not the benchmark's, whatever the loader stumbles over in them.
        """
        files, truth = self.benchmark.files, self.truth
        try:
            items = self.benchmark.load(truth)
            items = items if self.benchmark.needs_all else kept_items(items)
        except RecordError as error:
            raise truth.mismatch(f"{files} ({error})") from error
        except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise truth.mismatch(f"{files} ({type(error).__name__}: {error})") from error
        if not items:
            raise truth.mismatch(f"{files}; no question was found in it")
        if not any(item.target for item in items):
            wrong = truth.mismatch(files)
            if SWAPPED in str(wrong):  # its lines pass for questions without answers
                raise wrong
        self._refuse_unknown_split(items)
        return items

    def _refuse_unknown_split(self, items: Sequence[Item]) -> None:
        """A folder of several files, none of which belongs to the split that is asked for, is not all of that split."""
        split = self.options.split
        if not split or not any(path.is_dir() and not any(path.glob("*.tar")) for path in self.ground_truth):
            return
        files = self.truth.files
        if len(files) < 2:
            return
        named = [file.member or str(file.path.relative_to(file.path.parents[1])) for file in files]
        held = (str(value) for item in items for value in item.fields.values())
        if not any(split in text for text in itertools.chain(named, held)):
            raise UsageError("split", f"{split}: no file is named so; there are {', '.join(named)}")

    @cached_property
    def answers(self) -> Answers:
        """The answers (or boxes) that are scored; errors as of `compared`."""
        return self._read(self.source)

    @cached_property
    def joined(self) -> JoinedAnswers:
        """Items and answers; errors as of `pipeline.join`."""
        answers = self.answers
        return join(self.benchmark, self.items, answers, trust_ids=self.options.trust_ids)

    @cached_property
    def compared(self) -> Answers:
        """The answers of the run to compare with.

        Raises:
            InputError: when there is no such file, or it holds no answers.
        """
        return self._read(self.options.compare)

    @cached_property
    def boxes(self) -> dict[str, BoxRecord]:
        """Boxes by picture name, for the page and the slices."""
        source = self.options.boxes or (self.source if self._is_boxes(self.source) else None)
        records = [] if source is None else list(formats.read(str(source)))
        return {PurePosixPath(record.image).name: record for record in records} | {r.image: r for r in records}

    def identified(self) -> dict[str, Any]:
        """What identifies each input, by its field's name."""
        stream = f"- sha256:{self._spooled.sha256[:16]}" if self._is_stream else ""
        compare, questions = self.options.compare, self.options.questions
        return {
            "answers": stream or fingerprint(self.source, whole=True),
            "compare": fingerprint(compare, whole=True) if compare else None,
            "ground_truth": [fingerprint(str(path), whole=True) for path in self.ground_truth],
            "questions": fingerprint(str(questions)) if questions else None,
        }

    @property
    def _is_stream(self) -> bool:
        """Whether the answers come once only, as a shell's ``<(zcat answers.gz)`` does, too."""
        return self.source == "-" or Path(self.source).is_fifo()

    @cached_property
    def _spooled(self) -> SpooledInput:
        if self.source == "-":
            return SpooledInput(sys.stdin.buffer)
        with Path(self.source).open("rb") as pipe:
            return SpooledInput(pipe)

    def _is_boxes(self, source: str) -> bool:
        """Whether a source is scored as boxes; where both will do, a JSON Lines file of answers has none."""
        takes = self.benchmark.takes
        if takes != "either" or source == "-" or not source.endswith(".jsonl") or Path(source).is_fifo():
            return takes == "boxes" or (takes == "either" and source != "-")
        try:
            with Path(source).open("rb") as file:
                return "boxes" in decode(file.readline() or b"{}", dict[str, msgspec.Raw])
        except msgspec.DecodeError:
            return False  # the readers of answers take more than is strictly JSON, or say what is wrong
        except OSError as error:
            raise InputError(f"{source}: no answers file or box folder that can be read: {error}") from error

    def _by_name(self, source: str) -> Iterator[BoxRecord]:
        """The records of a box file, and those of pictures that it has under another name, by their bytes."""
        names, by_bytes = set[str](), dict[str, BoxRecord]()
        for record in formats.read(source):
            names |= {record.image, PurePosixPath(record.image).name}
            if record.sha256 and self.options.images:
                by_bytes[record.sha256] = record
            yield record
        for item in self.items if by_bytes else ():
            if item.image in names or not names.isdisjoint(self.benchmark.aliases(item)):
                continue
            with contextlib.suppress(ItemError):  # a picture that is not there has no boxes
                digest = sha256(read_bytes(self.place.media(item.image)))
                if digest in by_bytes:
                    yield msgspec.structs.replace(by_bytes[digest], image=item.image)

    @property
    def place(self) -> Place:
        """Where pictures are looked up by the names of the ground truth."""
        options = self.options
        return Place.of(options.images, allow_absolute=options.allow_absolute, allow_remote=options.allow_remote)

    def _of_stream(self) -> Answers:
        file, found = self._spooled.file, None
        file.seek(0)
        with contextlib.suppress(InputError):  # which is raised again below, with what the file looks like
            found = predictions.read_opened(file, where=self.source)
        if found is not None:
            return found
        file.seek(0)
        return _answers(file.read(), self.source)

    def _read(self, source: str) -> Answers:
        """The answers (or boxes) of one run, with the failures that it recorded."""
        path = Path(source)
        if self._is_boxes(source):
            return _with_failures(predictions.from_boxes(self._by_name(source)), path / "boxes")
        if source == self.source and self._is_stream:
            return self._of_stream()
        in_folder = self.benchmark.folder_answers(path) if path.is_dir() else None
        if in_folder is not None:
            return in_folder
        if not path.is_file():
            is_there = "no regular file" if path.exists() else "no such answers file"
            what = "a folder: give the answers file" if path.is_dir() else is_there
            raise InputError(f"{source}: {what}")
        return _with_failures(predictions.read_lines(path) or _answers(path.read_bytes(), source), path)


def _answers(data: bytes, where: str) -> Answers:
    """The answers in a file; where there are none, its look is told."""
    if not data.strip():
        raise InputError(f"{where}: it is empty; expected answers, a line each with an id and a text")
    try:
        return predictions.read(data, where=where)
    except InputError as error:
        looks = described(Document(Path(where), content=data))
        raise InputError(f"{error}; {looks}" if looks else str(error)) from error


def _with_failures(answers: Answers, path: Path) -> Answers:
    """Answers with the failures that the run recorded beside their file, too."""
    return answers._replace(failures=[*answers.failures, *predictions.read_failures(path)])
