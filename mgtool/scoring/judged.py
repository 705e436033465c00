"""Benchmarks that another model scores: what is asked, how a reply is read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from typing import ClassVar, Literal, TypeVar

from mgtool.errors import UsageError
from mgtool.records import Score
from mgtool.scoring.benchmark import Benchmark, Item, Judge, JudgeRequest, Pair, Verdict
from mgtool.scoring.normalizers import yes_or_no

T = TypeVar("T")
READINGS = 5
HEAT_STEP = 0.5
"""How often, and by how much hotter each time, VLMEvalKit asks for a yes or no."""


@functools.cache
def rubric(name: str) -> str:
    """The published text of a judge's prompt."""
    return resources.files("mgtool.benchmarks").joinpath("rubrics", f"{name}.txt").read_text(encoding="utf-8")


class JudgedBenchmark(Benchmark):
    """One request for each answer; a reply that cannot be read is asked for again, then counted, never guessed."""

    judge: ClassVar[Literal["no", "optional", "needed"]] = "needed"
    attempts: ClassVar[int] = 1

    def request(self, item: Item, text: str, attempt: int) -> JudgeRequest:
        """What to ask about an answer, at the given attempt from 0."""
        raise NotImplementedError

    def read(self, item: Item, text: str, reply: str) -> Verdict | None:
        """The verdict in a reply; None where it has none."""
        raise NotImplementedError

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """Ask about every answer, until each reply can be read or the attempts are over."""
        if judge is None:
            raise UsageError("benchmark", f"{self.name} needs a judge: add `judge` openai:MODEL or `judge` hf:PATH")
        verdicts = [self.missing(item) for item, _ in pairs]
        asked = [(place, item, answer.text) for place, (item, answer) in enumerate(pairs) if answer is not None]
        judged = ask_until_read(
            judge,
            asked,
            lambda case, attempt: self.request(case[1], case[2], attempt),
            lambda case, reply: self.read(case[1], case[2], reply),
            self.attempts,
        )
        for (place, _, _), verdict in zip(asked, judged, strict=True):
            verdicts[place] = verdict
        return verdicts

    def notes(self, scores: Sequence[Score], variant: str) -> list[str]:
        """How many replies could not be read."""
        return unread_notes(scores, self.unread_policy)

    unread_policy: ClassVar[str] = "they count as 0"


class YesOrNoBenchmark(Benchmark):
    """Yes or no by the word that is there; in VLMEvalKit's way, and in no other, a judge reads answers without one."""

    judge: ClassVar[Literal["no", "optional", "needed"]] = "optional"

    def grade(self, pairs: Sequence[Pair], variant: str, judge: Judge | None = None) -> Iterable[Verdict]:
        """By the word that is there; VLMEvalKit asks a judge about answers without one."""
        verdicts = super().grade(pairs, variant)
        return verdicts if judge is None or not self.asks_judge(variant) else read_by_judge(pairs, verdicts, judge)

    def asks_judge(self, variant: str) -> bool:
        """VLMEvalKit's way alone can use one."""
        return variant == "vlmevalkit"


def ask_until_read(
    judge: Judge,
    cases: Sequence[T],
    request: Callable[[T, int], JudgeRequest],
    read: Callable[[T, str], Verdict | None],
    attempts: int,
) -> list[Verdict]:
    """One verdict for each case; `UNREAD` for those whose replies could not be read at any attempt.

    Args:
        judge: who is asked.
        cases: what is judged.
        request: what to ask about a case, at an attempt from 0.
        read: the verdict in a reply; None where it has none.
        attempts: how often a case is asked about at most.
    """
    verdicts, waiting = [UNREAD] * len(cases), list(range(len(cases)))
    for attempt in range(attempts):
        replies = judge.ask([request(cases[place], attempt) for place in waiting])
        for place, reply in zip(waiting, replies, strict=True):
            verdicts[place] = (read(cases[place], reply) if reply is not None else None) or UNREAD
        answered = zip(waiting, replies, strict=True)
        if not (waiting := [place for place, reply in answered if reply is not None and verdicts[place] is UNREAD]):
            break
    return verdicts


def read_by_judge(pairs: Sequence[Pair], verdicts: Iterable[Verdict], judge: Judge) -> list[Verdict]:
    """The verdicts, those on answers with neither yes nor no by what a judge finds in them, as VLMEvalKit has it."""
    result = list(verdicts)
    unread = [
        (place, item, answer.text)
        for place, (item, answer) in enumerate(pairs)
        if answer is not None and result[place].extracted not in ("yes", "no")
    ]

    def request(case: tuple[int, Item, str], attempt: int) -> JudgeRequest:
        asked = rubric("yes-or-no").format(case[1].question, case[2])
        return JudgeRequest(user=asked, temperature=HEAT_STEP * attempt)

    def read(case: tuple[int, Item, str], reply: str) -> Verdict | None:
        said = yes_or_no(reply)
        return None if said is None else Verdict(said, float(said == case[1].target), {"reply": reply})

    for (place, _, _), verdict in zip(unread, ask_until_read(judge, unread, request, read, READINGS), strict=True):
        result[place] = verdict if verdict is not UNREAD else result[place]._replace(fields=UNREAD.fields)
    return result


def unread_notes(scores: Sequence[Score], policy: str) -> list[str]:
    """How many replies could not be read, where any could not."""
    count = sum(bool(score.fields.get("unread")) for score in scores)
    return [f"{count:,} replies of the judge could not be read: {policy}"] if count else []


UNREAD = Verdict(None, 0.0, {"unread": True})
