"""What an evaluation found, as ``scores.json`` has it."""

from __future__ import annotations

import msgspec

from mgtool.evaluation.judge_costs import JudgeUse
from mgtool.evaluation.provenance import Provenance
from mgtool.evaluation.samples import SampleSummary
from mgtool.scoring.statistics import Metric


class AnswerCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How complete an answers file is.

    Attributes:
        expected: items of the benchmark.
        answered: items with an answer.
        failed: items without an answer for which the run recorded a failure.
        missing: items without an answer and without a record.
        duplicated: answers to an item that came before; the last one counts. Samples of one run are none.
        truncated: answers that were cut off at the token limit.
        unknown: answers to no item of the benchmark.
        unreadable: lines of the answers file that could not be read.
        mismatched: answers to another picture or question than the one whose id they bear.
        reworded: answers about the right picture to other words.
        unjudged: answers to which the judge gave no reply that can be read.
    """

    expected: int
    answered: int
    failed: int
    missing: int
    duplicated: int
    truncated: int
    unknown: int
    unreadable: int
    mismatched: int = 0
    reworded: int = 0
    unjudged: int = 0


class EvalResult(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``scores.json``.

    Attributes:
        benchmark: its name.
        variant: how it was scored.
        name: both, and what else changes the number: the form of the prompt, items left out.
        metrics: the official numbers, by name.
        breakdown: the same by category, field -> value.
        counts: how complete the answers are.
        slices: mean item scores, slice -> bin.
        notes: what a reader of the numbers has to know.
        samples: what became of several answers to each question; None where there was one.
        provenance: what the numbers are of: model, prompt, decoding, version, date.
        judge: what a judge did for it, where one was asked.
    """

    benchmark: str
    variant: str
    name: str
    metrics: dict[str, Metric]
    breakdown: dict[str, dict[str, Metric]]
    counts: AnswerCounts
    slices: dict[str, dict[str, Metric]] = {}
    notes: list[str] = []
    samples: SampleSummary | None = None
    provenance: Provenance = Provenance()
    judge: JudgeUse | None = None

    @property
    def caption(self) -> str:
        """What its tables are of, in a line."""
        counts = f"{self.counts.answered:,} of {self.counts.expected:,} items answered"
        return f"{self.name}, {self.provenance.line}; {counts}"
