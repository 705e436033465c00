"""Results in the order of the input, and the answers file that a killed run leaves to the next one."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mgtool.errors import OutputError, ResumeError
from mgtool.files.atomic import atomic_file, remove, write_lines
from mgtool.files.journal import Journal
from mgtool.inference.options import InferOptions
from mgtool.inference.plan import InferencePlan
from mgtool.inputs.model_folders import FOREIGN
from mgtool.media.names import MEDIA_SUFFIXES
from mgtool.records import Advance, Answer, Failure, Inputs, Item, input_names, parse
from mgtool.runs import progress, run_file
from mgtool.runs.run_file import FAILURES_FILE, RUN_FILE
from mgtool.runs.shares import Share
from mgtool.tars import paths

Result = tuple[Answer, ...] | Failure
"""What becomes of one sample: its answers, one unless several are sampled, or why there is none."""


class Sink(Protocol):
    """Takes results."""

    def write(self, position: int, result: Result) -> None: ...


class Writer:
    """Hands results on as they come."""

    def __init__(self, sink: Sink, advance: Advance) -> None:
        self.sink, self.advance = sink, advance
        self.tokens = 0

    def put(self, position: int, result: Result) -> None:
        """Take a result that is final."""
        self.sink.write(position, result)
        made = 0 if isinstance(result, Failure) else sum(answer.tokens for answer in result)
        self.tokens += made
        progress.made(self.advance, made)
        progress.failed(self.advance, result if isinstance(result, Failure) else None)
        self.advance(1)


class InOrder(Writer):
    """Holds results back until those before them are there."""

    def __init__(self, first: int, sink: Sink, advance: Advance) -> None:
        super().__init__(sink, advance)
        self.next = first
        self.held: dict[int, Result] = {}

    def put(self, position: int, result: Result) -> None:
        """Take a result that is final; write what is due."""
        self.held[position] = result
        while self.next in self.held:
            super().put(self.next, self.held.pop(self.next))
            self.next += 1


class Ready:
    """A sink from which results are taken at once."""

    def __init__(self) -> None:
        self._records: deque[Answer | Failure] = deque()

    def write(self, position: int, result: Result) -> None:
        """Keep a result for `taken`."""
        self._records.extend((result,) if isinstance(result, Failure) else result)

    def taken(self) -> Iterator[Answer | Failure]:
        """What was written since the last time."""
        while self._records:
            yield self._records.popleft()


class NumberedFailure(msgspec.Struct, frozen=True):
    """A failure by its position among all samples."""

    position: int
    failure: Failure


class AnswersFile:
    """An answers file in progress, ``FILE.partial``, that a killed run leaves to the next one.

    Failures are numbered while the run is on, so that both files together tell how far it came.

    Args:
        out: the file.
        samples: answers to each question.
        is_share: other runs write beside it, so that no file is named for the folder.

    Attributes:
        counts: of questions, of a run that goes on from its beginning.
        tokens: of the answers that `skip_done` found.
    """

    def __init__(self, out: Path, *, samples: int = 1, is_share: bool = False) -> None:
        self.out, self.samples, self.is_share = out, samples, is_share
        folder, prefix = out.parent, "" if not is_share and _owns_folder(out) else f"{out.stem}."
        self.run_path, self.failures_path = folder / (prefix + RUN_FILE), folder / (prefix + FAILURES_FILE)
        self.answers = Journal(out.with_name(out.name + ".partial"))
        self.failures = Journal(out.with_name(f".{out.name}.failures"))
        self.counts, self.tokens = {"answered": 0, "failed": 0}, 0

    def refuse_foreign(self) -> None:
        """Only what a run of this command wrote is gone on with, or replaced unasked.

        Raises:
            OutputError: naming a file that something else wrote.
        """
        if _is_run_of(self.run_path, self.out):
            return
        known = self.run_path.exists()  # a record of other answers, or of a command, has a list of failures, too
        for path in (self.out, self.answers.path, *(() if known else (self.failures_path,))):
            if path.exists():
                raise OutputError(
                    f"{path} is there, and no run of `mgtool infer` is known to have written it: "
                    "choose another `out` or add `overwrite`"
                )

    def clear(self) -> None:
        """Forget what an earlier run wrote."""
        self.answers.remove()
        self.failures.remove()
        for path in (self.out, self.failures_path, self.run_path):
            remove(path)

    def take_back(self) -> None:
        """Go on with answers that have their final name already: the run was killed before it noted its end."""
        if self.out.exists() and not self.answers.path.exists():
            self.out.replace(self.answers.path)

    def forget_beginning(self) -> None:
        """Remove what a run left that came to nothing, so that the next one is not bound to its options."""
        if self.out.exists() or any(map(_has_line, (self.answers.path, self.failures.path))):
            return
        with contextlib.suppress(OutputError):
            for beginning in (self.answers, self.failures):
                beginning.remove()
            remove(self.run_path)

    def skip_done(self, items: Iterable[tuple[int, Item]]) -> Iterator[tuple[int, Item]]:
        """The items from where the run goes on.

        Raises:
            ResumeError: the input has other items than the answers.
        """
        failed = {entry.position for entry in self.failures.read(NumberedFailure)}
        answers = self.answers.read(Answer)
        numbered = iter(items)
        for position, item in numbered:
            done = [] if position in failed else list(itertools.islice(answers, self.samples))
            if position not in failed and len(done) < self.samples:
                self.answers.keep(self.counts["answered"] * self.samples)
                return itertools.chain([(position, item)], numbered)
            if other := [answer.question_id for answer in done if answer.question_id != item.id]:
                raise ResumeError(
                    f"{self.answers.path} answers {other[0]} where the input has {item.id}: add `overwrite`"
                )
            self.tokens += sum(answer.tokens for answer in done)
            self.counts["failed" if position in failed else "answered"] += 1
        self.answers.keep(self.counts["answered"] * self.samples)
        return iter(())

    def write(self, position: int, result: Result) -> None:
        """Append one result."""
        if isinstance(result, Failure):
            self.failures.append(NumberedFailure(position, result))
            self.counts["failed"] += 1
            return
        for answer in result:
            self.answers.append(answer)
        self.counts["answered"] += 1

    def forget_places(self) -> None:
        """Of all of the input, when it is done: where failures were; a share's are for ranks of another number."""
        if not self.is_share:
            self.failures.remove()

    def publish(self) -> None:
        """Give the files their final names; a share without failures has no file of them. Their numbers are left."""
        self.failures.close()
        entries = {entry.position: entry.failure for entry in self.failures.read(NumberedFailure)}
        remove(self.failures_path)
        if entries or not self.is_share:
            write_lines(self.failures_path, (entries[position] for position in sorted(entries)))
        self.answers.publish(self.out)


