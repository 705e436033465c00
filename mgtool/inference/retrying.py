"""Failures of a finished run whose cause may be gone: asked again, their answers put among those that are there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from mgtool import records
from mgtool.errors import UNREACHABLE, ItemError
from mgtool.files.atomic import atomic_file, write_lines
from mgtool.files.journal import Journal
from mgtool.inference.output import AnswersFile, Result
from mgtool.inference.pipeline import Results
from mgtool.media import reading
from mgtool.records import Answer, Failure, Item, Sample, dumps
from mgtool.runs.run_file import Run

_ALWAYS = ("no_boxes", "out_of_memory")
_WITH_ITS_FILE = ("missing", "unreadable", UNREACHABLE)
_WITH_ANOTHER_FILE = ("empty", "not_an_image", "truncated", "corrupt")


class FailedSample(NamedTuple):
    """A sample without an answer, and how many answered ones stand before it."""

    position: int
    sample: Sample
    before: int


def may_be_mended(file: AnswersFile) -> bool:
    """Whether a finished run has failures that another try may answer."""
    reasons = {*_ALWAYS, *_WITH_ITS_FILE, *_WITH_ANOTHER_FILE}
    return any(failure.reason in reasons for failure in Journal(file.failures_path).read(Failure))


def retry(
    file: AnswersFile,
    run: Run,
    items: Iterable[tuple[int, Item]],
    answer: Callable[[Iterator[tuple[int, Sample]]], Results],
) -> None:
    """Ask again what a finished run failed at, where the cause may be gone.

    Args:
        file, run, items: of the run; all items with their positions.
        answer: gives results of such items by position.
    """
    failed = failed_samples(file, items)
    if not failed:
        return
    counts = run.counts
    with closing(answer(iter([(one.position, one.sample) for one in failed]))) as found:
        results = dict(found)
    made = (one.tokens for result in results.values() if not isinstance(result, Failure) for one in result)
    counts |= {**put_among(file, failed, results), "new_tokens": counts.get("new_tokens", 0) + sum(made)}
    run.finish(counts)


def failed_samples(file: AnswersFile, items: Iterable[tuple[int, Item]]) -> list[FailedSample]:
    """The samples that a finished run, of `file`, failed at and that are worth another try.

    Args:
        file, items: of the run; all of them with their positions. None are given where the files do not tell whose
            they are: ids that come twice, other items than the answers'.
    """
    firsts = itertools.islice((entry.question_id for entry in Journal(file.out).read(Answer)), 0, None, file.samples)
    failures, since = Journal(file.failures_path).read(Failure), file.run_path.stat().st_mtime_ns
    found, seen = list[FailedSample](), set[records.SampleId]()
    answer, failure, before = next(firsts, None), next(failures, None), 0
    for position, item in items:
        if item.id in seen:
            return []
        seen.add(item.id)
        if answer == item.id:
            answer, before = next(firsts, None), before + 1
            continue
        if failure is None or failure.id != item.id:
            return []
        if isinstance(item, Sample) and _is_gone(failure, item, since):
            found.append(FailedSample(position, item, before))
        failure = next(failures, None)
    return found


def _is_gone(failure: Failure, sample: Sample, since: int) -> bool:
    """Whether the cause of a failure may be gone; `since` is when the run ended, in nanoseconds."""
    if failure.reason in _WITH_ITS_FILE:
        return all(map(_is_there, records.media_of(sample)))
    if failure.reason in _WITH_ANOTHER_FILE:
        return any(_is_newer(media, since) for media in records.media_of(sample))
    return failure.reason in _ALWAYS


def _is_there(media: records.Media) -> bool:
    try:
        reading.read_bytes(media)
    except ItemError:
        return False
    return True


def _is_newer(media: records.Media, since: int) -> bool:
    if media.data is not None or "://" in media.uri:
        return False
    path = Path(media.uri)
    return path.is_file() and path.stat().st_mtime_ns > since


def _mended(again: Iterable[FailedSample], results: Mapping[int, Result]) -> dict[int, list[Answer]]:
    """The new answers, by the number of those before them."""
    mended: dict[int, list[Answer]] = {}
    for one in again:
        result = results[one.position]
        mended.setdefault(one.before, []).extend(() if isinstance(result, Failure) else result)
    return mended


def put_among(file: AnswersFile, tried: Iterable[FailedSample], results: Mapping[int, Result]) -> dict[str, int]:
    """Write both files anew, with what became of the samples that were tried again; gives the run's counts.

    Args:
        file: of the finished run.
        tried: in order.
        results: by position.
    """
    again = list(tried)
    mended = _mended(again, results)
    new = {one.sample.id: results[one.position] for one in again}
    left = [new.get(failure.id, failure) for failure in Journal(file.failures_path).read(Failure)]
    failures = [result for result in left if isinstance(result, Failure)]
    count = 0
    with file.out.open("rb") as old, atomic_file(file.out) as target:
        for number, group in enumerate(_groups(old, file.samples)):
            target.writelines(dumps(answer) + b"\n" for answer in mended.pop(number, ()))
            target.writelines(group)
            count += 1
        for rest in mended.values():
            target.writelines(dumps(answer) + b"\n" for answer in rest)
    file.failures_path.unlink(missing_ok=True)
    if failures:
        write_lines(file.failures_path, failures)
    return {"answered": count + len(left) - len(failures), "failed": len(failures)}


def _groups(lines: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    supply = iter(lines)
    while group := list(itertools.islice(supply, size)):
        yield group
