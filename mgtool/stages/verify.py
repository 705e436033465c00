"""WebDataset tars, whoever wrote them -> what is wrong with which sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from mgtool.errors import UsageError
from mgtool.files.regular import refuse_endless
from mgtool.records import Advance
from mgtool.runs.workers import default_workers
from mgtool.tars.paths import find
from mgtool.tars.verify import Finding, check_tars
from mgtool.tars.verify_options import READERS_READ, PictureCheck, Readers

__all__ = ["Finding", "Verified", "verify"]


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What tars hold.

    Attributes:
        tars, samples: their numbers.
        findings: everything that is wrong.
        readers: for each program that opens such tars ``agrees``, ``differs``, ``not installed`` or ``not run``.
        readers_read: what these were given, in words.
    """

    tars: int
    samples: int
    findings: tuple[Finding, ...]
    readers: Mapping[str, str]
    readers_read: str = ""

    @property
    def bad(self) -> int:
        """Number of samples with findings; what is wrong with a whole tar counts as one."""
        return len({(finding.tar, finding.key) for finding in self.findings})


def verify(
    tars: str | Path | Sequence[str | Path],
    *,
    check: PictureCheck = "structure",
    readers: Readers = "sample",
    workers: int = 0,
    started: Callable[[int], None] = lambda total: None,
    advance: Advance = lambda count: None,
) -> Verified:
    """Read every member of some tars, and let every installed reader read them.

    Args:
        tars: as `mgtool.open_tars` takes them, but for ``-``.
        check: whether the pictures of tars that `pack` wrote, where their bytes are the ones that were packed, are
            looked at by their structure, or decoded as all others are.
        readers: what other programs read: a ``sample``, which takes the same time for tars of any size, ``all`` or
            ``none``.
        workers: processes; 0: one a core.
        started: told the number of tars.
        advance: told of tars that were read.

    Raises:
        UsageError: stdin is among the tars, or a value of no known form.
        InputError: no tar there.
    """
    _refuse_unknown(check=(check, PictureCheck), readers=(readers, Readers))
    urls = find(tars)
    if "-" in urls:
        raise UsageError("verify", "reads tars more than once: give files or a folder")
    for folder in {Path(url).parent for url in urls if "://" not in url}:
        for path in folder.iterdir():  # other programs read what lies beside tars, too
            refuse_endless(path)
    started(len(urls))
    count = workers or default_workers()
    samples, findings, outcome = check_tars(urls, check=check, readers=readers, workers=count, advance=advance)
    return Verified(
        tars=len(urls),
        samples=samples,
        findings=tuple(findings),
        readers=outcome,
        readers_read=READERS_READ[readers],
    )


def _refuse_unknown(**chosen: tuple[str, Any]) -> None:
    for field, (value, choices) in chosen.items():
        if value not in get_args(choices):
            raise UsageError(field, f"{value}: choose one of {', '.join(get_args(choices))}")