def read_by(inputs: Inputs, options: InferOptions) -> Iterator[str | Path]:
    """Whatever a run reads."""
    yield from input_names(inputs)
    yield from [options.images] if options.images else []
    for whole in (Path(str(options.model).removeprefix(FOREIGN)), *([Path(options.boxes)] if options.boxes else [])):
        yield from whole.iterdir() if whole.is_dir() else [whole]


def refuse_target(out: Path, inputs: Iterable[str | Path]) -> None:
    """Refuse an answers file that is no place for one, whatever else is asked.

    Args:
        out: the answers file.
        inputs: paths and URLs of all that the run reads; of a folder, its pictures and tars.

    Raises:
        OutputError: `out` is a folder, or would replace an input.
    """
    if out.is_dir():
        raise OutputError(f"`out` {out} is a folder: name a file, for instance {out / 'answers.jsonl'}")
    file = AnswersFile(out)
    written = [path for path in (file.out, file.answers.path, file.failures_path) if path.exists()]
    for given, path in itertools.product(inputs, written):
        if _reads(str(given), path):
            raise OutputError(f"{path} is an input of this run ({given}): choose another `out`")


def _reads(given: str, written: Path) -> bool:
    """Whether an input is, or its folder has among its pictures and tars, a file that is there."""
    if given == "-" or "://" in given:
        return False
    files = [Path(given), *map(Path, paths.expand(given) or ())]
    if any(file.is_file() and file.samefile(written) for file in files):
        return True
    is_read = written.suffix.lower() in {*MEDIA_SUFFIXES, ".tar"}
    return is_read and Path(given).is_dir() and written.resolve().is_relative_to(Path(given).resolve())


def share_file(out: Path, share: Share) -> Path:
    """The answers file of one share.

    >>> share_file(Path("out/answers.jsonl"), Share(1, 4)).as_posix(), share_file(Path("a.jsonl"), Share()).as_posix()
    ('out/answers-00001-of-00004.jsonl', 'a.jsonl')
    """
    return out if share.is_all else out.with_name(f"{out.stem}-{share.name}{out.suffix}")


def join(plan: InferencePlan, out: Path, shares: Sequence[Path], *, overwrite: bool) -> dict[str, Any]:
    """Write the files of one run from those of its shares, which stay; gives the counts.

    Args:
        plan: how all shares together were answered.
        out: the answers file of the whole.
        shares: the complete answers files of all shares, in order.
        overwrite: whatever is there does not count.

    Raises:
        ResumeError: the file on disk is of another run.
    """
    parts = [AnswersFile(share, is_share=True) for share in shares]
    whole = AnswersFile(out)
    if not overwrite:
        whole.refuse_foreign()
    run = plan.run(whole.run_path, out)
    run.begin(overwrite=overwrite)
    _concatenate([part.out for part in parts], out)
    remove(whole.failures_path)
    _concatenate([part.failures_path for part in parts if part.failures_path.exists()], whole.failures_path)
    ended = [parse(part.run_path.read_bytes(), dict[str, Any], where=str(part.run_path))["counts"] for part in parts]
    counts = {name: sum(count[name] for count in ended) for name in (*whole.counts, "new_tokens")}
    counts |= {name: ended[0][name] for name in ("left_out",) if name in ended[0]}  # each share reads all of the input
    run.finish(counts)
    tidy(out, shares)
    return counts


def tidy(out: Path, shares: Sequence[Path]) -> None:
    """Remove what a run that is joined has no use for; arguments as of `join`."""
    whole = AnswersFile(out)
    for file in (*(AnswersFile(share, is_share=True) for share in shares), whole):
        file.failures.remove()
    whole.answers.remove()
    remove(index_file(out))


def index_file(out: Path) -> Path:
    """What shares of a run know of its input."""
    return out.with_name(f".{out.name}.index.json")


def _concatenate(parts: Sequence[Path], path: Path) -> None:
    with atomic_file(path) as file:
        for part in parts:
            with part.open("rb") as lines:
                shutil.copyfileobj(lines, file)


def _has_line(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        return file.readline().endswith(b"\n")


def _owns_folder(out: Path) -> bool:
    """Whether ``run.json`` beside the answers is, or may become, theirs."""
    own, run = out.with_name(f"{out.stem}.{RUN_FILE}"), out.with_name(RUN_FILE)
    if own.exists() or not run.exists():
        return not own.exists()
    return _is_run_of(run, out)


def _is_run_of(run: Path, out: Path) -> bool:
    """Whether there is a record of the run that writes some answers."""
    if not run.exists():
        return False
    try:
        record = run_file.read(run)
    except ResumeError:  # somebody else's
        return False
    return record.get("command") == "infer" and record.get("options", {}).get("out") == out.name
