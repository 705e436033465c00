"""What `mgtool eval` reads: the benchmark's files, answers, boxes, pictures, and what makes a run the one it is."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mgtool.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mgtool.benchmarks import Benchmark, Item
    from mgtool.evaluation.judge_models import KeptJudge
    from mgtool.records import BoxRecord
    from mgtool.runs.run_file import Run
    from mgtool.scoring.ground_truth import Truth
    from mgtool.scoring.predictions import Answers

MOST_TABLE_BYTES = 1 << 30


@dataclass(frozen=True)
class Job:
    """One evaluation as it was asked for; what it reads is read once, when it is needed."""

    answers: str
    benchmark: str
    ground_truth: tuple[Path, ...]
    questions: Path | None
    split: str
    out: Path | None
    variant: str
    only_answered: bool
    compare: str
    slices: tuple[str, ...]
    images: str | None
    boxes: Path | None
    judge: str
    judge_url: str
    judge_workers: int

    @cached_property
    def bench(self) -> Benchmark:
        """The benchmark, once its variant is known to exist."""
        from mgtool import benchmarks

        bench = benchmarks.get(self.benchmark)
        if self.variant not in bench.variants:
            raise UsageError("variant", f"{self.variant}: {bench.name} has {', '.join(bench.variants)}")
        return bench

    @cached_property
    def truth(self) -> Truth:
        """The official files."""
        from mgtool.scoring.ground_truth import Truth

        if not self.ground_truth:
            raise UsageError("ground_truth", f"is missing: {self.bench.files}")
        return Truth(self.ground_truth, self.questions, self.split)

    @cached_property
    def items(self) -> list[Item]:
        """Questions and targets.

        Raises:
            InputError: files that are not the benchmark's, whatever the loader stumbles over in them.
        """
        try:
            items = self.bench.load(self.truth)
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise self.truth.mismatch(f"{self.bench.files} ({type(error).__name__}: {error})") from error
        if not items:
            raise self.truth.mismatch(f"{self.bench.files}; no question was found in it")
        self._refuse_unknown_split(items)
        return items

    def _refuse_unknown_split(self, items: Sequence[Item]) -> None:
        """A folder of several files, none of which belongs to the split that is asked for, is not all of that split."""
        files = self.truth.files
        if not self.split or len(files) < 2 or not any(path.is_dir() for path in self.ground_truth):
            return
        named = [file.member or str(file.path.relative_to(file.path.parents[1])) for file in files]
        held = (str(value) for item in items for value in item.fields.values())
        if not any(self.split in text for text in itertools.chain(named, held)):
            raise UsageError("split", f"{self.split}: no file is named so; there are {', '.join(named)}")

    @cached_property
    def box_records(self) -> dict[str, BoxRecord]:
        """Boxes by picture name, for the report and the slices."""
        source = self.boxes or (Path(self.answers) if self._is_boxes(self.answers) else None)
        if source is None:
            return {}
        records = _box_records(source)
        return {PurePosixPath(record.image).name: record for record in records} | {r.image: r for r in records}

    @cached_property
    def asked(self) -> KeptJudge | None:
        """The judge, with the replies that the output already holds."""
        from mgtool.evaluation import judge_models
        from mgtool.files import journal

        if not self.judge:
            return None
        if self.out is None:
            raise UsageError("judge", "needs `out` DIR, where its replies are kept")
        model = judge_models.backend(self.judge, url=self.judge_url, workers=self.judge_workers)
        return judge_models.KeptJudge(model, journal.Journal(self.out / "judge.jsonl"))

    @cached_property
    def stdin(self) -> bytes:
        """All of the standard input."""
        return sys.stdin.buffer.read()

    def _is_boxes(self, source: str) -> bool:
        """Whether a source is scored as boxes; where both will do, a JSON Lines file of answers has none."""
        import msgspec

        if self.bench.takes != "either" or source == "-" or not source.endswith(".jsonl"):
            return self.bench.takes == "boxes" or (self.bench.takes == "either" and source != "-")
        try:
            with Path(source).open("rb") as file:
                return "boxes" in msgspec.json.decode(file.readline() or b"{}", type=dict[str, msgspec.Raw])
        except msgspec.DecodeError:
            return False  # the readers of answers take more than is strictly JSON, or say what is wrong
        except OSError as error:
            raise InputError(f"{source}: no answers file or box folder that can be read: {error}") from error

    def read_answers(self, source: str) -> Answers:
        """The answers (or boxes) of one run, with the failures that it recorded."""
        from mgtool.scoring import predictions

        if self._is_boxes(source):
            boxes = predictions.from_boxes(_box_records(Path(source)))
            return boxes._replace(failures=predictions.read_failures(Path(source) / "boxes"))
        if source == "-":
            return predictions.read(self.stdin, where="-")
        path = Path(source)
        if not path.is_file():
            raise InputError(
                f"{source}: {'a folder: give the answers file' if path.is_dir() else 'no such answers file'}"
            )
        answers = predictions.read(path.read_bytes(), where=source)
        return answers._replace(failures=[*answers.failures, *predictions.read_failures(path)])

    def run(self, folder: Path) -> Run:
        """The record of the run that fills a folder."""
        from mgtool.runs.run_file import RUN_FILE, Run

        names = ("benchmark", "variant", "only_answered", "judge", "split")
        options = {name: getattr(self, name) for name in names}
        path, computes = folder / RUN_FILE, ("numpy", "scipy", "hotcoco")
        return Run(path, command="eval", options=options, inputs=self._identified(), computes=computes)

    def _identified(self) -> dict[str, Any]:
        from mgtool.files.hashing import sha256
        from mgtool.inputs.fingerprints import fingerprint

        return {
            "answers": fingerprint(self.answers, whole=True)
            if self.answers != "-"
            else f"- sha256:{sha256(self.stdin)[:16]}",
            "compare": fingerprint(self.compare, whole=True) if self.compare else None,
            "ground_truth": [fingerprint(str(path), whole=True) for path in self.ground_truth],
            "questions": fingerprint(str(self.questions)) if self.questions else None,
        }


def picture_reader(job: Job) -> Callable[[str], bytes | None]:
    """A function from a picture's name to its bytes; None for what is not there.

    Pictures come from `--images`, and from tables that hold the benchmark's pictures and are not too large to keep.
    """
    small = (path for path in job.ground_truth if path.suffix == ".tsv" and path.stat().st_size < MOST_TABLE_BYTES)
    tables = [str(path) for path in small]
    if job.images is None and not tables:
        return lambda name: None
    from mgtool.errors import ItemError
    from mgtool.inputs import sources
    from mgtool.media import reading
    from mgtool.records import Sample

    within = {
        name: picture
        for sample in (sources.read_samples(tables) if tables else ())
        if isinstance(sample, Sample) and sample.images
        for picture in sample.images[:1]
        for name in (str(sample.id), picture.name)
    }
    place = reading.Place(job.images)

    def read(name: str) -> bytes | None:
        if job.images is None and name not in within:
            return None
        try:
            return reading.read_bytes(within.get(name) or place.media(name))
        except ItemError:
            return None

    return read


def _box_records(path: Path) -> Sequence[BoxRecord]:
    from mgtool.boxes import formats

    return list(formats.read(str(path)))
