"""Samples -> answers, in the order of the input, whatever the batches and devices were."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from mgtool import records
from mgtool.boxes.lookup import opened_boxes
from mgtool.errors import MgtoolError
from mgtool.inference.options import Request
from mgtool.inference.output import AnswersFile, InOrder, Result, Sink, Writer
from mgtool.inference.parity import Parity
from mgtool.inference.parity import check_parity as _check_parity
from mgtool.inference.pipeline import answer_items
from mgtool.inference.replicas import answer_on_devices
from mgtool.inputs import sources
from mgtool.inputs.fingerprints import HashedStdin
from mgtool.inputs.model_folders import check_model
from mgtool.records import Advance

__all__ = ["Request", "Result", "Sink", "answer", "check_parity", "infer", "numbered"]


def numbered(request: Request, stdin: IO[bytes] | None = None) -> Iterator[tuple[int, records.Item]]:
    """The request's share of its samples: a stretch of them, with their positions among all; ``-`` reads `stdin`."""
    read = functools.partial(sources.read_samples, request.inputs, images=request.images, stdin=stdin)
    return request.share.of(lambda: enumerate(read()))


def answer(
    request: Request,
    items: Iterable[tuple[int, records.Item]],
    sink: Sink,
    advance: Advance,
    *,
    in_order: bool = True,
) -> int:
    """Answer numbered items and write the results; gives the number of new tokens.

    Args:
        request: what is asked of whom.
        items: positions, which follow each other, and items.
        sink: where results go.
        advance: told of every result that was written.
        in_order: results wait for those before them; else they are written as they are final.
    """
    items = iter(items)
    begin = next(items, None)
    if begin is None:
        return 0
    writer = InOrder(begin[0], sink, advance) if in_order else Writer(sink, advance)
    is_spread = len(request.devices) > 1 or request.tensor_parallel > 1
    with opened_boxes(request.boxes) as boxes:
        (answer_on_devices if is_spread else answer_items)(request, itertools.chain([begin], items), boxes, writer.put)
    return writer.tokens


def check_parity(request: Request, count: int) -> Parity:
    """Answer some samples together and each alone, and compare."""
    with opened_boxes(request.boxes) as boxes:
        return _check_parity(request, numbered(request), boxes, count)


def infer(request: Request, out: Path, *, overwrite: bool, advance: Advance) -> dict[str, Any]:
    """Answer everything into a file, going on where an earlier run stopped; gives the counts.

    Args:
        request: what is asked of whom.
        out: the answers file.
        overwrite: start afresh.
        advance: told of every result that was written.

    Raises:
        ResumeError: the file on disk is of another run.
    """
    check_model(request.model)
    file = AnswersFile(out, samples=request.decoding.samples, is_share=not request.share.is_all)
    if overwrite:
        file.clear()
    run = request.run(file.run_path, out)
    has_begun = bool(run.before)
    run.begin(overwrite=overwrite)
    stdin = HashedStdin(request.inputs)
    if run.finished and out.exists():
        run.refuse_other(stdin.noted())
        file.failures.remove()
        return run.counts
    if has_begun and not run.finished:
        file.take_back()
    try:
        tokens = answer(request, file.skip_done(numbered(request, stdin.file)), file, advance)
    except MgtoolError:
        if not any(file.counts.values()):  # a mistake that wrote nothing must not bind the next run to its options
            file.run_path.unlink(missing_ok=True)
        raise
    file.publish()
    counts = {**file.counts, "new_tokens": tokens}
    run.finish(counts, noted=stdin.noted())
    file.failures.remove()
    return counts
