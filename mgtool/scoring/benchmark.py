"""What every benchmark is: questions with their targets, the published prompt, the score of one answer, the metrics."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np

from mgtool.errors import UsageError, one_of
from mgtool.files.record_file import kept
from mgtool.records import Sample, SampleId, Score, Turn
from mgtool.scoring.clusters import Floats, ratio
from mgtool.scoring.ground_truth import Truth
from mgtool.scoring.instructions import question_of, with_suffix
from mgtool.scoring.predictions import Answers, Prediction
from mgtool.scoring.score_file import by_field as by_field
from mgtool.scoring.score_file import groups_of, has_field, rows_of
from mgtool.scoring.statistics import Metric, Statistic

V = TypeVar("V")
Breakdown = Mapping[str, Mapping[str, Statistic | Metric]]
"""Field -> value -> number."""
OFFICIAL = "official"
SCORERS = ("hotcoco", "pycocotools")
"""What computes average precision; the first by default."""


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One question of a benchmark, with what is expected.

    Attributes:
        id: the official id of the question.
        question: its text, for reading.
        target: the expected answer or answers, in the form that the benchmark's `score` reads.
        image: the picture's name.
        group: the cluster for standard errors; the picture when empty.
        fields: what breakdowns and slices need.
        aliases: other keys by which answers files name this question.
        context: what all items of a set share; it is not written out.
    """

    id: SampleId
    question: str = ""
    target: Any = None
    image: str = ""
    group: str = ""
    fields: dict[str, Any] = {}
    aliases: tuple[str, ...] = ()
    context: Any = None


class Verdict(NamedTuple):
    """How one answer was read and scored.

    Attributes:
        extracted: what was read in the answer; None where nothing could be.
        score: 1 right, 0 wrong, or between.
        fields: what is known only with the answer; joins the item's fields.
    """

    extracted: Any
    score: float
    fields: Mapping[str, Any] = {}


@functools.lru_cache(maxsize=1 << 12)
def shared_verdict(extracted: str | None, score: float) -> Verdict:
    """A verdict that many answers have in common, once in memory."""
    return Verdict(extracted, score)


Pair = tuple[Item, Prediction | None]
"""An item with its answer, where there is one."""


class Submission(NamedTuple):
    """A file for a test server."""

    name: str
    data: bytes


class JudgeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a judge.

    Attributes:
        user: the prompt.
        system: the system prompt, where the original has one.
        temperature: of sampling; the original's, None where the original names none and takes the server's.
        max_tokens: limit of the reply; the original's.
        repeat: how often the very same was asked before, because its reply could not be read.
    """

    user: str
    system: str = ""
    temperature: float | None = 0.0
    max_tokens: int = 1024
    repeat: int = 0


class Judge(Protocol):
    """Answers requests; what it cannot get an answer to is None."""

    def ask(self, requests: Sequence[JudgeRequest]) -> list[str | None]:
        """One reply for each request, in order."""
        ...


class Benchmark:
    """One benchmark; a subclass is one file with its prompt, score and loader.

    Attributes:
        name: what `benchmark` takes.
        title: its full name.
        files: what `ground_truth` (and `questions`) takes, and where it comes from.
        metric: the metric in a few words.
        headline: the metric that is named first.
        variants: ways to score, the official one first, each with what tells it apart.
        breakdowns: fields of the items by which the score is broken down.
        noted: other fields by which metrics part the items.
        takes: what is scored: an answers file, a box folder, or either.
        instruction: the published request that stands below each question.
        others_instructions: the same in other projects' evaluations, by `prompts`; empty for the question alone.
        judge: whether a judge is needed, can be used where rules do not suffice, or is not.
        max_new_tokens: the published limit of an answer.
        needs_all: whether its numbers are of all items together, so that they stay in memory, which grows with them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    files: ClassVar[str]
    metric: ClassVar[str]
    headline: ClassVar[str] = "accuracy"
    variants: ClassVar[Mapping[str, str]] = {OFFICIAL: ""}
    breakdowns: ClassVar[tuple[str, ...]] = ()
    noted: ClassVar[tuple[str, ...]] = ()
    takes: ClassVar[Literal["answers", "boxes", "either"]] = "answers"
    instruction: ClassVar[str] = ""
    others_instructions: ClassVar[Mapping[str, str]] = {}
    judge: ClassVar[Literal["no", "optional", "needed"]] = "no"
    max_new_tokens: ClassVar[int] = 100
    needs_all: bool = False

    def configured(self, metrics: Sequence[str], by: Sequence[str]) -> Benchmark:
        """The benchmark with the metrics and breakdowns that were asked for, where it has a choice of them.

        Raises:
            UsageError: where it has none.
        """
        if metrics:
            raise UsageError("metric", f"{self.name} has its own: {self.metric}; `benchmark` custom takes others")
        if by:
            raise UsageError("by", f"{self.name} has its own breakdowns; `slices` adds to them")
        return self

    def scored_by(self, scorer: str) -> Benchmark:
        """The benchmark with another implementation of average precision, where it has a choice of them.

        Raises:
            UsageError: where it has none, or none of this name.
        """
        if scorer not in SCORERS:
            raise UsageError("scorer", f"{scorer}: there are {one_of(scorer, SCORERS)}")
        if scorer != SCORERS[0]:
            raise UsageError("scorer", f"{scorer}: {self.name} is not scored by it")
        return self

    def load(self, truth: Truth) -> Sequence[Item]:
        """The questions and targets.

        Raises:
            InputError: files that are not what they should be; one line with what was expected.
        """
        raise NotImplementedError

    def prompt(self, sample: Sample) -> str:
        """The published prompt for a question, without the picture's placeholder."""
        return with_suffix(question_of(sample), self.instruction)

    def prompt_as(self, sample: Sample, prompts: str) -> str:
        """As `prompt`, in the words of another project where those differ.

        Args:
            sample: whose last turn is the question.
            prompts: ``mg-llava``, ``llava`` or ``vlmevalkit``.
        """
        own = self.others_instructions.get(prompts)
        return self.prompt(sample) if own is None else with_suffix(question_of(sample), own)

    def score(self, item: Item, text: str, variant: str) -> Verdict:
        """Score one answer. Called for `grade`'s sake; benchmarks that score sets of answers override that."""
        raise NotImplementedError

    def keys(self, prediction: Prediction) -> Iterable[str]:
        """The keys by which an answer may name its question, the surest first."""
        yield str(prediction.id)

    def aliases(self, item: Item) -> Iterable[str]:
        """Other keys by which answers may name an item."""
        return item.aliases

    def folder_answers(self, folder: Path) -> Answers | None:
        """The answers in a folder, for benchmarks whose official results are one; None for all others.

        Raises:
            InputError: for a folder without any.
        """
        return None

    def addressed(self, items: Sequence[Item], predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        """The predictions as they are matched with the items; one that answers several items becomes several."""
        return predictions

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """One verdict for each item, made when it is asked for where items are scored alone; without an answer wrong.

        Args:
            pairs: the items with their answers.
            variant: one of `variants`.
            judge: who is asked, for benchmarks that need or can use one.
        """
        return (
            self.score(item, prediction.text, variant) if prediction is not None else self.missing(item)
            for item, prediction in pairs
        )

    def asks_judge(self, variant: str) -> bool:
        """Whether a judge is asked where answers are scored in this way."""
        return self.judge != "no"

    def missing(self, item: Item) -> Verdict:
        """The verdict on an item without an answer."""
        return Verdict(None, 0.0)

    def is_needed(self, score: Score) -> bool:
        """Whether an item counts in the official numbers, so that it is amiss where it has no answer."""
        return True

    def metrics(self, scores: Sequence[Score], variant: str) -> dict[str, Statistic | Metric]:
        """The benchmark's numbers, the headline first."""
        return {self.headline: mean_score(scores)}

    def breakdown(self, scores: Sequence[Score], variant: str) -> Breakdown:
        """Numbers by category: field -> value -> number."""
        fields = [field for field in self.breakdowns if has_field(scores, field)]
        return OnDemand(fields, lambda field: means(by_field(scores, field)))

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """What a reader of the numbers has to know: left-out metrics, conditions."""
        return []

    def label(self, scores: Sequence[Score], variant: str) -> str:
        """The name of the result: a prompt variant that changes the score is part of it."""
        return f"{self.name} ({variant})"

    def about(self) -> dict[str, Any]:
        """What a list of benchmarks says, with the prompt around ``{question}``; None where nothing is asked."""
        prompt = self.prompt(Sample(id=0, turns=(Turn("human", "{question}"),))) if self.takes != "boxes" else None
        return {
            "name": self.name,
            "title": self.title,
            "metric": self.metric,
            "files": self.files,
            "prompt": prompt,
            "judge": self.judge,
            "variants": list(self.variants),
        }

    def ways(self) -> list[dict[str, str]]:
        """What tells each variant from the others, as a list of all benchmarks' has it."""
        ways = self.variants.items()
        return [{"benchmark": self.name, "variant": name, "does": text or self.metric} for name, text in ways]

    def submission(self, pairs: Sequence[Pair], split: str) -> Submission | None:
        """The file for the test server; None where there is none."""
        return None


class OnDemand(Mapping[str, V], Generic[V]):
    """Values that are made when they are asked for: those of all parts of the items at once take as much as the items.

    Args:
        names: of the values.
        make: the value of a name.
    """

    def __init__(self, names: Iterable[str], make: Callable[[str], V]) -> None:
        self._names, self._make = tuple(names), make

    def __getitem__(self, name: str) -> V:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def means(parts: Mapping[str, Sequence[Score]]) -> Mapping[str, Statistic | Metric]:
    """The mean score of each part."""
    return OnDemand(parts, lambda name: mean_score(parts[name]))


def mean_score(scores: Sequence[Score], *, selected: bool = False) -> Statistic:
    """The mean score in percent, clustered by the scores' group; `selected` where answers decide which items count."""
    ids = (_digest(score.question_id for score in scores),) if selected else ()
    return Statistic(rows_of(scores), groups_of(scores), ids=ids)


def _digest(ids: Iterable[SampleId]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for one in ids:
        found.update(f"{one!r}\n".encode("utf-8", "backslashreplace"))
    return found.hexdigest()


def mean_of_parts(scores: Sequence[Score], field: str, parts: Sequence[str]) -> Statistic:
    """The mean of the mean scores of some values of a field, each of which counts the same, in percent."""
    place = {part: number for number, part in enumerate(parts)}
    rows = np.zeros((len(scores), 2 * len(parts)))
    for row, score in zip(rows, scores, strict=True):
        at = place.get(str(score.fields.get(field)))
        if at is not None:
            row[2 * at : 2 * at + 2] = score.score, 1

    def mean(sums: Floats) -> Floats:
        return np.asarray(ratio(sums[..., 0::2], sums[..., 1::2]).mean(-1))

    return Statistic(rows, groups_of(scores), mean)


def kept_items(items: Iterable[Item]) -> Sequence[Item]:
    """Items as `record_file.kept` keeps them; in memory where they have something in common beside their fields."""
    first, every = itertools.tee(items)
    shared = next(first, None)
    del first
    return list(every) if shared is not None and shared.context is not None else kept(every, Item)


def with_targets(items: Sequence[Item]) -> Sequence[Item]:
    """The items with answers, where others, as a folder's test split, have none; all where none has any."""
    return kept_items(item for item in items if item.target) or items
