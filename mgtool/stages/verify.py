"""WebDataset tars, whoever wrote them -> what is wrong with which sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mgtool.errors import UsageError
from mgtool.records import Advance
from mgtool.runs.workers import default_workers
from mgtool.tars.paths import find
from mgtool.tars.verify import Finding, check_tars

__all__ = ["Finding", "Verified", "verify"]


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What tars hold.

    Attributes:
        tars, samples: their numbers.
        findings: everything that is wrong.
        readers: for each program that opens such tars ``agrees``, ``differs``, ``not installed`` or ``not run``.
    """

    tars: int
    samples: int
    findings: tuple[Finding, ...]
    readers: Mapping[str, str]

    @property
    def bad(self) -> int:
        """Number of samples with findings; what is wrong with a whole tar counts as one."""
        return len({(finding.tar, finding.key) for finding in self.findings})


def verify(
    tars: str | Path | Sequence[str | Path],
    *,
    workers: int = 0,
    started: Callable[[int], None] = lambda total: None,
    advance: Advance = lambda count: None,
) -> Verified:
    """Read every member of some tars, and let every installed reader read them.

    Args:
        tars: as `mgtool.open_tars` takes them, but for ``-``.
        workers: processes; 0: one a core.
        started: told the number of tars.
        advance: told of tars that were read.

    Raises:
        UsageError: stdin is among the tars.
        InputError: no tar there.
    """
    urls = find(tars)
    if "-" in urls:
        raise UsageError("verify", "reads tars more than once: give files or a folder")
    started(len(urls))
    samples, findings, readers = check_tars(urls, workers=workers or default_workers(), advance=advance)
    return Verified(tars=len(urls), samples=samples, findings=tuple(findings), readers=readers)
