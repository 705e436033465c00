"""Answers in shares: what other shares know already, how far each is, and the one file of all."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from mgtool.errors import ResumeError
from mgtool.files.atomic import remove
from mgtool.files.journal import Journal
from mgtool.files.lock import HeldError, one_share
from mgtool.inference.output import AnswersFile, InOrder, NumberedFailure, Result, index_file, share_file
from mgtool.inference.plan import InferencePlan
from mgtool.inputs import line_index, sources
from mgtool.records import Answer, Failure
from mgtool.runs.claims import State
from mgtool.runs.run_file import Run
from mgtool.runs.shares import ALL, Share
from mgtool.tars import stretches


class SharedAnswers:
    """The shares of an answers file.

    Args:
        out: the file of the whole.
        run: of the whole.
        samples: answers to each question.
    """

    def __init__(self, out: Path, run: Run, *, samples: int) -> None:
        self.out, self.run, self.samples = out, run, samples

    def file(self, share: Share) -> AnswersFile:
        """A share's answers."""
        return AnswersFile(share_file(self.out, share), samples=self.samples, is_share=not share.is_all)

    def run_of(self, share: Share) -> Run:
        """A share's record."""
        if share.is_all:
            return self.run
        path = share_file(self.out, share)
        return self.run.share(self.file(share).run_path, share.name, out=path.name)

    def state(self, share: Share) -> State:
        """How far a share is.

        Raises:
            ResumeError: it is of another run.
        """
        run = self.run_of(share)
        if not run.before:
            return State.NEW
        run.check()
        return State.DONE if run.finished and self.file(share).out.exists() else State.BEGUN

    def hold(self, share: Share) -> AbstractContextManager[None]:
        """Keep other ranks from a share; all of the input is held with the output."""
        return contextlib.nullcontext() if share.is_all else one_share(self.out, share.name, is_file=True)

    def indexed(self, plan: InferencePlan) -> InferencePlan:
        """A plan whose shares need not read all of the input, where that is worth it; one process makes the index."""
        if not line_index.is_worth(plan.inputs) or stretches.places(plan.inputs) is not None:
            return plan
        with one_share(self.out, "index", is_file=True, wait=True):
            return plan.indexed(index_file(self.out), self.run.record["inputs"])

    def alone(self) -> AbstractContextManager[None]:
        """One of those that end at the same time; the others wait."""
        return one_share(self.out, "joining", is_file=True, wait=True)

    def others(self, world_size: int) -> list[Share]:
        """Shares on disk of the same run that was shared out otherwise."""
        stem, suffix = re.escape(self.out.stem), re.escape(self.out.suffix)
        of_a_share = re.compile(rf"{stem}-(\d{{5}})-of-(\d{{5}}){suffix}(?:\.partial)?")
        names = (of_a_share.fullmatch(path.name) for path in self.out.parent.iterdir())
        found = {Share(int(name[1]), int(name[2])) for name in names if name}
        if self.file(ALL).answers.path.exists():
            found.add(ALL)
        ours = (one for one in found if one.world_size != world_size and self._is_ours(one))
        return sorted(ours, key=lambda one: one.name)

    def _is_ours(self, share: Share) -> bool:
        run = self.run_of(share)
        try:
            return bool(run.before) and not any(run.differences())
        except ResumeError:  # no record of a run
            return False

    def known(self, plan: InferencePlan) -> KnownResults:
        """What other ways of sharing out have of the stretch of a plan's share."""
        share = plan.share
        if "-" in plan.inputs or not (others := self.others(share.world_size)):
            return KnownResults()
        tars = stretches.places(plan.inputs)
        if plan.index is not None:
            total = plan.index.total
        else:
            total = sum(sources.count(plan.read_samples())) if tars is None else sum(len(tar.offsets) for tar in tars)
        parts = [part for other in others for part in self._parts(other, share, total)]
        return KnownResults(parts, share.stretch(total))

    def _parts(self, other: Share, share: Share, total: int) -> Iterator[_Part]:
        (begin, end), (first, last) = other.stretch(total), share.stretch(total)
        if begin >= last or end <= first:
            return
        try:
            with self.hold(other):
                part = _Part(self.file(other), begin)
        except (HeldError, ResumeError):  # somebody writes it, or it is nothing that can be used
            return
        if part.end > first:
            yield part

    def forget(self, shares: Sequence[Share]) -> None:
        """Remove what is in the file of the whole."""
        for share in shares:
            file = self.file(share)
            paths = () if share.is_all else (file.out, file.failures_path, file.run_path)
            for path in (file.answers.path, file.failures.path, *paths):
                remove(path)


class _Part:
    """A share's results from its first sample on, as far as it came.

    Attributes:
        begin, end: positions among all samples.
    """

    def __init__(self, file: AnswersFile, begin: int) -> None:
        answers = Journal(file.out if file.out.exists() else file.answers.path)
        self.failures = {entry.position: entry.failure for entry in file.failures.read(NumberedFailure)}
        if len(self.failures) < sum(1 for _ in Journal(file.failures_path).read(Failure)):
            raise ResumeError(f"{file.failures_path}: their places are not known")
        lines = sum(1 for _ in answers.read(Answer))
        self.begin, self.end = begin, begin + len(self.failures) + lines // file.samples
        self._answers, self._samples, self._next = answers.read(Answer), file.samples, begin

    def take(self, position: int) -> Result:
        """The result of a position; they are asked for in order."""
        while True:
            at, self._next = self._next, self._next + 1
            found: Result = self.failures.get(at) or tuple(itertools.islice(self._answers, self._samples))
            if at == position:
                return found


class KnownResults:
    """Results by position, in order.

    Args:
        parts: that hold them.
        stretch: the positions that count.
    """

    def __init__(self, parts: Sequence[_Part] = (), stretch: tuple[int, int] = (0, 0)) -> None:
        self._parts, self._stretch = parts, stretch

    def has(self, position: int) -> bool:
        """Whether a position's is known."""
        begin, end = self._stretch
        return begin <= position < end and any(part.begin <= position < part.end for part in self._parts)

    def write(self, writer: InOrder) -> None:
        """Give a writer what is known of what it waits for."""
        while self.has(writer.next):
            writer.put(writer.next, self.take(writer.next))

    def take(self, position: int) -> Result:
        """The result of a position; they are asked for in order."""
        return next(part for part in self._parts if part.begin <= position < part.end).take(position)
