"""Detection in shares, each into a folder of its own within the output; the last to end joins them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mgtool.boxes.statistics import BoxStatistics
from mgtool.detection.known_entries import KnownEntries, KnownPart
from mgtool.detection.output import JOURNAL, DetectionEntry, DetectionOutput
from mgtool.files.journal import Journal
from mgtool.files.lock import HeldError, one_share
from mgtool.runs.claims import State
from mgtool.runs.run_file import RUN_FILE, Run
from mgtool.runs.shares import ALL, Share

SHARES = ".shares"


class SharedOutput(DetectionOutput):
    """A share's folder: its entries, and what it has drawn."""

    def __init__(self, folder: Path, share: Share, *, visualize: int = 0) -> None:
        super().__init__(folder / SHARES / share.name, format="entries", visualize=visualize)

    def finish(self) -> None:
        """Leave the entries to be joined."""

    def close(self, *, done: bool = False) -> None:
        """Close the journal; it stays."""
        super().close()


def others(folder: Path, world_size: int) -> list[Share]:
    """Ways in which the same run was shared out before, as far as they left entries."""
    found = [ALL] if (folder / JOURNAL).exists() else []
    for path in sorted((folder / SHARES).glob("?????-of-?????")):
        rank, _, count = path.name.partition("-of-")
        found += [Share(int(rank), int(count))] if (path / JOURNAL).exists() else []
    return [share for share in found if share.world_size != world_size]


def known(folder: Path, run: Run, share: Share, total: int) -> KnownEntries:
    """What other ways of sharing out have of a share's stretch.

    Args:
        folder: the output's.
        run: over all of the input.
        share: that asks.
        total: number of items of the input.
    """
    parts = [part for other in others(folder, share.world_size) for part in _parts(folder, run, other, share, total)]
    return KnownEntries(parts, share.stretch(total)[0])


def _parts(folder: Path, run: Run, other: Share, share: Share, total: int) -> Iterator[KnownPart]:
    (begin, end), (first, last) = other.stretch(total), share.stretch(total)
    where = folder if other.is_all else folder / SHARES / other.name
    if begin >= last or end <= first or any(run_of(run, folder, other).differences()):
        return
    with contextlib.suppress(HeldError), hold(folder, other):
        part = KnownPart(where, begin)
        if part.end > first:
            yield part


def run_of(run: Run, folder: Path, share: Share) -> Run:
    """The record of a share."""
    return run if share.is_all else run.share(folder / SHARES / share.name / RUN_FILE, share.name)


def state(run: Run, folder: Path, share: Share) -> State:
    """How far a share is.

    Raises:
        ResumeError: it is of another run.
    """
    if run.finished:
        return State.DONE
    part = run_of(run, folder, share)
    if not part.before:
        return State.NEW
    part.check()
    return State.DONE if part.finished else State.BEGUN


def hold(folder: Path, share: Share) -> contextlib.AbstractContextManager[None]:
    """Keep other ranks from a share; all of the input is held with the output."""
    return contextlib.nullcontext() if share.is_all else one_share(folder, share.name)


def index_file(folder: Path) -> Path:
    """What shares of a run know of its input."""
    return folder / SHARES / "index.json"


def clear(folder: Path) -> None:
    """Remove what shares of an earlier run wrote."""
    shutil.rmtree(folder / SHARES, ignore_errors=True)


def join(folder: Path, output: DetectionOutput, run: Run, world_size: int) -> dict[str, Any] | None:
    """Write the output of one run over all of the input from the entries of its shares, and remove these.

    Args:
        folder: the output's.
        output: to write.
        run: over all of the input; shares of another one do not count.
        world_size: number of shares.

    Returns:
        The summary of the whole; None while a share is missing.
    """
    shares = [Share(rank, world_size) for rank in range(world_size)]
    with one_share(folder, "joining", wait=True):
        if run.finished:
            output.statistics = BoxStatistics.of_summary(run.counts)
            _tidy(folder, output)  # a rank may have been killed before it did
            return run.counts
        if not all(_has_ended(run.share(folder / SHARES / share.name / RUN_FILE, share.name)) for share in shares):
            return None
        output.clear()
        _fill(output, [folder / SHARES / share.name for share in shares])
        summary = output.statistics.summary()
        run.finish(summary)
        _tidy(folder, output)
        return summary


def _tidy(folder: Path, output: DetectionOutput) -> None:
    """Remove what a finished run has no use for."""
    output.close(done=True)
    clear(folder)


def _fill(output: DetectionOutput, parts: Iterable[Path]) -> None:
    """Write all entries of the shares' folders, in their order."""
    seen: set[bytes] = set()
    for part in parts:
        records = 0
        for entry in Journal(part / JOURNAL).read(DetectionEntry):
            kept = entry.unless_in(seen)
            if kept.box is not None:
                output.copy_drawn(part, records)
            records += entry.box is not None
            output.add(kept)
    output.finish()


def _has_ended(run: Run) -> bool:
    return run.finished and not any(run.differences())
